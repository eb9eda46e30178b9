"""Prediction rows -> a csv, jsonl or parquet file, or JSON lines on a stream.

They are written as they come, whole or not at all.
"""

import csv
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from plcli.errors import MachineError, UsageError

ENDINGS = (".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 8192


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
            `close`.

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
        self._rows: list[dict[str, Any]] = []
        self._csv: csv.DictWriter[str] | None = None
        self._parquet: Any = None

    def write(self, row: Mapping[str, Any]) -> None:
        """Take one row."""
        if self.path.suffix == ".jsonl":
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        elif self.path.suffix == ".csv":
            flat = {
                key: ", ".join(map(str, v)) if isinstance(v, list) else v
                for key, v in flatten(row).items()
            }
            if self._csv is None:
                self._csv = csv.DictWriter(self._file, list(flat))
                self._csv.writeheader()
            self._csv.writerow(flat)
        else:
            self._rows.append(flatten(row))
            if len(self._rows) == PARQUET_ROWS:
                self._write_parquet()

    def _write_parquet(self) -> None:
        if self._parquet is None:
            found = pa.Table.from_pylist(self._rows).schema
            named = [  # lists of names, though the first rows may all be empty
                field.with_type(pa.list_(pa.string())) if pa.types.is_list(field.type) else field
                for field in found
            ]
            self._parquet = pa.parquet.ParquetWriter(str(self._temporary), pa.schema(named))
        self._parquet.write_table(pa.Table.from_pylist(self._rows, schema=self._parquet.schema))
        self._rows = []

    def close(self) -> None:
        """Put the file in its place."""
        if self._rows:
            self._write_parquet()
        if self._parquet is not None:
            self._parquet.close()
        self._file.close()
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
