"""Prediction in a process that lives on: batches through a module without a loop of the Trainer.

The rows are those that `Trainer.predict` gives: the module is set up once as the Trainer sets it
up, and each batch goes through its `predict_step` with the Trainer's precision, on its device. A
module whose hooks the Trainer would call around a batch is predicted by the Trainer itself, which
takes a few tens of milliseconds more for each call.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities.model_helpers import is_overridden

from plcli.training.prediction_rows import Row, numbered, places_of, rows_of

Result = TypeVar("Result")
HOOKS = (  # of a module, called by the Trainer's loop
    *("setup", "configure_model", "teardown", "prepare_data"),
    *("on_predict_start", "on_predict_end", "on_predict_epoch_start", "on_predict_epoch_end"),
    *("on_predict_batch_start", "on_predict_batch_end", "on_predict_model_eval"),
    *("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"),
)


class Inference:
    """Predicts batches with a module, whose weights are loaded.

    Args:
        trainer: a trainer for one device, whose device and precision are used.
        module: the module.

    Attributes:
        parallel: whether several threads may predict at the same time; otherwise they take turns.
    """

    def __init__(self, trainer: Trainer, module: LightningModule) -> None:
        self.trainer, self.module = trainer, module
        self._by_trainer = any(is_overridden(hook, module) for hook in HOOKS)
        plugin = trainer.precision_plugin
        # others change torch's default type for all threads
        known = type(plugin) is Precision or isinstance(plugin, MixedPrecision)
        self.parallel = known and not self._by_trainer
        self._turn = threading.Lock()
        self._idle = threading.Condition()
        self._num_predicting = 0
        self.name = f"{type(module).__name__}.predict_step"
        self._prepare()

    def _prepare(self) -> None:
        """Set the module up as the Trainer's strategy does; the Trainer undoes that at its end."""
        if self._by_trainer:
            return
        self.trainer.precision_plugin.convert_module(self.module)
        self.module.to(self.trainer.strategy.root_device).eval()

    def rows(self, loader: Iterable[Any]) -> list[Row]:
        """Return the rows of all batches, in the order of their index.

        Args:
            loader: the batches. A batch without an `index` has the rows that follow.

        Raises:
            UsageError: if predict_step returns nothing, or values that are no rows.
        """
        if not self.parallel:
            with self._turn:
                return self._of_trainer(loader) if self._by_trainer else self._rows(loader)
        with self._turn, self._idle:  # waits for a loop of the Trainer
            self._num_predicting += 1
        try:
            return self._rows(loader)
        finally:
            with self._idle:
                self._num_predicting -= 1
                self._idle.notify_all()

    def _rows(self, loader: Iterable[Any]) -> list[Row]:
        found: dict[int, Row] = {}
        plugin, device = self.trainer.precision_plugin, self.trainer.strategy.root_device
        with torch.inference_mode():
            for number, batch in enumerate(loader):
                moved = move_data_to_device(plugin.convert_input(batch), device)
                with plugin.predict_step_context():
                    outputs = self.module.predict_step(moved, number)
                _add(found, outputs, batch, name=self.name)
        return [found[index] for index in sorted(found)]

    def _of_trainer(self, loader: Iterable[Any]) -> list[Row]:
        collector = _Collector(self.name)
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]  # Lightning's list
        callbacks.append(collector)
        try:
            self.trainer.predict(self.module, dataloaders=loader, return_predictions=False)
        finally:
            callbacks.remove(collector)
        return [collector.found[index] for index in sorted(collector.found)]

    def by_trainer(self, run: Callable[[Trainer], Result]) -> Result:
        """Run a loop of the Trainer, before and after which batches can be predicted.

        Args:
            run: is given the trainer; what it returns is returned.
        """
        with self._turn:
            with self._idle:
                self._idle.wait_for(lambda: not self._num_predicting)
            try:
                return run(self.trainer)
            finally:
                self._prepare()  # the Trainer has moved the module away from the device


class _Collector(Callback):
    """Keeps the rows of a prediction."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.found: dict[int, Row] = {}

    def on_predict_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _add(self.found, outputs, batch, name=self.name)


def _add(found: dict[int, Row], outputs: Any, batch: Any, *, name: str) -> None:
    rows = rows_of(outputs, name=name)
    places = places_of(batch, first=len(found), count=len(rows))
    for index, row in zip(places, rows, strict=True):
        found[index] = numbered(row, index)
