"""Writes prediction rows to a csv, jsonl or parquet file, or as JSON lines to a stream.

Rows are written as they arrive. The file is whole or absent.
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
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # first characters of what a spreadsheet computes
PARQUET_ROWS = 8192
NAMES = pa.list_(pa.string())
NOTHING: Mapping[str, Any] = {}
EMPTY = pa.list_(pa.null())  # the type if all lists of a column are empty; it becomes NAMES


def check_output(path: Path) -> None:
    """Check that a file can be written for predictions.

    Raises:
        UsageError: if its extension is not known, or it exists.
    """
    if path.suffix not in ENDINGS:
        raise UsageError(
            f"--output {path}: the extension '{path.suffix}' is not one of {', '.join(ENDINGS)}."
        )
    if path.exists():
        raise UsageError(f"--output {path}: already exists. Remove it or name another file.")


class Sink:
    """Writes prediction rows to a file, one by one.

    Args:
        path: a .csv, .jsonl or .parquet file. Until `close`, the rows are in a temporary file in
            the same folder. A parquet file is converted from JSON lines in `close`: only then are
            the types of all columns known, as lists may be empty in many rows.
        escape_formulas: whether text cells of a csv file that a spreadsheet would compute begin
            with a quote.

    Raises:
        UsageError: if the extension is not one of these, or the file exists.
        MachineError: if the folder cannot be written.
    """

    def __init__(self, path: Path, *, escape_formulas: bool = False) -> None:
        check_output(path)
        self.path, self._escape = path, escape_formulas
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

    def write(self, row: Mapping[str, Any], further: Mapping[str, Any] = NOTHING) -> None:
        """Write one row.

        Args:
            row: the prediction, whose mappings are expanded into columns in csv and parquet.
            further: cells of further columns, whose lists and mappings are JSON there.
        """
        if self.path.suffix == ".csv":
            flat = {key: _cell(value) for key, value in flatten(row).items()}
            flat |= {key: _as_json(value) for key, value in further.items()}
            if self._escape:
                flat = {_escaped(key): _escaped(value) for key, value in flat.items()}
            if self._csv is None:
                self._csv = csv.DictWriter(self._file, list(flat))
                self._csv.writeheader()
            self._csv.writerow(flat)
        else:
            if self.path.suffix == ".jsonl":
                whole = {**row, **further}
            else:
                whole = flatten(row) | {
                    key: value if isinstance(value, bool) else _as_json(value)
                    for key, value in further.items()
                }
            self._file.write(json.dumps(whole, ensure_ascii=False) + "\n")

    def _write_parquet(self) -> None:
        """Convert the JSON lines to a parquet file."""
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
        """Finish the file and rename it to its final name."""
        self._file.close()
        if self.path.suffix == ".parquet":
            self._write_parquet()
        self._temporary.chmod(0o644)
        os.replace(self._temporary, self.path)

    def abandon(self) -> None:
        """Remove the temporary file."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


class Lines:
    """Prints prediction rows as JSON lines."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, row: Mapping[str, Any], further: Mapping[str, Any] = NOTHING) -> None:
        """Print one row; characters that control a terminal are escaped, as JSON allows."""
        line = json.dumps({**row, **further}, ensure_ascii=False)
        if not line.isprintable():
            line = "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)
        print(line, file=self.stream)

    def close(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def abandon(self) -> None:
        """Do nothing; printed rows cannot be removed."""


def flatten(row: Mapping[str, Any]) -> dict[str, Any]:
    """Expand mappings in a row into columns such as `probability.billing`."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": item for name, item in value.items()}
        else:
            flat[key] = value
    return flat


def _cell(value: Any) -> Any:
    """Format a list for a csv cell as JSON, so that it can be read back."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _escaped(cell: Any) -> Any:
    """Return a cell that a spreadsheet shows as text (https://owasp.org, CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULAS) else cell


def _as_json(value: Any) -> Any:
    """Format what is neither text nor a number as JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict, bool)) else value


def _tables(lines: Path, schema: pa.Schema | None = None) -> Iterator[pa.Table]:
    """Read JSON lines back, PARQUET_ROWS at a time."""
    with open(lines, encoding="utf-8") as file:
        while part := list(itertools.islice(file, PARQUET_ROWS)):
            yield pa.Table.from_pylist([json.loads(line) for line in part], schema=schema)
