"""Gives the lines of metrics.csv the learning rate of their step."""

from typing import Any

from lightning.pytorch import Callback

from plcli.training.csv_logger import MetricsCsv


class StepColumns(Callback):
    """Tells metrics.csv the learning rate of each training step, before a schedule changes it.

    It is that of the first optimizer; if its parameter groups differ, the largest.

    Args:
        metrics_csv: the logger of the run's metrics.csv.
    """

    def __init__(self, metrics_csv: MetricsCsv) -> None:
        self.metrics_csv = metrics_csv

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin the lines of epochs."""
        self.metrics_csv.in_training = True

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the learning rate of this step."""
        groups = trainer.optimizers[0].param_groups if trainer.optimizers else []
        self.metrics_csv.rate = max((float(group["lr"]) for group in groups), default=None)

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """End the lines of training steps."""
        self.metrics_csv.rate = None

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """End the lines of epochs."""
        self.metrics_csv.in_training, self.metrics_csv.rate = False, None
