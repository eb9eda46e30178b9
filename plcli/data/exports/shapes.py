"""Shapes of values in exports."""

from collections.abc import Mapping
from typing import Any

from plcli.errors import DataError


def is_span(value: Any) -> bool:
    """Whether a value is a span in the form [start, end, label]."""
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(number) is int for number in value[:2])
        and isinstance(value[2], str)
    )


def are_spans(value: Any) -> bool:
    """Whether a value is a list of spans in the form [start, end, label], at least one."""
    return isinstance(value, list) and bool(value) and all(map(is_span, value))


def has(row: Any, *names: str) -> bool:
    """Whether a row is a mapping with these names."""
    return isinstance(row, Mapping) and all(name in row for name in names)


def mapping(row: Any, where: str, tool: str) -> dict[str, Any]:
    """Return a row that has to be a mapping.

    Raises:
        DataError: if it is none.
    """
    if not isinstance(row, Mapping):
        raise DataError(
            f"{where}: is a {type(row).__name__}, not a row of {tool}. Correct it, or set "
            "data.format."
        )
    return dict(row)
