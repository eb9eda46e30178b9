"""Training loops that resume exactly: no random generator has a state that must be saved.

- The order of an epoch's batches is a function of (seed, epoch); a loader can start at any batch.
- Random numbers in the data of a batch are a function of (seed, epoch, batch, rank), whichever
  process loads it; those of a training step are a function of (seed, batches done, rank).
- A checkpoint is saved between two batches, after the validation, schedulers and log lines of the
  first. One saved during a validation is marked as such, and the validation is repeated.

Lightning saves within a batch, and resumes within an epoch with other rows, other random numbers
and other counters, so two of its loops are replaced. This depends on internals of lightning 2.6.
"""

import copy
import itertools
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.fabric.utilities.data import _set_sampler_epoch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.trainer.connectors.logger_connector.result import (
    _Metadata,
    _ResultMetric,
    _Sync,
)
from lightning.pytorch.trainer.states import RunningStage, TrainerFn
from torchmetrics import Metric

from plcli.training import workers
from plcli.training.batch_order import Order, has_order, make_resumable, reseed
from plcli.training.signals import signals
from plcli.training.state import Keeper, LoopState, RankState

logger = logging.getLogger(__name__)


class ExactFitLoop(_FitLoop):
    """Lightning's loop over epochs, which can be resumed between any two batches.

    Args:
        trainer: the trainer.
        seed: the seed of all random numbers.
        keeper: called after every batch and epoch; may save a checkpoint, and may end the fit.
    """

    def __init__(self, trainer: Trainer, *, seed: int, keeper: Keeper) -> None:
        before = trainer.fit_loop
        super().__init__(trainer, min_epochs=before.min_epochs, max_epochs=before.max_epochs)
        self.seed, self.keeper = seed, keeper
        self.epoch_loop: ExactEpochLoop = ExactEpochLoop(
            trainer, min_steps=before.epoch_loop.min_steps, max_steps=before.epoch_loop.max_steps
        )
        self.orders: list[Order] = []
        self.choose_epochs: Callable[[float], int] | None = None
        self.has_chosen_epochs = False
        self.seekable = True
        self._resumes_epoch = False

    def state(self, *, within_validation: bool, ranks: list[RankState]) -> LoopState:
        """Return the state that Lightning's checkpoint lacks."""
        return LoopState(
            batch=self.epoch_loop.batch_progress.current.ready if self.within_an_epoch else 0,
            within_validation=within_validation,
            should_stop=self.trainer.should_stop,
            metrics=dict(self.trainer._logger_connector._callback_metrics),
            ranks=ranks,
            accumulate=self.trainer.accumulate_grad_batches,
        )

    @property
    def epoch(self) -> int:
        """The index of the current epoch, from 0."""
        current: Any = self.epoch_progress.current
        return int(current.processed)

    @property
    def within_an_epoch(self) -> bool:
        """Whether an epoch has started and has not ended."""
        return self.epoch_progress.current.ready != self.epoch_progress.current.completed

    def run(self) -> None:
        """Run the remaining epochs."""
        signals.take()  # Lightning's handlers neither save nor synchronize ranks
        signals.waits = self.keeper.keeps
        try:
            self._resume(self.keeper.resumed)
            super().run()
        finally:
            signals.waits = False
        if self.keeper.keeps:
            signals.check()  # one that came after the last save

    def _resume(self, state: LoopState | None) -> None:
        if state is not None:
            _Loop.restarting.fset(self, False)  # type: ignore[attr-defined]  # also of the loops within it
            self._restarting = self.within_an_epoch  # the start of the epoch is not repeated
            self._resumes_epoch = self.within_an_epoch
            self.epoch_loop.state = state if self.within_an_epoch else None
            self.trainer.should_stop = state.should_stop
            self.trainer._logger_connector._callback_metrics.update(state.metrics)
            ranks = state.ranks
            if len(ranks) == self.trainer.world_size:
                _set_metrics(
                    self.trainer.lightning_module, ranks[self.trainer.global_rank]["metrics"]
                )
            self.keeper.restore_modules()
            self._seek(state.batch)

    def _seek(self, batch: int) -> None:
        """Make the loaders start at a batch."""
        self.setup_data()  # no-op if estimated_stepping_batches has already called it
        if self._data_fetcher is None:
            return
        assert self._combined_loader is not None
        for loader in self._combined_loader.flattened:
            _set_sampler_epoch(loader, self.epoch)
        if self.seekable:
            for order in self.orders:
                order.start = batch % max(1, len(order))
        reseed("epoch", self.seed, self.epoch)
        iter(self._data_fetcher)
        if not self.seekable and batch:
            logger.warning(
                "the training data cannot start at a given batch: %d batches are read and "
                "skipped, and random numbers may differ from those of an uninterrupted run",
                batch,
            )
            for _ in range(batch):
                next(self._data_fetcher)
            self._data_fetcher.fetched = 0  # the epoch loop adds the batches done before

    def setup_data(self) -> None:
        """Make the loaders; with their length, choose the number of epochs if none is given."""
        super().setup_data()
        choose, self.choose_epochs = self.choose_epochs, None
        if choose is not None:
            steps: float = self.max_batches / self.trainer.accumulate_grad_batches
            steps = steps if math.isinf(steps) else math.ceil(steps)
            least = self.epoch_loop.min_steps or 0
            wanted = 0 if not steps or math.isinf(steps) else math.ceil(least / steps)
            self.max_epochs = max(choose(steps), self.min_epochs or 0, wanted)
            self.has_chosen_epochs = True
            length = "" if math.isinf(steps) else f" of {steps} steps"
            logger.info(
                "%d epochs%s, as none are given; --epochs sets others", self.max_epochs, length
            )

    def _load_combined_loader_states(self) -> None:
        """Make the loaders resumable, before their first batch is loaded."""
        assert self._combined_loader is not None
        loaders = self._combined_loader.flattened
        for loader in loaders:
            workers.guard(loader)
        self.seekable = all(has_order(loader) for loader in loaders)
        self.orders = [
            make_resumable(loader, "rows", self, lambda: self.epoch)
            for loader in loaders
            if has_order(loader)
        ]
        reseed("epoch", self.seed, self.epoch)  # for data without an order

    def on_run_start(self) -> None:
        """Start the training; what its hooks change is restored in a resumed one."""
        super().on_run_start()
        self.keeper.training_has_started()

    def on_advance_start(self) -> None:
        """Start an epoch, or resume one."""
        self.keeper.before_epoch_start()
        super().on_advance_start()
        resumed, self._resumes_epoch = self._resumes_epoch, False
        self.keeper.epoch_has_started(resumed=resumed)

    def advance(self) -> None:
        """Run one epoch."""
        self._restarting = False
        super().advance()

    def on_advance_end(self) -> None:
        """End an epoch, and call the keeper."""
        added = self.epoch_loop.add_means_not_logged_since()
        super().on_advance_end()
        self.epoch_loop.remove_means(added)
        self.keeper.epoch_is_done(self.trainer)


