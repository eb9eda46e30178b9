"""The cache in ~/.cache/plcli: files keyed by content, written once and memory-mapped.

Rows that are in memory are never written there.
"""

import contextlib
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
from filelock import FileLock, Timeout

from plcli.errors import MachineError

LOCK = "lock"  # the file in a temporary folder that its process locks
NEW = 60  # seconds


def cache_folder() -> Path:
    """Return the cache folder: $PLCLI_CACHE, or plcli in the cache folder of the user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PLCLI_CACHE") or Path(base) / "plcli")


class ArrowFile:
    """A memory-mapped Arrow file.

    Attributes:
        table: the rows; columns are read from disk when they are used.
    """

    def __init__(self, path: Path) -> None:
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.table: pa.Table = pa.ipc.open_file(pa.py_buffer(self._map)).read_all()

    def release(self) -> None:
        """Release the pages that have been read from the memory of this process."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._map.madvise(mmap.MADV_DONTNEED)


class ArrowMemory:
    """A table in memory, where an ArrowFile is expected.

    Attributes:
        table: the rows.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def release(self) -> None:
        """Do nothing, as no pages of a file are read."""


_locks: list[FileLock] = []  # of the temporary folders of this process, held until it ends


def temporary_folder(prefix: str) -> Path:
    """Create a folder in the cache folder, and remove those of processes that were killed.

    Raises:
        MachineError: if the cache folder is not writable.
    """
    base = cache_folder()
    try:
        base.mkdir(parents=True, exist_ok=True)
        for other in base.glob(f"{prefix}*"):
            _remove_if_left(other)
        folder = Path(tempfile.mkdtemp(dir=base, prefix=prefix))
        lock = FileLock(folder / LOCK)
        lock.acquire()
    except OSError as error:
        raise MachineError(
            f"{base}: cannot be written ({error.strerror or error}). "
            "Set PLCLI_CACHE to a writable folder."
        ) from error
    _locks.append(lock)
    return folder


def _remove_if_left(folder: Path) -> None:
    """Remove a temporary folder if no process holds its lock."""
    with contextlib.suppress(OSError):
        if time.time() - folder.stat().st_mtime < NEW:  # it may not have its lock yet
            return
        lock = FileLock(folder / LOCK, timeout=0)
        with contextlib.suppress(Timeout), lock:
            shutil.rmtree(folder, ignore_errors=True)


def build_once(target: Path, write: Callable[[Path], None]) -> None:
    """Write a cache file, unless it exists.

    One process writes a temporary file and renames it, while others wait.

    Raises:
        MachineError: if the folder is not writable.
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
            "Set PLCLI_CACHE to a writable folder."
        ) from error
