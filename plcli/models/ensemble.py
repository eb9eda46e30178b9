"""Several models of one task as one: their probabilities, or the numbers they predict, averaged.

A module that can be averaged has `averaged(outputs, batch, modules)`, which returns outputs from
which all its scores and predictions follow as from those of its own network.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from plcli.config.contracts import module_contract


def join(module: Any, others: Sequence[torch.nn.Module]) -> None:
    """Let a module give the averaged outputs of itself and others, with the weights of all.

    Args:
        module: a LightningModule with `averaged`, whose weights are loaded.
        others: modules of the same class for the same classes and inputs.
    """
    own, modules = module.forward, [module, *others]
    module.ensemble = torch.nn.ModuleList(others)  # moved and set to eval mode with the module

    def forward(batch: Any) -> Any:
        outputs = [own(batch), *(other(batch) for other in others)]
        return module.averaged(outputs, batch, modules)

    module.forward = forward
    module_contract(module).use_ensemble(modules)


def with_mean_probabilities(
    outputs: Sequence[Any], *, temperatures: Sequence[float | None] | None = None
) -> Any:
    """Return outputs whose softmax over the last dimension is the mean of those of all outputs.

    Args:
        outputs: those of the modules, with logits, float [..., classes].
        temperatures: what the logits of each are divided by; None for nothing.
    """
    parts = _scaled([each.logits for each in outputs], temperatures)
    return with_logits(outputs[0], _mean(torch.stack([part.log_softmax(-1) for part in parts])))


def with_mean_chances(
    outputs: Sequence[Any], *, temperatures: Sequence[float | None] | None = None
) -> Any:
    """Return outputs whose sigmoid is the mean of those of all outputs; see above."""
    parts = torch.stack(_scaled([each.logits for each in outputs], temperatures))
    yes = _mean(torch.nn.functional.logsigmoid(parts))
    no = _mean(torch.nn.functional.logsigmoid(-parts))
    return with_logits(outputs[0], yes - no)


def with_logits(outputs: Any, logits: torch.Tensor) -> Any:
    """Return outputs of a network with other logits."""
    made = copy.copy(outputs)
    made.logits = logits
    return made


def mean_thresholds(each: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean threshold of each label that has one in all models."""
    names = [name for name in each[0] if all(name in part for part in each)]
    return {name: sum(part[name] for part in each) / len(each) for name in names}


def _scaled(
    logits: Sequence[torch.Tensor], temperatures: Sequence[float | None] | None
) -> list[torch.Tensor]:
    given = temperatures or [None] * len(logits)
    return [part.float() / (value or 1.0) for part, value in zip(logits, given, strict=True)]


def _mean(logs: torch.Tensor) -> torch.Tensor:
    """Return the logarithm of the mean over the first dimension, of logarithms."""
    count = torch.tensor(float(len(logs)), device=logs.device)
    return torch.logsumexp(logs, 0) - count.log()
