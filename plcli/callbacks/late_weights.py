"""Loads the weights of a module that makes its layers in `setup` or `configure_model`."""

from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback


class LateWeights(Callback):
    """Loads weights when validation, test or prediction starts, after the setup of the module.

    Args:
        load: loads them.
    """

    def __init__(self, load: Callable[[], None]) -> None:
        self.load = load

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Load the weights."""
        self.load()

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Load the weights."""
        self.load()

    def on_predict_start(self, trainer: Any, pl_module: Any) -> None:
        """Load the weights."""
        self.load()
