"""Processes of this machine and of others: who they are, and whether they are still alive.

A process is named by its host, its id and the time at which it started, because ids are reused.
"""

import functools
import os
import re
import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

NAME = re.compile(r".*\.(?P<pid>\d+)\.(?P<started>\d+)@(?P<host>[^/]+)$")
UNKNOWN_AGE = 24 * 3600  # seconds after which a file of another machine's process is given up


@dataclass(frozen=True)
class Process:
    """A process.

    Attributes:
        host: the name of its machine.
        pid: its id.
        started: clock ticks from the start of the machine to that of the process; 0 if unknown.
    """

    host: str
    pid: int
    started: int

    @property
    def is_here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return self.host == _host()

    @property
    def is_dead(self) -> bool:
        """Whether it has ended, as far as this machine can tell."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:  # a process of another user
            pass
        now = _started(self.pid)
        return now is None or 0 < self.started != now > 0


def this() -> Process:
    """Return this process."""
    return Process(_host(), os.getpid(), _started(os.getpid()) or 0)


def temporary_name(prefix: str) -> str:
    """Return a name for a temporary file, from which `is_abandoned` finds its process."""
    own = this()
    return f"{prefix}{secrets.token_hex(4)}.{own.pid}.{own.started}@{own.host}"


def is_abandoned(path: Path) -> bool:
    """Whether the process that has named a temporary file is dead.

    The file of another machine's process, or one without such a name, is given up after a day.
    """
    found = NAME.match(path.name)
    if found is not None:
        owner = Process(found["host"], int(found["pid"]), int(found["started"]))
        if owner.is_here:
            return owner.is_dead
    try:
        return time.time() - path.stat().st_mtime > UNKNOWN_AGE
    except OSError:  # it has gone
        return False


@functools.cache
def _host() -> str:
    return socket.gethostname().replace("/", "-") or "unknown"


def _started(pid: int) -> int | None:
    """Return the time at which a process started; 0 if unknown, None if it has ended.

    https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else 0  # no /proc on other systems
    except OSError:
        return 0
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])  # a zombie has ended