class ExactEpochLoop(_TrainingEpochLoop):
    """Lightning's loop over an epoch's batches.

    Attributes:
        state: the state to resume from, until it is applied.
    """

    def __init__(self, trainer: Trainer, *, min_steps: int | None, max_steps: int) -> None:
        super().__init__(trainer, min_steps=min_steps, max_steps=max_steps)
        self.val_loop = ExactValidationLoop(
            trainer,
            TrainerFn.FITTING,
            RunningStage.VALIDATING,
            verbose=False,
            inference_mode=False,
        )
        self.state: LoopState | None = None
        self._sums: dict[str, Any] = {}

    def reset(self) -> None:
        """Start an epoch, or resume one with the saved counters."""
        if self.state is None:
            super().reset()
        else:
            if self.state.accumulate:
                self.trainer.accumulate_grad_batches = self.state.accumulate
            ranks = self.state.ranks
            same_world = len(ranks) == self.trainer.world_size
            self._sums = dict(ranks[self.trainer.global_rank]["sums"]) if same_world else {}

    def on_run_start(self, data_fetcher: Any) -> None:
        """Start an epoch; if a validation was interrupted, repeat it first."""
        loop = self._fit_loop
        reseed("epoch", loop.seed, loop.epoch)  # for data without an order
        super().on_run_start(data_fetcher)
        state, self.state = self.state, None
        if state is not None and state.within_validation:
            self.on_advance_end(data_fetcher)

    @property
    def batches_done(self) -> int:
        """The number of batches trained on, over all epochs."""
        return self.batch_progress.total.ready

    @property
    def _fit_loop(self) -> ExactFitLoop:
        loop = self.trainer.fit_loop
        assert isinstance(loop, ExactFitLoop)
        return loop

    def _on_after_fetch(self) -> None:
        super()._on_after_fetch()
        self._continue_means()
        self._reseed("step")

    def _reseed(self, what: str) -> None:
        reseed(what, self._fit_loop.seed, self.batches_done, self.trainer.global_rank)

    def _should_check_val_fx(self, data_fetcher: Any) -> bool:
        """Also validate after the last step of the training, so that it can be the best."""
        due: bool = super()._should_check_val_fx(data_fetcher)
        last = self.trainer.enable_validation and self._is_last_step()
        return due or (last and self._fit_loop.keeper.is_in_use(self.trainer))

    def _is_last_step(self) -> bool:
        if self.max_steps != -1 and self.global_step >= self.max_steps:
            return not self._should_accumulate()
        epochs = self._fit_loop.max_epochs
        last_epoch = epochs not in (None, -1) and self._fit_loop.epoch + 1 >= (epochs or 0)
        return last_epoch and self._num_ready_batches_reached()

    def _broadcast_sigterm_tensor(self) -> None:
        """Do nothing: the keeper synchronizes signals between ranks."""

    def on_advance_end(self, data_fetcher: Any) -> None:
        """End a batch and its validation, and call the keeper."""
        self._reseed("validation")
        keeper = self._fit_loop.keeper
        keeper.before_validation()
        try:
            super().on_advance_end(data_fetcher)
        except LeaveValidation:
            self.trainer.training = True
            for callback in self.trainer.callbacks:
                if isinstance(callback, WeightAveraging):  # it has swapped the mean weights in
                    callback.on_validation_epoch_end(self.trainer, self.trainer.lightning_module)
            keeper.validation_was_left(self.trainer)
        within = not self._should_accumulate() and not self._num_ready_batches_reached()
        if (
            within and not self.done
        ):  # gradients are not saved, and the end of an epoch saves anyway
            keeper.batch_is_done(self.trainer)

    def _continue_means(self) -> None:
        """Let the means of a resumed epoch go on with the sums from before the checkpoint.

        They are in place before the first value is logged, so that numbers are added in the same
        order as without the interruption.
        """
        if self._sums:  # this is not the first batch of the epoch, at which means would be reset
            self.trainer._logger_connector._first_loop_iter = True
        for key in [key for key, kept in self._sums.items() if kept["state"]]:
            metric = _result(self._sums.pop(key), self.trainer)
            assert metric is not None  # only None for a metric object
            self._results[key] = metric

    def sums(self) -> dict[str, Any]:
        """Return the sums so far of the means of the current epoch, and the last logged values."""
        return self._sums | {
            key: _kept(metric) for key, metric in self._results.items() if not metric.has_reset
        }

    def add_means_not_logged_since(self) -> list[str]:
        """Add the means that were not logged again since the epoch was resumed.

        Returns:
            Their keys, to be removed at the end of the epoch.
        """
        added = []
        for key, kept in self._sums.items():
            metric = _result(kept, self.trainer)
            if metric is not None:
                self._results[key] = metric
                added.append(key)
        self._sums = {}
        return added

    def remove_means(self, keys: list[str]) -> None:
        """Remove means; the next epoch adds its own."""
        for key in keys:
            del self._results[key]


