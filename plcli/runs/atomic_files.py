"""Files that are whole or absent, whatever ends the process or the machine.

A file is written beside its place, made durable, and renamed there. One that is sealed ends with
the sha256 of what stands before, so that a torn or altered one is told from a whole one.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from plcli.errors import MachineError, ModelError

MARK = b"\nplcli sha256 "
SEAL = len(MARK) + 64 + 1  # the mark, the digest in hexadecimal, a line end
PREFIX = ".tmp-"  # of files that are being written; what a killed process left of them is swept
MACHINE_ERRORS = {  # of the disk, not of the program
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


class _Sealing:
    """A file that keeps the sha256 of what is written, and the first error of the disk.

    torch turns an error of the file into one of its own.
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


def write_sealed(
    path: Path, write: Callable[[Any], None], *, before_it_is_replaced: Callable[[], None]
) -> None:
    """Write a sealed file; what stood in its place stays there until the new one is whole.

    Args:
        path: the file.
        write: writes the content to an open file.
        before_it_is_replaced: called once the new file is durable.

    Raises:
        MachineError: if it cannot be written.
    """
    temporary: str | None = None
    sealing: _Sealing | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=PREFIX)
        with os.fdopen(handle, "wb") as file:
            sealing = _Sealing(file)
            write(sealing)
            file.write(MARK + sealing.digest.hexdigest().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        before_it_is_replaced()
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:  # a signal too must leave no temporary file
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        cause = error if isinstance(error, OSError) else sealing.error if sealing else None
        if cause is None:
            raise
        raise cannot_be_written(path, cause) from error


def cannot_be_written(path: Path, error: OSError) -> MachineError:
    """Return the error for a file that the disk does not take."""
    return MachineError(
        f"{path}: cannot be written ({error.strerror or error}). What stood there before is whole; "
        "mend the disk and give the same command again."
    )


def damage(path: Path) -> str | None:
    """Say what is wrong with a sealed file; None where it is whole."""
    try:
        with open(path, "rb") as file:
            rest = os.fstat(file.fileno()).st_size - SEAL
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
    """Return the first of some files that is whole, and what is wrong with those before it.

    Files that are not there are passed over.

    Raises:
        ModelError: if there are some and none is whole.
    """
    damaged: dict[Path, str] = {}
    for path in paths:
        if not path.exists():
            continue
        said = damage(path)
        if said is None:
            return path, damaged
        damaged[path] = said
    if damaged:
        said = "; ".join(
            f"{path}: cannot be loaded as a checkpoint ({damaged[path]})" for path in damaged
        )
        raise ModelError(f"{said}. Train anew with another --run, or remove the folder.")
    return None, damaged


def keep_as(path: Path, kept: Path) -> None:
    """Give a file a second name, in the place of what had it; without the file nothing is done."""
    if not path.exists():
        return
    temporary = kept.with_name(f"{PREFIX}{kept.name}")
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:  # a file system without second names: for a moment only the kept one is there
        os.replace(path, kept)
    else:
        os.replace(temporary, kept)


def write_text(path: Path, text: str) -> None:
    """Write a text file that is whole or absent."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=PREFIX)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:  # a signal too must leave no temporary file
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
    """Make a file's content durable."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(*folders: Path) -> None:
    """Remove what killed processes left of files and folders that they were writing."""
    for folder in folders:
        for path in folder.glob(f"{PREFIX}*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def check_space(folder: Path, needed: int, *, purpose: str) -> None:
    """Check that a disk has room.

    Args:
        folder: on the disk.
        needed: bytes.
        purpose: what they are for, for the message.

    Raises:
        MachineError: if it has less.
    """
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise cannot_be_written(folder, error) from error
    if free < needed:
        raise MachineError(
            f"{folder}: {free / 1e6:,.0f} MB are free, and {purpose} needs {needed / 1e6:,.0f} MB. "
            "Make room, or name a folder on another disk with --run."
        )


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what the disk refuses into one message.

    Raises:
        MachineError: if the disk is full, read-only or gone.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in MACHINE_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        raise MachineError(
            f"{where}cannot be written ({error.strerror}). Checkpoints are whole; mend the disk "
            "and give the same command again."
        ) from error
