"""Writes metrics.csv: one line per logging step, continued when a run is resumed."""

import csv
import io
import itertools
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from plcli.errors import ModelError
from plcli.runs import atomic_files


class MetricsCsv(Logger):
    """Writes metrics.csv in the run folder.

    Lightning's CSVLogger deletes the file of an earlier run in the same folder, so a resumed run
    would lose its earlier lines.

    Epochs count from 1, as in the log, and each training step has its learning rate. A run of an
    earlier version, where they count from 0 and have none, is continued as it began.

    Args:
        folder: the run folder.
        is_alone: whether there is no other logger.

    Attributes:
        in_training: whether the lines are of an epoch, and not of the test after the last one.
        rate: the learning rate of the current training step; None outside of one.
    """

    def __init__(self, folder: Path, *, is_alone: bool = True) -> None:
        super().__init__()
        self.is_alone = is_alone
        self.path = folder / "metrics.csv"
        self.lines: list[dict[str, Any]] = []
        self.in_training = False
        self.rate: float | None = None
        self._first_epoch = 1
        self._names: list[str] = []
        self._first_names: list[str] = []
        self._written = 0

    @property
    def name(self) -> str | None:
        """None: the name is that of the run folder."""
        return None

    @property
    def version(self) -> None:
        """None: the version is part of the name of the run folder."""
        return None

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self.path.parent)

    @property
    def log_dir(self) -> str:
        """The run folder."""
        return self.save_dir

    @property
    def experiment(self) -> Any:
        """An object that accepts anything and does nothing, beside other loggers."""
        if self.is_alone:
            raise AttributeError(self._explained("experiment"))
        return _DummyExperiment()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(self._explained(name))

    def _explained(self, name: str) -> str:
        return (
            f"plcli's metrics.csv has no '{name}'. Add a logger to the config, such as `trainer: "
            "{logger: true}` for TensorBoard; the first one is `self.logger`."
        )

    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Do nothing: config.yaml contains them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the line of a step."""
        step = step or 0
        if not self.lines or int(self.lines[-1]["step"]) != step:
            self.lines.append({"step": step})
        line = self.lines[-1]
        epoch = metrics.get("epoch")  # Lightning's is an int; that of a user's `self.log` a float
        line |= {name: float(value) for name, value in metrics.items()}
        if type(epoch) is int and self.in_training:
            line["epoch"] = float(epoch + self._first_epoch)
        if self.rate is not None and self._first_epoch:
            line.setdefault("lr", self.rate)

    def durable(self) -> dict[str, Any]:
        """Flush all lines but the last to disk, and return the state for resuming."""
        self.save()
        if self.path.exists():
            atomic_files.sync_file(self.path)
        return {
            "lines": max(0, len(self.lines) - 1),
            "open": self.lines[-1] if self.lines else None,
            "names": self._names,
            "first_epoch": self._first_epoch,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Restore the lines of a resumed run, as they were when its state was saved.

        Raises:
            ModelError: if the file does not contain them any more.
        """
        lines: list[dict[str, Any]] = []
        if state["lines"] and self.path.exists():
            with open(self.path, encoding="utf-8", newline="") as file:
                for line in itertools.islice(csv.DictReader(file), state["lines"]):
                    lines.append(
                        {name: value for name, value in line.items() if value not in ("", None)}
                    )
        if len(lines) < state["lines"]:
            raise ModelError(
                f"{self.path}: contains {len(lines)} lines, but {state['lines']} were written "
                "before the checkpoint. Put the file back, or train again with another --run."
            )
        if state["lines"] or state["open"]:
            self._first_epoch = state.get("first_epoch", 0)  # absent in earlier versions
        self.lines = lines + ([state["open"]] if state["open"] else [])
        self._names = []  # rewrites the file, without lines from after the checkpoint
        self._first_names = list(state["names"])

    @rank_zero_only
    def save(self) -> None:
        """Write all lines but the last, which may still change."""
        self._write(self.lines[:-1])

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write all lines."""
        self._write(self.lines)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        """Append new lines; if one contains a new name, rewrite the file atomically."""
        new = (name for line in lines[self._written :] for name in line)
        names = list(dict.fromkeys([*(self._names or self._first_names), *new]))
        if names != self._names or lines[self._written :]:
            atomic_files.check_there(self.path.parent)
        if names != self._names:
            self._names = names
            text = io.StringIO(newline="")
            writer = csv.DictWriter(text, names)
            writer.writeheader()
            writer.writerows(lines)
            atomic_files.write_text(self.path, text.getvalue())
        elif lines[self._written :]:
            with open(self.path, "a", encoding="utf-8", newline="") as file:
                csv.DictWriter(file, names).writerows(lines[self._written :])
        self._written = len(lines)
