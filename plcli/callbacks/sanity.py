"""What would fail after hours is tried before the first epoch: monitors, a batch of each split."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.seed import isolate_rng
from torchmetrics import Metric

from plcli.config.contracts import data_contract, module_contract
from plcli.errors import UsageError, did_you_mean, listed


class Rehearsal(Callback):
    """Takes one batch of training and test, scores that of test, and looks for what is monitored.

    Validation is tried by Lightning itself (`num_sanity_val_steps`). Nothing is kept of it: no
    gradient, no logged number, no random number drawn, and the metrics are reset.
    """

    def __init__(self) -> None:
        self._validated: list[str] = []

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        """Note what validation logs."""
        if trainer.sanity_checking:
            self._validated = list(trainer.callback_metrics)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Try what Lightning does not try.

        Raises:
            UsageError: if a callback or a schedule monitors what is not logged.
        """
        if trainer.global_step:
            return  # a run that goes on has been tried
        self._try_batches(trainer, pl_module)
        missing = set(_monitors(trainer)) - set(self._validated)
        if self._validated and missing:
            self._check_monitors(trainer, pl_module)

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
        """Compare monitors with what validation and a training step log."""
        with _without_traces(pl_module) as logged:
            if pl_module.automatic_optimization:  # else a step would change the weights
                batch = next(iter(trainer.train_dataloader))
                batch = trainer.strategy.batch_to_device(batch, dataloader_idx=0)
                trainer.strategy.training_step(batch, 0)
        names = [*self._validated, *logged]
        for monitor in _monitors(trainer):
            if monitor not in names and pl_module.automatic_optimization:
                raise UsageError(
                    f"trainer.callbacks: no metric '{monitor}' is logged to monitor."
                    f"{did_you_mean(monitor, names)} There are: {listed(names)}."
                )


def _monitors(trainer: Any) -> Sequence[str]:
    """Return what Lightning's callbacks and schedules watch; `checkpoint` checks its own."""
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
    """Run steps of a module so that none is left of them; gives the names that they log."""
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
            warnings.simplefilter("ignore")  # a single batch may be all alike
            pl_module.eval()
            yield logged
    finally:
        del pl_module.log, pl_module.log_dict
        for module, training in modes.items():
            module.training = training
            if isinstance(module, Metric):
                module.reset()
