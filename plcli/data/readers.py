"""Reads the rows of one file, by its format: csv, tsv, json, jsonl, parquet, arrow, txt and others.

Each row comes with its location for messages. Text files may be compressed.
"""

import codecs
import csv
import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from plcli.data import json_files
from plcli.data.exports import brat, exports
from plcli.data.exports.exports import Format
from plcli.errors import DataError, MachineError, did_you_mean, listed

BATCH_ROWS = 8192
OPEN_AGAIN = "Copy or write the file again."
FORMATS = (
    *("csv", "tsv", "jsonl", "json", "parquet", "arrow", "txt"),
    *("conll", "iob", "iob2", "bio", "ann"),
)
WORD_FORMATS = ("conll", "iob", "iob2", "bio")  # a word and its tags in each line
COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}
Documents = Literal["lines", "paragraphs", "file"]  # what a row of a .txt file is
Quoting = Literal["csv", "none"]
Decimal = Literal[".", ","]
Row = tuple[str, Mapping[str, Any]]  # its location, and its cells


@dataclass(frozen=True)
class Reading:
    """How text files are read.

    Attributes:
        encoding: the encoding of text; None is UTF-8.
        documents: what a row of a .txt file is.
        quoting: whether quotes enclose the cells of csv and tsv files; None refuses quoted cells
            that look like several rows.
        delimiter: what separates the cells of csv and tsv files; None goes by the extension.
        decimal: the decimal separator of numbers in text; None refuses numbers such as 1,000.
        format: the annotation tool that wrote json and jsonl files; None looks at the content.
    """

    encoding: str | None = None
    documents: Documents = "lines"
    quoting: Quoting | None = None
    delimiter: str | None = None
    decimal: Decimal | None = None
    format: Format | None = None

    def key(self) -> list[str]:
        """Return what differs from the default, for the key of a cache."""
        return [
            f"{name}={value}"
            for name, value in vars(self).items()
            if value != getattr(Reading, name)
        ]


def format_of(path: str, name: str) -> str:
    """Return the format of a file, which is its extension before that of a compression.

    Raises:
        DataError: if it is not known.
    """
    file = Path(_last_name(path))
    if file.suffix.lower() in COMPRESSED:
        file = file.with_suffix("")
    ending = file.suffix.lstrip(".").lower()
    if ending not in FORMATS:
        raise DataError(f"{name}: the ending '.{ending}' is not one of {listed(FORMATS)}.")
    if file.name != Path(_last_name(path)).name and ending in ("parquet", "arrow", "ann"):
        raise DataError(f"{name}: a compressed .{ending} file is not supported. Decompress it.")
    return ending


def _last_name(path: str) -> str:
    """Return the part of a path or address that ends as its file does.

    That is the first link of a chain of fsspec, such as zip://a.csv::b.zip, that names a file, and
    an address without its query.
    """
    links = [link.partition("://")[2] or link for link in path.split("::")]
    last = next((link for link in links if "." in link), links[-1]) if "://" in path else path
    return last.partition("?")[0] if "://" in path else last


def rows(path: str, name: str, columns: Sequence[str], reading: Reading) -> Iterator[Row]:
    """Yield the rows of a file.

    Args:
        path: a local path or an fsspec URL.
        name: the file as the user wrote it, for messages.
        columns: the columns that are needed.
        reading: how text is read.

    Raises:
        DataError: if the file is not valid.
        MachineError: if it cannot be read.
    """
    ending = format_of(path, name)
    if ending in ("parquet", "arrow"):
        yield from _arrow_rows(path, name, ending, columns)
        return
    with _text(path, name, reading) as file:
        if ending in ("csv", "tsv"):
            delimiter = reading.delimiter or ("\t" if ending == "tsv" else ",")
            yield from _csv_rows(file, name, columns, delimiter, reading.quoting)
        elif ending in WORD_FORMATS:
            yield from _sentences(file, name)
        elif ending == "ann":
            yield name, brat.row(file.read(), _text_beside(path, name, reading), name=name)
        elif ending == "txt":
            yield from _documents(file, name, columns, reading.documents)
        else:
            read = json_files.values if ending == "json" else json_files.lines
            yield from _objects(read(file, name), name, columns, reading.format)


