"""Leaves out what a config says where something typed later takes its place.

A shipped config names the data of an example: where a user gives `data.train`, its validation and
test rows do not belong to it any more. Of `pretrained`, `init_from` and `architecture`, the last
one that is given counts. Each is logged.
"""

import logging
from collections.abc import Iterator
from typing import Any

from plcli.cli.plan import Plan
from plcli.config import yaml_core

logger = logging.getLogger(__name__)

STARTS = ("pretrained", "init_from", "architecture")  # of a model's weights
EXAMPLE = "package:"  # how a config names rows inside an installed package


def leave_out(plan: Plan) -> None:
    """Set keys that are replaced to null, in the plan."""
    given = list(_given(plan))
    for section, names, replaced in (
        ("data", ("train",), ("validation", "test")),
        *(("model", (start,), STARTS) for start in STARTS),
    ):
        at = _last(given, section, names)
        if at is None:
            continue
        for other in replaced:
            before = _last(given, section, (other,))
            if other in names or before is None or before[0] >= at[0]:
                continue
            if section == "data" and not str(before[2]).startswith(EXAMPLE):
                continue
            plan.arguments.overrides.append((f"{section}.init_args.{other}", "null"))
            logger.info(
                "%s.%s: %.60s of %s is left out, as %s gives %s.%s",
                section,
                other,
                before[2],
                before[1],
                at[1],
                section,
                names[0],
            )


Given = tuple[int, str, str, Any]  # the position, source, dotted key and value


def _given(plan: Plan) -> Iterator[Given]:
    position = 0
    for fragment in plan.fragments:
        position += 1
        for section in ("data", "model"):
            part = fragment.values.get(section)
            arguments = part.get("init_args") if isinstance(part, dict) else None
            for name, value in (arguments or {}).items():
                yield position, fragment.source, f"{section}.{name}", value
    for key, value in plan.arguments.overrides:
        name = key.replace(".init_args.", ".", 1)
        yield position + 1, "the command line", name, yaml_core.parse_value(value)


def _last(given: list[Given], section: str, names: tuple[str, ...]) -> tuple[int, str, Any] | None:
    """Return the position, source and value of the last key that is not null."""
    found = [
        (position, source, value)
        for position, source, key, value in given
        if key in {f"{section}.{name}" for name in names}
    ]
    if not found or found[-1][2] is None:
        return None
    return found[-1]
