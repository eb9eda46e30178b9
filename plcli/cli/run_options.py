"""The command lines of commands on runs, such as `plcli runs`: words and options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from plcli.cli.arguments import ALLOW_IMPORT, COMMANDS
from plcli.cli.own_options import split


@dataclass
class RunOptions:
    """A parsed command line.

    Attributes:
        words: the words that are no options.
        options: the options by name, without dashes; "" for those without a value.
        allowed: packages whose classes a config may name.
    """

    words: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)
    allowed: list[str] = field(default_factory=list)


def parse(
    command: str,
    words: Sequence[str],
    *,
    usage: Mapping[str, str],
    options: Mapping[str, str],
    flags: Mapping[str, str],
) -> RunOptions | None:
    """Parse a command line; with --help, print the help page and return None.

    Args:
        command: its name.
        words: the command line behind it.
        usage: the forms of the command, and what each does.
        options: the options with a value, and what each does.
        flags: those without a value.

    Raises:
        UsageError: for an unknown option, or one without its value.
    """
    if "-h" in words or "--help" in words:
        _help(Console(), command, usage=usage, options={**options, **flags})
        return None
    parsed = RunOptions()
    for key, value in split(command, words, options=options, flags=flags):
        if key == ALLOW_IMPORT:
            parsed.allowed.append(value)
        elif key:
            parsed.options[key] = value
        else:
            parsed.words.append(value)
    return parsed


def _help(
    console: Console, command: str, *, usage: Mapping[str, str], options: Mapping[str, str]
) -> None:
    console.print(f"plcli {command}: {COMMANDS[command]}.\n", markup=False)
    for heading, entries in (
        ("usage", {f"plcli {command} {form}": text for form, text in usage.items()}),
        ("options", {f"--{name}": text for name, text in options.items()}),
    ):
        console.print(f"{heading}:", markup=False)
        table = Table.grid(padding=(0, 2))
        for entry in entries.items():
            table.add_row(*(part.replace("[", r"\[") for part in entry))
        console.print(table)
        console.print()