PLAIN = (  # the fields of a logged mean's metadata with plain values
    *("fx", "name", "prog_bar", "logger", "on_step", "on_epoch", "enable_graph"),
    *("add_dataloader_idx", "dataloader_idx", "metric_attribute"),
)


def _kept(metric: _ResultMetric) -> dict[str, Any]:
    """Return a logged mean as tensors and plain values."""
    meta = metric.meta
    states = ("value", "cumulated_batch_size") if metric.is_tensor else ()
    cache = metric._forward_cache if metric.is_tensor else None
    return {
        "cache": None if cache is None else cache.detach().cpu(),
        "meta": {name: getattr(meta, name) for name in PLAIN},
        "reduce": meta.reduce_fx.__name__,
        "sync": [meta.sync.should, meta.sync.rank_zero_only],
        "state": {
            name: getattr(metric, name).detach().cpu() for name in states if hasattr(metric, name)
        },
    }


def _result(kept: Mapping[str, Any], trainer: Trainer) -> _ResultMetric | None:
    """Return a logged mean as it was when it was saved; None if its metric no longer exists."""
    meta = _Metadata(**kept["meta"], reduce_fx=kept["reduce"])
    should, rank_zero_only = kept["sync"]
    meta.sync = _Sync(fn=trainer.strategy.reduce, _should=should, rank_zero_only=rank_zero_only)
    metric = _ResultMetric(meta, is_tensor=bool(kept["state"]))
    if metric.is_tensor:
        for name, value in kept["state"].items():
            setattr(metric, name, value.to(trainer.strategy.root_device))
        if (cache := kept.get("cache")) is not None:  # absent in checkpoints of version 0.5
            metric._forward_cache = cache.to(trainer.strategy.root_device)
    else:
        parts: dict[str, Any] = dict(trainer.lightning_module.named_modules())
        if meta.metric_attribute not in parts:
            return None
        metric.value = parts[meta.metric_attribute]
    metric._update_count = 1
    return metric


