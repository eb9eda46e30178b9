"""Checks before the first epoch, for errors that would otherwise only occur hours later."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.seed import isolate_rng
from torchmetrics import Metric

from plcli.callbacks.checkpoints import Checkpoints
from plcli.config.contracts import data_contract, module_contract
from plcli.errors import ModelError, UsageError, did_you_mean, listed
from plcli.runs import atomic_files, metric_names
from plcli.training.checkpoint_io import load


class Rehearsal(Callback):
    """Loads a training batch, runs a test batch, and checks that monitored metrics are logged.

    Lightning itself checks validation (`num_sanity_val_steps`). The checks have no side effects:
    gradients, logged values and the random state do not change, and metrics are reset.
    """

    def __init__(self) -> None:
        self._validated: list[str] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Record the names that validation logs."""
        if trainer.sanity_checking:
            self._validated = list(trainer.callback_metrics)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Check what Lightning does not check.

        Raises:
            UsageError: if a callback or a schedule monitors a metric that is not logged.
        """
        _check_directions(trainer)
        self._try_checkpoint(trainer)
        if trainer.global_step:
            return  # a resumed run has been checked
        self._try_batches(trainer, pl_module)
        missing = set(_monitors(trainer)) - set(self._validated)
        if self._validated and missing:
            self._check_monitors(trainer, pl_module)

    def _try_checkpoint(self, trainer: Any) -> None:
        """Write a checkpoint and read it again.

        Raises:
            ModelError: if it cannot be read.
        """
        own = (each for each in trainer.callbacks if isinstance(each, Checkpoints))
        folder = next((each.folder for each in own), None)
        if folder is None:
            return
        trial = folder / f"{atomic_files.PREFIX}trial.ckpt"
        trainer.save_checkpoint(trial)
        problem = None
        if trainer.is_global_zero:
            try:
                load(trial, in_memory=False)
            except ModelError as error:
                problem = str(error)
            finally:
                trial.unlink(missing_ok=True)
        problem = trainer.strategy.broadcast(problem)  # all processes end, or none
        if problem is not None:
            raise ModelError(
                "a checkpoint of this training could not be loaded again, so that the training "
                f"would be lost: {problem}"
            )

    def _try_batches(self, trainer: Any, pl_module: Any) -> None:
        data = data_contract(trainer.datamodule, pl_module)
        if not data.offers("first_batch"):
            return
        data.first_batch("train")
        if not data.has("test"):
            return
        with _without_traces(pl_module):
            batch = trainer.strategy.batch_to_device(data.first_batch("test"), dataloader_idx=0)
            trainer.strategy.test_step(batch, 0)
            pl_module.on_test_epoch_end()
        module_contract(pl_module).results.pop("test", None)

    def _check_monitors(self, trainer: Any, pl_module: Any) -> None:
        """Compare the monitored metrics with those logged by validation and a training step."""
        with _without_traces(pl_module) as logged:
            if pl_module.automatic_optimization:  # a step with manual optimization changes weights
                batch = next(iter(trainer.train_dataloader))
                batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
                trainer.strategy.training_step(batch, 0)
        names = [*self._validated, *logged]
        for monitor in _monitors(trainer):
            if monitor not in names and pl_module.automatic_optimization:
                raise UsageError(
                    f"trainer.callbacks: the monitored metric '{monitor}' is not logged."
                    f"{did_you_mean(monitor, names)} There are: {listed(names)}."
                )


def _check_directions(trainer: Any) -> None:
    """Check that schedules wait for what is better.

    Raises:
        UsageError: if a ReduceLROnPlateau has the wrong mode for its metric.
    """
    for each in trainer.lr_scheduler_configs:
        wanted = metric_names.direction(each.monitor or "") if each.reduce_on_plateau else None
        mode = getattr(each.scheduler, "mode", None)  # a scheduler of the user may have none
        if wanted is not None and mode in ("min", "max") and mode != wanted:
            larger = "larger" if wanted == "max" else "smaller"
            raise UsageError(
                f"{type(each.scheduler).__name__}: has mode '{mode}', but {larger} "
                f"values of '{each.monitor}' are better. Create it with mode='{wanted}'."
            )


def _monitors(trainer: Any) -> Sequence[str]:
    """Return the metrics that Lightning's callbacks and schedules monitor.

    The metric that `checkpoint` monitors is checked there.
    """
    watching = [
        callback
        for callback in trainer.callbacks
        if type(callback).__module__.startswith("lightning.")
    ]
    schedules = [each for each in trainer.lr_scheduler_configs if each.reduce_on_plateau]
    named = (getattr(each, "monitor", None) for each in (*watching, *schedules))
    return [monitor for monitor in named if isinstance(monitor, str)]


@contextmanager
def _without_traces(pl_module: Any) -> Iterator[list[str]]:
    """Run steps of a module without side effects; yields the names that they log."""
    logged: list[str] = []

    def log(name: str, *args: Any, **kwargs: Any) -> None:
        logged.extend((name, f"{name}_step", f"{name}_epoch"))

    def log_dict(values: Any, *args: Any, **kwargs: Any) -> None:
        for name in values:
            log(name)

    modes = {module: module.training for module in pl_module.modules()}
    pl_module.log, pl_module.log_dict = log, log_dict
    try:
        with warnings.catch_warnings(), isolate_rng(), torch.no_grad():
            warnings.simplefilter("ignore")  # in a single batch, all targets may be equal
            pl_module.eval()
            yield logged
    finally:
        del pl_module.log, pl_module.log_dict
        for module, training in modes.items():
            module.training = training
            if isinstance(module, Metric):
                module.reset()
