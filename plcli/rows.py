"""Any source of rows -> a memory-mapped Arrow table of named, typed columns.

A source is a path, a glob, a list of them, an fsspec URL (`s3://...`), `package:NAME/FILE` for a
file inside an installed package, or `hf:NAME[/CONFIG][:SPLIT]` for a data set of the Hugging Face
hub. Formats go by the ending: csv, tsv, jsonl, json, parquet, arrow, txt. Rows are read once, one
by one, into a cache file keyed by the content of the source, and used from there without being
loaded into memory.
"""

import csv
import glob
import hashlib
import importlib.util
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from plcli.errors import DataError, MachineError, did_you_mean, listed

logger = logging.getLogger(__name__)

VERSION = 1  # of the cache files' layout
BATCH_ROWS = 8192
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "arrow", "txt")


class Kind(Enum):
    """What a column holds: the Arrow type that its cells are turned into."""

    TEXT = "text"
    NAME = "name"
    NAMES = "names"
    NUMBER = "number"


ARROW_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.NAME: pa.string(),
    Kind.NAMES: pa.list_(pa.string()),
    Kind.NUMBER: pa.float64(),
}


@dataclass(frozen=True)
class Rows:
    """A table of the columns that were asked for, and where it comes from.

    Attributes:
        table: one Arrow column a name, typed by its Kind; memory-mapped.
        source: the source as it was given, for messages.
        fingerprint: sha256 of the source's content, the columns and the layout.
    """

    table: pa.Table
    source: str
    fingerprint: str

    def __len__(self) -> int:
        return int(self.table.num_rows)


def cache_folder() -> Path:
    """Return the cache folder: $PLCLI_CACHE, else plcli below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PLCLI_CACHE") or Path(base) / "plcli")


def load(
    source: str | Sequence[str], columns: Mapping[str, Kind], *, cache: Path | None = None
) -> Rows:
    """Read the named columns of a source.

    Args:
        source: see the module's docstring.
        columns: the columns to read and what each holds.
        cache: the cache folder; None takes `cache_folder()`.

    Raises:
        DataError: if a source, a column or a cell is not as it has to be.
        MachineError: if a hub or a remote file system cannot be reached.
    """
    name = source if isinstance(source, str) else ", ".join(source)
    parts = _parts(source)
    layout = json.dumps(
        [VERSION, [part.describe() for part in parts], {c: k.value for c, k in columns.items()}]
    )
    fingerprint = hashlib.sha256(layout.encode()).hexdigest()
    target = (cache or cache_folder()) / "rows" / f"{fingerprint[:32]}.arrow"
    build_once(target, lambda path: _write(path, parts, columns))
    rows = Rows(open_arrow(target), name, fingerprint)
    if not len(rows):
        raise DataError(f"{name}: has no rows.")
    return rows


def from_values(
    values: Sequence[Mapping[str, Any]], columns: Mapping[str, Kind], *, source: str
) -> Rows:
    """Make rows of values in memory, with the same checks as for a file."""
    batches = list(
        _batches(((f"{source}, row {i + 1}", row) for i, row in enumerate(values)), columns, source)
    )
    table = pa.Table.from_batches(batches, schema=_schema(columns))
    if not table.num_rows:
        raise DataError(f"{source}: has no rows.")
    return Rows(table, source, hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest())


def from_texts(texts: Sequence[str], text_columns: Sequence[str]) -> list[dict[str, Any]]:
    """Make rows of what was typed.

    A JSON object each, or plain text where there is one text column.

    Raises:
        DataError: if a text is not a JSON object where several columns are needed.
    """
    values = []
    for number, text in enumerate(texts, start=1):
        row = None
        if text.lstrip().startswith("{"):
            try:
                row = json.loads(text)
            except json.JSONDecodeError as error:
                if len(text_columns) != 1:
                    raise DataError(
                        f"text {number}: is not JSON: {error.msg} at character {error.pos + 1}."
                    ) from None
        if isinstance(row, dict) and (len(text_columns) != 1 or text_columns[0] in row):
            values.append(row)
        elif len(text_columns) == 1:
            values.append({text_columns[0]: text})
        else:
            example = json.dumps(dict.fromkeys(text_columns, "..."))
            raise DataError(
                f"text {number}: this model reads {len(text_columns)} columns; "
                f"give a JSON object such as {example}."
            )
    return values


def open_arrow(path: Path) -> pa.Table:
    """Open an Arrow file memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def build_once(target: Path, write: Any) -> None:
    """Make a cache file, unless it is there.

    One process writes beside it and renames, the others wait.

    Raises:
        MachineError: if the folder cannot be written.
    """
    from filelock import FileLock

    if target.exists():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if target.exists():
                return
            handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
            os.close(handle)
            try:
                write(Path(temporary))
                os.replace(temporary, target)
            finally:
                Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise MachineError(
            f"{target.parent}: cannot be written ({error.strerror or error}). "
            "Set PLCLI_CACHE to a folder that can."
        ) from error


def _schema(columns: Mapping[str, Kind]) -> pa.Schema:
    return pa.schema([(column, ARROW_TYPES[kind]) for column, kind in columns.items()])