class ExactValidationLoop(_EvaluationLoop):
    """Lightning's loop over validation batches, with random numbers that depend on the batch alone.

    Persistent workers would otherwise continue with their own random state.
    """

    @property
    def modes(self) -> dict[str, bool]:
        """Whether each module was in training mode before the validation."""
        return dict(self._module_mode.mode)

    def setup_data(self) -> None:
        """Make the loaders resumable."""
        super().setup_data()
        loop: Any = self.trainer.fit_loop
        if self._combined_loader is None:
            return
        for loader in self._combined_loader.flattened:
            workers.guard(loader)
        for loader in filter(has_order, self._combined_loader.flattened):
            make_resumable(loader, "validation", loop, lambda: loop.epoch_loop.batches_done)


def validation_metrics(trainer: Any) -> dict[str, Any]:
    """Return the metrics of the validation that ends now, by name; those of all its loaders."""
    found = {}
    for metric in trainer._results.values():
        meta = metric.meta
        several = meta.dataloader_idx is not None and meta.add_dataloader_idx
        name = f"{meta.name}/dataloader_idx_{meta.dataloader_idx}" if several else meta.name
        if meta.on_epoch and not metric.has_reset:
            value = trainer._results._get_cache(metric, on_step=False)
            if value is not None:
                found[name] = value
    return found


class LeaveValidation(BaseException):
    """Ends a validation that a signal has interrupted."""


def metrics_of(module: Any) -> dict[str, Any]:
    """Return the states of a module's metrics that have been updated since their last reset."""
    return {
        name: {"count": part._update_count, "state": copy.deepcopy(part.metric_state)}
        for name, part in module.named_modules()
        if isinstance(part, Metric) and part._update_count
    }


def _set_metrics(module: Any, states: dict[str, Any]) -> None:
    for name, part in module.named_modules():
        if isinstance(part, Metric) and name in states:
            for key, value in states[name]["state"].items():
                now = getattr(part, key)
                device = now.device if isinstance(now, torch.Tensor) else part.device
                setattr(part, key, _moved(value, device))
            part._update_count, part._computed = states[name]["count"], None


def _moved(value: Any, device: Any) -> Any:
    if isinstance(value, list):
        return [_moved(item, device) for item in value]
    return value.to(device) if isinstance(value, torch.Tensor) else value


def rows_of(loop: ExactFitLoop, *, epoch: int, batches: range) -> list[int]:
    """Return the row numbers of some batches of an epoch; empty if unknown."""
    rows: list[int] = []
    for order in loop.orders if loop.seekable else []:
        for index in itertools.islice(order.indices(epoch), batches.start, batches.stop):
            positions = index if isinstance(index, (list, tuple)) else [index]
            rows += [int(n if order.rows is None else order.rows[n]) for n in positions]
    return rows
