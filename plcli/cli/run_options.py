"""The command lines of `plcli compare` and `plcli runs`: words and options."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from plcli.cli.arguments import COMMANDS
from plcli.errors import UsageError, did_you_mean


@dataclass
class RunOptions:
    """A parsed command line.

    Attributes:
        words: the words that are no options.
        options: the options by name, without dashes; "" for those without a value.
    """

    words: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)


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
    parsed, remaining = RunOptions(), list(reversed(words))
    while remaining:
        word = remaining.pop()
        if not word.startswith("-"):
            parsed.words.append(word)
            continue
        name, equals, value = word.partition("=")
        key = name.removeprefix("--")
        if key not in options and key not in flags:
            known = [f"--{each}" for each in (*options, *flags)]
            raise UsageError(
                f"unknown option {name}.{did_you_mean(name, known)} `plcli {command} --help` "
                "lists the options."
            )
        if key in flags:
            if equals:
                raise UsageError(f"--{key} takes no value; got '{value}'.")
        elif not equals:
            if not remaining:
                raise UsageError(f"--{key} needs a value.")
            value = remaining.pop()
        parsed.options[key] = value
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
