"""Losses of logits and label ids, as means with known weights.

Every loss is a mean over terms, which are labelled rows or tokens. If the loss of each micro-batch
is weighted by the total weight of its terms, the gradient is that of the whole batch; see
`total_weight`.
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
        label_ids: int64 [...]; -100 is ignored.
        weights: float [classes]; the mean is weighted, as in torch.
        focal: the exponent of (1 - p), which reduces the loss of well-classified terms (Lin et al.
            2017, https://arxiv.org/abs/1708.02002); 0 is plain cross-entropy.
        smoothing: the label smoothing: the probability that is spread over all classes (Szegedy et
            al. 2016).
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


def of_rows(logits: torch.Tensor, label_ids: torch.Tensor) -> torch.Tensor:
    """Return the sum of the plain cross-entropy of each row and its number of terms, [rows, 2].

    Args:
        logits: float [rows, tokens, classes].
        label_ids: int64 [rows, tokens]; -100 is ignored.
    """
    terms = functional.cross_entropy(
        logits.flatten(0, 1).float(), label_ids.flatten(), reduction="none", ignore_index=IGNORED
    )
    sums = terms.view(label_ids.shape).sum(1)
    return torch.stack([sums, (label_ids != IGNORED).sum(1).to(sums)], dim=1)


def binary_cross_entropy(
    logits: torch.Tensor,
    targets: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    focal: float = 0.0,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Return the mean binary cross-entropy of multi-label targets.

    Args:
        logits: float [rows, labels].
        targets: 0 or 1, float [rows, labels].
        weights: the weight of positive targets relative to negative ones, float [labels].
        focal: as in `cross_entropy`.
        smoothing: the label smoothing, which moves targets towards 0.5.
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
    """Return the mean squared error, or the Huber loss, which is linear beyond delta.

    Args:
        predicted: float [...].
        targets: float [...].
        huber: delta, in the units of the targets; None returns the squared error.
    """
    predicted, targets = predicted.float(), targets.float()
    if huber is None:
        return functional.mse_loss(predicted, targets)
    return functional.huber_loss(predicted, targets, delta=huber)


def term_weights(label_ids: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Return the weight of each term, float [...]: that of its class, or 0 without a label."""
    labelled = label_ids != IGNORED
    if weights is None:
        return labelled.float()
    return weights.to(label_ids.device)[label_ids.clamp(min=0)] * labelled


def total_weight(label_ids: torch.Tensor, weights: torch.Tensor | None = None) -> float:
    """Return the total weight of the terms in `cross_entropy`, which is the `count` of a batch."""
    return float(term_weights(label_ids, weights).sum())


def divergence(
    first: torch.Tensor,
    second: torch.Tensor,
    label_ids: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean symmetric Kullback-Leibler divergence of two passes.

    This is the term that R-Drop adds (Liang et al. 2021, https://arxiv.org/abs/2106.14448). It is a
    mean over the terms and with the weights of `cross_entropy`, or over all labels if the targets
    are multi-label.

    Args:
        first: logits, float [..., classes].
        second: logits of the same rows with another dropout mask.
        label_ids: int64 [...], or multi-label targets of 0 and 1, float [..., labels].
        weights: float [classes]; not used for multi-label targets.
    """
    first, second = first.float(), second.float()
    if label_ids.is_floating_point():
        one, other = first.sigmoid(), second.sigmoid()
        return ((one - other) * (first - second)).mean() / 2  # KL both ways, Bernoulli
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
        given: the value in the config; in a mapping, classes that are not named have weight 1.
        names: the classes in order.
        frequencies: the fraction of the training rows or tokens with each class, for `auto`. The
            weights are 1 / (classes x frequency), so that all classes have the same total weight,
            or (1 - frequency) / frequency for multi-label rows. A class that never occurs has the
            weight of the rarest one that does.
        several: whether a row can have several labels; a weight is then that of positive targets
            relative to negative ones.

    Raises:
        UsageError: if the weights do not fit the classes.
    """
    if given is None:
        return None
    if isinstance(given, str):
        if frequencies is None or not any(frequencies):
            raise UsageError(
                "model.class_weights: auto needs the frequencies of the labels, which this data "
                "class does not provide. Give the weights by name or as a list."
            )
        shares = torch.tensor(frequencies, dtype=torch.float64)
        shares = shares.clamp(min=float(shares[shares > 0].min()))
        weights = (1 - shares) / shares if several else 1 / (len(shares) * shares)
        return weights.float()
    if isinstance(given, Mapping):
        given = {str(name): weight for name, weight in given.items()}  # a label may be a number
        for name in given:
            if name not in names:
                raise UsageError(
                    f"model.class_weights: there is no label '{name}'."
                    f"{did_you_mean(name, names)} There are: {listed(names)}."
                )
        given = [given.get(name, 1.0) for name in names]
    if len(given) != len(names):
        raise UsageError(
            f"model.class_weights: got {len(given)} weights for {len(names)} labels: "
            f"{listed(names)}. Give one for each label, in this order, or give them by name."
        )
    if not given or not all(0 <= weight < math.inf for weight in given) or not max(given) > 0:
        raise UsageError(
            f"model.class_weights: got {listed(map(str, given)) or 'no weights'}, expected finite "
            "numbers of 0 or more, at least one of them above 0."
        )
    return torch.tensor(given, dtype=torch.float32)
