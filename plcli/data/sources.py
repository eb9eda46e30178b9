"""Sources of rows: files, globs, folders, fsspec addresses, installed packages and the hub.

A source is a list of parts. A part yields its rows one by one, each with its location for messages.
"""

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plcli.data import readers
from plcli.data.exports.exports import Format
from plcli.data.readers import (
    BATCH_ROWS,
    FORMATS,
    Decimal,
    Documents,
    Quoting,
    Reading,
    class_names,
    file_errors,
)
from plcli.errors import DataError, MachineError, UsageError, did_you_mean, listed
from plcli.packages import not_fetched, package_path
from plcli.runs.atomic_files import sha256

__all__ = [
    "BATCH_ROWS",
    "FORMATS",
    "Decimal",
    "Documents",
    "Format",
    "Part",
    "Quoting",
    "Reading",
    "parts",
]
PLAIN = Reading()
ENCODINGS = ("utf-8", "cp1252", "latin-1", "utf-16", "cp1250", "cp1251", "gb18030", "shift_jis")
SPLITS = {  # names of splits in folders of data sets
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test",),
    "predict": ("predict", "test"),
}


@dataclass(frozen=True)
class Part:
    """One file of a source."""

    name: str  # as the user wrote it, for messages
    path: str  # a local path or an fsspec URL
    reading: Reading = Reading()

    def describe(self) -> list[str]:
        """Return the format and the sha256 of the content.

        Of a remote file, the second is the checksum that its file system reports.
        """
        if "://" in self.path:
            import fsspec

            with file_errors(self.name):
                filesystem, path = fsspec.core.url_to_fs(self.path)
                found = [self.format(), str(filesystem.checksum(path))]
                if self.format() == "ann":
                    found.append(str(filesystem.checksum(f"{path.removesuffix('.ann')}.txt")))
                return found
        if pointer := not_fetched(Path(self.path)):
            raise DataError(pointer)
        with file_errors(self.name):
            digest = sha256(
                Path(self.path)
            )  # before the format, so that a folder is reported as a folder
            beside = Path(self.path).with_suffix(".txt")  # the text of annotations
            both = self.format() == "ann" and beside.is_file()
            return [self.format(), digest, *([sha256(beside)] if both else [])]

    def format(self) -> str:
        """Return the format, which is the file extension."""
        return readers.format_of(self.path, self.name)

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield the location and the cells of each row."""
        yield from readers.rows(self.path, self.name, columns, self.reading)


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
        with file_errors(self.name):
            try:
                return datasets.load_dataset(owner_and_name, config or None, split=split or "train")
            except (datasets.exceptions.DatasetNotFoundError, ConnectionError) as error:
                raise MachineError(
                    f"{self.name}: the hub has no such data set or cannot be reached "
                    f"({str(error).splitlines()[0][:160]}). Check the name and the connection."
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
            named = {column: class_names(cell, names[column]) for column, cell in row.items()}
            yield f"{self.name}, row {number}", named


def parts(
    source: str | Sequence[str], reading: Reading = PLAIN, *, split: str = "train"
) -> list[Part]:
    """Return the parts of a source; see plcli.data.rows.

    Args:
        source: the source.
        reading: how text files are read.
        split: the split that is needed, for folders with several.

    Raises:
        DataError: if a file does not exist, or its kind is not known.
        UsageError: if `reading` does not apply.
    """
    names = [source] if isinstance(source, str) else list(source)
    if not names:
        raise DataError("the list of files is empty. Name one.")
    if reading.encoding is not None:
        _check_encoding(reading.encoding)
    if reading.delimiter is not None and len(reading.delimiter) != 1:
        raise UsageError(
            f"data.delimiter: got {reading.delimiter!r}, expected a single character, such as ';'."
        )
    found = [part for name in names for part in _part(name, split)]
    for part in found:
        if reading.documents != "lines" and (isinstance(part, HubPart) or part.format() != "txt"):
            raise UsageError(
                f"data.documents: {reading.documents} is for .txt files; each row of {part.name} "
                "is a document. Remove the key."
            )
    return [replace(part, reading=reading) for part in found]


def _check_encoding(encoding: str) -> None:
    try:
        "".encode(encoding)
    except (LookupError, UnicodeError, ValueError):
        near = did_you_mean(encoding, ENCODINGS)
        raise UsageError(
            f"data.encoding: '{encoding}' is not a text encoding of Python.{near} "
            f"Valid are {listed(ENCODINGS)}, ..."
        ) from None


def _part(name: str, split: str) -> list[Part]:
    if name.startswith("hf:"):
        if not name[3:].partition(":")[0].strip("/"):
            raise DataError(f"{name}: names no data set. Write hf:OWNER/NAME.")
        return [HubPart(name, name[3:])]
    if name.startswith("package:"):
        return [Part(name, str(package_path(name)))]
    if "://" in name:
        from fsspec.registry import known_implementations, registry

        kind = name.partition("://")[0].split("::")[-1]
        if kind in ("gzip", "bz2", "xz", "zstd"):
            raise DataError(
                f"{name}: '{kind}://' is no address of its own. Name the file as it is, such as "
                "data.csv.gz; what is compressed is known by its ending."
            )
        if kind not in known_implementations and kind not in registry:
            near = did_you_mean(kind, known_implementations)
            raise DataError(
                f"{name}: '{kind}://' is not a known kind of address.{near} "
                "Write a path, or an address such as s3://BUCKET/FILE."
            )
        return [Part(name, name)]
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        return [Part(str(file), str(file)) for file in _files_in(Path(path), name, split)]
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


def _files_in(folder: Path, name: str, split: str) -> list[Path]:
    """Return the files of a folder that `datasets` has saved, or that is laid out like the hub's.

    https://huggingface.co/docs/datasets/package_reference/main_classes
    """
    if (folder / "dataset_dict.json").is_file():
        known = json.loads((folder / "dataset_dict.json").read_text())["splits"]
        chosen = next((each for each in SPLITS[split] if each in known), None)
        if chosen is None:
            raise DataError(
                f"{name}: has no split for data.{split}; it has {listed(known)}. Name one of its "
                f"folders, such as {name.rstrip('/')}/{known[0] if known else 'train'}."
            )
        return _files_in(folder / chosen, f"{name.rstrip('/')}/{chosen}", split)
    if (folder / "state.json").is_file():
        files = json.loads((folder / "state.json").read_text()).get("_data_files") or []
        return [folder / file["filename"] for file in files]
    found = [
        file
        for ending in FORMATS
        for stem in SPLITS[split]
        for pattern in (f"{stem}-*.{ending}", f"{stem}.{ending}")
        for file in sorted([*folder.glob(pattern), *folder.glob(f"data/{pattern}")])
    ]
    same = [file for file in found if file.suffix == found[0].suffix] if found else []
    same = same or sorted(folder.glob("*.ann"))
    if not same:
        raise DataError(
            f"{name}: is a folder. Name its files, for example '{name.rstrip('/')}/*.csv'."
        )
    return same
