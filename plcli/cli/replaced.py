"""Leaves out what a config says where something typed later takes its place.

A shipped config names the data of an example: where a user gives `data.train`, its other rows and
its column of ids do not belong to it any more. Of `pretrained`, `init_from` and `architecture`, the
last one that is given counts, and so do the last of alternative columns, such as words and tags or
text and spans (the mark instead_of). Each is logged.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from plcli.cli.plan import Plan
from plcli.config import yaml_core
from plcli.config.classes import import_class
from plcli.config.marks import marks

logger = logging.getLogger(__name__)

STARTS = ("pretrained", "init_from", "architecture")  # of a model's weights
EXAMPLE = "package:"  # how a config names rows inside an installed package


def leave_out(plan: Plan) -> None:
    """Set keys that are replaced to null, in the plan."""
    given = list(_given(plan))
    if plan.arguments.command == "fit" or plan.pretrained is not None:
        _leave_out(
            *(plan, given, "data", "train", ("validation", "test", "predict")),
            when=lambda before: str(before[2]).startswith(EXAMPLE),
        )
        examples = {
            position
            for position, _, key, value in given
            if key == "data.train" and str(value).startswith(EXAMPLE)
        }
        _leave_out(plan, given, "data", "train", ("id",), when=lambda before: before[0] in examples)
        for start in STARTS:
            _leave_out(plan, given, "model", start, STARTS)
    for section in ("data", "model"):
        for name, mark in marks(_class(plan, section)).items():
            _leave_out(plan, given, section, name, str(mark.get("instead_of") or "").split())


def _class(plan: Plan, section: str) -> type | None:
    value = plan.merged.get(section)
    path = value.get("class_path") if isinstance(value, dict) else None
    known = isinstance(path, str) and "." in path
    return import_class(str(path), f"{section}.class_path") if known else None


def _leave_out(
    plan: Plan,
    given: Sequence["Given"],
    section: str,
    name: str,
    replaced: Sequence[str],
    *,
    when: Callable[["Last"], bool] = lambda before: True,
) -> None:
    """Set keys to null that were given before another one.

    Args:
        plan: the plan, changed in place.
        given: what is given.
        section: model or data.
        name: the key that replaces others.
        replaced: the keys that it replaces.
        when: whether a key is replaced, by its position, source and value.
    """
    at = _last(given, section, name)
    if at is None:
        return
    for other in replaced:
        before = _last(given, section, other)
        if other == name or before is None or before[0] >= at[0]:
            continue
        override = (f"{section}.init_args.{other}", "null")
        if not when(before) or override in plan.arguments.overrides:
            continue
        plan.arguments.overrides.append(override)
        logger.info(
            "%s.%s: %.60s of %s is left out, as %s gives %s.%s",
            section,
            other,
            before[2],
            before[1],
            at[1],
            section,
            name,
        )


Given = tuple[int, str, str, Any]  # the position, source, dotted key and value
Last = tuple[int, str, Any]  # the position, source and value of a key


def _given(plan: Plan) -> Iterator[Given]:
    position = 0
    for fragment in (*plan.base, *plan.fragments):
        position += 1
        for section in ("data", "model"):
            part = fragment.values.get(section)
            arguments = part.get("init_args") if isinstance(part, dict) else None
            for name, value in (arguments or {}).items():
                yield position, fragment.source, f"{section}.{name}", value
    for key, value in plan.arguments.overrides:
        name = key.replace(".init_args.", ".", 1)
        yield position + 1, "the command line", name, yaml_core.parse_value(value)


def _last(given: Sequence[Given], section: str, name: str) -> Last | None:
    """Return the position, source and value of a key, if the last one is not null."""
    found = [
        (position, source, value)
        for position, source, key, value in given
        if key == f"{section}.{name}"
    ]
    if not found or found[-1][2] is None:
        return None
    return found[-1]
