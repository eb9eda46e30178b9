"""Modules that end, hang or fill the memory in a step."""

import sys
import time
from typing import Any

import torch
from lightning.pytorch import Callback

from plcli.tasks.linear_regression import SimpleLinearModel


class Exits(SimpleLinearModel):
    """Ends the process as if all were well."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """End in the second epoch."""
        if self.current_epoch == 1:
            sys.exit(0)
        return super().training_step(batch, batch_idx)


class FillsMemory(SimpleLinearModel):
    """Asks for more memory than there is."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Allocate a petabyte."""
        torch.empty(10**15)
        return super().training_step(batch, batch_idx)


class Hangs(SimpleLinearModel):
    """Never ends its second epoch."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Sleep."""
        if self.current_epoch == 1:
            print("<hangs>", flush=True)
            time.sleep(100)
        return super().training_step(batch, batch_idx)


class Swallows(SimpleLinearModel):
    """Swallows whatever is raised while it predicts, as some libraries do."""

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Predict slowly."""
        try:
            print("<predicts>", flush=True)
            time.sleep(0.5)
        except BaseException:
            print("<swallowed>", flush=True)
        return super().predict_step(batch, batch_idx)


class Taught(SimpleLinearModel):
    """Has an argument that must be given, and is also one of plcli's own tasks."""

    def __init__(self, teacher: str, input_dim: int | None = None) -> None:
        super().__init__(input_dim=input_dim)
        self.teacher = teacher

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        """Predict, and print the argument."""
        print(f"<taught by {self.teacher}>", flush=True)
        return super().predict_step(batch, batch_idx)


class WithoutLoss(SimpleLinearModel):
    """Validates with a loss that is no number."""

    value = float("nan")
    monitored: str | None = None

    @property
    def monitor(self) -> Any:
        """The loss, or a metric."""
        return None if self.monitored is None else (self.monitored, "max")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the loss alone."""
        self.log("val_loss", torch.tensor(self.value), batch_size=1)
        if self.monitored is not None:
            self.log(self.monitored, torch.tensor(0.5), batch_size=1)

    def on_validation_epoch_end(self) -> None:
        """Log no metrics."""


class InfiniteLoss(WithoutLoss):
    """Validates with a loss that is infinite."""

    value = float("inf")


class LossBesideAMetric(WithoutLoss):
    """Validates with a metric that is a number and a loss that is none."""

    monitored = "val_score"


class MetricWithoutANumber(WithoutLoss):
    """Validates with a loss and a metric that is never a number."""

    value = 1.0
    monitored = "val_score"

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log both."""
        self.log("val_loss", torch.tensor(1.0), batch_size=1)
        self.log("val_score", torch.tensor(float("nan")), batch_size=1)


class Renames(Callback):
    """Renames the run folder after the first epoch."""

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Rename it."""
        import os

        if trainer.current_epoch == 0:
            os.rename(trainer.default_root_dir, f"{trainer.default_root_dir}-renamed")