def _write(path: Path, parts: Sequence["_Part"], columns: Mapping[str, Kind]) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _schema(columns)) as writer:
        for part in parts:
            for batch in _batches(part.rows(list(columns)), columns, part.name):
                writer.write_batch(batch)


def _batches(
    rows: Iterable[tuple[str, Mapping[str, Any]]], columns: Mapping[str, Kind], source: str
) -> Iterator[pa.RecordBatch]:
    schema = _schema(columns)
    cells: dict[str, list[Any]] = {column: [] for column in columns}
    count = 0
    for where, row in rows:
        for column, kind in columns.items():
            if column not in row:
                raise DataError(
                    f"{where}: has no column '{column}'.{did_you_mean(column, row)} "
                    f"It has {listed(row)}."
                )
            cells[column].append(_cell(row[column], kind, where, column))
        count += 1
        if count == BATCH_ROWS:
            yield pa.record_batch(list(cells.values()), schema=schema)
            cells, count = {column: [] for column in columns}, 0
    if count:
        yield pa.record_batch(list(cells.values()), schema=schema)


def _cell(value: Any, kind: Kind, where: str, column: str) -> Any:
    if kind is Kind.TEXT:
        return "" if value is None or value != value else str(value)
    if kind is Kind.NAME:
        return _name(value, where, column)
    if kind is Kind.NUMBER:
        return _number(value, where, column)
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list):
        raise DataError(f"{where}: column '{column}' holds {value!r}, not a list of names.")
    return [_name(part, where, column) for part in value]


