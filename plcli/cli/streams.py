"""The standard streams of a command: those that its caller has closed, and who reads from them."""

import os
import sys

NAMES = ("stdin", "stdout", "stderr")
_closed: set[str] = set()


def open_closed() -> None:
    """Open the standard streams that are closed on the null device.

    Otherwise the next file that is opened would take their number, and get what is printed.
    """
    _closed.clear()
    for number, name in enumerate(NAMES):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            _closed.add(name)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  # it stays
            setattr(sys, name, stream)


def is_closed(name: str) -> bool:
    """Whether a stream, such as stdout, was closed when the command started."""
    return name in _closed
