"""SIGTERM, Ctrl-C and SIGUSR1: where training can save first, only a flag is set."""

import os
import signal
from typing import Any

from plcli.errors import Terminated

NUMBERS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class Signals:
    """Takes signals.

    Attributes:
        received: the signal that training has still to answer; None without one.
        waits: whether somebody looks at `received`; else a signal ends the command at once.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.waits = False

    def take(self) -> None:
        """Become the process's handler; a signal that came before is answered."""
        self.received = None
        for number in NUMBERS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: Any) -> None:
        if not self.waits:
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise Terminated(number)
        if number == signal.SIGINT and self.received == number:
            os.write(2, b"plcli: stopped at once; the last checkpoint stands.\n")
            os._exit(130)  # even from inside a library; files are whole at any moment
        self.received = number


signals = Signals()  # of the process, as handlers are
