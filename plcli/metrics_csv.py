"""metrics.csv: one line a logging step, and kept when a run goes on."""

import csv
import os
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCsv(Logger):
    """Writes metrics.csv in the run folder.

    Lightning's CSVLogger deletes the file of an earlier run in the same folder, so that a resumed
    run would lose its start.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "metrics.csv"
        self.lines: list[dict[str, Any]] = []
        self._names: list[str] = []
        self._written = 0

    @property
    def name(self) -> str | None:
        """None: the run folder has the name."""
        return None

    @property
    def version(self) -> None:
        """None: the run folder has the number."""
        return None

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: config.yaml holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Keep a line; what comes for the same step joins it."""
        step = step or 0
        if not self.lines or int(self.lines[-1]["step"]) != step:
            self.lines.append({"step": step})
        line = self.lines[-1]
        line |= {name: float(value) for name, value in metrics.items()}

    def resume(self, step: int) -> None:
        """Take over the lines of the run that goes on, before the step it goes on from."""
        if not self.path.exists():
            return
        with open(self.path, encoding="utf-8", newline="") as file:
            for line in csv.DictReader(file):
                if int(line["step"]) < step:
                    self.lines.append({name: value for name, value in line.items() if value != ""})

    @rank_zero_only
    def save(self) -> None:
        """Write the lines but the last, which may still grow."""
        self._write(self.lines[:-1])

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write all lines."""
        self._write(self.lines)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """Append new lines; where one brings a new name, write the file anew, beside its place."""
        names = list(
            dict.fromkeys(
                [*self._names, *(name for line in lines[self._written :] for name in line)]
            )
        )
        if names != self._names:
            self._names = names
            temporary = self.path.with_name(".metrics.csv.tmp")
            with open(temporary, "w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(lines)
            os.replace(temporary, self.path)
        elif lines[self._written :]:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, names).writerows(lines[self._written :])
        self._written = len(lines)
