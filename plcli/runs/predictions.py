"""Prediction rows -> a csv, jsonl or parquet file, or JSON lines on a stream.

They are written as they come, whole or not at all.
"""

import csv
import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from plcli.errors import MachineError, UsageError

ENDINGS = (".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 8192
NAMES = pa.list_(pa.string())
EMPTY = pa.list_(pa.null())  # of a column whose lists are all empty; it is taken for one of names


def check_output(path: Path) -> None:
    """Check that a file can be written as predictions.

    Raises:
        UsageError: if its ending is not known, or it exists.
    """
    if path.suffix not in ENDINGS:
        raise UsageError(
            f"--output {path}: the ending '{path.suffix}' is none of {', '.join(ENDINGS)}."
        )
    if path.exists():
        raise UsageError(f"--output {path}: exists already. Remove it or name another file.")


class Sink:
    """Takes prediction rows one by one.

    Args:
        path: a .csv, .jsonl or .parquet file; the rows stand in a temporary file beside it until
            `close`. A parquet file is made of JSON lines then, when the type of every column is
            known: lists may be empty in many rows.

    Raises:
        UsageError: if the ending is none of these, or the file exists.
        MachineError: if the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        check_output(path)
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        except OSError as error:
            raise MachineError(
                f"--output {path}: cannot be written ({error.strerror}). "
                "Name a file in another folder."
            ) from None
        os.close(handle)
        self._temporary = Path(name)
        self._file: IO[str] = open(self._temporary, "w", encoding="utf-8", newline="")  # noqa: SIM115  # closed in close()
        self._csv: csv.DictWriter[str] | None = None

    def write(self, row: Mapping[str, Any]) -> None:
        """Take one row."""
        if self.path.suffix == ".csv":
            flat = {key: _cell(value) for key, value in flatten(row).items()}
            if self._csv is None:
                self._csv = csv.DictWriter(self._file, list(flat))
                self._csv.writeheader()
            self._csv.writerow(flat)
        else:
            whole = row if self.path.suffix == ".jsonl" else flatten(row)
            self._file.write(json.dumps(whole, ensure_ascii=False) + "\n")

    def _write_parquet(self) -> None:
        """Put a parquet file in the place of the JSON lines."""
        lines = self._temporary
        found = [pa.schema([]), *(table.schema for table in _tables(lines))]
        schema = pa.schema(
            [
                field.with_type(NAMES) if field.type == EMPTY else field
                for field in pa.unify_schemas(found, promote_options="permissive")
            ]
        )
        self._temporary = lines.with_name(f"{lines.name}.parquet")
        try:
            with pa.parquet.ParquetWriter(str(self._temporary), schema) as writer:
                for table in _tables(lines, schema):
                    writer.write_table(table)
        finally:
            lines.unlink()

    def close(self) -> None:
        """Put the file in its place."""
        self._file.close()
        if self.path.suffix == ".parquet":
            self._write_parquet()
        self._temporary.chmod(0o644)
        os.replace(self._temporary, self.path)

    def abandon(self) -> None:
        """Leave no file."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class Lines:
    """Takes prediction rows and prints them as JSON lines."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, row: Mapping[str, Any]) -> None:
        """Print one row."""
        print(json.dumps(row, ensure_ascii=False), file=self.stream)

    def close(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def abandon(self) -> None:
        """Leave what was printed."""


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Make a row's mappings columns of their own: `probability.billing`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    return flat


def _cell(value: Any) -> Any:
    """Write a list into a csv cell: names with commas between them, anything else as JSON text.

    An empty list is an empty cell, as nothing says what it is a list of.
    """
    if not isinstance(value, list):
        return value
    if all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _tables(lines: Path, schema: pa.Schema | None = None) -> Iterator[pa.Table]:
    """Read JSON lines back, PARQUET_ROWS at a time."""
    with open(lines, encoding="utf-8") as file:
        while part := list(itertools.islice(file, PARQUET_ROWS)):
            yield pa.Table.from_pylist([json.loads(line) for line in part], schema=schema)
