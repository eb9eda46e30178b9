"""Mean weights: what is validated is what is saved as best.ckpt and model/.

Lightning's WeightAveraging and EMAWeightAveraging do so; what they lack stands here. Its
StochasticWeightAveraging puts the mean in after the last validation, so that it is never scored nor
kept: `EpochAveraging` is there instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch.optim.swa_utils import get_swa_avg_fn

from plcli.config import allowlist
from plcli.errors import UsageError


class EpochAveraging(WeightAveraging):
    """The mean of the weights at the validations from some epoch on (Izmailov et al. 2018, SWA).

    A validation scores, and best.ckpt keeps, the mean with the weights of its own moment. The
    learning rate is `model.schedule`'s; a constant one keeps the weights apart.

    Args:
        start_epoch: the first epoch, from 0, whose validations belong to the mean; before it each
            scores the weights as they are.
    """

    def __init__(self, start_epoch: int = 0) -> None:
        if start_epoch < 0:
            raise UsageError(f"EpochAveraging.start_epoch: got {start_epoch}, expected 0 or more.")
        super().__init__()  # torch's own mean: each weighs as much as another
        self.start_epoch = start_epoch

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Add nothing but at validations."""
        return False

    def on_validation_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Add the weights, and put the mean in their place."""
        average, step = self._average_model, trainer.global_step
        # a validation that a signal broke off is repeated, and has added the weights already
        if average is not None and not trainer.sanity_checking and step > self._latest_update_step:
            average.update_parameters(pl_module)
            self._latest_update_step = step
            if trainer.current_epoch < self.start_epoch:
                average.n_averaged.zero_()  # so that the next weights take the place of these
        super().on_validation_epoch_start(trainer, pl_module)


def check(values: Mapping[str, Any]) -> None:
    """Check the callbacks of a trainer's config, before it is read any further.

    Raises:
        UsageError: for one whose mean is neither validated nor saved.
    """
    for key, path in allowlist.class_paths(values, "trainer"):
        if str(path).endswith("StochasticWeightAveraging"):
            raise UsageError(
                f"{key}: StochasticWeightAveraging puts the mean weights in after the last "
                "validation, so that what is scored and saved is not the mean. Use "
                "plcli.callbacks.averaging.EpochAveraging (start_epoch), or "
                "lightning.pytorch.callbacks.EMAWeightAveraging."
            )


def prepare(callbacks: Sequence[Callback]) -> None:
    """Let the callbacks that make mean weights leave whole numbers alone.

    A mean of whole numbers, such as the positions that a network keeps, may be cut to the next
    lower one.
    """
    for callback in callbacks:
        if isinstance(callback, WeightAveraging) and "multi_avg_fn" not in callback._kwargs:
            mean = callback._kwargs.get("avg_fn") or get_swa_avg_fn()  # type: ignore[no-untyped-call]  # torch's own
            callback._kwargs["avg_fn"] = _of_numbers(mean)


def _of_numbers(mean: Any) -> Any:
    def of_numbers(average: Any, now: Any, count: Any) -> Any:
        return mean(average, now, count) if average.is_floating_point() else now

    return of_numbers
