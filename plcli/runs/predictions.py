"""Writes prediction rows to a csv, jsonl or parquet file, or as JSON lines to a stream.

Rows are written as they arrive. The file is whole or absent. With a key, what a killed process has
written stays in FILE.partial, and is continued.
"""

import contextlib
import csv
import io
import itertools
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet

from plcli.errors import MachineError, UsageError
from plcli.runs import atomic_files, process
from plcli.runs.folder import check_local

try:
    import fcntl
except ImportError:  # Windows, where a partial file is not locked
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

logger = logging.getLogger(__name__)

PARTIAL = ".partial"  # the ending of a file that is continued
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
    check_local("--output", str(path))
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
    living = _is_locked(_partial(path))
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
    return next(free_files(folder, stem, suffix))


def free_files(folder: Path, stem: str, suffix: str = ".csv") -> Iterator[Path]:
    """Yield STEM.csv, STEM-2.csv, ... that no process has written or writes."""
    names = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
    paths = (folder / f"{name}{suffix}" for name in names)
    yield from (path for path in paths if not path.exists() and not is_being_written(path))


def is_of_another(path: Path, key: str | None) -> bool:
    """Whether an interrupted prediction with another key has left a part of this file."""
    state = _read_state(path)
    return bool(state) and state.get("key") != key


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}{PARTIAL}")


def _state(path: Path) -> Path:
    return path.with_name(f"{path.name}{PARTIAL}.json")


def _read_state(path: Path) -> dict[str, Any]:
    """Return how far an interrupted prediction has come; empty if nothing of it can be used."""
    try:
        state = json.loads(_state(path).read_text(encoding="utf-8"))
        size = _partial(path).stat().st_size
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and size >= int(state.get("bytes", 0)) else {}


def _is_locked(partial: Path) -> bool:
    """Whether a living process writes a partial file."""
    try:
        with open(partial, "rb") as file:
            return not _lock(file, shared=True)  # two that ask are not in each other's way
    except OSError:
        return False


def _lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Lock an open file until it is closed; return whether no other process has locked it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _prefix(path: Path) -> str:
    return f".{path.name}~"


