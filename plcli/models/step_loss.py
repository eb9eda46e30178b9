"""The loss of a training batch, which is run in micro-batches of rows with similar length."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch


def of_batch(module: Any, micro_batches: Sequence[Mapping[str, Any]]) -> tuple[torch.Tensor, float]:
    """Return the mean loss over the terms of a batch, and their number.

    Args:
        module: the TransformerModule.
        micro_batches: the parts of the batch.
    """
    distillation = module.distillation
    if distillation is not None:
        micro_batches = distillation.prepared(module, micro_batches)
        counts = [each["terms"] for each in micro_batches]
    else:
        counts = [module.count(each) for each in micro_batches]
    total = sum(counts)

    def run_pass() -> torch.Tensor:
        parts = [
            of_micro_batch(module, micro_batch) * (count / total)
            for micro_batch, count in zip(micro_batches, counts, strict=True)
            if count
        ]
        if not parts:  # the batch has no terms, so every gradient is zero
            parts = [parameter.sum() * 0.0 for parameter in module.model.parameters()]
        return torch.stack(parts).sum()

    if module.attack is None:
        return run_pass(), total
    scaler = getattr(module.trainer.precision_plugin, "scaler", None)
    scale = 1.0 if scaler is None else scaler.get_scale()
    return module.attack.loss(run_pass, scale=scale), total


def of_micro_batch(module: Any, micro_batch: Mapping[str, Any]) -> torch.Tensor:
    """Return the mean loss of a micro-batch, with that of R-Drop's second pass if there is one."""
    distillation = module.distillation

    def loss(outputs: Any) -> torch.Tensor:
        found: torch.Tensor = (
            module.loss(outputs, micro_batch)
            if distillation is None
            else distillation.loss(module, outputs, micro_batch)
        )
        return found

    first = module(micro_batch)
    found = loss(first)
    if not module.r_drop:
        return found
    second = module(micro_batch)
    differs = (
        module.divergence(first, second, micro_batch)
        if distillation is None
        else distillation.divergence(module, first, second, micro_batch)
    )
    both: torch.Tensor = (found + loss(second)) / 2 + module.r_drop * differs
    return both
