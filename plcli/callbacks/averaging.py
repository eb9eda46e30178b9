"""Averaging of weights, in which the validated weights are those saved as best.ckpt and model/.

Lightning's WeightAveraging and EMAWeightAveraging work this way; this module adds what they lack.
Lightning's StochasticWeightAveraging only applies the mean after the last validation, so the mean
is neither validated nor saved. `EpochAveraging` replaces it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch.optim.swa_utils import get_swa_avg_fn

from plcli.config import allowlist
from plcli.errors import UsageError


class EpochAveraging(WeightAveraging):
    """Averages the weights of all validations from some epoch on (Izmailov et al. 2018, SWA).

    Each validation evaluates, and best.ckpt contains, the mean that includes the current weights.
    The learning rate follows `model.schedule`; a constant one gives more diverse weights.

    Args:
        start_epoch: the first epoch, counted from 0, whose weights are averaged; earlier
            validations evaluate the current weights.
    """

    def __init__(self, start_epoch: int = 0) -> None:
        if start_epoch < 0:
            raise UsageError(f"EpochAveraging.start_epoch: got {start_epoch}, expected 0 or more.")
        super().__init__()  # torch's default: all weights count equally
        self.start_epoch = start_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Never update after a step or an epoch, only at validations."""
        return False

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Add the current weights to the mean, and swap the mean in."""
        average, step = self._average_model, trainer.global_step
        # a validation that was interrupted by a signal is repeated; its weights are already added
        if average is not None and not trainer.sanity_checking and step > self._latest_update_step:
            average.update_parameters(pl_module)
            self._latest_update_step = step
            if trainer.current_epoch < self.start_epoch:
                average.n_averaged.zero_()  # the next weights replace these
        super().on_validation_epoch_start(trainer, pl_module)


def check(values: Mapping[str, Any]) -> None:
    """Check the callbacks in a trainer config, before anything is instantiated.

    Raises:
        UsageError: for a callback whose mean weights are neither validated nor saved.
    """
    for key, path in allowlist.class_paths(values, "trainer"):
        if str(path).endswith("StochasticWeightAveraging"):
            raise UsageError(
                f"{key}: StochasticWeightAveraging applies the mean weights after the last "
                "validation, so the mean is neither validated nor saved. Use "
                "plcli.callbacks.averaging.EpochAveraging (start_epoch), or "
                "lightning.pytorch.callbacks.EMAWeightAveraging."
            )


def prepare(callbacks: Sequence[Callback]) -> None:
    """Make callbacks that average weights skip integer tensors.

    The mean of an integer tensor, such as a buffer of position ids, may be rounded down.
    """
    for callback in callbacks:
        if isinstance(callback, WeightAveraging) and "multi_avg_fn" not in callback._kwargs:
            mean = callback._kwargs.get("avg_fn") or get_swa_avg_fn()  # type: ignore[no-untyped-call]  # torch's own
            callback._kwargs["avg_fn"] = _floats_only(mean)


@contextmanager
def set_aside(trainer: Any) -> Iterator[None]:
    """Leave out callbacks that average, until the block ends.

    After a training they would evaluate their last mean instead of the weights of the best epoch.
    """
    callbacks: list[Any] = trainer.callbacks
    kept = list(callbacks)
    callbacks[:] = [each for each in kept if not isinstance(each, WeightAveraging)]
    try:
        yield
    finally:
        callbacks[:] = kept


def _floats_only(mean: Any) -> Any:
    def average_floats(average: Any, current: Any, count: Any) -> Any:
        return mean(average, current, count) if average.is_floating_point() else current

    return average_floats
