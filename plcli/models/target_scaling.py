"""Standardized regression targets: a network learns them, and its saved weights return their units.

A head starts near 0 and moves by about the learning rate with each step, so that it would need many
epochs to reach targets such as years. In memory, the network therefore predicts standardized
targets. When weights are saved, mean and standard deviation are folded into the output layer, so
that transformers gives predictions in the targets' unit; when a trained head is loaded, it is
converted back.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

logger = logging.getLogger(__name__)

HALF = (torch.float16, torch.bfloat16)
FAR = 3.0  # standard deviations of the targets between 0 and their mean


class TargetScaling(torch.nn.Module):
    """The affine map between standardized values and targets.

    Both numbers are buffers, so that a checkpoint contains those that its weights go with.

    Args:
        mean: the mean of the training targets, in their unit.
        std: their standard deviation, in their unit; more than 0.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def standardized(self, targets: torch.Tensor) -> torch.Tensor:
        """Convert targets, float32 [...], to standardized ones."""
        return (targets - self.mean) / self.std

    def restored(self, values: torch.Tensor) -> torch.Tensor:
        """Convert standardized values, float32 [...], to targets."""
        return values * self.std + self.mean

    def unfold(self, model: Any) -> None:
        """Change a network that predicts targets into one that predicts standardized ones."""
        with torch.no_grad():
            layer = output_layer(model)
            if layer.bias is not None:
                layer.bias.copy_(self.standardized(layer.bias))
            layer.weight.copy_(layer.weight / self.std)

    @contextmanager
    def folded(self, model: Any) -> Iterator[None]:
        """Change a network into one that predicts targets in their unit, until the block ends.

        Weights in half precision, which cannot hold a number such as 1999, become float32 as well.
        """
        dtype = output_layer(model).weight.dtype
        if dtype in HALF:
            model.float()
        layer = output_layer(model)
        before = {name: value.detach().clone() for name, value in layer.named_parameters()}
        with torch.no_grad():
            layer.weight.copy_(layer.weight * self.std)
            if layer.bias is not None:
                layer.bias.copy_(self.restored(layer.bias))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in layer.named_parameters():
                    value.copy_(before[name])
            if dtype in HALF:
                model.to(dtype)


def mean(scalings: Sequence[TargetScaling], values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean of what models predict, as the first one standardizes it, float32 [...].

    Args:
        scalings: those of the models.
        values: the standardized values that each predicts.
    """
    restored = [each.restored(value) for each, value in zip(scalings, values, strict=True)]
    return scalings[0].standardized(torch.stack(restored).mean(0))


def output_layer(model: Any) -> Any:
    """Return the linear layer that computes the single output of a network with one target."""
    return [
        module
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module.out_features == 1
    ][-1]


def output_names(model: Any) -> set[str]:
    """Return the names of the parameters of the output layer."""
    last = output_layer(model)
    prefix = next(name for name, module in model.named_modules() if module is last)
    return {f"{prefix}.{name}" for name, _ in last.named_parameters()}


def scaling(
    model: Any, *, mean: float | None, std: float | None, pretrained: bool
) -> TargetScaling:
    """Return the scaling for a network, whose head is converted if it has trained weights.

    An output layer without a bias cannot add a mean. Targets are then only divided, by the root of
    their mean square.

    Args:
        model: the network.
        mean: the mean of the training targets; None if it is not known.
        std: their standard deviation, likewise.
        pretrained: whether the head has trained weights.
    """
    if mean is None or std is None:
        return TargetScaling(0.0, 1.0)
    if output_layer(model).bias is None:
        if abs(mean) > FAR * std:
            logger.warning(
                "the targets are %.4g on average with a standard deviation of %.4g, but the output "
                "layer of %s has no bias that could learn their mean. Subtract it from the column, "
                "or use a model of another type",
                *(mean, std, type(model).__name__),
            )
        mean, std = 0.0, (mean**2 + std**2) ** 0.5
    found = TargetScaling(mean, std)
    if pretrained:
        found.unfold(model)
    return found
