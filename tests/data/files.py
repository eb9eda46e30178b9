"""Files in all formats, and what is read of them."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from plcli.data import rows
from plcli.data.cells import Kind
from plcli.errors import DataError

TEXT = {"text": Kind.TEXT}
TEXT_AND_LABEL = {"text": Kind.TEXT, "label": Kind.NAME}
WORDS = ["a café", "NA", "null", "None", "nan", '"quoted"', "1", "x, y"]


def write(name: str, content: str | bytes) -> str:
    """Write a file into the test's folder and return its name."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def write_parquet(name: str, columns: Mapping[str, Sequence[Any]]) -> str:
    pa.parquet.write_table(pa.table(dict(columns)), name)
    return name


def write_arrow(name: str, table: pa.Table, *, open_writer: Callable[..., Any]) -> str:
    with pa.OSFile(name, "wb") as file, open_writer(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    return name


def csv_cell(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def twice(column: str) -> pa.Table:
    """Make a table that holds a column two times, and a column text."""
    names = [column, *dict.fromkeys([column, "text"])]
    return pa.Table.from_arrays([pa.array([name]) for name in names], names=names)


def table_of_words() -> pa.Table:
    return pa.table({"text": WORDS})


def texts(source: str | Sequence[str]) -> list[str]:
    """Read the column text."""
    return column(source, "text", Kind.TEXT)


def column(source: str | Sequence[str], name: str, kind: Kind) -> list[Any]:
    """Read one column."""
    got: list[Any] = rows.load(source, {name: kind}).table.column(name).to_pylist()
    return got


def cells(values: Sequence[Any], kind: Kind) -> list[Any]:
    """Turn values in memory into the cells of one column."""
    table = rows.from_values([{"x": value} for value in values], {"x": kind}, source="typed").table
    got: list[Any] = table.column("x").to_pylist()
    return got


def refused(message: str, error: type[Exception] = DataError) -> Any:
    """Expect an error that says this, word by word."""
    return pytest.raises(error, match=re.escape(message))


def files_with_times(folder: str) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in Path(folder).rglob("*") if p.is_file()}


WRITERS: dict[str, Callable[[], str]] = {
    "csv": lambda: write("a.csv", "text\n" + "".join(csv_cell(w) + "\n" for w in WORDS)),
    "tsv": lambda: write("a.tsv", "text\n" + "".join(csv_cell(w) + "\n" for w in WORDS)),
    "jsonl": lambda: write("a.jsonl", "".join(json.dumps({"text": w}) + "\n" for w in WORDS)),
    "json": lambda: write("a.json", json.dumps([{"text": w} for w in WORDS])),
    "txt": lambda: write("a.txt", "".join(word + "\n" for word in WORDS)),
    "parquet": lambda: write_parquet("a.parquet", {"text": WORDS}),
    "arrow file": lambda: write_arrow("a.arrow", table_of_words(), open_writer=pa.ipc.new_file),
    "arrow stream": lambda: write_arrow("a.arrow", table_of_words(), open_writer=pa.ipc.new_stream),
}


def write_to_memory(content: bytes) -> str:
    import fsspec

    fsspec.filesystem("memory").pipe("/plcli/a.csv", content)
    return "memory://plcli/a.csv"


def write_binary(name: str, table: pa.Table) -> str:
    if name.endswith(".arrow"):
        return write_arrow(name, table, open_writer=pa.ipc.new_file)
    pa.parquet.write_table(table, name)
    return name
