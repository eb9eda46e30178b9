"""Gradual unfreezing: the head learns first, then from the top down one layer after the other."""

import logging
from typing import Any

from lightning.pytorch import Callback

from plcli.config.contracts import module_contract
from plcli.errors import UsageError

logger = logging.getLogger(__name__)


class GradualUnfreezing(Callback):
    """Lets the layers join the training one by one (Howard and Ruder 2018, ULMFiT).

    What is trained is a function of the epoch, so that a run that goes on needs no state. All
    parameters are the optimizer's from the start; a frozen one has no gradient, and is left as it
    is. Lightning's BaseFinetuning adds parameter groups instead, of which a schedule does not know.

    Args:
        every_n_epochs: between one layer and the next.
        layers: how many join at a time.
    """

    def __init__(self, every_n_epochs: int = 1, layers: int = 1) -> None:
        for name, value in (("every_n_epochs", every_n_epochs), ("layers", layers)):
            if value < 1:
                raise UsageError(f"GradualUnfreezing.{name}: got {value}, expected 1 or more.")
        self.every_n_epochs, self.layers = every_n_epochs, layers
        self._trained: set[str] = set()

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Refuse what it does not work with."""
        if module_contract(pl_module).parts is None:
            raise UsageError(
                f"GradualUnfreezing: {type(pl_module).__name__} is no transformer of plcli, whose "
                "layers could be told apart. Leave the callback away."
            )
        if pl_module.freeze is not None or pl_module.lora is not None:
            raise UsageError("GradualUnfreezing: goes with neither model.freeze nor model.lora.")
        if trainer.world_size > 1:
            raise UsageError(
                "GradualUnfreezing: works in one process; of several each would wait for gradients "
                "that do not come. Use model.freeze, or one device."
            )
        self._trained = {n for n, p in pl_module.model.named_parameters() if p.requires_grad}

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Freeze what does not learn yet, in an epoch that is gone on with, too."""
        self._set(trainer.current_epoch, pl_module)

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Let the next layers join."""
        self._set(trainer.current_epoch, pl_module)

    def _set(self, epoch: int, pl_module: Any) -> None:
        parts = pl_module.parts
        lowest = max(0, len(parts.names) - 1 - self.layers * (epoch // self.every_n_epochs))
        changed = False
        for name, parameter in pl_module.model.named_parameters():
            learns = parts.depths[name] >= lowest and name in self._trained
            changed = changed or parameter.requires_grad != learns
            parameter.requires_grad_(learns)
            if not learns:
                parameter.grad = None
        if changed:
            said = ", ".join(reversed(parts.names[lowest:]))
            logger.info("epoch %d: %s learn", epoch + 1, said)
        if not any(parameter.requires_grad for parameter in pl_module.model.parameters()):
            raise UsageError(
                f"GradualUnfreezing: {type(pl_module.model).__name__} has no head of its own to "
                "begin with. Leave the callback away."
            )
