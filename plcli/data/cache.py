"""The cache in ~/.cache/plcli: files keyed by content, written once and memory-mapped.

A file is checked against its sums when it is opened, and built anew if it is damaged. The files of
other users are not used, because who can write them decides what is trained on; $PLCLI_CACHE_TRUST
says otherwise. The files that were not used for longest are removed above $PLCLI_CACHE_LIMIT.
"""

import logging
import mmap
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
from filelock import FileLock

from plcli.data import cache_sums
from plcli.errors import MachineError, UsageError
from plcli.runs import atomic_files, process

logger = logging.getLogger(__name__)

LIMIT = 20.0  # GB
IN_USE = 600  # seconds after its last opening for which a file is not removed
TRUST, LIMIT_VARIABLE = "PLCLI_CACHE_TRUST", "PLCLI_CACHE_LIMIT"
_checked: set[tuple[str, int, int, int]] = set()  # files that this process has checked already


def cache_folder() -> Path:
    """Return the cache folder: $PLCLI_CACHE, or plcli in the cache folder of the user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PLCLI_CACHE") or Path(base) / "plcli")


class ArrowFile:
    """A memory-mapped Arrow file.

    Attributes:
        path: the file.
        table: the rows; columns are read from disk when they are used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(path, "rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.table: pa.Table = pa.ipc.open_file(pa.py_buffer(self._map)).read_all()

    def release(self) -> None:
        """Release the pages that have been read from the memory of this process."""
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            self._map.madvise(mmap.MADV_DONTNEED)

    def sha256(self) -> str:
        """Return the sha256 of the file; it is read for that if it is another user's."""
        written = cache_sums.sha256(self.path) if _is_own(self.path) else None
        return written or atomic_files.sha256(self.path)


class ArrowMemory:
    """A table in memory, where an ArrowFile is expected.

    Attributes:
        table: the rows.
    """

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    def release(self) -> None:
        """Do nothing, as no pages of a file are read."""


def build_once(target: Path, write: Callable[[Path], None]) -> Path:
    """Write a cache file, unless there is one that is whole and trusted.

    One process writes a temporary file and renames it, while others wait.

    Args:
        target: the file.
        write: writes the content to a path.

    Returns:
        The file; with another name if another user has written `target`.

    Raises:
        MachineError: if the folder is not writable.
    """
    try:
        path = _trusted_name(target)
        if _is_whole(path):
            return path
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = target.parent.stat().st_mode & 0o666  # a folder's is that of the umask
        with FileLock(f"{path}.lock", mode=mode):
            if not _is_whole(path, told=True):
                atomic_files.sweep(path.parent)
                _build(path, write)
    except OSError as error:
        raise MachineError(
            f"{target.parent}: cannot be written ({error.strerror or error}). "
            "Set PLCLI_CACHE to a writable folder."
        ) from error
    _keep_below_limit(target.parent.parent, kept=path)
    return path


def _build(path: Path, write: Callable[[Path], None]) -> None:
    handle, temporary = atomic_files.new_file(path.parent)
    os.close(handle)
    try:
        write(temporary)
        temporary.chmod(temporary.stat().st_mode & ~0o022)  # others may read it
        atomic_files.sync_file(temporary)
        cache_sums.write(path, content=temporary)
        os.replace(temporary, path)
        atomic_files.sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _is_whole(path: Path, *, told: bool = False) -> bool:
    """Whether a file exists and is not damaged; its last use is noted.

    Args:
        path: the file.
        told: whether the log already says that it is damaged.
    """
    try:
        found = path.stat()
        key = (str(path.absolute()), found.st_ino, found.st_mtime_ns, found.st_size)
        if key in _checked:
            return True
        problem = cache_sums.damage(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
    if problem is not None:
        if not told:
            logger.warning("%s: is damaged (%s); it is built anew", path, problem)
        return False
    _checked.add(key)
    try:
        sums = cache_sums.path_of(path)
        os.utime(sums, ns=(time.time_ns(), sums.stat().st_mtime_ns))
    except OSError:  # a cache that may only be read
        pass
    return True


# users


def _trusted_name(target: Path) -> Path:
    """Return the name of a cache file; one of our own if another user has written the file."""
    if not target.exists() or _is_trusted(target):
        return target
    own = target.with_name(f"{target.stem}-{_user()}{target.suffix}")
    if not own.exists():
        logger.warning(
            "%s: is not used, because another user %s; set %s to their name, or to `all`",
            target,
            "has written it" if not _is_own(target) else "can change it",
            TRUST,
        )
    elif not _is_trusted(own):
        raise MachineError(
            f"{own}: is not used either, because another user has written it. Set PLCLI_CACHE to "
            "a folder of your own."
        )
    return own


def _is_trusted(path: Path) -> bool:
    found = path.stat()
    if _is_own(path):
        return not found.st_mode & 0o022
    trusted = [name.strip() for name in os.environ.get(TRUST, "").split(",") if name.strip()]
    return "all" in trusted or _name(found.st_uid) in trusted or str(found.st_uid) in trusted


def _is_own(path: Path) -> bool:
    return os.name == "nt" or path.stat().st_uid in (_user(), 0)  # root can do everything anyway


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _name(user: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


# size


def limit() -> float:
    """Return the number of bytes that the cache may have; infinite if the limit is 0.

    Raises:
        UsageError: if $PLCLI_CACHE_LIMIT is no number.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    try:
        value = float(text) if text else LIMIT
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise UsageError(
            f"{LIMIT_VARIABLE}: got '{text}', expected a number of gigabytes, or 0 for no limit."
        )
    return value * 1e9 if value else float("inf")


def files(cache: Path) -> dict[Path, tuple[float, int]]:
    """Return the last use and the bytes of every file of a cache, with its sums."""
    found = {}
    for sums in cache.glob("*/*.sums"):
        path = sums.with_name(sums.name.removesuffix(".sums"))
        try:
            found[path] = (sums.stat().st_atime, path.stat().st_size + sums.stat().st_size)
        except OSError:  # another process has removed it
            continue
    return found


def _keep_below_limit(cache: Path, *, kept: Path) -> None:
    """Remove the files that were not used for longest, until the cache is below its limit."""
    found, most = files(cache), limit()
    total = sum(size for _, size in found.values())
    now = time.time()
    for path, (used, size) in sorted(found.items(), key=lambda item: item[1][0]):
        if total <= most:
            return
        if path == kept or now - used < IN_USE:
            continue
        try:
            path.unlink()
            cache_sums.path_of(path).unlink(missing_ok=True)
            Path(f"{path}.lock").unlink(missing_ok=True)
        except OSError:  # another user's
            continue
        total -= size
        logger.info("%s: removed, as the cache is above its limit of %g GB", path, most / 1e9)


def temporary_folder() -> Path:
    """Make a folder in the cache for this process; those of dead processes are removed.

    Raises:
        MachineError: if the cache is not writable.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob("predict-*"):
            if process.is_abandoned(left):
                shutil.rmtree(left, ignore_errors=True)
        made = folder / process.temporary_name("predict-")
        made.mkdir(0o700)
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot be written ({error.strerror or error}). "
            "Set PLCLI_CACHE to a writable folder."
        ) from error
    return made
