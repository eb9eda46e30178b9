"""Errors that are the user's to mend; each ends the command with one message and its exit code.

PlcliError
├── UsageError        2  the command line or a config
├── DataError         3  the data
├── ModelError        4  a checkpoint, an artefact or a model
└── MachineError      5  the environment: disk, device, permission, hub, port

Any other exception is a bug of plcli: it keeps its traceback and the exit code is 70.
"""

import difflib
from collections.abc import Iterable, Sequence

LONGEST_NAME = 80  # letters of a name that comes from a file, in a message


class PlcliError(Exception):
    """A user's mistake: what is wrong, where, what was got, what to do."""

    exit_code = 70

    def __str__(self) -> str:
        """Return the message; what a file holds of control characters is spelt, not obeyed."""
        return "\n".join(printable(line) for line in super().__str__().split("\n"))


class Terminated(BaseException):
    """A signal: no error, but the end of the command.

    Args:
        number: the signal's.
        said: what was saved; empty where nothing was.
    """

    def __init__(self, number: int, said: str = "") -> None:
        super().__init__(number)
        self.number, self.said = number, said


class UsageError(PlcliError):
    """The command line or a config is wrong."""

    exit_code = 2


class DataError(PlcliError):
    """The data is wrong."""

    exit_code = 3


class ModelError(PlcliError):
    """A checkpoint, an artefact or a model is wrong."""

    exit_code = 4


class MachineError(PlcliError):
    """The environment lacks something: disk, device, permission, hub, port."""

    exit_code = 5


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest of the options, or an empty string."""
    options = list(options)
    lowered = {option.lower(): option for option in options}
    cutoff = 0.6 if len(name) > 3 else 0.5  # of two letters swapped, half are in their place
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=cutoff)
    return f" Did you mean '{_shortened(lowered[near[0]])}'?" if near else ""


def suggest(name: str, options: Iterable[str], *, owner: str) -> str:
    """Return the nearest option as a question, or else what there is.

    The latter reads " TableData takes features, target, ...".
    """
    options = list(options)
    return did_you_mean(name, options) or f" {owner} {listed(options, most=24)}."


def listed(names: Iterable[str], *, most: int = 12) -> str:
    """Join names with commas for a message, at most so many of them."""
    names = list(names)
    more = f", ... ({len(names) - most} more)" if len(names) > most else ""
    return ", ".join(map(_shortened, names[:most])) + more


def below(lines: Sequence[str]) -> str:
    """Return the lines of a message that stand below its first: three, and how many more."""
    more = [f"... ({len(lines) - 3} more)"] if len(lines) > 3 else []
    return "".join(f"\n  {line}" for line in [*lines[:3], *more])


def printable(text: str) -> str:
    """Spell the characters of a text that move the cursor, or colour or clear a terminal."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _shortened(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}..."
