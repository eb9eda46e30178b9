"""best.ckpt and last.ckpt: which epoch is the best, and when the state of training is saved."""

import logging
import math
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.callbacks import Checkpoint

from plcli.config.contracts import module_contract
from plcli.errors import Terminated, UsageError, did_you_mean, listed
from plcli.runs import results
from plcli.training import loops
from plcli.training.signals import signals
from plcli.training.state import LoopState, RankState, RunRecord

logger = logging.getLogger(__name__)


class Wish(NamedTuple):
    """What a process wants at the end of a batch.

    Attributes:
        save: whether a checkpoint is due.
        signal: the number of a signal that ends the fit; 0 without one.
    """

    save: bool
    signal: int


class Checkpoints(Checkpoint):
    """Keeps the whole training state of the best epoch and of the last moment that was saved.

    last.ckpt is written at every epoch's end, after a signal, and now and then between; the one
    before it stays as previous.ckpt until the run is finished.

    Args:
        monitor: the validation metric that chooses the best epoch; by default the one that the
            model names.
        mode: whether the smallest or the largest is best; goes with monitor.
        every_minutes: between two saves inside an epoch; 0 saves at the epochs' ends only.
        every_n_steps: saves after so many optimizer steps as well.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        every_minutes: float = 15.0,
        every_n_steps: int | None = None,
    ) -> None:
        if (monitor is None) != (mode is None):
            raise UsageError(
                "checkpoint: monitor and mode (min or max) go together; give both or neither."
            )
        if every_minutes < 0:
            raise UsageError(f"checkpoint.every_minutes: got {every_minutes}, expected 0 or more.")
        if every_n_steps is not None and every_n_steps < 1:
            raise UsageError(f"checkpoint.every_n_steps: got {every_n_steps}, expected 1 or more.")
        self.monitor, self.mode = monitor, mode
        self.every_minutes, self.every_n_steps = every_minutes, every_n_steps
        self.record: RunRecord | None = None
        self.facts: dict[str, Any] = {}
        self.chosen = monitor is not None
        self.best_value: float | None = None
        self.best_epoch = -1
        self.best_results: dict[str, Any] = {}
        self.resumed: LoopState | None = None
        self._metrics_before_validation: dict[str, Any] | None = None
        self._saving: dict[str, Any] | None = None
        self._last_save = time.monotonic()
        self._common_batches = 0.0

    def keep(self, record: RunRecord) -> None:
        """Keep checkpoints from now on.

        Args:
            record: where, and what they say of the data.
        """
        self.record = record

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self.record is not None

    @property
    def folder(self) -> Path | None:
        """The folder of the checkpoints; None where nothing is kept."""
        return None if self.record is None else self.record.folder

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take the model's own choice where the config makes none."""
        if self.monitor is None:
            self.monitor, self.mode = module_contract(pl_module).monitor or ("val_loss", "min")

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
        if self.best_value is not None and self.folder and not (self.folder / "best.ckpt").exists():
            logger.warning("best.ckpt is gone: the best epoch is chosen among those that follow")
            self.best_value, self.best_epoch, self.best_results = None, -1, {}

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the facts of the data, and what Lightning leaves out."""
        fingerprints = self.record.fingerprints if self.record else {}
        checkpoint["plcli"] = {"facts": self.facts, "data": fingerprints}
        if self._saving is not None:
            checkpoint["plcli"] |= self._saving
            checkpoint["epoch"] = max(0, trainer.fit_loop.epoch_progress.current.ready - 1)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Take up what Lightning leaves out."""
        self.resumed = LoopState.of(checkpoint.get("plcli", {}).get("loop"))

    # the best epoch

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Note what a signal within the validation needs."""
        if self._fitting(trainer):
            self._metrics_before_validation = loops.metrics_of(pl_module)
            self._common_batches = _least(trainer, sum(trainer.num_val_batches))

    def on_validation_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Leave the validation after a signal."""
        if not self._fitting(trainer) or self._common_batches < 1:
            return
        self._common_batches -= 1  # some ranks may have a batch more; those do not ask the others
        if _agreed(trainer).signal:
            raise loops.LeaveValidation

    def _fitting(self, trainer: Any) -> bool:
        return trainer.state.fn == "fit" and not trainer.sanity_checking and self.folder is not None

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Save best.ckpt if the monitored metric is better than ever."""
        if trainer.state.fn != "fit" or self.folder is None:
            return
        value = self._value(trainer, pl_module)  # a wrong name ends the check before training
        if trainer.sanity_checking:
            return
        # a metric of one rank's own rows differs, and ranks that disagree would wait for ever
        value = trainer.strategy.broadcast(value)
        if value is None or not self._better(value):
            return
        self.best_value, self.best_epoch = value, trainer.current_epoch
        self.best_results = results.results(pl_module, trainer.callback_metrics, "val")
        trainer.save_checkpoint(self.folder / "best.ckpt")

    def _value(self, trainer: Any, pl_module: Any) -> float | None:
        metrics = trainer.callback_metrics
        if self.monitor in metrics:
            return float(metrics[self.monitor])
        if not self.chosen and module_contract(pl_module).monitor is None:
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

    # the last moment: called by the loops of plcli.training.loops

    def batch_ends(self) -> None:
        """Forget the metrics before an earlier validation."""
        self._metrics_before_validation = None

    def batch_is_done(self, trainer: Any) -> None:
        """Save if it is time to, and end the fit after a signal."""
        if self.folder is None:
            return
        agreed = _agreed(trainer, save=self._due(trainer))
        if agreed.save or agreed.signal:
            self.save(trainer)
        if agreed.signal:
            raise self._end(agreed.signal, trainer)

    def times(self) -> str:
        """Return in words when last.ckpt is saved."""
        times = ["every epoch"]
        times += [f"every {self.every_minutes:g} minutes"] if self.every_minutes else []
        times += [f"every {self.every_n_steps} steps"] if self.every_n_steps else []
        return ", ".join(times)

    def _due(self, trainer: Any) -> bool:
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            return True
        minutes = (time.monotonic() - self._last_save) / 60
        return 0 < self.every_minutes <= minutes

    def epoch_is_done(self, trainer: Any) -> None:
        """Save, and end the fit after a signal."""
        if self.folder is None:
            return
        self.save(trainer)
        if number := _agreed(trainer).signal:
            raise self._end(number, trainer)

    def validation_was_left(self, trainer: Any) -> None:
        """Save the state before the validation, which a resumed run repeats, and end the fit."""
        number = _agreed(trainer).signal
        self.save(trainer, within_validation=True)
        raise self._end(number, trainer)

    def save(self, trainer: Any, *, within_validation: bool = False) -> None:
        """Write last.ckpt; the one before it stays as previous.ckpt."""
        assert self.record is not None
        loop = trainer.fit_loop
        metrics = self._metrics_before_validation if within_validation else None
        own: RankState = {
            "metrics": loops.metrics_of(trainer.lightning_module) if metrics is None else metrics,
            "sums": loop.epoch_loop.sums() if loop.within_an_epoch else {},
        }
        self._saving = {
            "loop": loop.state(
                within_validation=within_validation, ranks=_of_all_ranks(trainer, own)
            ).plain(),
            "metrics_csv": csv.durable() if (csv := self.record.metrics_csv) else None,
        }
        try:
            trainer.save_checkpoint(self.record.folder / "last.ckpt")
        finally:
            self._saving = None
        self._last_save = time.monotonic()

    def _end(self, number: int, trainer: Any) -> Terminated:
        return Terminated(
            number,
            f"Saved after step {trainer.global_step}; the same command, with --run "
            f"{trainer.default_root_dir}, goes on.",
        )

    @property
    def best_path(self) -> Path | None:
        """best.ckpt; last.ckpt where nothing was monitored; None where nothing was saved."""
        if self.folder is None:
            return None
        return next(
            (path for name in ("best", "last") if (path := self.folder / f"{name}.ckpt").is_file()),
            None,
        )


def _agreed(trainer: Any, *, save: bool = False) -> Wish:
    """Return what any of the ranks wants; each asks at the same batches, so that none waits.

    Args:
        trainer: the trainer.
        save: whether a checkpoint is due on this rank.
    """
    wish = Wish(save, signals.received or 0)
    if trainer.world_size == 1:
        return wish
    wishes = torch.tensor(wish, dtype=torch.int64, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(wishes, op=torch.distributed.ReduceOp.MAX)
    save_any, number = wishes.tolist()
    return Wish(bool(save_any), number)


def _least(trainer: Any, number: float) -> float:
    """Return the least of the ranks' numbers; none where one of them is not known."""
    if trainer.world_size > 1:
        numbers = torch.tensor(float(number), device=trainer.strategy.root_device)
        torch.distributed.all_reduce(numbers, op=torch.distributed.ReduceOp.MIN)
        number = float(numbers)
        return number if math.isfinite(number) else 0.0
    return number


def _of_all_ranks(trainer: Any, own: Any) -> list[Any]:
    if trainer.world_size == 1:
        return [own]
    gathered: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(gathered, own)
    return gathered