class Sink:
    """Writes prediction rows to a file, one by one.

    Args:
        path: a .csv, .jsonl or .parquet file. Until `close`, the rows are in a temporary file in
            the same folder, whose name tells others which file it will be. A parquet file is
            converted from JSON lines in `close`: only then are the types of all columns known, as
            lists may be empty in many rows.
        key: identifies the rows that are written. With one, the temporary file is FILE.partial. If
            the process is killed it stays, with FILE.partial.json, which says how many of its rows
            are whole, and the next sink with the same key continues after them.
        escape_formulas: whether text cells of a csv file that a spreadsheet would compute begin
            with a quote.
        joined: whether the rows are a part of those of another file; then FILE.partial stays
            when it is whole, for `join`.

    Attributes:
        rows: number of rows that an earlier sink has written.

    Raises:
        UsageError: if the extension is not one of these, the file exists or is being written, or
            its partial file has another key.
        MachineError: if the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        key: str | None = None,
        escape_formulas: bool = False,
        joined: bool = False,
    ) -> None:
        check_output(path)
        self.path, self._key, self._escape, self.joined = path, key, escape_formulas, joined
        state = _read_state(path)
        if is_of_another(path, key):
            raise UsageError(
                f"--output {path}: {_partial(path).name} has {state.get('rows')} rows of an "
                "interrupted prediction of other rows, or with other weights or settings. Remove "
                "it, or name another file."
            )
        flags = os.O_EXCL if key is None else os.O_APPEND
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            name = path.parent / process.temporary_name(_prefix(path))
            self._temporary = name if key is None else _partial(path)
            handle = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | flags, 0o666)
        except OSError as error:
            raise MachineError(
                f"--output {path}: cannot be written ({error.strerror}). "
                "Name a file in another folder."
            ) from None
        self._file: IO[str] = os.fdopen(handle, "w", encoding="utf-8", newline="")
        if key is not None and not _lock(self._file):
            self._file.close()
            raise UsageError(
                f"--output {path}: is being written by another process. Name another file."
            )
        os.ftruncate(handle, int(state.get("bytes", 0)))
        self.rows = self._kept = self._written = int(state.get("rows", 0))
        columns = state.get("columns")
        self._csv = csv.DictWriter(self._file, columns) if columns else None

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
        self._written += 1

    def keep(self, rows: int) -> None:
        """Flush the first rows to disk, so that they need not be predicted again."""
        if self._key is None:
            return
        self._file.flush()
        os.fsync(self._file.fileno())
        state = {
            "key": self._key,
            "rows": rows,
            "bytes": os.fstat(self._file.fileno()).st_size,
            "columns": None if self._csv is None else list(self._csv.fieldnames),
        }
        atomic_files.write_text(_state(self.path), json.dumps(state))
        self._kept = rows

    def close(self) -> None:
        """Finish the file and give it its final name.

        It is given the next free name if another process has taken its own by now.
        """
        if self.joined:
            self.keep(self._written)
            self._file.close()
            return
        self._file.flush()
        if self.path.suffix == ".parquet":
            self._temporary = _to_parquet(self._temporary, self.path)
        wanted, self.path = self.path, _finish(self._temporary, self.path)
        self._file.close()  # which also unlocks it
        if self._key is not None:
            _state(wanted).unlink(missing_ok=True)

    def abandon(self) -> int:
        """Remove the temporary file unless rows of it are kept, and return their number."""
        self._file.close()
        if not self._kept:
            self._temporary.unlink(missing_ok=True)
        return self._kept


def partial_files(folder: Path, prefix: str, suffix: str) -> list[Path]:
    """Return the files of which a process has written a part, and whose names begin and end so."""
    ending = f"{suffix}{PARTIAL}"
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError:  # no such folder
        return []
    return [
        folder / name.removesuffix(PARTIAL)
        for name in names
        if name.startswith(prefix) and name.endswith(ending)
    ]


def join(parts: Sequence[Path], path: Path) -> tuple[int, Path]:
    """Write the rows of several sinks to one file, and remove their files.

    Args:
        parts: the paths of the sinks, with `joined`, in the order of the rows.
        path: the file, whose extension is theirs.

    Returns:
        The number of rows, and the file; it has the next free name if another process has written
        this one meanwhile.

    Raises:
        UsageError: if they have different columns.
    """
    states = [_read_state(part) for part in parts]
    columns = next((state["columns"] for state in states if state.get("columns")), None)
    for part, state in zip(parts, states, strict=True):
        if (state.get("columns") or columns) != columns:
            raise UsageError(
                f"--output {path}: the columns of {_partial(part).name} are not those of the first "
                "part. Write a .jsonl or .parquet file."
            )
    temporary = path.parent / process.temporary_name(_prefix(path))
    header = 0 if columns is None else _length_of_header(columns)
    try:
        with open(temporary, "wb") as file:
            for number, (part, state) in enumerate(zip(parts, states, strict=True)):
                with open(_partial(part), "rb") as written:
                    written.seek(header if number and state.get("columns") else 0)
                    shutil.copyfileobj(written, file)
        if path.suffix == ".parquet":
            temporary = _to_parquet(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    final = _finish(temporary, path)
    for part in parts:
        _state(part).unlink(missing_ok=True)
        _partial(part).unlink(missing_ok=True)
    return sum(int(state.get("rows", 0)) for state in states), final


def _length_of_header(columns: Sequence[str]) -> int:
    """Return the number of bytes of the first line of a csv file."""
    line = io.StringIO()
    csv.DictWriter(line, columns).writeheader()
    return len(line.getvalue().encode())


def _to_parquet(lines: Path, path: Path) -> Path:
    """Convert JSON lines to a temporary parquet file, remove them, and return its path."""
    found = [pa.schema([]), *(table.schema for table in _tables(lines))]
    schema = pa.schema(
        [
            field.with_type(NAMES) if field.type == EMPTY else field
            for field in pa.unify_schemas(found, promote_options="permissive")
        ]
    )
    temporary = lines.with_name(process.temporary_name(_prefix(path)))
    try:
        with pa.parquet.ParquetWriter(str(temporary), schema) as writer:
            for table in _tables(lines, schema):
                writer.write_table(table)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        lines.unlink()
    return temporary


def _finish(temporary: Path, wanted: Path) -> Path:
    """Give a file its final name, or the next free one, and return it."""
    atomic_files.sync_file(temporary)
    path = wanted
    while not _name(temporary, path):
        path = free_file(wanted.parent, wanted.stem, wanted.suffix)
    if path != wanted:
        logger.warning("warning: %s: another process has written it meanwhile", wanted)
    return path


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

    rows = 0

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


def csv_cells(row: Mapping[str, Any], *, escape_formulas: bool) -> dict[str, Any]:
    """Return a row as cells of a csv file, with what is neither text nor a number as JSON.

    Args:
        row: the row.
        escape_formulas: whether cells that a spreadsheet would compute begin with a quote.
    """
    cells = {key: _as_json(value) for key, value in row.items()}
    return (
        {_escaped(key): _escaped(value) for key, value in cells.items()}
        if escape_formulas
        else cells
    )


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
