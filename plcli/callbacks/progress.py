"""Reports progress: one line per epoch, and lines in between without a progress bar."""

import logging
import math
import time
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import RichProgressBar

from plcli.config.contracts import data_contract
from plcli.models import optimization
from plcli.training import loops
from plcli.training.signals import signals

logger = logging.getLogger(__name__)

SECONDS = 10.0  # between two lines within an epoch
DRAWING_SECONDS = 0.25


class LiveBar(RichProgressBar):
    """A progress bar on standard error, updated a few times per second; epochs count from 1.

    Lightning's own bar is redrawn, and reads the loss from the device, at every batch.
    """

    def __init__(self) -> None:
        super().__init__(console_kwargs={"stderr": True})
        self._last_drawn = -math.inf

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the progress and the loss, if an update is due."""
        if self._due() or trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def refresh(self, hard: bool = False) -> None:
        """Draw the bar, if an update is due."""
        if hard or self._due():
            self._last_drawn = time.monotonic()
            super().refresh(hard)

    def _due(self) -> bool:
        return time.monotonic() - self._last_drawn >= DRAWING_SECONDS

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch + 1}{_total(self.trainer)}"


def _log_limit(trainer: Any, stage: str, batches: Any) -> None:
    """Log that only a part of the rows is used, if it is."""
    limit = getattr(trainer, f"limit_{stage}_batches")
    if isinstance(limit, int) or (isinstance(limit, float) and limit < 1):
        number = sum(batches) if isinstance(batches, list) else batches
        logger.warning(
            "warning: only a part of the rows is used, %s batches (limit_%s_batches: %s)",
            number,
            stage,
            limit,
        )


def _total(trainer: Any) -> str:
    return "" if trainer.max_epochs in (None, -1) else f" of {trainer.max_epochs}"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


class ProgressLines(Callback):
    """Logs the start of training, the epochs and, without a progress bar, the steps."""

    def __init__(self) -> None:
        self._last = self._epoch_start = 0.0
        self._validated: set[str] = set()  # the names that the last validation has logged
        self._is_new = False  # whether that was in this epoch

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Log the number of truncated or empty rows, if any."""
        if trainer.state.fn == "validate":
            _log_limit(trainer, "val", trainer.num_val_batches)
            self._describe(trainer, "validation", always=False)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Record which metrics are new in this epoch."""
        self._validated = set(loops.validation_metrics(trainer))
        self._is_new = not trainer.sanity_checking

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Log the number of truncated or empty rows, if any."""
        _log_limit(trainer, "test", trainer.num_test_batches)
        self._describe(trainer, "test", always=False)

    def on_validation_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """End if a signal was received; within a fit, the checkpoints do so."""
        signals.check()

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """End if a signal was received."""
        signals.check()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Log the number of truncated or empty rows, if any."""
        _log_limit(trainer, "predict", trainer.num_predict_batches)
        self._describe(trainer, "predict", always=False)

    def _describe(self, trainer: Any, split: str, *, always: bool = True) -> None:
        data = data_contract(trainer.datamodule, trainer.lightning_module)
        if data.offers("describe") and data.has(split):
            said = data.describe(split)
            if always or " cut to " in said or " empty text" in said:
                logger.info("%s", said)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Log the data, the number of trained parameters and the optimizer's settings."""
        for split in ("train", "validation"):
            self._describe(trainer, split)
        if trainer.is_global_zero and not trainer.global_step:
            for line in data_contract(trainer.datamodule).leaks():
                logger.warning("warning: %s", line)
        trained = sum(
            parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad
        )
        steps = trainer.estimated_stepping_batches
        logger.info(
            "training %s parameters on %s (%s), %s steps",
            f"{trained:,}",
            trainer.strategy.root_device.type,
            trainer.precision,
            "an unknown number of" if steps in (-1, math.inf) else steps,
        )
        for optimizer in trainer.optimizers:
            for line in optimization.describe_groups(optimizer):
                logger.info("%s", line)
        self._last = self._epoch_start = time.monotonic()  # for an epoch that is resumed

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the epoch's clock."""
        self._is_new = False
        self._last = self._epoch_start = time.monotonic()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the step and the loss every SECONDS seconds, without a progress bar."""
        now = time.monotonic()
        if trainer.progress_bar_callback is not None or now - self._last < SECONDS:
            return
        self._last = now
        loss = trainer.callback_metrics.get("train_loss")
        loss_part = "" if loss is None else f", train_loss {float(loss):.4f}"
        logger.info(
            "epoch %d, step %d of %s%s",
            trainer.current_epoch + 1,
            batch_idx + 1,
            trainer.num_training_batches,
            loss_part,
        )

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the epoch's metrics."""
        seconds = time.monotonic() - self._epoch_start
        numbers = ", ".join(
            f"{name} {float(value):.4g}"
            for name, value in sorted(trainer.callback_metrics.items())
            if name != "train_loss" and (self._is_new or name not in self._validated)
        )
        ahead = (trainer.max_epochs or 0) - trainer.current_epoch - 1
        left = f", about {_duration(seconds * ahead)} left" if ahead > 0 else ""
        epoch = f"{trainer.current_epoch + 1}{_total(trainer)}"
        parts = [f"epoch {epoch}, {_duration(seconds)}", numbers]
        logger.info("%s%s", ": ".join(filter(None, parts)), left)
