"""The sections of a report with single rows: the worst ones, and those whose label looks wrong."""

from collections.abc import Mapping
from typing import Any

from plcli.runs.reporting import page
from plcli.runs.reporting.contents import Contents
from plcli.runs.reporting.marked import Explanations, marked
from plcli.runs.reporting.numbers import number
from plcli.runs.reporting.page import Markup

MOST_ERRORS = 50
MOST_LETTERS = 1000  # of a text
OF_A_ROW = (  # numbers of a row
    *("probability", "error", "f1", "exact_match", "chrf", "rougeL", "bleu", "tokens", "loss"),
)


def errors(contents: Contents, explanations: Explanations) -> Markup:
    """Return the worst rows, with marked words where they are explained."""
    found = contents.analysis.get("errors")
    if not found or not found.get("rows"):
        return Markup()
    rows = found["rows"][:MOST_ERRORS]
    count = found.get("count")
    told = f"The {len(rows)} worst rows by {found.get('by', 'loss')}"
    told += f" of {number(count)} that are wrong." if count is not None else "."
    boxes = []
    for row in rows:
        words = explanations.get(row["row"])
        shown = _text(row.get("text")) if words is None else marked(words)
        boxes.append(page.element("article", page.join([_verdict(row), shown])))
    legend = ""
    if explanations:
        legend = page.paragraph(
            page.join(
                [
                    page.element("mark", "for", "f3"),
                    " and ",
                    page.element("mark", "against", "a3"),
                    " what was predicted: integrated gradients, the darker the more. "
                    f"Of the first {len(explanations)} rows.",
                ]
            ),
            "soft",
        )
    return page.join(
        [page.paragraph(told, "soft"), legend, page.element("div", page.join(boxes), "rows")]
    )


def _verdict(row: Mapping[str, Any]) -> Markup:
    """Return what is true and predicted, and how wrong it is."""
    parts = [f"row {row['row']}" if str(row.get("id")) == str(row["row"]) else f"{row.get('id')}"]
    if "truth" in row:
        parts += [
            page.join(["true ", page.element("b", _named(row["truth"]))]),
            page.join(["predicted ", page.element("b", _named(row.get("prediction")))]),
        ]
    for key in ("missed", "wrong"):
        if row.get(key):
            parts.append(f"{key} {_named(row[key])}")
    if isinstance(row.get("kinds"), Mapping):
        parts.append(", ".join(f"{count} {kind}" for kind, count in row["kinds"].items() if count))
    for key in (
        "probability",
        "error",
        "f1",
        "exact_match",
        "chrf",
        "rougeL",
        "bleu",
        "tokens",
        "loss",
    ):
        if isinstance(row.get(key), (int, float)):
            parts.append(f"{key} {number(float(row[key]), 3)}")
    spans_of = [page.element("span", part) for part in parts if part]
    return page.paragraph(page.join(spans_of), "verdict")


def _named(value: Any) -> str:
    """Return a truth or a prediction as a text."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return f"{value.get('label', '')} “{value.get('text', '')}”"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_named, value)) or "none"
    shown = (
        number(value)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
        else str(value)
    )
    return shown if len(shown) <= MOST_LETTERS else f"{shown[:MOST_LETTERS]} …"


def _text(value: Any) -> Markup:
    shown = "" if value is None else str(value)
    shown = shown if len(shown) <= MOST_LETTERS else f"{shown[:MOST_LETTERS]} …"
    return page.paragraph(shown, "text")


def suspected(contents: Contents) -> Markup:
    """Return rows whose label looks wrong."""
    found = contents.analysis.get("suspected_labels")
    if not found or not found.get("rows"):
        return Markup()
    boxes = []
    for row in found["rows"][:MOST_ERRORS]:
        parts = [
            f"row {row['row']}" if str(row.get("id")) == str(row["row"]) else str(row.get("id")),
            page.join(["given ", page.element("b", row["given"])]),
            page.join(["looks like ", page.element("b", row["suggested"])]),
        ]
        if row.get("probability") is not None:
            parts.append(f"probability {number(row['probability'], 3)}")
        verdict = page.paragraph(
            page.join([page.element("span", part) for part in parts]), "verdict"
        )
        boxes.append(page.element("article", page.join([verdict, _text(row.get("text"))])))
    told = (
        f"{number(found['count'])} rows of the test data whose label the model doubts (confident "
        "learning). Look at them before they are changed: the model can be wrong, too."
    )
    whole = page.element("div", page.join(boxes), "rows")
    return page.join([page.paragraph(told, "soft"), page.folded(f"show {len(boxes)}", whole)])
