"""User errors: each ends the command with one message and an exit code.

PlcliError
├── UsageError        2  the command line or a config
├── DataError         3  the data
├── ModelError        4  a checkpoint, an artefact or a model
└── MachineError      5  the environment: disk, device, permission, hub, port

An exception in the user's own code is shown with its traceback and has the exit code 1
(plcli.cli.user_errors). Any other exception is a bug in plcli: its traceback is shown and the exit
code is 70.
"""

import difflib
from collections.abc import Iterable, Sequence

DETAIL = "\n  "  # begins a detail line; other line ends come from a file, and are escaped
LONGEST_NAME = 80  # characters of a name from a file that a message shows


class PlcliError(Exception):
    """A user error; its message says what is wrong, where, what was got and what to do."""

    exit_code = 70

    def __str__(self) -> str:
        """Return the message with control characters escaped, as they may come from a file."""
        return DETAIL.join(printable(line) for line in super().__str__().split(DETAIL))


class Terminated(BaseException):
    """Raised for a signal that ends the command; not an error.

    Args:
        number: the number of the signal.
        said: a message about what was saved; empty if nothing was.
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
    """The environment does not allow it: disk, device, permission, hub, port."""

    exit_code = 5


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" with the closest option, or an empty string."""
    options = list(options)
    lowered = {option.lower(): option for option in options}
    cutoff = 0.6 if len(name) > 3 else 0.5  # with two letters swapped, half of a short name matches
    near = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=cutoff)
    return f" Did you mean '{_shortened(lowered[near[0]])}'?" if near else ""


def suggest(name: str, options: Iterable[str], *, owner: str) -> str:
    """Return the closest option as a question, or the list of options if none is close.

    The list reads " TableData takes features, target, ...".
    """
    options = list(options)
    if not options:
        return " There are none here; remove it."
    return did_you_mean(name, options) or f" {owner} {listed(options, most=24)}."


def listed(names: Iterable[str], *, most: int = 12) -> str:
    """Join at most `most` names with commas for a message."""
    names = list(names)
    more = f", ... ({len(names) - most} more)" if len(names) > most else ""
    return ", ".join(map(_shortened, names[:most])) + more


def shown(value: object) -> str:
    """Return a value as a config has it: null for None, true for True."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def below(lines: Sequence[str]) -> str:
    """Return the detail lines of a message: the first three, and the number of the rest."""
    more = [f"... ({len(lines) - 3} more)"] if len(lines) > 3 else []
    return "".join(f"{DETAIL}{printable(line)}" for line in [*lines[:3], *more])


def printable(text: str) -> str:
    """Escape characters that are not printable, such as those that control a terminal."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _shortened(name: str) -> str:
    shown = printable(name)
    return shown if len(shown) <= LONGEST_NAME else f"{shown[:LONGEST_NAME]}..."
