"""The files of a run that keep its test rows: test_rows.parquet, and one for each other source."""

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from plcli.errors import ModelError
from plcli.runs import atomic_files

NAME = "test_rows.parquet"


def write(folder: Path, table: Any, *, fingerprint: str | None) -> Path:
    """Write the rows of a test, and return the file.

    Rows of the source that test_rows.parquet is of replace it; those of another source have a file
    of their own, with the first letters of its fingerprint in the name.

    Args:
        folder: the run folder.
        table: an Arrow table; its metadata has the fingerprint.
        fingerprint: that of the source of the rows.
    """
    path = folder / NAME
    if fingerprint is not None and path.is_file():
        kept = pa.parquet.read_schema(path).metadata or {}
        if fingerprint.encode() not in b" ".join(kept.values()):
            path = folder / f"test_rows-{fingerprint[:8]}.parquet"
    write_file(path, table)
    return path


def write_file(path: Path, table: Any) -> None:
    """Write rows to a file that is whole or absent."""
    handle, temporary = atomic_files.new_file(path.parent)
    os.close(handle)
    try:
        pa.parquet.write_table(table, temporary)
        atomic_files.sync_file(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    atomic_files.sync_folder(path.parent)


def read(folder: Path) -> list[tuple[Path, Any]]:
    """Return the files of a run and their tables; that of its own test split first.

    Raises:
        ModelError: if a file is damaged.
    """
    others = sorted(folder.glob("test_rows-*.parquet"))
    found = [path for path in (folder / NAME, *others) if path.is_file()]
    return [(path, read_file(path)) for path in found]


def read_file(path: Path) -> Any:
    """Return the table of a file.

    Raises:
        ModelError: if it is damaged.
    """
    try:
        return pa.parquet.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise ModelError(
            f"{path}: is damaged ({str(error).splitlines()[0][:100]}). Write it again with "
            f"`plcli test --run {path.parent}`."
        ) from None
