"""What a run says while it runs: a line an epoch, and lines between where no bar can be drawn."""

import logging
import time
from typing import Any

from lightning.pytorch import Callback

logger = logging.getLogger(__name__)

SECONDS = 10.0  # between two lines inside an epoch


class ProgressLines(Callback):
    """Logs the start, the epochs and, without a progress bar, the steps."""

    def __init__(self) -> None:
        self._last = self._epoch_start = 0.0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Say what is trained on what."""
        data = trainer.datamodule
        if hasattr(data, "describe"):
            for split in ("train", "validation"):
                if data.has(split):
                    logger.info("%s", data.describe(split))
        trained = sum(
            parameter.numel() for parameter in pl_module.parameters() if parameter.requires_grad
        )
        logger.info(
            "training %s parameters on %s (%s), %d steps",
            f"{trained:,}",
            trainer.strategy.root_device.type,
            trainer.precision,
            trainer.estimated_stepping_batches,
        )

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the epoch's clock."""
        self._last = self._epoch_start = time.monotonic()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log a line now and then."""
        now = time.monotonic()
        if trainer.progress_bar_callback is not None or now - self._last < SECONDS:
            return
        self._last = now
        loss = trainer.callback_metrics.get("train_loss")
        said = "" if loss is None else f", train_loss {float(loss):.4f}"
        logger.info(
            "epoch %d, step %d of %s%s",
            trainer.current_epoch + 1,
            batch_idx + 1,
            trainer.num_training_batches,
            said,
        )

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Log the epoch's metrics."""
        seconds = time.monotonic() - self._epoch_start
        numbers = ", ".join(
            f"{name} {float(value):.4g}" for name, value in sorted(trainer.callback_metrics.items())
        )
        total = "" if trainer.max_epochs in (None, -1) else f" of {trainer.max_epochs}"
        logger.info("epoch %d%s, %.0f s: %s", trainer.current_epoch + 1, total, seconds, numbers)
