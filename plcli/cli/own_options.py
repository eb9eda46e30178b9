"""The command lines of commands that are no steps of the Trainer, such as `plcli serve`."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console

from plcli.cli import help_pages
from plcli.cli.arguments import ALLOW_IMPORT, COMMANDS, OPTIONS
from plcli.config.keys import SECTIONS
from plcli.errors import UsageError, did_you_mean


@dataclass
class OwnOptions:
    """A parsed command line.

    Attributes:
        model: the run or model, the only word that is no option.
        options: the command's own options, without dashes.
        keys: config keys and their values.
        allowed: packages whose classes a config may name.
    """

    model: str = ""
    options: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    allowed: list[str] = field(default_factory=list)

    def number(self, name: str, *, default: int, least: int = 1, most: int = 10**9) -> int:
        """Return an option that is a whole number.

        Raises:
            UsageError: if it is none, or out of range.
        """
        value = self.options.get(name)
        if value is None:
            return default
        if not value.isascii() or not value.isdigit() or not least <= int(value) <= most:
            upto = f" to {most}" if most < 10**9 else " or more"
            raise UsageError(f"--{name}: got {value}, expected {least}{upto}.")
        return int(value)

    def share(self, name: str, *, default: float) -> float:
        """Return an option between 0 and 1.

        Raises:
            UsageError: if it is none, or out of range.
        """
        value = self.options.get(name)
        try:
            number = default if value is None else float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number <= 1:
            raise UsageError(f"--{name}: got {value}, expected 0 to 1.")
        return number


def parse(command: str, words: Sequence[str]) -> OwnOptions | None:
    """Parse a command line; with --help, print the help page and return None.

    Raises:
        UsageError: for an unknown option, or if no run or model is named.
    """
    if "-h" in words or "--help" in words:
        help_pages.own_command(Console(), command)
        return None
    parsed, known = OwnOptions(), OPTIONS[command]
    for key, value in split(command, words, options=(*known, ALLOW_IMPORT), sections=SECTIONS):
        if not key and parsed.model:
            raise UsageError(
                f"unexpected argument '{value}'. `plcli {command}` takes one run or model."
            )
        if not key:
            parsed.model = value
        elif key == ALLOW_IMPORT:
            parsed.allowed.append(value)
        elif key in known:
            parsed.options[key] = value
        else:
            parsed.keys[key] = value
    if not parsed.model:
        raise UsageError(
            f"no model given. Name a run or a model: plcli {command} runs/NAME. It is to "
            f"{COMMANDS[command]}."
        )
    return parsed


def split(
    command: str,
    words: Sequence[str],
    *,
    options: Collection[str],
    flags: Collection[str] = (),
    sections: Collection[str] = (),
) -> Iterator[tuple[str, str]]:
    """Yield the options of a command line with their values, and other words with an empty name.

    Args:
        command: the name of the command.
        words: the command line behind it.
        options: the options with a value, without dashes.
        flags: those without a value.
        sections: sections of a config, whose keys are options as well.

    Raises:
        UsageError: for an unknown option, one without its value, or a flag with one.
    """
    names = (*options, *flags)
    remaining = list(reversed(words))
    while remaining:
        word = remaining.pop()
        if not word.startswith("-"):
            yield "", word
            continue
        name, equals, value = word.partition("=")
        key = name.removeprefix("--")
        key = key.replace("-", "_") if key.replace("-", "_") in names else key
        if key not in names and key.split(".")[0] not in sections:
            raise UsageError(
                f"unknown option {name}.{did_you_mean(name, [f'--{each}' for each in names])} "
                f"`plcli {command} --help` lists the options."
            )
        if key in flags and equals:
            raise UsageError(f"{name} takes no value; got '{value}'.")
        if key not in flags and not equals:
            if not remaining:
                raise UsageError(f"{name} needs a value.")
            value = remaining.pop()
        yield key, value