@contextmanager
def file_errors(name: str) -> Iterator[None]:
    """Explain errors of a file system."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"{name}: no such file. Check the path.") from None
    except IsADirectoryError:
        raise DataError(f"{name}: is a folder. Name its files, for example with *.csv.") from None
    except PermissionError:
        raise MachineError(
            f"{name}: cannot be read by this user. Change its permissions, or name another file."
        ) from None
    except OSError as error:
        raise MachineError(
            f"{name}: cannot be read ({error.strerror or error}). Check it."
        ) from None
    except ImportError as error:
        raise MachineError(
            f"{name}: {error}. Install the package for this kind of address."
        ) from None


# text


@contextmanager
def _text(path: str, name: str, reading: Reading) -> Iterator[IO[str]]:
    with file_errors(name), _bytes(path) as raw:
        encoding = reading.encoding or "utf-8-sig"
        try:
            yield io.TextIOWrapper(raw, encoding=encoding, newline="")
        except UnicodeError as error:
            raise DataError(_not_readable(path, name, reading, error)) from None
        except (EOFError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{name}: is not a whole compressed file ({str(error)[:80]}). {OPEN_AGAIN}"
            ) from None


@contextmanager
def _bytes(path: str) -> Iterator[Any]:
    """Open a file for reading bytes, decompressed."""
    import fsspec

    kind = COMPRESSED.get(Path(path).suffix.lower())
    if kind == "zstd":  # which fsspec reads with a package of its own only
        with fsspec.open(path, "rb") as file, pa.CompressedInputStream(file, kind) as raw:
            yield raw
    else:
        with fsspec.open(path, "rb", compression=kind) as raw:
            yield raw


def _not_readable(path: str, name: str, reading: Reading, error: UnicodeError) -> str:
    if reading.encoding is not None:
        reason = str(error)[:80]
        return f"{name}: is not {reading.encoding} ({reason}). Set another data.encoding."
    with file_errors(name), _bytes(path) as file:
        guess = _likely_encoding(file.read(1 << 16))
    if guess is None:
        return f"{name}: is not text. Check that its ending matches its format."
    return (
        f"{name}: is not UTF-8; it looks like {guess}. "
        f"Set data.encoding: {guess}, or save it as UTF-8."
    )


def _likely_encoding(content: bytes) -> str | None:
    """Guess the encoding of text that is not UTF-8; None if it does not look like text."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    odd = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in content)
    if content.count(0) > len(content) // 4:
        return "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    if odd > len(content) // 100:
        return None
    return "latin-1" if any(byte in content for byte in b"\x81\x8d\x8f\x90\x9d") else "cp1252"


def _documents(
    file: IO[str], name: str, columns: Sequence[str], documents: Documents
) -> Iterator[Row]:
    if len(columns) > 1:
        raise DataError(
            f"{name}: a text file has one column, its {documents}, but "
            f"{listed(columns)} are needed. Use csv or jsonl."
        )
    if documents == "file":
        yield name, {columns[0]: file.read()}
        return
    numbered = ((line.rstrip("\r\n"), line, at) for at, line in enumerate(file, start=1))
    if documents == "lines":
        for text, _, number in numbered:
            yield f"{name}, line {number}", {columns[0]: text}
        return
    for blank, group in itertools.groupby(numbered, key=lambda line: not line[0].strip()):
        lines = list(group)
        if not blank:
            text = "".join(line for _, line, _ in lines).rstrip("\r\n")
            yield f"{name}, line {lines[0][2]}", {columns[0]: text}


def _sentences(file: IO[str], name: str) -> Iterator[Row]:
    """Yield the sentences of a file in the form of CoNLL-2003, with the columns words and tags.

    Each line has a word, first, and its tag, last, separated by tabs or spaces. A blank line ends a
    sentence. Lines such as -DOCSTART- and comments that begin with `# ` are no words.

    https://www.clips.uantwerpen.be/conll2003/ner/
    """
    numbered = enumerate(file, start=1)
    for blank, group in itertools.groupby(numbered, key=lambda line: not line[1].strip()):
        lines = [
            (number, line.rstrip("\r\n"))
            for number, line in group
            if not line.startswith("-DOCSTART-")
        ]
        while lines and _is_comment(lines):
            lines.pop(0)
        if blank or not lines:
            continue
        cells = [line.split("\t") if "\t" in line else line.split() for _, line in lines]
        for (number, line), parts in zip(lines, cells, strict=True):
            if len(parts) != len(cells[0]):
                raise DataError(
                    f"{name}, line {number}: has {len(parts)} columns, but line {lines[0][0]} has "
                    f"{len(cells[0])}: {line!r:.60}. Give each word the same columns."
                )
        columns: dict[str, list[str]] = {"words": [parts[0].strip() for parts in cells]}
        if len(cells[0]) > 1:
            columns["tags"] = [parts[-1].strip() for parts in cells]
        yield f"{name}, line {lines[0][0]}", columns


