"""Losses over logits and label ids, as means whose weights are known.

Every loss is a mean over terms: labelled rows or tokens. A batch that is run in pieces has the
gradient of the whole if each piece counts as much as its terms weigh: see `total_weight`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch.nn import functional

from plcli.errors import UsageError, did_you_mean, listed
from plcli.pretrained.label_ids import IGNORED

ClassWeights = list[float] | dict[str, float] | Literal["auto"]


def cross_entropy(
    logits: torch.Tensor,
    label_ids: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    focal: float = 0.0,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the mean cross-entropy.

    Args:
        logits: float [..., classes].
        label_ids: int64 [...]; -100 is left out.
        weights: float [classes]; the mean is a weighted one, as torch's.
        focal: the exponent of (1 - p), which makes little of terms that are right already
            (Lin et al. 2017, https://arxiv.org/abs/1708.02002); 0 leaves the loss as it is.
        smoothing: the part of a label that all classes share (Szegedy et al. 2016).
    """
    logits, label_ids = logits.float().flatten(0, -2), label_ids.flatten()
    weights = None if weights is None else weights.to(logits)
    terms = functional.cross_entropy(
        logits,
        label_ids,
        weight=weights,
        label_smoothing=smoothing,
        reduction="none",
        ignore_index=IGNORED,
    )
    if focal:
        known = label_ids.clamp(min=0)[:, None]
        right = logits.log_softmax(-1).gather(-1, known)[:, 0].exp()
        terms = terms * (1 - right) ** focal
    return terms.sum() / term_weights(label_ids, weights).sum().clamp(min=1e-12)


def binary_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    focal: float = 0.0,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the mean binary cross-entropy of labels that stand or do not.

    Args:
        logits: float [rows, labels].
        targets: 0 or 1, float [rows, labels].
        weights: of a label that stands against one that does not, float [labels].
        focal: as in `cross_entropy`.
        smoothing: the part of a target that yes and no share.
    """
    logits, targets = logits.float(), targets.float()
    weights = None if weights is None else weights.to(logits)
    terms = functional.binary_cross_entropy_with_logits(
        logits,
        targets * (1 - smoothing) + smoothing / 2,
        pos_weight=weights,
        reduction="none",
    )
    if focal:
        right = torch.where(targets > 0.5, logits, -logits).sigmoid()
        terms = terms * (1 - right) ** focal
    return terms.mean()


def regression(
    predicted: torch.Tensor, targets: torch.Tensor, *, huber: float | None
) -> torch.Tensor:
    """Return the mean squared error, or Huber's loss: beyond delta it grows in a straight line.

    Args:
        predicted: float [...].
        targets: float [...].
        huber: delta, in units of the targets; None is the squared error.
    """
    predicted, targets = predicted.float(), targets.float()
    if huber is None:
        return functional.mse_loss(predicted, targets)
    return functional.huber_loss(predicted, targets, delta=huber)


def term_weights(label_ids: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Return what each term weighs, float [...]: its class's weight, and 0 where there is none."""
    labelled = label_ids != IGNORED
    if weights is None:
        return labelled.float()
    return weights.to(label_ids.device)[label_ids.clamp(min=0)] * labelled


def total_weight(label_ids: torch.Tensor, weights: torch.Tensor | None = None) -> float:
    """Return how many terms the mean of `cross_entropy` has, weighted: the `count` of a batch."""
    return float(term_weights(label_ids, weights).sum())


def divergence(
    first: torch.Tensor,
    second: torch.Tensor,
    label_ids: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean Kullback-Leibler divergence of two passes, in both directions.

    That is R-Drop's term (Liang et al. 2021, https://arxiv.org/abs/2106.14448), over the terms and
    with the weights of `cross_entropy`; of labels that stand or do not over all of them.

    Args:
        first: logits, float [..., classes].
        second: logits of the same rows with other dropout.
        label_ids: int64 [...], or float [..., labels] of 0 and 1.
        weights: float [classes]; none are taken for the latter.
    """
    first, second = first.float(), second.float()
    if label_ids.is_floating_point():
        one, other = first.sigmoid(), second.sigmoid()
        return ((one - other) * (first - second)).mean() / 2  # KL both ways, of a coin
    one, other = first.log_softmax(-1), second.log_softmax(-1)
    terms = ((one.exp() - other.exp()) * (one - other)).sum(-1) / 2
    shares = term_weights(label_ids, weights)
    return (terms * shares).sum() / shares.sum().clamp(min=1e-12)


def class_weights(
    given: ClassWeights | None,
    *,
    names: Sequence[str],
    frequencies: Sequence[float] | None,
    several: bool = False,
) -> torch.Tensor | None:
    """Return the weight of each class, float [classes].

    Args:
        given: as the config says it; by name those left out weigh 1.
        names: the classes in order.
        frequencies: the part of the training rows or tokens that have each class, for `auto`:
            1 / (classes x frequency), so that all classes weigh alike together; for several
            labels a row (1 - frequency) / frequency. A class that never stands weighs as the
            rarest that does.
        several: whether a row has several labels; a weight then is that of yes against no.

    Raises:
        UsageError: if the weights do not fit the classes.
    """
    if given is None:
        return None
    if isinstance(given, str):
        if frequencies is None or not any(frequencies):
            raise UsageError(
                "model.class_weights: auto needs the frequencies of the labels, which this data "
                "class does not tell. Give the weights by name or as a list."
            )
        shares = torch.tensor(frequencies, dtype=torch.float64)
        shares = shares.clamp(min=float(shares[shares > 0].min()))
        weights = (1 - shares) / shares if several else 1 / (len(shares) * shares)
        return weights.float()
    if isinstance(given, Mapping):
        for name in given:
            if name not in names:
                raise UsageError(
                    f"model.class_weights: no label '{name}'."
                    f"{did_you_mean(name, names)} There are: {listed(names)}."
                )
        given = [given.get(name, 1.0) for name in names]
    if len(given) != len(names):
        raise UsageError(
            f"model.class_weights: got {len(given)} weights for {len(names)} labels: "
            f"{listed(names)}. Give one each, in this order, or by name."
        )
    if not given or not all(0 <= weight < math.inf for weight in given) or not max(given) > 0:
        raise UsageError(
            "model.class_weights: got no weight, a negative one, none that is finite or zeros "
            "alone. Give numbers of 0 or more."
        )
    return torch.tensor(given, dtype=torch.float32)
