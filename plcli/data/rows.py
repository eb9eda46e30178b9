"""Reads any source of rows into a memory-mapped Arrow table of named, typed columns.

A source is a path, a glob, a list of them, an fsspec URL (`s3://...`), `package:NAME/FILE` for a
file in an installed package, or `hf:OWNER/NAME[/CONFIG][:SPLIT]` for a data set on the hub. A
folder is one that `datasets` has saved, or has files such as train.csv or data/train-*.parquet. The
formats are those of readers.py. Rows are streamed once into a cache file, which is keyed by the
content of the source and memory-mapped from then on.
"""

import hashlib
import itertools
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from plcli.data import sources
from plcli.data.arrow import nullable
from plcli.data.cache import ArrowFile, build_once, cache_folder
from plcli.data.cells import ARROW_TYPES, Kind, LabelTypes, listed_texts, read_cell
from plcli.data.progress import Progress
from plcli.data.sources import BATCH_ROWS
from plcli.errors import DataError, did_you_mean, listed

logger = logging.getLogger(__name__)

VERSION = 3  # of the layout of cache files, in the fingerprints of data
READERS = (
    3  # of how files are read, and of the checks of cells; rows are read anew, but are the same
)


@dataclass(frozen=True)
class Rows:
    """A table of the requested columns, and its source.

    Attributes:
        table: one Arrow column per name, typed by its Kind; memory-mapped.
        source: the source as it was given, for messages.
        fingerprint: sha256 of the content of the source, the columns and the layout.
        file: the memory-mapped file of the table; None if the table is in memory.
    """

    table: pa.Table
    source: str
    fingerprint: str
    file: ArrowFile | None = None

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def parts(self, columns: Sequence[str]) -> Iterator[list[list[Any]]]:
        """Yield the cells of columns as Python values, BATCH_ROWS rows at a time.

        Memory of earlier parts is released.
        """
        for start in range(0, len(self), BATCH_ROWS):
            part = self.table.slice(start, BATCH_ROWS)
            yield [part.column(column).to_pylist() for column in columns]
            if self.file is not None:
                self.file.release()


def load(
    source: str | Sequence[str],
    columns: Mapping[str, Kind],
    *,
    cache: Path | None = None,
    encoding: str | None = None,
    documents: sources.Documents = "lines",
    quoting: sources.Quoting | None = None,
    delimiter: str | None = None,
    decimal: sources.Decimal | None = None,
    format: sources.Format | None = None,  # noqa: A002  # the config key
    split: str = "train",
) -> Rows:
    """Read the named columns of a source.

    Args:
        source: see the module's docstring.
        columns: the columns to read, and the kind of each.
        cache: the cache folder; None is `cache_folder()`.
        encoding: the encoding of text files; None is UTF-8.
        documents: what a row of a .txt file is.
        quoting: whether quotes enclose the cells of csv and tsv files.
        delimiter: what separates the cells of csv and tsv files; None goes by the extension.
        decimal: the decimal separator of numbers in text.
        format: the annotation tool that wrote json and jsonl files; None looks at the content.
        split: the split that is needed, for folders with several.

    Raises:
        DataError: if a source, a column or a cell is not valid.
        MachineError: if the hub or a remote file system cannot be reached.
    """
    name = source if isinstance(source, str) else ", ".join(source)
    reading = sources.Reading(encoding, documents, quoting, delimiter, decimal, format)
    parts = sources.parts(source, reading, split=split)
    layout = json.dumps(
        [VERSION, [part.describe() for part in parts], {c: k.value for c, k in columns.items()}]
        + reading.key()
    )
    fingerprint = hashlib.sha256(layout.encode()).hexdigest()
    key = hashlib.sha256(f"{layout} {READERS}".encode()).hexdigest()
    target = (cache or cache_folder()) / "rows" / f"{key[:32]}.arrow"
    file = ArrowFile(build_once(target, lambda path: _write(path, parts, columns)))
    rows = Rows(file.table, name, fingerprint, file)
    if not len(rows):
        raise DataError(f"{name}: has no rows. Add some.")
    return rows