def _name(value: Any, where: str, column: str) -> str:
    """Return a label's name.

    1, 1.0 and True keep one spelling each, so that csv and parquet give the same names.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise DataError(f"{where}: column '{column}' is empty; a label is needed.")
    if not isinstance(value, (str, int)):
        raise DataError(f"{where}: column '{column}' holds {value!r}, which is not a label name.")
    return str(value).strip()


def _number(value: Any, where: str, column: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: column '{column}' holds {value!r}, which is not a number."
        ) from None
    if number != number or number in (float("inf"), float("-inf")):
        raise DataError(f"{where}: column '{column}' holds {value!r}; a finite number is needed.")
    return number


@dataclass(frozen=True)
class _Part:
    """One file of a source."""

    name: str  # as the user wrote it, for messages
    path: str  # a local path or an fsspec URL

    def describe(self) -> list[str]:
        """Return the format and the sha256 of the content.

        For a remote file, of what its file system says of it.
        """
        if "://" in self.path:
            import fsspec

            filesystem, path = fsspec.core.url_to_fs(self.path)
            with _remote(self.name):
                return [self.format(), str(filesystem.checksum(path))]
        with _remote(self.name), open(self.path, "rb") as file:
            return [self.format(), _digest(file)]

    def format(self) -> str:
        ending = Path(self.path).suffix.lstrip(".").lower()
        if ending not in FORMATS:
            raise DataError(f"{self.name}: the ending '.{ending}' is none of {listed(FORMATS)}.")
        return ending

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        format = self.format()
        if format in ("parquet", "arrow"):
            yield from self._arrow_rows(columns)
        elif format in ("csv", "tsv"):
            yield from self._csv_rows(columns, "\t" if format == "tsv" else ",")
        elif format == "txt":
            with self._text() as file:
                for number, line in enumerate(file, start=1):
                    yield f"{self.name}, line {number}", dict.fromkeys(columns, line.rstrip("\r\n"))
        else:
            yield from self._json_rows(format)

    @contextmanager
    def _text(self) -> Iterator[IO[str]]:
        import fsspec

        with (
            _remote(self.name),
            fsspec.open(self.path, "rt", encoding="utf-8-sig", newline="") as file,
        ):
            try:
                yield file
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{self.name}: is not UTF-8 (byte {error.start} of a block). Save it as UTF-8."
                ) from None

    def _csv_rows(
        self, columns: Sequence[str], delimiter: str
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        csv.field_size_limit(2**31 - 1)
        with self._text() as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            try:
                header = next(reader, None)
                if header is None:
                    raise DataError(f"{self.name}: is empty.")
                self._check_header(header, columns, delimiter)
                for number, cells in enumerate(reader, start=1):
                    if not cells:
                        continue
                    if len(cells) != len(header):
                        raise DataError(
                            f"{self.name}, row {number}: has {len(cells)} cells, "
                            f"the header has {len(header)}. "
                            "Put quotes around cells that hold the separator."
                        )
                    yield f"{self.name}, row {number}", dict(zip(header, cells, strict=True))
            except csv.Error as error:
                raise DataError(f"{self.name}, line {reader.line_num}: {error}.") from None

    def _check_header(self, header: Sequence[str], columns: Sequence[str], delimiter: str) -> None:
        for column in columns:
            if header.count(column) > 1:
                raise DataError(
                    f"{self.name}: the column '{column}' stands {header.count(column)} times in "
                    "the header."
                )
            if column not in header:
                other = next(
                    (d for d in ",;\t|" if d != delimiter and len(header) == 1 and d in header[0]),
                    None,
                )
                hint = f" Is its separator {other!r}? Here it is {delimiter!r}." if other else ""
                raise DataError(
                    f"{self.name}: has no column '{column}'.{did_you_mean(column, header)}{hint} "
                    f"It has {listed(header)}."
                )

    def _json_rows(self, format: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        with self._text() as file:
            if format == "json":
                try:
                    values = json.load(file)
                except json.JSONDecodeError as error:
                    raise DataError(
                        f"{self.name}, line {error.lineno}: is not JSON: {error.msg}."
                    ) from None
                if not isinstance(values, list):
                    raise DataError(
                        f"{self.name}: holds a {type(values).__name__}, not a list of rows."
                    )
                lines: Iterable[Any] = values
            else:
                lines = (line for line in file if line.strip())
            for number, line in enumerate(lines, start=1):
                where = f"{self.name}, row {number}"
                try:
                    row = json.loads(line) if isinstance(line, str) else line
                except json.JSONDecodeError as error:
                    raise DataError(
                        f"{where}: is not JSON: {error.msg} at character {error.pos + 1}."
                    ) from None
                if not isinstance(row, dict):
                    raise DataError(
                        f"{where}: holds a {type(row).__name__}, not an object with named columns."
                    )
                yield where, row

    def _arrow_rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        import fsspec

        with _remote(self.name), fsspec.open(self.path, "rb") as file:
            try:
                if self.format() == "parquet":
                    reader = pa.parquet.ParquetFile(file)
                    batches, names = (
                        reader.iter_batches(batch_size=BATCH_ROWS),
                        reader.schema_arrow.names,
                    )
                else:
                    table = (
                        pa.ipc.open_file(file)
                        if file.read(6) == b"ARROW1" and not file.seek(0)
                        else _arrow_stream(file)
                    )
                    batches, names = _arrow_batches(table), table.schema.names
                number = 0
                for batch in batches:
                    keep = [
                        name
                        for name in dict.fromkeys(names)
                        if name in columns or not set(columns) <= set(names)
                    ]
                    for row in batch.select(keep).to_pylist():
                        number += 1
                        yield f"{self.name}, row {number}", row
            except pa.ArrowInvalid as error:
                raise DataError(
                    f"{self.name}: is not a whole {self.format()} file: "
                    f"{str(error).splitlines()[0][:120]}"
                ) from None


def _arrow_stream(file: Any) -> Any:
    file.seek(0)
    return pa.ipc.open_stream(file)


def _arrow_batches(reader: Any) -> Iterator[pa.RecordBatch]:
    if hasattr(reader, "num_record_batches"):
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        yield from reader


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class _HubPart(_Part):
    """One split of a data set of the Hugging Face hub, through the `datasets` library."""

    def describe(self) -> list[str]:
        return ["hf", self._dataset()._fingerprint]

    def _dataset(self) -> Any:
        import datasets

        name, _, split = self.path.partition(":")
        owner_and_name, config = "/".join(name.split("/")[:2]), "/".join(name.split("/")[2:])
        with _remote(self.name):
            try:
                return datasets.load_dataset(owner_and_name, config or None, split=split or "train")
            except (datasets.exceptions.DatasetNotFoundError, ConnectionError) as error:
                raise MachineError(
                    f"{self.name}: the hub has no such data set or cannot be reached "
                    f"({str(error).splitlines()[0][:160]})."
                ) from None

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for number, row in enumerate(self._dataset(), start=1):
            yield f"{self.name}, row {number}", row


@contextmanager
def _remote(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{name}: no such file.") from None
    except PermissionError:
        raise MachineError(f"{name}: may not be read by this user.") from None
    except ImportError as error:
        raise MachineError(
            f"{name}: {error}. Install the package that reads this kind of address."
        ) from None


def _parts(source: str | Sequence[str]) -> list[_Part]:
    names = [source] if isinstance(source, str) else list(source)
    if not names:
        raise DataError("the list of files is empty.")
    return [part for name in names for part in _part(name)]


def _part(name: str) -> list[_Part]:
    if name.startswith("hf:"):
        return [_HubPart(name, name[3:])]
    if name.startswith("package:"):
        return [_Part(name, str(package_path(name)))]
    if "://" in name:
        return [_Part(name, name)]
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        raise DataError(
            f"{name}: is a folder. Name its files, for instance '{name.rstrip('/')}/*.csv'."
        )
    if os.path.exists(path):
        return [_Part(name, path)]
    found = sorted(glob.glob(path, recursive=True))
    if not found:
        siblings = (
            [str(p) for p in Path(path).parent.glob("*")] if Path(path).parent.is_dir() else []
        )
        raise DataError(f"{name}: no such file.{did_you_mean(path, siblings)}")
    return [_Part(each, each) for each in found]


def package_path(name: str) -> Path:
    """Return the path of `package:NAME/PATH` inside an installed package, which is not imported.

    Raises:
        DataError: if the package or the path is not there.
    """
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{name}: no package '{package}' is installed. Install it with pip.")
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.exists():
        raise DataError(f"{name}: the package '{package}' holds no '{inside}'.")
    return path