def _is_comment(lines: list[tuple[int, str]]) -> bool:
    """Whether the first line of a sentence is a comment, rather than the word #."""
    (_, first), (_, last) = lines[0], lines[-1]
    if not first.startswith("# "):
        return False
    parts = first.split()
    is_tagged = parts[-1] == "O" or parts[-1][1:2] == "-"
    return len(parts) != len(last.split()) or (len(lines) > 1 and not is_tagged)


def _text_beside(path: str, name: str, reading: Reading) -> str:
    """Return the content of the .txt file beside a file of annotations."""
    beside = f"{path.removesuffix('.ann')}.txt"
    with _text(beside, f"{name.removesuffix('.ann')}.txt", reading) as file:
        return file.read()


def _objects(
    values: Iterator[Any], name: str, columns: Sequence[str], tool: Format | None
) -> Iterator[Row]:
    numbered = ((f"{name}, row {number}", row) for number, row in enumerate(values, start=1))
    for where, row in exports.convert(numbered, name=name, tool=tool, columns=columns):
        if not isinstance(row, dict):
            raise DataError(
                f"{where}: is a {type(row).__name__}, "
                'not an object with named columns. Write {"column": value, ...}.'
            )
        yield where, row


# csv


def _csv_rows(
    file: IO[str], name: str, columns: Sequence[str], delimiter: str, quoting: Quoting | None
) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)
    plain: Any = csv.QUOTE_NONE if quoting == "none" else csv.QUOTE_MINIMAL
    reader = csv.reader(file, delimiter=delimiter, strict=True, quoting=plain)
    number = 0
    try:
        header = next(filter(None, reader), None)
        if header is None:
            raise DataError(
                f"{name}: is empty. Write a first line with the column names, and rows below it."
            )
        _check_header(header, columns, name, delimiter)
        for number, cells in enumerate(_with_blank_cells(reader, len(header)), start=1):
            if len(cells) != len(header):
                raise DataError(
                    f"{name}, row {number}: has {len(cells)} cells, the header has {len(header)}. "
                    "Put quotes around cells that contain the separator."
                )
            if quoting is None:
                _check_swallowed(cells, f"{name}, row {number}", header, delimiter)
            yield f"{name}, row {number}", dict(zip(header, cells, strict=True))
    except csv.Error as error:
        where = f"{name}, line {reader.line_num}"
        reason = str(error)
        if "end of data" in reason:  # reported where the cell begins, not where the file ends
            where = f"{name}, row {number + 1}"
            reason = "a cell begins with a quote that is not closed"
        raise DataError(
            f'{where}: {reason}. A quote inside a cell is written twice: ""; if quotes are plain '
            "characters in this file, set data.quoting: none."
        ) from None


def _with_blank_cells(reader: Iterator[list[str]], width: int) -> Iterator[list[str]]:
    """Yield the rows of a csv file; in a file of one column a blank line is an empty cell.

    Blank lines at the end of the file are no rows.
    """
    blank = 0
    for cells in reader:
        if cells:
            yield from [[""]] * blank
            yield cells
            blank = 0
        elif width == 1:
            blank += 1


