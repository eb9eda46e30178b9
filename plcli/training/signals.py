"""Handles SIGTERM, Ctrl-C and SIGUSR1: if training can save first, they only set a flag."""

import os
import signal
from typing import Any

from plcli.errors import Terminated

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Signals:
    """The signal handler of the process.

    Attributes:
        received: the signal that training has yet to handle; None if there is none.
        waits: whether training checks `received`; otherwise a signal ends the command at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.waits = False

    def take(self) -> None:
        """Install the handlers, and discard an earlier signal."""
        self.received = None
        for number in NUMBERS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if not self.waits:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise Terminated(number)
        if number == signal.SIGINT and self.received == number:
            os.write(2, b"plcli: stopped at once; the last checkpoint is complete.\n")
            os._exit(130)  # even from inside a library; files are complete at any moment
        self.received = number


signals = Signals()  # one per process, like the handlers
