"""Writes prediction rows to a csv, jsonl or parquet file, or as JSON lines to a stream.

Rows are written as they arrive. The file is whole or absent.
"""

import contextlib
import csv
import itertools
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from plcli.errors import MachineError, UsageError
from plcli.runs import atomic_files, process

logger = logging.getLogger(__name__)

ENDINGS = (".csv", ".jsonl", ".parquet")
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # first characters of what a spreadsheet computes
PARQUET_ROWS = 8192
NAMES = pa.list_(pa.string())
NOTHING: Mapping[str, Any] = {}
EMPTY = pa.list_(pa.null())  # the type if all lists of a column are empty; it becomes NAMES


def check_output(path: Path) -> None:
    """Check that a file can be written for predictions.

    Raises:
        UsageError: if its extension is not known, or it exists or is being written.
    """
    if path.suffix not in ENDINGS:
        raise UsageError(
            f"--output {path}: the extension '{path.suffix}' is not one of {', '.join(ENDINGS)}."
        )
    if path.exists():
        raise UsageError(f"--output {path}: already exists. Remove it or name another file.")
    if is_being_written(path):
        raise UsageError(
            f"--output {path}: is being written by another process. Name another file."
        )


def is_being_written(path: Path) -> bool:
    """Whether a living process writes predictions that will have this path.

    What a dead process has left of such a file is removed.
    """
    living = False
    with contextlib.suppress(OSError):  # no such folder
        for each in list(path.parent.iterdir()):
            if not each.name.startswith(_prefix(path)):
                continue
            if process.is_abandoned(each):
                each.unlink(missing_ok=True)
            else:
                living = True
    return living


def free_file(folder: Path, stem: str, suffix: str = ".csv") -> Path:
    """Return STEM.csv, or the first of STEM-2.csv, ... that no process has written or writes."""
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    paths = (folder / f"{name}{suffix}" for name in names)
    return next(path for path in paths if not path.exists() and not is_being_written(path))


def _prefix(path: Path) -> str:
    return f".{path.name}~"


class Sink:
    """Writes prediction rows to a file, one by one.

    Args:
        path: a .csv, .jsonl or .parquet file. Until `close`, the rows are in a temporary file in
            the same folder, whose name tells others which file it will be. A parquet file is
            converted from JSON lines in `close`: only then are the types of all columns known, as
            lists may be empty in many rows.
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
            self._temporary = path.parent / process.temporary_name(_prefix(path))
            handle = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except OSError as error:
            raise MachineError(
                f"--output {path}: cannot be written ({error.strerror}). "
                "Name a file in another folder."
            ) from None
        self._file: IO[str] = os.fdopen(handle, "w", encoding="utf-8", newline="")
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
        self._temporary = lines.with_name(process.temporary_name(_prefix(self.path)))
        try:
            with pa.parquet.ParquetWriter(str(self._temporary), schema) as writer:
                for table in _tables(lines, schema):
                    writer.write_table(table)
        finally:
            lines.unlink()

    def close(self) -> None:
        """Finish the file and give it its final name.

        It is given the next free name if another process has taken its own by now.
        """
        self._file.close()
        if self.path.suffix == ".parquet":
            self._write_parquet()
        atomic_files.sync_file(self._temporary)
        wanted = self.path
        while not _name(self._temporary, self.path):
            self.path = free_file(wanted.parent, wanted.stem, wanted.suffix)
        if self.path != wanted:
            logger.warning("warning: %s: another process has written it meanwhile", wanted)

    def abandon(self) -> None:
        """Remove the temporary file."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


def _name(temporary: Path, path: Path) -> bool:
    """Give a file its final name; return whether it was free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # no hard links on this file system
        if path.exists():
            return False
        os.replace(temporary, path)
    else:
        temporary.unlink()
    return True


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
