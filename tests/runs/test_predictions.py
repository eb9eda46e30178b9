"""Rows of predictions in files: lists of mappings too, and whatever the first rows hold."""

import csv
import json
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from plcli.errors import UsageError
from plcli.runs import predictions
from plcli.runs.predictions import Sink

SPAN = {"label": "Ort", "text": "Köln, am Rhein", "start": 3, "score": 0.5}
ROWS: list[dict[str, Any]] = [
    {"id": "a", "spans": [], "names": [], "probability": {"x": 0.25}},
    {"id": "b", "spans": [SPAN, SPAN], "names": ["x", "y"], "probability": {"x": 1}},
]


def written(name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows and return the file."""
    sink = Sink(Path(name))
    for row in rows:
        sink.write(row)
    sink.close()
    return Path(name)


def from_csv(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Write rows as csv and read them back."""
    with open(written("rows.csv", rows), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def from_parquet(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Write rows as parquet and read them back."""
    found: list[dict[str, Any]] = pq.read_table(written("rows.parquet", rows)).to_pylist()
    return found


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as a table holds it."""
    return {
        **{k: v for k, v in row.items() if k != "probability"},
        "probability.x": row["probability"]["x"],
    }


def test_a_csv_cell_holds_mappings_as_json() -> None:
    assert json.loads(from_csv(ROWS)[1]["spans"]) == [SPAN, SPAN]


def test_a_csv_cell_holds_names_as_json() -> None:
    assert from_csv(ROWS)[1]["names"] == '["x", "y"]'


def test_a_csv_cell_of_an_empty_list_is_json() -> None:
    assert from_csv(ROWS)[0]["spans"] == "[]"


def test_letters_of_a_csv_cell_are_not_escaped() -> None:
    assert "Köln" in from_csv(ROWS)[1]["spans"]


def test_parquet_keeps_mappings() -> None:
    assert from_parquet(ROWS) == [flat(row) for row in ROWS]


def test_parquet_keeps_mappings_that_come_after_many_empty_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(predictions, "PARQUET_ROWS", 2)
    rows = [ROWS[0]] * 5 + [ROWS[1]] + [ROWS[0]] * 3
    assert from_parquet(rows) == [flat(row) for row in rows]


def test_lists_that_are_all_empty_are_lists_of_names_in_parquet() -> None:
    schema = pq.read_schema(written("rows.parquet", [ROWS[0]]))
    assert str(schema.field("names").type) == "list<element: string>"


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_nothing_is_left_beside_a_file(name: str) -> None:
    written(name, ROWS)
    assert [path.name for path in Path().iterdir() if path.is_file()] == [name]


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_nothing_is_left_of_an_abandoned_file(name: str) -> None:
    sink = Sink(Path(name))
    sink.write(ROWS[1])
    sink.abandon()
    assert [path for path in Path().iterdir() if path.is_file()] == []


# beside other processes


def test_a_file_that_is_being_written_is_refused() -> None:
    first = Sink(Path("rows.csv"))
    with pytest.raises(UsageError, match=r"^--output rows\.csv: is being written by another pro"):
        Sink(Path("rows.csv"))
    first.abandon()


def test_the_next_free_name_is_neither_written_nor_being_written() -> None:
    written("rows.csv", ROWS)
    second = Sink(predictions.free_file(Path(), "rows"))
    third = predictions.free_file(Path(), "rows")
    second.abandon()
    assert (second.path, third) == (Path("rows-2.csv"), Path("rows-3.csv"))


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_a_file_that_another_process_has_written_meanwhile_is_kept(
    name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("plcli"), "propagate", True)
    sink = Sink(Path(name))
    sink.write(ROWS[1])
    Path(name).write_text("theirs")
    sink.close()
    suffix = Path(name).suffix
    assert (Path(name).read_text(), sink.path) == ("theirs", Path(f"rows-2{suffix}"))
    assert sink.path.exists()
    assert f"warning: {name}: another process has written it meanwhile" in caplog.text


def test_what_a_dead_process_has_left_of_a_file_is_removed() -> None:
    left = Path(f".rows.csv~0.{os.getppid()}.1@{socket.gethostname()}")  # of an earlier process
    left.touch()
    assert written("rows.csv", ROWS).exists()
    assert not left.exists()


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_a_file_has_the_permissions_of_the_umask(name: str, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        assert written(name, ROWS).stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


# a prediction that is interrupted


def interrupted(path: str = "rows.csv", key: str = "a") -> None:
    """Write two rows, keep them, write one more, and end as a killed process does."""
    sink = Sink(Path(path), key=key)
    for row in ROWS[:2]:
        sink.write(row)
    sink.keep(2)
    sink.write(ROWS[0])
    sink._file.close()


@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.parquet"])
def test_a_sink_continues_after_the_rows_that_are_kept(name: str) -> None:
    interrupted(name)
    sink = Sink(Path(name), key="a")
    assert sink.rows == 2
    sink.write(ROWS[1])
    sink.close()
    written(f"whole-{name}", [*ROWS[:2], ROWS[1]])
    assert Path(name).read_bytes() == Path(f"whole-{name}").read_bytes()


def test_rows_of_another_key_are_not_continued() -> None:
    interrupted()
    with pytest.raises(UsageError, match=r"rows.csv.partial has 2 rows of an interrupted"):
        Sink(Path("rows.csv"), key="b")


def test_kept_rows_stay_when_the_rest_is_abandoned() -> None:
    interrupted()
    assert [Sink(Path("rows.csv"), key="a").abandon() for _ in range(2)] == [2, 2]


def test_a_file_that_is_shorter_than_its_state_says_starts_over() -> None:
    interrupted()
    Path("rows.csv.partial").write_text("id")
    sink = Sink(Path("rows.csv"), key="a")
    sink.close()
    assert sink.rows == 0
