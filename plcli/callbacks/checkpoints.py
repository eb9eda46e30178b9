"""best.ckpt and last.ckpt, and which epoch is the best."""

import logging
import math
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.callbacks import Checkpoint

from plcli import outcome
from plcli.errors import UsageError, did_you_mean, listed

logger = logging.getLogger(__name__)


class Checkpoints(Checkpoint):
    """Keeps the whole training state of the best and of the last epoch.

    Args:
        monitor: the validation metric that chooses the best epoch; by default the one that the
            model names.
        mode: whether the smallest or the largest is best; goes with monitor.
    """

    def __init__(
        self, monitor: str | None = None, mode: Literal["min", "max"] | None = None
    ) -> None:
        if (monitor is None) != (mode is None):
            raise UsageError(
                "checkpoint: monitor and mode (min or max) go together; give both or neither."
            )
        self.monitor, self.mode = monitor, mode
        self.folder: Path | None = None
        self.facts: dict[str, Any] = {}
        self.fingerprints: dict[str, str] = {}
        self.chosen = monitor is not None
        self.best_value: float | None = None
        self.best_epoch = -1
        self.best_results: dict[str, Any] = {}

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take the model's own choice where the config makes none."""
        if self.monitor is None:
            self.monitor, self.mode = getattr(pl_module, "monitor", ("val_loss", "min"))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run goes on from."""
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "best_results": self.best_results,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]
        self.best_results = state_dict["best_results"]

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the facts of the data, so that a checkpoint is never used with others."""
        checkpoint["plcli"] = {"facts": self.facts, "data": self.fingerprints}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Save best.ckpt if the monitored metric is better than ever."""
        if trainer.state.fn != "fit" or self.folder is None:
            return
        value = self._value(trainer, pl_module)  # a wrong name ends the check before training
        if trainer.sanity_checking:
            return
        if value is None or not self._better(value):
            return
        self.best_value, self.best_epoch = value, trainer.current_epoch
        self.best_results = outcome.results(pl_module, trainer.callback_metrics, "val")
        self._save(trainer, "best")

    def _value(self, trainer: Any, pl_module: Any) -> float | None:
        metrics = trainer.callback_metrics
        if self.monitor in metrics:
            return float(metrics[self.monitor])
        if not self.chosen and not hasattr(pl_module, "monitor"):
            return None
        names = [name for name in metrics if name.startswith("val")]
        raise UsageError(
            f"checkpoint.monitor: no metric '{self.monitor}' is logged."
            f"{did_you_mean(str(self.monitor), names)} "
            f"There are: {listed(names)}."
        )

    def _better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        return self.best_value is None or (
            value > self.best_value if self.mode == "max" else value < self.best_value
        )

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Save last.ckpt."""
        if self.folder is not None:
            self._save(trainer, "last")

    def _save(self, trainer: Any, name: str) -> None:
        assert self.folder is not None
        trainer.save_checkpoint(self.folder / f"{name}.ckpt")

    @property
    def best_path(self) -> Path | None:
        """best.ckpt; last.ckpt where nothing was monitored; None where nothing was saved."""
        if self.folder is None:
            return None
        return next(
            (path for name in ("best", "last") if (path := self.folder / f"{name}.ckpt").is_file()),
            None,
        )
