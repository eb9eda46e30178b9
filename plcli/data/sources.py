"""Sources of rows: files, globs, fsspec addresses, installed packages and the hub.

A source is a list of parts. A part yields its rows one by one, each with its location for messages.
"""

import codecs
import csv
import glob
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from plcli.errors import DataError, MachineError, UsageError, did_you_mean, listed
from plcli.packages import package_path
from plcli.runs.atomic_files import sha256

BATCH_ROWS = 8192
OPEN_AGAIN = "Copy or write the file again."
ENCODINGS = ("utf-8", "cp1252", "latin-1", "utf-16", "cp1250", "cp1251", "gb18030", "shift_jis")
FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "arrow", "txt")
Documents = Literal["lines", "paragraphs", "file"]  # what a row of a .txt file is


@dataclass(frozen=True)
class Part:
    """One file of a source."""

    name: str  # as the user wrote it, for messages
    path: str  # a local path or an fsspec URL
    encoding: str | None = None  # of text; None is UTF-8
    documents: Documents = "lines"

    def describe(self) -> list[str]:
        """Return the format and the sha256 of the content.

        Of a remote file, the second is the checksum that its file system reports.
        """
        if "://" in self.path:
            import fsspec

            with _remote(self.name):
                filesystem, path = fsspec.core.url_to_fs(self.path)
                return [self.format(), str(filesystem.checksum(path))]
        with _remote(self.name):
            digest = sha256(
                Path(self.path)
            )  # before the format, so that a folder is reported as a folder
        return [self.format(), digest]

    def format(self) -> str:
        """Return the format, which is the file extension."""
        ending = Path(self.path).suffix.lstrip(".").lower()
        if ending not in FORMATS:
            raise DataError(f"{self.name}: the ending '.{ending}' is not one of {listed(FORMATS)}.")
        return ending

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the location and the cells of each row."""
        ending = self.format()
        if ending in ("parquet", "arrow"):
            yield from self._arrow_rows(columns)
        elif ending in ("csv", "tsv"):
            yield from self._csv_rows(columns, "\t" if ending == "tsv" else ",")
        elif ending == "txt":
            yield from self._documents(columns)
        else:
            yield from self._json_rows(ending)

    def _documents(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        if len(columns) > 1:
            raise DataError(
                f"{self.name}: a text file has one column, its {self.documents}, but "
                f"{listed(columns)} are needed. Use csv or jsonl."
            )
        with self._text() as file:
            if self.documents == "file":
                yield self.name, {columns[0]: file.read()}
                return
            numbered = ((line.rstrip("\r\n"), line, at) for at, line in enumerate(file, start=1))
            if self.documents == "lines":
                for text, _, number in numbered:
                    yield f"{self.name}, line {number}", {columns[0]: text}
                return
            for blank, group in itertools.groupby(numbered, key=lambda line: not line[0].strip()):
                lines = list(group)
                if not blank:
                    text = "".join(line for _, line, _ in lines).rstrip("\r\n")
                    yield f"{self.name}, line {lines[0][2]}", {columns[0]: text}

    @contextmanager
    def _text(self) -> Iterator[IO[str]]:
        import fsspec

        with (
            _remote(self.name),
            fsspec.open(self.path, "rt", encoding=self.encoding or "utf-8-sig", newline="") as file,
        ):
            try:
                yield file
            except UnicodeError as error:
                raise DataError(self._not_readable(error)) from None

    def _not_readable(self, error: UnicodeError) -> str:
        if self.encoding is not None:
            reason = str(error)[:80]
            return f"{self.name}: is not {self.encoding} ({reason}). Set another data.encoding."
        with _remote(self.name), _open(self.path) as file:
            guess = _likely_encoding(file.read(1 << 16))
        if guess is None:
            return f"{self.name}: is not text. Check that its ending matches its format."
        return (
            f"{self.name}: is not UTF-8; it looks like {guess}. "
            f"Set data.encoding: {guess}, or save it as UTF-8."
        )

    def _csv_rows(
        self, columns: Sequence[str], delimiter: str
    ) -> Iterator[tuple[str, Mapping[str, Any]]]:
        csv.field_size_limit(2**31 - 1)
        with self._text() as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            number = 0
            try:
                header = next(filter(None, reader), None)
                if header is None:
                    raise DataError(
                        f"{self.name}: is empty. Write a first line with the column names, "
                        "and rows below it."
                    )
                self._check_header(header, columns, delimiter)
                for number, cells in enumerate(filter(None, reader), start=1):
                    if len(cells) != len(header):
                        raise DataError(
                            f"{self.name}, row {number}: has {len(cells)} cells, "
                            f"the header has {len(header)}. "
                            "Put quotes around cells that contain the separator."
                        )
                    yield f"{self.name}, row {number}", dict(zip(header, cells, strict=True))
            except csv.Error as error:
                if "end of data" in str(
                    error
                ):  # reported where the cell begins, not where the file ends
                    raise DataError(
                        f"{self.name}, row {number + 1}: a cell begins with a quote that is not "
                        'closed. Close it; a quote inside a cell is written twice: "".'
                    ) from None
                raise DataError(
                    f"{self.name}, line {reader.line_num}: {error}. "
                    'A quote inside a cell is written twice: "".'
                ) from None

    def _check_header(self, header: Sequence[str], columns: Sequence[str], delimiter: str) -> None:
        for column in columns:
            if header.count(column) > 1:
                raise DataError(
                    f"{self.name}: the column '{column}' is {header.count(column)} times in "
                    "the header. Rename or remove all but one."
                )
            if column not in header:
                other = next(
                    (d for d in ",;\t|" if d != delimiter and len(header) == 1 and d in header[0]),
                    None,
                )
                hint = f" Is its separator {other!r}? Save it with {delimiter!r}." if other else ""
                raise DataError(
                    f"{self.name}: has no column '{column}'.{did_you_mean(column, header)}{hint} "
                    f"It has {listed(header)}. Name one of these."
                )

    def _json_rows(self, ending: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        with self._text() as file:
            values = self._json_values(file) if ending == "json" else self._json_lines(file)
            for number, row in enumerate(values, start=1):
                if not isinstance(row, dict):
                    raise DataError(
                        f"{self.name}, row {number}: is a {type(row).__name__}, "
                        'not an object with named columns. Write {"column": value, ...}.'
                    )
                yield f"{self.name}, row {number}", row

    def _json_values(self, file: IO[str]) -> list[Any]:
        try:
            values = json.load(file)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{self.name}, line {error.lineno}: is not JSON: {error.msg}. {_json_remedy(error)}"
            ) from None
        except UnicodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise DataError(f"{self.name}: {_json_limit(error)}") from None
        if not isinstance(values, list):
            raise DataError(
                f"{self.name}: is a {type(values).__name__}, not a list of rows. "
                "Write [{...}, {...}], or name the file .jsonl if each line is a row."
            )
        return values

    def _json_lines(self, file: IO[str]) -> Iterator[Any]:
        for number, line in enumerate((line for line in file if line.strip()), start=1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(
                    f"{self.name}, row {number}: is not JSON: {error.msg} "
                    f"at character {error.pos + 1}. {_json_remedy(error)}"
                ) from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{self.name}, row {number}: {_json_limit(error)}") from None

    def _arrow_rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        import fsspec

        with _remote(self.name), fsspec.open(self.path, "rb") as file:
            try:
                names, batches = _arrow_batches(file, self.format())
                self._check_header(names, columns, "")
                number = 0
                for batch in batches:
                    for row in batch.select(list(columns)).to_pylist():
                        number += 1
                        yield f"{self.name}, row {number}", row
            except (pa.ArrowInvalid, OSError) as error:
                raise DataError(
                    f"{self.name}: is not a whole {self.format()} file: "
                    f"{str(error).splitlines()[0][:120].rstrip('.')}. {OPEN_AGAIN}"
                ) from None


def _open(path: str) -> Any:
    import fsspec

    return fsspec.open(path, "rb")


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


def _json_remedy(error: json.JSONDecodeError) -> str:
    if error.doc.lstrip().startswith("{") and "Extra data" in error.msg:
        return "Name the file .jsonl if each line is a row."
    return "Correct it there, or write the file with a JSON library."


def _json_limit(error: Exception) -> str:
    too_deep = isinstance(error, RecursionError)
    reason = "it is nested too deeply" if too_deep else "a number is too long"
    return f"is not JSON that can be read: {reason}. Correct or remove the row."


def _arrow_batches(file: Any, ending: str) -> tuple[list[str], Iterator[pa.RecordBatch]]:
    """Return the column names and batches of an open parquet file, Arrow file or Arrow stream."""
    if ending == "parquet":
        parquet = pa.parquet.ParquetFile(file)
        return parquet.schema_arrow.names, parquet.iter_batches(batch_size=BATCH_ROWS)
    is_stream = file.read(6) != b"ARROW1"
    file.seek(0)
    if is_stream:
        stream = pa.ipc.open_stream(file)
        return stream.schema.names, iter(stream)
    reader = pa.ipc.open_file(file)
    return reader.schema.names, (reader.get_batch(i) for i in range(reader.num_record_batches))


@dataclass(frozen=True)
class HubPart(Part):
    """One split of a data set on the Hugging Face hub, read with the `datasets` library."""

    def describe(self) -> list[str]:
        """Return the fingerprint of the data set."""
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
            except (
                ValueError
            ) as error:  # an unknown config or split; the error lists the known ones
                raise DataError(f"{self.name}: {str(error).splitlines()[0][:240]}") from None

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the location and the cells of each row, with names in place of class ids."""
        dataset = self._dataset()
        names = {
            column: getattr(getattr(feature, "feature", feature), "names", None)
            for column, feature in dataset.features.items()
        }
        for number, row in enumerate(dataset, start=1):
            named = {column: _class_names(cell, names[column]) for column, cell in row.items()}
            yield f"{self.name}, row {number}", named


