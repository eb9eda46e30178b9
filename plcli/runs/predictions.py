"""Writes prediction rows to a csv, jsonl or parquet file, or as JSON lines to a stream.

Rows are written as they arrive. The file is whole or absent; until it is whole, its name ends in
.partial.
"""

import csv
import itertools
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from plcli.errors import MachineError, UsageError
from plcli.runs import atomic_files
from plcli.runs.folder import check_local

try:
    import fcntl
except ImportError:  # Windows, where a file is not locked
    fcntl = None  # type: ignore[assignment]

ENDINGS = (".csv", ".jsonl", ".parquet")
PARQUET_ROWS = 8192
PARTIAL = ".partial"  # the ending of a file that is not whole
NAMES = pa.list_(pa.string())
EMPTY = pa.list_(pa.null())  # the type if all lists of a column are empty; it becomes NAMES


def check_output(path: Path) -> None:
    """Check that a file can be written for predictions.

    Raises:
        UsageError: if its extension is not known, or it exists.
    """
    check_local("--output", str(path))
    if path.suffix not in ENDINGS:
        raise UsageError(
            f"--output {path}: the extension '{path.suffix}' is not one of {', '.join(ENDINGS)}."
        )
    if path.exists():
        raise UsageError(f"--output {path}: already exists. Remove it or name another file.")


class Sink:
    """Writes prediction rows to a file, one by one.

    Until `close`, the rows are in `FILE.partial` beside it. With a key, they stay there if the
    process is killed, together with `FILE.partial.json`, which says how many of them are whole; the
    next sink with the same key continues after them.

    Args:
        path: a .csv, .jsonl or .parquet file. A parquet file is converted from JSON lines in
            `close`: only then are the types of all columns known, as lists may be empty in many
            rows.
        key: identifies the rows that are written; None starts over after a kill.

    Attributes:
        rows: number of rows that an earlier sink has written.

    Raises:
        UsageError: if the extension is not one of these, the file exists, another process writes
            it, or its partial file has another key.
        MachineError: if the folder cannot be written.
    """

    def __init__(self, path: Path, *, key: str | None = None) -> None:
        check_output(path)
        self.path, self._key = path, key
        self._partial = path.with_name(f"{path.name}{PARTIAL}")
        self._state = path.with_name(f"{path.name}{PARTIAL}.json")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[str] = open(self._partial, "a+", encoding="utf-8", newline="")  # noqa: SIM115  # closed in close()
        except OSError as error:
            raise MachineError(
                f"--output {path}: cannot be written ({error.strerror}). "
                "Name a file in another folder."
            ) from None
        try:
            self._lock()
            state = self._read_state()
        except BaseException:
            self._file.close()
            raise
        self.rows = self._kept = int(state.get("rows", 0))
        self._file.truncate(int(state.get("bytes", 0)))
        self._names: list[str] | None = state.get("columns")
        self._csv = self._writer()

    def _lock(self) -> None:
        if fcntl is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"--output {self.path}: is being written by another process. Name another file."
            ) from None
        except OSError:  # a file system without locks
            return

    def _read_state(self) -> dict[str, Any]:
        """Return how far an earlier sink came; empty to start over.

        Raises:
            UsageError: if it wrote other rows.
        """
        try:
            state = json.loads(self._state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(state, dict) or self._partial.stat().st_size < state.get("bytes", 0):
            return {}
        if state.get("key") != self._key:
            raise UsageError(
                f"--output {self.path}: {self._partial.name} has {state.get('rows')} rows of an "
                "interrupted prediction of other rows, or with other weights or settings. Remove "
                "it, or name another file."
            )
        return state

    def _writer(self) -> "csv.DictWriter[str] | None":
        return None if self._names is None else csv.DictWriter(self._file, self._names)

    def write(self, row: Mapping[str, Any]) -> None:
        """Write one row."""
        if self.path.suffix == ".csv":
            flat = {key: _cell(value) for key, value in flatten(row).items()}
            if self._csv is None:
                self._names = list(flat)
                self._csv = csv.DictWriter(self._file, self._names)
                self._csv.writeheader()
            self._csv.writerow(flat)
        else:
            whole = row if self.path.suffix == ".jsonl" else flatten(row)
            self._file.write(json.dumps(whole, ensure_ascii=False) + "\n")

    def keep(self, rows: int) -> None:
        """Flush the first rows to disk, so that they need not be predicted again."""
        if self._key is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        size = os.fstat(self._file.fileno()).st_size
        state = {"key": self._key, "rows": rows, "bytes": size}
        atomic_files.write_text(self._state, json.dumps({**state, "columns": self._names}))
        self._kept = rows

    def _write_parquet(self) -> None:
        """Convert the JSON lines to a parquet file."""
        lines = self._partial
        found = [pa.schema([]), *(table.schema for table in _tables(lines))]
        schema = pa.schema(
            [
                field.with_type(NAMES) if field.type == EMPTY else field
                for field in pa.unify_schemas(found, promote_options="permissive")
            ]
        )
        converted = lines.with_name(f"{lines.name}.parquet")
        try:
            with pa.parquet.ParquetWriter(str(converted), schema) as writer:
                for table in _tables(lines, schema):
                    writer.write_table(table)
            os.replace(converted, lines)
        finally:
            converted.unlink(missing_ok=True)

    def close(self) -> None:
        """Finish the file and rename it to its final name."""
        self._file.flush()
        if self.path.suffix == ".parquet":
            self._write_parquet()
        os.replace(self._partial, self.path)
        self._file.close()
        self._state.unlink(missing_ok=True)

    def abandon(self) -> int:
        """Remove the partial file if no rows of it are kept, and return the number of those."""
        self._file.close()
        if not self._kept:
            self._partial.unlink(missing_ok=True)
            self._state.unlink(missing_ok=True)
        return self._kept


class Lines:
    """Prints prediction rows as JSON lines."""

    rows = 0

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, row: Mapping[str, Any]) -> None:
        """Print one row."""
        print(json.dumps(row, ensure_ascii=False), file=self.stream)

    def close(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def keep(self, rows: int) -> None:
        """Do nothing; printed rows are not continued."""

    def abandon(self) -> int:
        """Do nothing; printed rows cannot be removed."""
        return 0


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


def _tables(lines: Path, schema: pa.Schema | None = None) -> Iterator[pa.Table]:
    """Read JSON lines back, PARQUET_ROWS at a time."""
    with open(lines, encoding="utf-8") as file:
        while part := list(itertools.islice(file, PARQUET_ROWS)):
            yield pa.Table.from_pylist([json.loads(line) for line in part], schema=schema)
