"""The cache below ~/.cache/plcli: files keyed by content, written once and used memory-mapped."""

import mmap
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
from filelock import FileLock

from plcli.errors import MachineError


def cache_folder() -> Path:
    """Return the cache folder: $PLCLI_CACHE, else plcli below the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PLCLI_CACHE") or Path(base) / "plcli")


class ArrowFile:
    """An Arrow file, memory-mapped.

    Attributes:
        table: its rows; a column is read from the disk when it is used.
    """

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.table: pa.Table = pa.ipc.open_file(pa.py_buffer(self._map)).read_all()

    def release(self) -> None:
        """Let the pages that were read leave this process's memory; a later use maps them again."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._map.madvise(mmap.MADV_DONTNEED)


def build_once(target: Path, write: Callable[[Path], None]) -> None:
    """Make a cache file, unless it is there.

    One process writes beside it and renames, the others wait.

    Raises:
        MachineError: if the folder cannot be written.
    """
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
