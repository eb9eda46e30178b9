"""Decisions from probabilities: a temperature and thresholds, chosen on validation rows.

numpy alone. Logits and probabilities are float [rows, classes], with a column for each label.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from plcli.errors import UsageError
from plcli.metrics import intervals
from plcli.metrics.intervals import Array

Goal = str | dict[str, float]
COSTS = ("false_positive", "false_negative")
BINS = 15  # of the calibration error (Guo et al. 2017)
PLAIN = 0.5
FIRST, LAST = math.log(0.05), math.log(20.0)  # of the temperature


@dataclass(frozen=True)
class Aim:
    """What thresholds are chosen for.

    Attributes:
        kind: the largest F1; at least this precision or recall, with the best of the other one; or
            the lowest cost.
        value: the precision or recall.
        costs: of a false positive and a false negative.
    """

    kind: Literal["max_f1", "precision", "recall", "cost"]
    value: float = 0.0
    costs: tuple[float, float] = (1.0, 1.0)


def aim(goal: Goal) -> Aim:
    """Return what a config's goal means.

    Raises:
        UsageError: if it is none.
    """
    if isinstance(goal, Mapping):
        unknown = sorted(goal.keys() - set(COSTS))
        if unknown or len(goal) < len(COSTS) or min(goal.values()) <= 0:
            raise UsageError(
                f"model.goal: got {goal}, expected the costs false_positive and false_negative, "
                "both above 0."
            )
        return Aim("cost", costs=(float(goal[COSTS[0]]), float(goal[COSTS[1]])))
    found = re.fullmatch(r"(precision|recall)\s*>=\s*(0?\.\d+|1(\.0*)?)", goal.strip())
    if found:
        value = float(found[2])
        return Aim("precision" if found[1] == "precision" else "recall", value=value)
    if goal.strip() == "max_f1":
        return Aim("max_f1")
    raise UsageError(
        f"model.goal: got '{goal}', expected max_f1, precision>=P or recall>=R with a number up to "
        "1, such as precision>=0.95, or the costs false_positive and false_negative."
    )


@dataclass(frozen=True)
class Threshold:
    """A threshold, and what it reaches on the rows that it was chosen on.

    Attributes:
        value: labels with at least this probability are predicted.
        reached: whether it reaches the aim.
        precision: of the rows.
        recall: of the rows.
    """

    value: float
    reached: bool
    precision: float
    recall: float


def threshold(probabilities: Array, truth: npt.NDArray[np.bool_], wanted: Aim) -> Threshold | None:
    """Return the threshold of a label; None if its rows are all of one kind.

    Thresholds lie in the middle between two neighbouring probabilities, so that they do not hang on
    a single row.

    Args:
        probabilities: of the label, [rows].
        truth: whether the rows have it, bool [rows].
        wanted: what the threshold is for.
    """
    positives = int(truth.sum())
    if not 0 < positives < len(truth):
        return None
    order = np.argsort(-probabilities, kind="stable")
    scores, right = probabilities[order], np.cumsum(truth[order])
    last = np.append(scores[1:] < scores[:-1], True)  # a threshold cannot separate equal scores
    given = np.arange(1, len(scores) + 1)[last]
    right, scores = right[last], scores[last]
    below = np.append(scores[1:], 0.0)
    values = (scores + below) / 2
    precision, recall = right / given, right / positives
    wrong, missed = given - right, positives - right
    if wanted.kind == "max_f1":
        best, reached = int(np.argmax(2 * right / (given + positives))), True
    elif wanted.kind == "cost":
        cost = wanted.costs[0] * wrong + wanted.costs[1] * missed
        best, reached = int(np.argmin(cost)), True
        if positives * wanted.costs[1] < cost[best]:  # it is cheaper to predict it never
            return Threshold(1.0, True, 0.0, 0.0)
    else:
        own, other = (precision, recall) if wanted.kind == "precision" else (recall, precision)
        reaching = np.flatnonzero(own >= wanted.value)
        reached = len(reaching) > 0
        best = int(reaching[np.argmax(other[reaching])]) if reached else int(np.argmax(own))
    return Threshold(float(values[best]), reached, float(precision[best]), float(recall[best]))


def temperature(logits: Array, truth: npt.NDArray[Any]) -> float:
    """Return the temperature with the lowest negative log-likelihood (Guo et al. 2017).

    Probabilities are those of logits / temperature. The loss is convex in 1 / temperature, so that
    a golden section search finds its minimum.

    Args:
        logits: [rows, classes].
        truth: label ids [rows], or 0 and 1 [rows, labels] of several labels.
    """

    def loss(log_temperature: float) -> float:
        return float(row_losses(logits / math.exp(log_temperature), truth).mean())

    return math.exp(_lowest(loss, FIRST, LAST))


def _lowest(function: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one minimum is lowest."""
    ratio = (math.sqrt(5) - 1) / 2
    first, second = high - ratio * (high - low), low + ratio * (high - low)
    at_first, at_second = function(first), function(second)
    for _ in range(40):
        if at_first <= at_second:
            high, second, at_second = second, first, at_first
            first = high - ratio * (high - low)
            at_first = function(first)
        else:
            low, first, at_first = first, second, at_second
            second = low + ratio * (high - low)
            at_second = function(second)
    return (low + high) / 2


