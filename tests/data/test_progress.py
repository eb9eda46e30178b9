"""Long work on rows is told of every few seconds."""

import logging

import pytest

from plcli.data import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(total: int | None, clock: list[float], caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what is said of 400 rows in eight seconds."""
    caplog.set_level(logging.INFO)
    made = progress.Progress(logging.getLogger("test"), "encoding a.csv", total)
    for _ in range(4):
        clock[0] += 2.0
        made.add(100)
    return [record.getMessage() for record in caplog.records]


def test_rows_rate_and_time_left_are_told(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    told = ["encoding a.csv: 300 of 1,000 rows, 50 a second, about 14 s left"]
    assert lines(1000, clock, caplog) == told


def test_without_a_total_there_is_no_time_left(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    assert lines(None, clock, caplog) == ["encoding a.csv: 300 rows, 50 a second"]


def test_what_is_quickly_done_is_not_told(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    progress.Progress(logging.getLogger("test"), "encoding a.csv", 100).add(100)
    assert not caplog.records
