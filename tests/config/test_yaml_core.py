import datetime
import enum
import pathlib
from typing import Any

import pytest

from plcli.config import yaml_core


class Kind(enum.Enum):
    """A choice."""

    first = "1"


SHARED = [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 12, 10**30, 1e-5, -0.0, float("inf"), float("nan")),
        *("", "yes", "no", "12", "1e5", "~", "<<", "- a", "a: b", "2026-01-02", "!!set x"),
        *("a\nb\r\n\u2028\x85", "\x00\x07", "ü \U0001f600", "word " * 100),
        *((1, 2), [], {}, {1: {True: "x", None: 0.5}}, [SHARED, SHARED]),
        *(Kind.first, pathlib.Path("here"), datetime.date(2026, 1, 2), {1, 2}),
    ],
    ids=repr,
)
def test_plain_values_are_those_of_the_text(value: Any) -> None:
    text = yaml_core.dump({"key": value})
    assert repr(yaml_core.plain({"key": value})) == repr(yaml_core.parse_value(text))
