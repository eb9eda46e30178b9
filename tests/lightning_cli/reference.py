"""Runs a project with LightningCLI itself, in a fork, and returns the numbers that it logs."""

import json
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.loggers import Logger

Numbers = dict[int, dict[str, float]]  # step -> name -> value


class Notes(Logger):
    """Notes the numbers that a trainer logs."""

    name = version = None

    def __init__(self) -> None:
        super().__init__()
        self.numbers: Numbers = {}

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Note nothing."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Note the numbers of a step."""
        self.numbers.setdefault(step or 0, {}).update(
            {name: float(value) for name, value in metrics.items()}
        )


class NotedCLI(LightningCLI):
    """LightningCLI with a logger beside those of the config."""

    def before_fit(self) -> None:
        """Add the logger."""
        self.notes = Notes()
        self.trainer.loggers = [*self.trainer.loggers, self.notes]


class LinkedCLI(NotedCLI):
    """A user's subclass with a linked argument."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        """Link the number of classes."""
        parser.link_arguments(
            "data.init_args.num_classes", "model.init_args.num_classes", apply_on="parse"
        )


def run(
    folder: Path, words: list[str], cli: type[NotedCLI] = NotedCLI, **arguments: Any
) -> Numbers:
    """Run `main.py WORDS...` of a project that is in a folder.

    Args:
        folder: the project.
        words: the command line, such as fit -c plain.yaml.
        cli: the class that its main.py uses.
        arguments: its arguments.
    """

    def main() -> str:
        sys.path.insert(0, str(folder))
        chosen = {name: make() for name, make in arguments.items()}
        made = cli(args=words, save_config_callback=None, **chosen)
        return json.dumps(made.notes.numbers)

    found = json.loads(forked(folder, main))
    return {int(step): numbers for step, numbers in found.items()}


def forked(folder: Path, main: Callable[[], str]) -> str:
    """Return what a function returns in a fork of this process that works in a folder."""
    output, log = folder / "reference.json", folder / "reference.txt"
    process = os.fork()
    if process == 0:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        code = 1
        try:
            sys.stdout, sys.stderr = (os.fdopen(n, "w", 1, closefd=False) for n in (1, 2))
            os.chdir(folder)
            warnings.simplefilter("ignore")
            output.write_text(main())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert os.waitstatus_to_exitcode(status) == 0, log.read_text()
    return output.read_text()
