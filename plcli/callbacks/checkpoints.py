"""Saves best.ckpt and last.ckpt: decides which epoch is best, and when to save."""

import logging
import math
import shlex
import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint

from plcli.config.contracts import module_contract
from plcli.errors import DataError, Terminated, UsageError, did_you_mean, listed
from plcli.runs import metric_names, results
from plcli.training import loops
from plcli.training.object_state import Attributes, ObjectState
from plcli.training.signals import signals
from plcli.training.state import LoopState, RankState, RunRecord

logger = logging.getLogger(__name__)


class Request(NamedTuple):
    """What a process requests at the end of a batch.

    Attributes:
        save: whether a checkpoint is due.
        signal: the number of the signal that ends the fit; 0 if there is none.
    """

    save: bool
    signal: int


class Checkpoints(Checkpoint):
    """Saves the complete training state, of the best epoch and of the most recent state.

    last.ckpt is written at the end of every epoch, after a signal, and at intervals within an
    epoch. The one before it is kept as previous.ckpt until the run is finished.

    Args:
        monitor: the validation metric that determines the best epoch; by default the metric that
            the model names, that of a ModelCheckpoint, or the loss of the validation.
        mode: whether the smallest or the largest value is best; required with monitor.
        every_minutes: minutes between saves within an epoch; 0 only saves at the end of an epoch.
        every_n_steps: also save every n optimizer steps.
        keep: what stays in last.ckpt when the run is finished: its weights, or all of it, with the
            state of the optimizer.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        every_minutes: float = 15.0,
        every_n_steps: int | None = None,
        keep: Literal["weights", "all"] = "weights",
    ) -> None:
        if (monitor is None) != (mode is None):
            raise UsageError(
                "checkpoint: monitor requires mode (min or max), and mode requires monitor; "
                "give both or neither."
            )
        if every_minutes < 0:
            raise UsageError(f"checkpoint.every_minutes: got {every_minutes}, expected 0 or more.")
        if every_n_steps is not None and every_n_steps < 1:
            raise UsageError(f"checkpoint.every_n_steps: got {every_n_steps}, expected 1 or more.")
        self.monitor, self.mode = monitor, mode
        self.every_minutes, self.every_n_steps = every_minutes, every_n_steps
        self.keep_at_end = keep
        self.record: RunRecord | None = None
        self.facts: dict[str, Any] = {}
        self.configured = monitor is not None
        self.best_value: float | None = None
        self.best_epoch = -1
        self.best_loss: float | None = None
        self.best_results: dict[str, Any] = {}
        self.objects: ObjectState | None = None
        self.resumes = False
        self.resumed: LoopState | None = None
        self.resumed_modules: dict[str, Any] | None = None
        self._before_validation: tuple[dict[str, Any], Attributes] | None = None
        self._saving: dict[str, Any] | None = None
        self._attributes: Attributes | None = None  # of the checkpoint, on this rank
        self._before_epoch: tuple[dict[str, Any], Attributes] = {}, {}
        self.infinite_loss: str | None = None  # its name, if the last validation had one
        self._warned = False  # that nothing can be monitored
        self._last_save = time.monotonic()
        self._common_batches = 0.0
        self._seconds: float | None = 0.0  # of the fit before the last start; None if not known
        self._started: float | None = None

    def keep(self, record: RunRecord, objects: ObjectState, *, resumes: bool) -> None:
        """Save checkpoints from now on.

        Args:
            record: where they are saved, and the data fingerprints that they contain.
            objects: the state of the user's objects, which they contain, too.
            resumes: whether the run resumes from a checkpoint of its own.
        """
        self.record, self.objects, self.resumes = record, objects, resumes

    def is_in_use(self, trainer: Any) -> bool:
        """Whether this is the training itself; a search for a learning rate has no callbacks."""
        return self in trainer.callbacks

    def restore_modules(self) -> None:
        """Restore the state of the modules that Lightning does not save, once they are loaded."""
        if self.objects is not None and self.resumed_modules is not None:
            self.objects.set_modules(self.resumed_modules)

    def training_has_started(self) -> None:
        """Restore what `on_train_start` has changed in a resumed training."""
        self._restore()

    def before_epoch_start(self) -> None:
        """Note what the objects have, to know what `on_train_epoch_start` makes."""
        if self.objects is not None and self.keeps:
            self._before_epoch = self.objects.unsaved(), self.objects.attributes()

    def epoch_has_started(self, *, resumed: bool) -> None:
        """Note what the hooks of an epoch's start have made, or make it again in a resumed one."""
        if self.objects is None or not self.keeps:
            return
        if not resumed:
            self.objects.note_epoch_start(*self._before_epoch)
        elif self.objects.epoch_start["made"]:
            self.objects.repeat_epoch_start()
            self._restore()
        self._before_epoch = {}, {}

    def _restore(self) -> None:
        """Restore the state of the objects that Lightning does not save, in a resumed training."""
        if self.objects is None or not self.resumes or self.resumed is None:
            return
        if self._attributes is not None:
            self.objects.set_attributes(self._attributes)
        self.restore_modules()

    @property
    def keeps(self) -> bool:
        """Whether checkpoints are saved."""
        return self.record is not None

    @property
    def folder(self) -> Path | None:
        """The folder of the checkpoints; None if none are saved."""
        return None if self.record is None else self.record.folder

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Use the metric that the model names if the config names none."""
        if self.monitor is None and (named := module_contract(pl_module).monitor):
            self.monitor, self.mode = named

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Start the clock of the fit."""
        self._started = time.monotonic()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Stop the clock of the fit."""
        self._seconds, self._started = self.seconds, None

    @property
    def seconds(self) -> float | None:
        """Seconds of training so far, validations included and those before a stop too.

        None if a checkpoint of an earlier version, which does not have them, was resumed.
        """
        if self._seconds is None or self._started is None:
            return self._seconds
        return self._seconds + time.monotonic() - self._started

    # what a user's callbacks may read, with the names of Lightning's ModelCheckpoint

    @property
    def dirpath(self) -> str | None:
        """The folder of the checkpoints."""
        return None if self.folder is None else str(self.folder)

    @property
    def best_model_path(self) -> str:
        """The checkpoint with the best weights; empty if there is none."""
        return str(self.best_path or "")

    @property
    def last_model_path(self) -> str:
        """The last checkpoint; empty if there is none."""
        path = None if self.folder is None else self.folder / "last.ckpt"
        return str(path) if path is not None and path.is_file() else ""

    @property
    def best_model_score(self) -> torch.Tensor | None:
        """The best value of the monitored metric, a scalar."""
        return None if self.best_value is None else torch.tensor(self.best_value)

    def state_dict(self) -> dict[str, Any]:
        """Return the state for resuming."""
        return {
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "best_loss": self.best_loss,
            "best_results": self.best_results,
            "infinite_loss": self.infinite_loss,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        self.best_value, self.best_epoch = state_dict["best_value"], state_dict["best_epoch"]
        self.best_loss = state_dict.get("best_loss")  # absent in checkpoints of version 0.5
        self.best_results = state_dict["best_results"]
        self.infinite_loss = state_dict.get("infinite_loss")
        if self.best_value is not None and self.folder and not (self.folder / "best.ckpt").exists():
            logger.warning("best.ckpt is missing: the best epoch is chosen among the next ones")
            self.best_value, self.best_epoch, self.best_results = None, -1, {}
            self.best_loss = None

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the facts of the data, and the state that Lightning does not save."""
        fingerprints = self.record.fingerprints if self.record else {}
        checkpoint["plcli"] = {"facts": self.facts, "data": fingerprints}
        if self._saving is not None:
            checkpoint["plcli"] |= self._saving
            checkpoint["epoch"] = max(0, trainer.fit_loop.epoch_progress.current.ready - 1)

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Read the state that Lightning does not save."""
        saved = checkpoint.get("plcli", {})
        self.resumed = LoopState.of(saved.get("loop"))
        if self.objects is None or not self.resumes:
            return  # the state of another run is not that of this one's objects
        self.resumed_modules = saved.get("modules")
        self._seconds = saved.get("seconds")
        ranks = self.resumed.ranks if self.resumed else []
        if len(ranks) == trainer.world_size:
            self._attributes = ranks[trainer.global_rank].get("attributes", {})
            self.objects.set_attributes(self._attributes)
            self.objects.epoch_start = ranks[trainer.global_rank].get(
                "epoch_start", self.objects.epoch_start
            )

    # the best epoch

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Record the state to save if a signal arrives during the validation."""
        if self._fitting(trainer):
            self._before_validation = self._changing_state(pl_module)
            self._common_batches = _least(trainer, sum(trainer.num_val_batches))

    def on_validation_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        """Leave the validation if a signal was received."""
        if not self._fitting(trainer) or self._common_batches < 1:
            return
        self._common_batches -= 1  # a rank with one batch more must not wait for the others
        if _agreed(trainer).signal:
            raise loops.LeaveValidation

    def _changing_state(self, pl_module: Any) -> tuple[dict[str, Any], Attributes]:
        """Return the states of the metrics and the attributes that have changed."""
        attributes = {} if self.objects is None else self.objects.attributes()
        return loops.metrics_of(pl_module), attributes

    def _fitting(self, trainer: Any) -> bool:
        return trainer.state.fn == "fit" and not trainer.sanity_checking and self.folder is not None

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Save best.ckpt if the monitored metric has improved."""
        if trainer.state.fn != "fit" or self.folder is None:
            return
        metrics = loops.validation_metrics(trainer)
        self._choose_monitor(metrics, trainer.callbacks)
        value = self._value(trainer, pl_module)  # raises for a wrong name in the sanity check
        if trainer.sanity_checking:
            return
        # a metric may differ between ranks, and ranks that disagree would wait forever
        value, loss = trainer.strategy.broadcast((value, self._loss(metrics)))
        if not self._is_finite(value, loss, metrics, epoch=trainer.current_epoch):
            return
        if value is None and self.best_value is None:  # the last epoch is kept
            self.best_results = results.results(pl_module, metrics, "validation")
        if value is None or not self._better(value, loss):
            return
        self.best_value, self.best_loss, self.best_epoch = value, loss, trainer.current_epoch
        self.best_results = results.results(pl_module, metrics, "validation")
        trainer.save_checkpoint(self.folder / "best.ckpt")

    def _choose_monitor(self, metrics: dict[str, Any], callbacks: list[Any]) -> None:
        """Monitor a metric of the validation if neither the config nor the model names one.

        It is that of a ModelCheckpoint of the user, or else the loss.
        """
        if self.monitor is not None or self._warned:
            return
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.monitor in metrics:
                self.monitor = callback.monitor
                self.mode = "max" if callback.mode == "max" else "min"
                return
        loss = metric_names.loss_of(list(metrics), "validation")
        if loss is not None:
            self.monitor, self.mode = loss, "min"
            return
        self._warned = True
        names = listed(metrics) if metrics else "nothing"
        logger.warning(
            "warning: the last epoch is kept, as the validation logs no loss, or several (it logs "
            "%s); name a metric with checkpoint.monitor and checkpoint.mode",
            names,
        )

    def _loss(self, metrics: dict[str, Any]) -> float | None:
        """Return the loss of this validation, which decides between equal values."""
        name = metric_names.loss_of(list(metrics), "validation")
        return None if name in (None, self.monitor) else float(metrics[str(name)])

    def _value(self, trainer: Any, pl_module: Any) -> float | None:
        metrics = trainer.callback_metrics
        if self.monitor is None:
            return None
        if self.monitor in metrics:
            return float(metrics[self.monitor])
        if not self.configured and module_contract(pl_module).monitor is None:
            return None
        names = list(loops.validation_metrics(trainer))
        raise UsageError(
            f"checkpoint.monitor: no metric '{self.monitor}' is logged."
            f"{did_you_mean(str(self.monitor), names)} "
            f"There are: {listed(names)}."
        )

    def _is_finite(
        self, value: float | None, loss: float | None, metrics: dict[str, Any], *, epoch: int
    ) -> bool:
        """Whether an epoch can be the best; warn if its metric or its loss is not finite."""
        name = metric_names.loss_of(list(metrics), "validation")
        odd = {self.monitor: value, name: loss}
        if name is not None and name == self.monitor:
            odd[name] = value
        odd = {key: got for key, got in odd.items() if got is not None and not math.isfinite(got)}
        self.infinite_loss = name if name in odd else None
        for key, got in odd.items():
            logger.warning(
                "warning: epoch %d: %s is %s, so that this epoch cannot be the best; check the "
                "validation rows, and lower the learning rate if the loss has grown",
                epoch + 1,
                key,
                got,
            )
        return not odd

    def check_best(self) -> None:
        """Refuse to name a best epoch if there is none and the last loss is not finite.

        Raises:
            DataError: if so.
        """
        if self.best_value is None and self.infinite_loss is not None:
            raise DataError(
                f"{self.infinite_loss} was not finite in any epoch, so that there is no best one "
                "and no model. The last checkpoint is kept. Check the validation rows and their "
                "targets, and lower the learning rate."
            )

    def _better(self, value: float, loss: float | None) -> bool:
        if value == self.best_value and loss is not None and self.best_loss is not None:
            return loss < self.best_loss
        return self.best_value is None or (
            value > self.best_value if self.mode == "max" else value < self.best_value
        )

    # last.ckpt: called by the loops of plcli.training.loops

    def before_validation(self) -> None:
        """Discard the state recorded before an earlier validation."""
        self._before_validation = None

    def batch_is_done(self, trainer: Any) -> None:
        """Save if a checkpoint is due, and end the fit if a signal was received."""
        if self.folder is None or not self.is_in_use(trainer):
            return
        agreed = _agreed(trainer, save=self._due(trainer))
        if agreed.save or agreed.signal:
            self.save(trainer)
        if agreed.signal:
            raise self._end(agreed.signal, trainer)

    def times(self) -> str:
        """Return a description of when last.ckpt is saved."""
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
        """Save, and end the fit if a signal was received."""
        if self.folder is None or not self.is_in_use(trainer):
            return
        self.save(trainer)
        if number := _agreed(trainer).signal:
            raise self._end(number, trainer)

    def validation_was_left(self, trainer: Any) -> None:
        """Save the state before the validation, and end the fit.

        A resumed run repeats the validation.
        """
        number = _agreed(trainer).signal
        self.save(trainer, within_validation=True)
        raise self._end(number, trainer)

    def save(self, trainer: Any, *, within_validation: bool = False) -> None:
        """Write last.ckpt; the one before it is kept as previous.ckpt."""
        assert self.record is not None
        loop = trainer.fit_loop
        before = self._before_validation if within_validation else None
        metrics, attributes = before or self._changing_state(trainer.lightning_module)
        own: RankState = {
            "metrics": metrics,
            "sums": loop.epoch_loop.sums() if loop.within_an_epoch else {},
            "attributes": attributes,
        }
        if self.objects is not None:
            modes = loop.epoch_loop.val_loop.modes if within_validation else None
            saved = {"modules": self.objects.modules(modes)}
            own["epoch_start"] = self.objects.epoch_start
        else:
            saved = {}
        self._saving = saved | {
            "loop": loop.state(
                within_validation=within_validation, ranks=_of_all_ranks(trainer, own)
            ).plain(),
            "metrics_csv": csv.durable() if (csv := self.record.metrics_csv) else None,
            "seconds": self.seconds,
        }
        signals.saving = True
        try:
            trainer.save_checkpoint(self.record.folder / "last.ckpt")
        finally:
            self._saving, signals.saving = None, False
        self._last_save = time.monotonic()

    def _end(self, number: int, trainer: Any) -> Terminated:
        return Terminated(
            number,
            f"Saved after step {trainer.global_step}; to resume, run the same command with --run "
            f"{shlex.quote(trainer.default_root_dir)}.",
        )

    @property
    def best_path(self) -> Path | None:
        """best.ckpt; last.ckpt if nothing was monitored; None if nothing was saved."""
        if self.folder is None:
            return None
        return next(
            (path for name in ("best", "last") if (path := self.folder / f"{name}.ckpt").is_file()),
            None,
        )


def _agreed(trainer: Any, *, save: bool = False) -> Request:
    """Return the combined request of all ranks; every rank must call this at the same batches.

    Args:
        trainer: the trainer.
        save: whether a checkpoint is due on this rank.
    """
    request = Request(save, signals.received or 0)
    if trainer.world_size == 1:
        return request
    requests = torch.tensor(request, dtype=torch.int64, device=trainer.strategy.root_device)
    torch.distributed.all_reduce(requests, op=torch.distributed.ReduceOp.MAX)
    save_any, number = requests.tolist()
    return Request(bool(save_any), number)


def _least(trainer: Any, number: float) -> float:
    """Return the minimum of a number over all ranks; 0 if it is not finite."""
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