def from_values(
    values: Sequence[Mapping[str, Any]], columns: Mapping[str, Kind], *, source: str
) -> Rows:
    """Make rows from values in memory, with the same checks as for a file."""
    batches = list(
        _batches(((f"{source}, row {i + 1}", row) for i, row in enumerate(values)), columns, source)
    )
    table = pa.Table.from_batches(batches, schema=_schema(columns))
    if not table.num_rows:
        raise DataError(f"{source}: has no rows. Add some.")
    return Rows(table, source, hashlib.sha256(repr(table.to_pylist()).encode()).hexdigest())


def from_texts(texts: Sequence[str], text_columns: Sequence[str]) -> list[dict[str, Any]]:
    """Make rows from texts of the command line.

    Each is a JSON object, or plain text if there is only one text column.

    Raises:
        DataError: if a text is not a JSON object, but several columns are needed.
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
                        f"text {number}: is not JSON: {error.msg} at character {error.pos + 1}. "
                        f"Give an object such as {json.dumps(dict.fromkeys(text_columns, '...'))}."
                    ) from None
        if isinstance(row, dict) and (len(text_columns) != 1 or text_columns[0] in row):
            values.append(row)
        elif len(text_columns) == 1:
            values.append({text_columns[0]: text})
        else:
            example = json.dumps(dict.fromkeys(text_columns, "..."))
            raise DataError(
                f"text {number}: this model reads {len(text_columns)} columns. "
                f"Give a JSON object such as {example}."
            )
    return values


def _schema(columns: Mapping[str, Kind]) -> pa.Schema:
    return pa.schema([(column, ARROW_TYPES[kind]) for column, kind in columns.items()])


def _write(path: Path, parts: Sequence[sources.Part], columns: Mapping[str, Kind]) -> None:
    progress = Progress(logger, f"reading {listed([part.name for part in parts])}", None)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _schema(columns)) as writer:
        for part in parts:
            rows, decimal = part.rows(list(columns)), part.reading.decimal
            for batch in _batches(rows, columns, part.name, decimal=decimal):
                writer.write_batch(batch)
                progress.add(batch.num_rows)


def _batches(
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    columns: Mapping[str, Kind],
    source: str,
    *,
    decimal: sources.Decimal | None = None,
) -> Iterator[pa.RecordBatch]:
    schema = _schema(columns)
    cells: dict[str, list[Any]] = {column: [] for column in columns}
    places: list[str] = []
    types = LabelTypes()
    for where, row in _each(rows, [name for name, kind in columns.items() if kind is Kind.EACH]):
        for column, kind in columns.items():
            value = _cell(row, column)
            if value is _MISSING:
                raise DataError(
                    f"{where}: has no column '{column}'.{did_you_mean(column, row)} "
                    f"It has {listed(row)}. Name one of these."
                )
            cell = read_cell(value, kind, where, column, decimal=decimal)
            if kind in (Kind.NAME, Kind.NAME_OR_NONE) and cell is not None:
                types.check(value, where, column)
            cells[column].append(cell)
        places.append(where)
        if len(places) == BATCH_ROWS:
            yield _batch(cells, places, schema)
            cells, places = {column: [] for column in columns}, []
    if places:
        yield _batch(cells, places, schema)


def _each(
    rows: Iterable[tuple[str, Mapping[str, Any]]], columns: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a row for each combination of the texts in these columns, which may be lists."""
    for where, row in rows:
        lists = {
            column: value or [""]  # an empty list is an empty text, which is counted
            for column in columns
            if isinstance(value := listed_texts(_cell(row, column)), list)
        }
        if not lists:
            yield where, row
            continue
        for texts in itertools.product(*lists.values()):
            yield where, {**row, **dict(zip(lists, texts, strict=True))}


_MISSING = object()


def _cell(row: Mapping[str, Any], column: str) -> Any:
    """Return a cell; a column such as `translation.en` or `set.0` may be inside of another one."""
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
            continue
        if not isinstance(value, Mapping) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _batch(cells: Mapping[str, list[Any]], places: list[str], schema: pa.Schema) -> pa.RecordBatch:
    try:
        arrays = [nullable(cells[field.name], field.type) for field in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)
    except UnicodeEncodeError as error:  # half of a surrogate pair, from a JSON escape
        where, column = next(
            (where, column)
            for column, values in cells.items()
            for where, value in zip(places, values, strict=True)
            if error.object in (value if isinstance(value, list) else [value])
        )
        raise DataError(
            f"{where}: column '{column}' contains half a character, {error.object[error.start]!a}. "
            "Write the file again with a JSON library."
        ) from None
