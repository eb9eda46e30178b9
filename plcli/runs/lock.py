"""The lock of a run folder: one process trains in it.

On one machine, and on file systems that share locks, the system drops the lock with its process,
however that ends. For other machines the holder touches the lock file every few seconds; one that
has not been touched for a minute belongs to a dead process.
"""

import contextlib
import json
import os
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from plcli.errors import MachineError
from plcli.runs import process
from plcli.runs.process import Process

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # pids and heartbeats remain

NAME = ".lock"
HEARTBEAT = 10.0  # seconds
DEAD_AFTER = 60.0  # seconds without a heartbeat


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    Attributes:
        process: the process.
        since: when it took the lock, for messages.
        command: its command, such as fit.
        knows_locks: whether its file system has locks, which end with their process.
    """

    process: Process
    since: str
    command: str
    knows_locks: bool = True

    def plain(self) -> dict[str, Any]:
        """Return the content of a lock file."""
        own = {"host": self.process.host, "pid": self.process.pid, "started": self.process.started}
        return own | {
            "since": self.since,
            "command": self.command,
            "knows_locks": self.knows_locks,
        }

    def __str__(self) -> str:
        where = "of this machine" if self.process.is_here else f"on {self.process.host}"
        return f"`plcli {self.command}`, process {self.process.pid} {where}, since {self.since}"


_HELD: dict[Path, Holder] = {}  # by this process, for which the system's lock is no obstacle


class RunLock:
    """The lock of a run folder, held by this process until `release`.

    Args:
        folder: the run folder; it is made if it does not exist.
        command: the command, for the messages of others.

    Raises:
        MachineError: if another process holds the lock, or the folder cannot be written.
    """

    def __init__(self, folder: Path, *, command: str) -> None:
        self.folder, self.command = folder, command
        self._made = _missing(folder)
        self._key = self.path.absolute()
        self._stopped = threading.Event()
        self._file: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._take()
        except OSError as error:
            self._remove_folders()
            raise MachineError(
                f"--run {folder}: cannot be created ({error.strerror}). Name another folder."
            ) from None
        threading.Thread(target=self._touch, name="plcli-lock", daemon=True).start()

    @property
    def path(self) -> Path:
        """The lock file."""
        return self.folder / NAME

    def _take(self) -> None:
        if self._key in _HELD:
            raise _in_use(self.folder, _HELD[self._key])
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            locked = _lock(handle)
            holder = _read(handle)
            if locked is False or (holder is not None and _may_live(holder, handle, self.folder)):
                os.close(handle)
                raise _in_use(self.folder, holder)
            if _is_at(handle, self.path):
                break
            os.close(handle)  # its last holder has just removed it
        since = datetime.now().astimezone().isoformat(" ", "seconds")
        own = Holder(process.this(), since, self.command, knows_locks=locked is True)
        os.truncate(handle, 0)
        os.pwrite(handle, json.dumps(own.plain()).encode(), 0)
        self._file = handle
        _HELD[self._key] = own

    def _touch(self) -> None:
        while not self._stopped.wait(HEARTBEAT):
            with contextlib.suppress(OSError):
                if self._file is not None:
                    os.utime(self._file)

    def release(self) -> None:
        """Give the lock back; folders that were made for it and are still empty are removed."""
        self._stopped.set()
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            if _is_at(self._file, self.path):
                self.path.unlink()
        os.close(self._file)
        self._file = None
        _HELD.pop(self._key, None)
        self._remove_folders()

    def _remove_folders(self) -> None:
        for folder in self._made:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def claim_free(root: Path, name: str, *, command: str) -> RunLock:
    """Make and lock the next free folder ROOT/NAME-1, ROOT/NAME-2, ...; each goes to one process.

    What a killed process has left without having saved anything is taken over.

    Raises:
        MachineError: if it cannot be made.
    """
    while True:
        numbers = _numbers(root, name)
        last = root / f"{name}-{max(numbers, default=0)}"
        if numbers and _is_abandoned(last):
            with contextlib.suppress(MachineError):
                return RunLock(last, command=command)
        folder = next_free(root, name)
        made = _missing(folder)
        try:
            root.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise MachineError(
                f"{folder}: cannot be created ({error.strerror}). Name another folder with --run."
            ) from None
        try:
            lock = RunLock(folder, command=command)
        except MachineError:  # another process has taken it for one that was left
            continue
        lock._made = made
        return lock


def next_free(root: Path, name: str) -> Path:
    """Return the next free folder, without making it."""
    return root / f"{name}-{max(_numbers(root, name), default=0) + 1}"


def _missing(folder: Path) -> list[Path]:
    """Return a folder and those above it that do not exist, innermost first."""
    chain = [folder, *folder.parents]
    return [path for path in chain if not path.exists()]


def _numbers(root: Path, name: str) -> list[int]:
    ends = (path.name[len(name) + 1 :] for path in root.glob(f"{_escaped(name)}-*"))
    return [int(end) for end in ends if end.isascii() and end.isdigit()]


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _is_abandoned(folder: Path) -> bool:
    """Whether a folder has nothing but the lock of a dead process."""
    try:
        names = {path.name for path in folder.iterdir()}
    except OSError:
        return False
    return names == {NAME} and holder_of(folder) is None


def holder_of(folder: Path) -> Holder | None:
    """Return the living process that trains in a run folder; None if there is none."""
    path = folder / NAME
    if own := _HELD.get(path.absolute()):  # opening and closing the file would drop the lock
        return own
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        locked, holder = _lock(handle, shared=True), _read(handle)
        lives = holder is not None and _may_live(holder, handle, folder)
        if locked is False or lives:
            return holder or Holder(Process("this machine", 0, 0), "a moment ago", "fit")
        return None
    finally:
        os.close(handle)


def check_not_held(folder: Path) -> None:
    """Refuse a run folder in which another process trains.

    Raises:
        MachineError: if one does.
    """
    holder = holder_of(folder)
    if holder is not None:
        raise MachineError(
            f"{folder}: is being trained by {holder}, so its weights still change. "
            "Wait until it has ended, or stop it."
        )


def _in_use(folder: Path, holder: Holder | None) -> MachineError:
    who = holder or "another process"
    return MachineError(
        f"{folder}: is in use by {who}. Wait until it has ended, or name another folder with --run."
    )


def _lock(handle: int, *, shared: bool = False) -> bool | None:
    """Lock an open file; return whether no other process holds it, None without locks.

    The lock is the process's own: the workers that it forks do not keep it.
    """
    if fcntl is None:
        return None
    try:
        fcntl.lockf(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system without locks
        return None
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one that has a path now."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _may_live(holder: Holder, handle: int, folder: Path) -> bool:
    """Whether a holder may be alive although the system knows of no lock."""
    if holder.process == process.this():
        return False
    if holder.process.is_here:
        return not holder.knows_locks and not holder.process.is_dead
    return _now(folder) - os.fstat(handle).st_mtime < DEAD_AFTER


def _now(folder: Path) -> float:
    """Return the time by the clock of a file system, which may be another machine's."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-clock-") as now:
            return os.fstat(now.fileno()).st_mtime
    except OSError:  # a folder that cannot be written
        return time.time()


def _read(handle: int) -> Holder | None:
    """Return the holder that an open lock file names; None if it names none.

    It is read through the open file, because closing another one would drop the lock.
    """
    try:
        content = json.loads(os.read(handle, 10_000))
        owner = Process(str(content["host"]), int(content["pid"]), int(content["started"]))
        known = bool(content["knows_locks"])
        return Holder(owner, str(content["since"]), str(content["command"]), knows_locks=known)
    except (OSError, ValueError, KeyError, TypeError):
        return None
