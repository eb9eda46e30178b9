"""Gradual unfreezing: the head is trained first, then one layer after the other is added."""

import logging
from typing import Any

from lightning.pytorch import Callback

from plcli.config.contracts import module_contract
from plcli.errors import UsageError

logger = logging.getLogger(__name__)


class GradualUnfreezing(Callback):
    """Unfreezes layers one by one, from the top down (Howard and Ruder 2018, ULMFiT).

    The trained layers are a function of the epoch, so a resumed run needs no state. The optimizer
    has all parameters from the start; frozen ones get no gradient and do not change. Lightning's
    BaseFinetuning adds parameter groups instead, which schedules do not support.

    Args:
        every_n_epochs: number of epochs between two unfreezing steps.
        layers: number of layers to unfreeze in each step.
    """

    def __init__(self, every_n_epochs: int = 1, layers: int = 1) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("layers", layers)):
            if value < 1:
                raise UsageError(f"GradualUnfreezing.{name}: got {value}, expected 1 or more.")
        self.every_n_epochs, self.layers = every_n_epochs, layers
        self._trained: set[str] = set()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse unsupported modules and settings."""
        if module_contract(pl_module).parts is None:
            raise UsageError(
                f"GradualUnfreezing: {type(pl_module).__name__} is not a transformer module of "
                "plcli, so its layers are not known. Remove the callback."
            )
        if pl_module.freeze is not None or pl_module.lora is not None:
            raise UsageError(
                "GradualUnfreezing: cannot be combined with model.freeze or model.lora. Keep one."
            )
        if trainer.world_size > 1:
            raise UsageError(
                "GradualUnfreezing: only works in one process, as several would wait for gradients "
                "of frozen layers. Use model.freeze, or one device."
            )
        self._trained = {n for n, p in pl_module.model.named_parameters() if p.requires_grad}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Freeze the layers that are not trained yet, also when an epoch is resumed."""
        self._set(trainer.current_epoch, pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Unfreeze the next layers."""
        self._set(trainer.current_epoch, pl_module)

    def _set(self, epoch: int, pl_module: Any) -> None:
        parts = pl_module.parts
        lowest = max(0, len(parts.names) - 1 - self.layers * (epoch // self.every_n_epochs))
        changed = False
        for name, parameter in pl_module.model.named_parameters():
            trained = parts.depths[name] >= lowest and name in self._trained
            changed = changed or parameter.requires_grad != trained
            parameter.requires_grad_(trained)
            if not trained:
                parameter.grad = None
        if changed:
            names = ", ".join(reversed(parts.names[lowest:]))
            logger.info("epoch %d: training %s", epoch + 1, names)
        if not any(parameter.requires_grad for parameter in pl_module.model.parameters()):
            raise UsageError(
                f"GradualUnfreezing: {type(pl_module.model).__name__} has no separate head to "
                "train first. Remove the callback."
            )