def _class_names(cell: Any, names: Sequence[str] | None) -> Any:
    """Replace the class ids of a hub data set by their names."""
    if names is None or cell is None:
        return cell
    if isinstance(cell, list):
        return [_class_names(part, names) for part in cell]
    return names[cell] if cell >= 0 else None


@contextmanager
def _remote(name: str) -> Iterator[None]:
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


def parts(
    source: str | Sequence[str], *, encoding: str | None = None, documents: Documents = "lines"
) -> list[Part]:
    """Return the parts of a source; see plcli.data.rows.

    Raises:
        DataError: if a file does not exist, or its kind is not known.
        UsageError: if `encoding` or `documents` does not apply.
    """
    names = [source] if isinstance(source, str) else list(source)
    if not names:
        raise DataError("the list of files is empty. Name one.")
    if encoding is not None:
        _check_encoding(encoding)
    found = [part for name in names for part in _part(name)]
    for part in found:
        if documents != "lines" and (isinstance(part, HubPart) or part.format() != "txt"):
            raise UsageError(
                f"data.documents: {documents} is for .txt files; each row of {part.name} is a "
                "document. Remove the key."
            )
    return [replace(part, encoding=encoding, documents=documents) for part in found]


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError, ValueError):
        near = did_you_mean(encoding, ENCODINGS)
        raise UsageError(
            f"data.encoding: '{encoding}' is not a text encoding of Python.{near} "
            f"Valid are {listed(ENCODINGS)}, ..."
        ) from None


def _part(name: str) -> list[Part]:
    if name.startswith("hf:"):
        return [HubPart(name, name[3:])]
    if name.startswith("package:"):
        return [Part(name, str(package_path(name)))]
    if "://" in name:
        from fsspec.registry import known_implementations, registry

        kind = name.partition("://")[0].split("::")[-1]
        if kind not in known_implementations and kind not in registry:
            near = did_you_mean(kind, known_implementations)
            raise DataError(
                f"{name}: '{kind}://' is not a known kind of address.{near} "
                "Write a path, or an address such as s3://BUCKET/FILE."
            )
        return [Part(name, name)]
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        raise DataError(
            f"{name}: is a folder. Name its files, for example '{name.rstrip('/')}/*.csv'."
        )
    if os.path.exists(path):
        return [Part(name, path)]
    found = sorted(glob.glob(path, recursive=True))
    if not found:
        folder = Path(path).parent
        siblings = [each.name for each in folder.iterdir()] if folder.is_dir() else []
        near = did_you_mean(Path(path).name, siblings)
        if glob.has_magic(path):
            raise DataError(f"{name}: no file matches.{near} Check the pattern.")
        raise DataError(f"{name}: no such file.{near or ' Check the path.'}")
    return [Part(each, each) for each in found]
