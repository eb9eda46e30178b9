"""Files that are whole or absent, even if the process or the machine is killed.

A file is written to a temporary file in the same folder, flushed to disk and renamed. A checksummed
file ends with the sha256 of its content, so that a truncated or changed file is recognized.
"""

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from plcli.errors import MachineError, ModelError
from plcli.runs import process

MARK = b"\nplcli sha256 "
CHECKSUM_BYTES = len(MARK) + 64 + 1  # the mark, the digest in hexadecimal, a newline
PREFIX = ".tmp-"  # of files that are being written; `sweep` removes those of killed processes
MACHINE_ERRORS = {  # errors of the disk, not of the program
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EIO,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENOTCONN,
}


def new_file(folder: Path) -> tuple[int, Path]:
    """Make an empty temporary file with the permissions of the umask; return it open, and its path.

    Its name tells `sweep` whose it is.
    """
    path = folder / process.temporary_name(PREFIX)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), path


def new_folder(folder: Path) -> Path:
    """Make a temporary folder with the permissions of the umask; see `new_file`."""
    path = folder / process.temporary_name(PREFIX)
    path.mkdir()
    return path


def set_permissions(folder: Path) -> None:
    """Give everything in a folder the permissions of the umask, whatever library wrote it."""
    handle, probe = new_file(folder)
    mode = os.fstat(handle).st_mode & 0o777
    os.close(handle)
    probe.unlink()
    inner = folder / process.temporary_name(PREFIX)
    inner.mkdir()
    folder_mode = inner.stat().st_mode & 0o777
    inner.rmdir()
    for path in folder.rglob("*"):
        path.chmod(folder_mode if path.is_dir() else mode)


class _Checksumming:
    """A file that computes the sha256 of what is written, and keeps the first error of the disk.

    The error is kept because torch replaces it with an error of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            self.file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        self.file.flush()


def write_checksummed(
    path: Path, write: Callable[[Any], None], *, before_replacing: Callable[[], None]
) -> None:
    """Write a checksummed file; an existing file is kept until the new one is whole.

    Args:
        path: the file.
        write: writes the content to an open file.
        before_replacing: called when the new file is on disk, before it is renamed.

    Raises:
        MachineError: if it cannot be written.
    """
    temporary: Path | None = None
    summed: _Checksumming | None = None
    try:
        handle, temporary = new_file(path.parent)
        with os.fdopen(handle, "wb") as file:
            summed = _Checksumming(file)
            write(summed)
            file.write(MARK + summed.digest.hexdigest().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        before_replacing()
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:  # after a signal too, no temporary file may remain
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        cause = error if isinstance(error, OSError) else summed.error if summed else None
        if cause is None:
            raise
        raise cannot_be_written(path, cause) from error


def cannot_be_written(path: Path, error: OSError) -> MachineError:
    """Return the error for a file that cannot be written to the disk."""
    return MachineError(
        f"{path}: cannot be written ({error.strerror or error}). Any earlier version is intact. "
        "Check the disk and run the same command again."
    )


def damage(path: Path) -> str | None:
    """Return what is wrong with a checksummed file; None if it is whole."""
    try:
        with open(path, "rb") as file:
            rest = os.fstat(file.fileno()).st_size - CHECKSUM_BYTES
            digest = hashlib.sha256()
            while rest > 0 and (block := file.read(min(rest, 1 << 20))):
                digest.update(block)
                rest -= len(block)
            end = file.read()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if rest < 0 or not end.startswith(MARK):
        return "its end is missing"
    if end != MARK + digest.hexdigest().encode() + b"\n":
        return "its sha256 differs from that of the file that was written"
    return None


def first_whole(paths: list[Path]) -> tuple[Path | None, dict[Path, str]]:
    """Return the first file that is whole, and what is wrong with the files before it.

    Files that do not exist are skipped.

    Raises:
        ModelError: if some files exist and none is whole.
    """
    damaged: dict[Path, str] = {}
    for path in paths:
        if not path.exists():
            continue
        problem = damage(path)
        if problem is None:
            return path, damaged
        damaged[path] = problem
    if damaged:
        problems = "; ".join(
            f"{path}: cannot be loaded as a checkpoint ({damaged[path]})" for path in damaged
        )
        raise ModelError(f"{problems}. Train again with another --run, or remove the folder.")
    return None, damaged


def keep_as(path: Path, kept: Path) -> None:
    """Give a file a second name, replacing what had that name; do nothing if it does not exist."""
    if not path.exists():
        return
    temporary = kept.with_name(process.temporary_name(PREFIX))
    try:
        os.link(path, temporary)
    except OSError:  # no hard links on this file system: for a moment, only `kept` exists
        os.replace(path, kept)
    else:
        os.replace(temporary, kept)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or absent."""
    handle, temporary = new_file(path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # after a signal too, no temporary file may remain
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def sha256(path: Path) -> str:
    """Return the sha256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync_file(path: Path) -> None:
    """Flush the content of a file to disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flush the entries of a folder to disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(*folders: Path) -> None:
    """Remove the temporary files and folders of dead processes; those of living ones stay."""
    for folder in folders:
        for path in folder.glob(f"{PREFIX}*"):
            if not process.is_abandoned(path):
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def size_of(folder: Path) -> str:
    """Return the size of all files in a folder, for messages."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return f"{size / 1e6:,.0f} MB" if size >= 1e7 else f"{size / 1e6:,.1f} MB"


def check_there(folder: Path) -> None:
    """Check that the folder of a run is where it was when the run began.

    Raises:
        MachineError: if it was renamed or removed since; making it anew would divide the run.
    """
    if not folder.is_dir():
        raise MachineError(
            f"{folder}: is not there any more; it was renamed or removed while the run writes into "
            "it. To resume the run, name its new folder with --run."
        )


def check_space(folder: Path, needed: int, *, purpose: str) -> None:
    """Check that a disk has enough free space.

    Args:
        folder: a folder on the disk.
        needed: the number of bytes.
        purpose: what needs them, for the message.

    Raises:
        MachineError: if there is less free space.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    if free < needed:
        raise MachineError(
            f"{folder}: {free / 1e6:,.0f} MB are free, and {purpose} needs {needed / 1e6:,.0f} MB. "
            "Free some space, or use a folder on another disk with --run."
        )


@contextlib.contextmanager
def disk_errors_explained() -> Iterator[None]:
    """Turn errors of the disk into one message.

    Raises:
        MachineError: if the disk is full, read-only or missing.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise MachineError(
            f"{where}cannot be written ({error.strerror}). Checkpoints are intact. Check the disk "
            "and run the same command again."
        ) from error
