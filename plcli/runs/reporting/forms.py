"""The forms of the files that a report draws, so that what it cannot draw is told as a file's.

A form is `text`, `number` or `any`; a list or a mapping of one form; or a mapping of names, of
which those with a question mark may be absent or null.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ListOf:
    """A list of values of one form, of a number of them if it is given."""

    form: Any
    count: int | None = None


@dataclass(frozen=True)
class MapOf:
    """A mapping of any names to values of one form."""

    form: Any


OR_NULL = "number or null"
ENDS = {"low": "number", "high": "number"}
SCORE = {"value?": "number", "low?": "number", "high?": "number"}
ROW = {"row": "number", "probability?": "number", "kinds?": MapOf("number")}
ANALYSIS = {
    "rows?": "number",
    "labels?": ListOf("any"),
    "classes?": ListOf(
        {
            "label": "text",
            **dict.fromkeys(("precision", "recall", "f1"), OR_NULL),
            "support": "number",
            "intervals?": MapOf(ListOf("number", 2)),
        }
    ),
    "confusion_matrix?": ListOf(ListOf("number")),
    "confused?": ListOf(
        {"true": "text", "predicted": "text", "count": "number", "share?": "number"}
    ),
    "thresholds?": ListOf(
        {
            "label": "text",
            "chosen?": "number",
            "curve": ListOf(
                {
                    "threshold": "number",
                    "precision?": "number",
                    "recall?": "number",
                    "f1?": "number",
                }
            ),
        }
    ),
    "calibration?": {
        "ece?": "number",
        "temperature?": "number",
        "bins": ListOf(
            {**ENDS, "n": "number", "confidence": OR_NULL, "accuracy": OR_NULL},
        ),
    },
    "residuals?": {
        "mean?": "number",
        "std?": "number",
        "edges?": ListOf("number"),
        "counts?": ListOf("number"),
        "points?": ListOf(ListOf("number", 2)),
    },
    "spans?": {"counts": MapOf("number"), "types?": MapOf(MapOf("number"))},
    "slices?": ListOf(
        {"by": "text", "value": "text or null", "n": "number", "scores": MapOf(SCORE)}
    ),
    "lengths?": {
        "unit?": "text",
        "edges": ListOf("number"),
        "counts": ListOf("number"),
        **dict.fromkeys(("median", "p95", "max"), "number"),
        **{f"{name}?": "number" for name in ("limit", "truncated", "truncated_share")},
    },
    "suspected_labels?": {
        "count": "number",
        "withheld?": "text",
        "rows": ListOf({"row": "number", "given": "text", "suggested": "text"}),
    },
    "errors?": {"count?": "number", "rows": ListOf(ROW)},
}
SPLIT = {
    "intervals?": MapOf(ENDS),
    "baselines?": MapOf(MapOf("number")),
    "calibration?": MapOf({"before": "number", "after": "number"}),
    "confusion_matrix?": ListOf(ListOf("number")),
}
FIT = {f"{name}?": "number" for name in ("best_epoch", "epochs", "steps", "seconds", "lr")}
METRICS = {
    "validation?": SPLIT,
    "test?": SPLIT,
    "fit?": {**FIT, "monitor?": "text"},
    "campaign?": {
        **{name: MapOf(MapOf("number")) for name in ("mean", "deviation")},
        "runs": MapOf({"validation?": {}, "test?": {}, "fit?": FIT}),
        "kind": "text",
        "best": "text",
    },
}
ENVIRONMENT = {
    **{f"{name}?": MapOf("any") for name in ("machine", "git", "processes", "packages")},
    **{f"{name}?": MapOf("any") for name in ("data", "rows")},
}
CARD = {"labels?": ListOf("any"), "metrics?": {"validation?": SPLIT, "test?": SPLIT}}
BY_FILE = {
    "analysis.json": ANALYSIS,
    "metrics.json": METRICS,
    "environment.json": ENVIRONMENT,
    "plcli.json": CARD,
}


def wrong(value: Any, form: Any, where: str = "") -> str | None:
    """Return where a value has another form, and what was expected; None if it has the form.

    Args:
        value: the value.
        form: its form.
        where: the name of the value, for what is returned.
    """
    if isinstance(form, str):
        return _wrong_plain(value, form, where)
    if isinstance(form, ListOf):
        if not isinstance(value, list):
            return _said(value, "a list", where)
        if form.count is not None and len(value) != form.count:
            return f"{where}: a list of {len(value)} instead of {form.count}"
        parts = ((each, form.form, f"{where}[{place}]") for place, each in enumerate(value))
        return next((found for part in parts if (found := wrong(*part))), None)
    if not isinstance(value, Mapping):
        return _said(value, "a mapping", where)
    if isinstance(form, MapOf):
        parts = ((each, form.form, _inside(where, name)) for name, each in value.items())
        return next((found for part in parts if (found := wrong(*part))), None)
    for name, inner in form.items():
        key = name.removesuffix("?")
        if key not in value and key == name:
            return f"{_inside(where, key)}: is missing"
        if key not in value or (key != name and value[key] is None):
            continue
        if found := wrong(value[key], inner, _inside(where, key)):
            return found
    return None


def _inside(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _wrong_plain(value: Any, form: str, where: str) -> str | None:
    if form == "any" or (value is None and form.endswith(" or null")):
        return None
    plain = form.removesuffix(" or null")
    kinds: tuple[type, ...] = (str,) if plain == "text" else (int, float)
    if isinstance(value, kinds) and not isinstance(value, bool):
        return None
    return _said(value, f"a {plain}", where)


def _said(value: Any, expected: str, where: str) -> str:
    names = {dict: "mapping", str: "text", bool: "bool", type(None): "null"}
    kind = names.get(type(value), "number" if isinstance(value, (int, float)) else "list")
    said = f"a {kind} instead of {expected}"
    return f"{where}: {said}" if where else said