def _check_swallowed(
    cells: Sequence[str], where: str, header: Sequence[str], delimiter: str
) -> None:
    """Refuse a quoted cell that looks like several rows, because of a quote in the text.

    Its lines then have the delimiters of rows, each followed by a cell without a space before it.
    """
    for position, cell in enumerate(cells):
        if "\n" not in cell or delimiter not in cell:
            continue
        first, *inside, last = cell.replace("\r\n", "\n").split("\n")
        after = len(header) - 1 - position
        wanted = [(first, after), *((line, len(header) - 1) for line in inside), (last, position)]
        if delimiter == "\t" or all(_has_cells(line, delimiter, n) for line, n in wanted):
            raise DataError(
                f"{where}: column '{header[position]}' contains a quoted cell of "
                f"{cell.count(chr(10)) + 1} lines that look like rows of their own: "
                f"{first[-30:]!r}, {last[:30]!r}. If quotes are plain characters in this file, set "
                "data.quoting: none; if the cell is meant so, data.quoting: csv."
            )


def _has_cells(line: str, delimiter: str, number: int) -> bool:
    parts = line.split(delimiter)
    return len(parts) == number + 1 and all(part and not part[0].isspace() for part in parts[1:])


def _check_header(header: Sequence[str], columns: Sequence[str], name: str, delimiter: str) -> None:
    for column in columns:
        if header.count(column) > 1:
            raise DataError(
                f"{name}: the column '{column}' is {header.count(column)} times in "
                "the header. Rename or remove all but one."
            )
        if column in header or (not delimiter and column.split(".")[0] in header):
            continue
        other = next(
            (d for d in ",;\t|" if d != delimiter and len(header) == 1 and d in header[0]), None
        )
        hint = (
            f" Is its separator {other!r}? Save it with {delimiter!r}. Or set data.delimiter: "
            f"{other!r}."
            if other
            else ""
        )
        raise DataError(
            f"{name}: has no column '{column}'.{did_you_mean(column, header)}{hint} "
            f"It has {listed(header)}. Name one of these."
        )


# arrow


def _arrow_rows(path: str, name: str, ending: str, columns: Sequence[str]) -> Iterator[Row]:
    import fsspec

    with file_errors(name), fsspec.open(path, "rb") as file:
        try:
            schema, batches = _arrow_batches(file, ending)
            _check_header(schema.names, columns, name, "")
            needed = [column for column in schema.names if _is_needed(column, columns)]
            classes = {column: class_names_of(schema, column) for column in needed}
            number = 0
            for batch in batches:
                for row in batch.select(needed).to_pylist():
                    number += 1
                    named = {
                        column: class_names(cell, classes[column]) for column, cell in row.items()
                    }
                    yield f"{name}, row {number}", named
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(
                f"{name}: is not a whole {ending} file: "
                f"{str(error).splitlines()[0][:120].rstrip('.')}. {OPEN_AGAIN}"
            ) from None


def _is_needed(column: str, wanted: Sequence[str]) -> bool:
    return any(name == column or name.startswith(f"{column}.") for name in wanted)


def _arrow_batches(file: Any, ending: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return the schema and batches of an open parquet file, Arrow file or Arrow stream."""
    if ending == "parquet":
        parquet = pa.parquet.ParquetFile(file)
        return parquet.schema_arrow, parquet.iter_batches(batch_size=BATCH_ROWS)
    is_stream = file.read(6) != b"ARROW1"
    file.seek(0)
    if is_stream:
        stream = pa.ipc.open_stream(file)
        return stream.schema, iter(stream)
    reader = pa.ipc.open_file(file)
    return reader.schema, (reader.get_batch(i) for i in range(reader.num_record_batches))


def class_names_of(schema: pa.Schema, column: str) -> Sequence[str] | None:
    """Return the names of the class ids in a column, which `datasets` saves in the metadata.

    https://huggingface.co/docs/datasets/about_dataset_features
    """
    saved = (schema.metadata or {}).get(b"huggingface")
    if saved is None:
        return None
    try:
        feature: Any = json.loads(saved)["info"]["features"][column]
    except (ValueError, KeyError, TypeError):
        return None
    while isinstance(feature, dict) and "feature" in feature:  # a list of class ids
        feature = feature["feature"]
    if isinstance(feature, list):
        feature = feature[0] if feature else None
    names = feature.get("names") if isinstance(feature, dict) else None
    return names if isinstance(names, list) else None


def class_names(cell: Any, names: Sequence[str] | None) -> Any:
    """Replace class ids by their names; -1 marks a row without a class."""
    if names is None or cell is None or isinstance(cell, str):
        return cell
    if isinstance(cell, list):
        return [class_names(part, names) for part in cell]
    return names[cell] if cell >= 0 else None
