"""Starts the head of a classifier at the frequencies of the classes.

A new head predicts all classes alike. Where most are rare, the first hundred steps would then only
teach it so, by gradients that are alike for all rows, and the features of a small network can
collapse: MiniLM on 28 emotions predicted the frequencies alone even after 700 steps. From the
frequencies it starts to learn at once (Lin et al. 2017, section 3.3, have it for rare positives).
"""

from collections.abc import Container, Sequence
from typing import Any

import torch

LEAST = 1e-4  # frequency, of a class that the training rows do not have


def start(
    model: Any,
    frequencies: Sequence[float],
    *,
    several: bool,
    fresh: Container[str] | None,
) -> None:
    """Set the bias of a network's output layer to the log odds of the classes, if it is new.

    Args:
        model: the network, which is changed in place.
        frequencies: the fraction of the training rows with each class, [classes].
        several: whether a row can have several labels.
        fresh: the names of the newly initialized parameters; None if all are.
    """
    layers = [
        (f"{name}.bias", part.bias)
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Linear) and part.out_features == len(frequencies)
    ]
    name, bias = layers[-1] if layers else ("", None)
    if bias is None or (fresh is not None and name not in fresh):
        return
    shares = torch.tensor(frequencies, dtype=torch.float64).clamp(LEAST, 1 - LEAST)
    values = shares.logit() if several else shares.log() - shares.log().mean()
    with torch.no_grad():
        bias.copy_(values)
