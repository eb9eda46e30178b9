"""Handles SIGTERM, SIGHUP, Ctrl-C and SIGUSR1: if training can save first, they only set a flag.

A training that hangs, for example in a loader, never looks at the flag. So a thread watches the
signals, too, and ends the process when the grace is over.
"""

import contextlib
import os
import signal
import threading
from typing import Any

from plcli.errors import Terminated

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
GRACE = 30.0  # seconds between a signal and the end of a process that hangs


class Signals:
    """The signal handler of the process.

    Attributes:
        received: the signal that training has yet to handle, or that ends the command; None if
            there is none.
        waits: whether training checks `received`; otherwise a signal ends the command at once.
        grace: number of seconds after which a process that has not ended is ended.
        saving: whether a checkpoint is being written, which is waited for.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.waits = False
        self.grace = GRACE
        self.saving = False
        self._process = 0
        self._terminals: list[int] = []
        self._over = threading.Event()
        self._pipe: tuple[int, int] | None = None

    def take(self) -> None:
        """Install the handlers, and discard an earlier signal."""
        self.received = None
        self._process = os.getpid()
        self._terminals = [number for number in (1, 2) if os.isatty(number)]
        for number in NUMBERS:
            ignored = signal.getsignal(number) == signal.SIG_IGN
            if number != signal.SIGHUP or not ignored:  # nohup ignores it
                signal.signal(number, self._handle)
        self._watch()

    def check(self) -> None:
        """Raise what a signal has raised before, if a library has swallowed it.

        Raises:
            Terminated: if a signal has been received that ends the command.
        """
        if self.received is not None and not self.waits:
            raise Terminated(self.received)

    def is_over(self) -> None:
        """Stop watching: the command has ended."""
        self._over.set()
        self.grace = GRACE
        if self._pipe is not None:
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.set_wakeup_fd(-1)
            os.close(self._pipe[1])  # which ends the thread
            self._pipe = None

    def end_within_grace(self, code: int) -> None:
        """End the process with an exit code when the grace is over, unless it ends by itself."""
        timer = threading.Timer(self.grace, os._exit, (code,))
        timer.daemon = True
        timer.start()

    def _handle(self, number: int, frame: Any) -> None:
        if os.getpid() != self._process:  # a process of a loader, which is a copy of this one
            if number == signal.SIGTERM:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return  # the others are for the whole group, and this process ends with the loader
        if number == signal.SIGHUP:
            self._leave_terminals()
        if not self.waits:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            self.received = number
            raise Terminated(number)
        if number == signal.SIGINT and self.received == number:
            os.write(2, b"plcli: stopped at once; the last checkpoint is complete.\n")
            os._exit(130)  # even from inside a library; files are complete at any moment
        self.received = number

    def _leave_terminals(self) -> None:
        """Write to the null device in place of a terminal that has gone, which is an error."""
        null = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            os.dup2(null, number)
        os.close(null)

    def _watch(self) -> None:
        """Start the thread that ends a process that hangs, once a command."""
        if self._pipe is not None or threading.current_thread() is not threading.main_thread():
            return
        self._over = threading.Event()
        read, write = os.pipe()
        os.set_blocking(write, False)
        self._pipe = read, write
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        arguments = (read, self._over, os.getpid())
        threading.Thread(target=self._end_if_hanging, args=arguments, daemon=True).start()

    def _end_if_hanging(self, read: int, over: threading.Event, process: int) -> None:
        """Wait for a signal, and then for the end of the command, but no longer than the grace."""
        number = 0
        while number not in NUMBERS:
            got = os.read(read, 1)
            if not got:
                break
            number = got[0]
        # who asks for a checkpoint or presses Ctrl-C can wait, or send another signal
        patient = number not in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM))
        ended = bool(got) and over.wait(None if patient else self.grace)
        while got and not ended and self.saving:
            ended = over.wait(1)
        if got and not ended and os.getpid() == process:
            name = signal.Signals(number).name
            said = f"plcli: stopped by {name}, {self.grace:g} s after it, as the command hangs. "
            hint = "A fit resumes from its last checkpoint: run the same command again.\n"
            with contextlib.suppress(OSError):
                os.write(2, (said + hint).encode())
            os._exit(130 if number == signal.SIGINT else 143)
        os.close(read)


signals = Signals()  # one per process, like the handlers