def row_losses(logits: Array, truth: npt.NDArray[Any]) -> Array:
    """Return the negative log-likelihood of each row, [rows]; of several labels their mean."""
    if truth.ndim > 1:
        signed = np.where(truth > 0, logits, -logits)
        return np.asarray(np.logaddexp(0.0, -signed).mean(1))
    top = logits.max(1, keepdims=True)
    sums = np.log(np.exp(logits - top).sum(1)) + top[:, 0]
    return np.asarray(sums - logits[np.arange(len(truth)), truth])


def probabilities(logits: Array, *, several: bool) -> Array:
    """Return the probabilities of logits."""
    if several:
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True))


def calibration(logits: Array, truth: npt.NDArray[Any], value: float) -> dict[str, Any]:
    """Return NLL, Brier score and ECE without and with a temperature, and their differences.

    The Brier score is the mean squared distance of probabilities and truth, summed over classes, or
    a mean over several labels. The expected calibration error compares confidence and accuracy in
    15 bins of equal width. Differences are after minus before, with 95 % intervals of the same
    rows resampled.

    Args:
        logits: [rows, classes].
        truth: label ids [rows], or 0 and 1 [rows, labels] of several labels.
        value: the temperature.
    """
    both = [_statistics(each, truth) for each in (logits, logits / value)]
    width = both[0].shape[1]
    cells = np.concatenate([np.ones((len(logits), 1)), *both], axis=1)
    found: dict[str, Any] = {}
    for name, score in (("nll", _mean(0)), ("brier", _mean(1)), ("ece", _ece)):

        def before(sums: Array, score: Any = score) -> Array:
            return np.asarray(score(sums[..., 1 : 1 + width] / sums[..., :1]))

        def after(sums: Array, score: Any = score) -> Array:
            return np.asarray(score(sums[..., 1 + width :] / sums[..., :1]))

        def change(sums: Array, before: Any = before, after: Any = after) -> Array:
            return np.asarray(after(sums) - before(sums))

        table = intervals.Table(cells, np.arange(len(cells)), {name: change}, bounded=False)
        made = intervals.intervals(table).get(name)
        found[name] = {
            "before": float(before(table.total)),
            "after": float(after(table.total)),
            "difference": float(change(table.total)),
            **({"low": made.low, "high": made.high, "method": made.method} if made else {}),
        }
    return found


def _statistics(logits: Array, truth: npt.NDArray[Any]) -> Array:
    """Return NLL, Brier and the gap of confidence and accuracy in each bin, [rows, 2 + bins]."""
    several = truth.ndim > 1
    chances = probabilities(logits, several=several)
    hot = truth > 0 if several else np.arange(chances.shape[1]) == truth[:, None]
    squares = (chances - hot) ** 2
    brier = squares.mean(1) if several else squares.sum(1)
    if several:
        confidence, right = chances, hot.astype(np.float64)
    else:
        best = chances.argmax(1)
        confidence = chances.max(1)[:, None]
        right = (best == truth).astype(np.float64)[:, None]
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.zeros((len(logits), BINS))
    rows = np.repeat(np.arange(len(logits)), confidence.shape[1])
    np.add.at(gaps, (rows, bins.ravel()), ((confidence - right) / confidence.shape[1]).ravel())
    return np.column_stack([row_losses(logits, truth), brier, gaps])


def _mean(column: int) -> Callable[[Array], Array]:
    return lambda means: np.asarray(means[..., column])


def _ece(means: Array) -> Array:
    return np.asarray(np.abs(means[..., 2:]).sum(-1))
