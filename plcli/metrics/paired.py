"""The difference of two models on the same rows, with its 95 % interval.

A difference is a score of the pairs of rows. numpy alone.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plcli.metrics import intervals
from plcli.metrics.intervals import Array, Table

FEWEST_UNITS = 6  # rows or groups; with 5, of which all differ, an exact test has p = 0.0625


@dataclass(frozen=True)
class Difference:
    """The second of two models minus the first, on the same rows, with its 95 % interval.

    Attributes:
        value: the difference.
        low: its lower end.
        high: its upper end.
        method: `mcnemar` (exact) or `paired bootstrap`.
        n: the number of rows.
        p: the p-value of McNemar's test; None for the bootstrap.
    """

    value: float
    low: float
    high: float
    method: str
    n: int
    p: float | None = None

    @property
    def seen(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


def difference(first: Table, second: Table, name: str, *, seed: int = 0) -> Difference | None:
    """Return the difference of a score between two models on the same rows, second minus first.

    A proportion with one trial a row, such as the accuracy, has McNemar's exact test, with the
    interval that belongs to it. Other scores are resampled in pairs of rows (BCa).

    Args:
        first: the table of the first model.
        second: that of the second one, with the same rows in the same order.
        name: the score.
        seed: of the resamples.

    Returns:
        The difference; None if there are too few rows or groups, or nothing to resample.
    """
    if name in first.proportions and name in second.proportions and name not in first.f1:
        parts = [
            each.proportions[name](each.cells[each.cell_of]) for each in (first, second)
        ]  # successes and trials of each row
        (right, trials), (other, others) = parts
        if np.array_equal(trials, others) and np.isin(trials, (0, 1)).all():
            counted = trials == 1
            return mcnemar(right[counted] > 0, other[counted] > 0)
    if len(first.cell_of) < FEWEST_UNITS:
        return None
    pairs, cell_of = np.unique(
        np.stack([first.cell_of, second.cell_of], axis=1), axis=0, return_inverse=True
    )
    width = first.cells.shape[1]
    cells = np.concatenate([first.cells[pairs[:, 0]], second.cells[pairs[:, 1]]], axis=1)
    one, two = first.values[name], second.values[name]

    def value(sums: Array) -> Array:
        return np.asarray(two(sums[..., width:]) - one(sums[..., :width]))

    both = Table(cells, cell_of.reshape(-1), {name: value}, bounded=False)
    made = intervals.intervals(both, seed=seed).get(name)
    if made is None:
        with np.errstate(all="ignore"):
            found = float(value(both.total))
        if not math.isfinite(found):
            return None
        return Difference(found, found, found, "paired bootstrap", len(cell_of))
    return Difference(made.value, made.low, made.high, "paired bootstrap", made.n)


def mcnemar(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> Difference:
    """Return the difference of two accuracies on the same rows, by McNemar's exact test.

    The interval is the score interval of Tango (1998, Statistics in Medicine 17), which also holds
    where few rows differ. It contains 0 where the test sees no difference (p >= 0.05).

    Args:
        first: whether the first model is right, bool [rows].
        second: whether the second one is.
    """
    n, better, worse = len(first), int((second & ~first).sum()), int((first & ~second).sum())
    differing, found = better + worse, (better - worse) / max(n, 1)
    if not differing:
        return Difference(0.0, 0.0, 0.0, "mcnemar", n, p=1.0)
    tail = float(np.exp(_log_binomial(differing, 0.5)[: min(better, worse) + 1]).sum())
    p = min(1.0, 2 * tail)
    low, high = tango(better, worse, n)
    if p >= 0.05:
        low, high = min(low, 0.0), max(high, 0.0)
    return Difference(found, low, high, "mcnemar", n, p=p)


def tango(better: int, worse: int, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a difference of paired proportions (Tango 1998).

    Args:
        better: number of rows that only the second model has right.
        worse: number of rows that only the first one has right.
        n: number of all rows.
    """

    def distance(difference: float) -> float:
        """Return how many standard errors the data are above a difference."""
        a = 2 * n
        b = -better - worse + (2 * n - better + worse) * difference
        c = -worse * difference * (1 - difference)
        share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        spread = n * (2 * share + difference * (1 - difference))
        above = better - worse - n * difference
        if above == 0:
            return 0.0
        return above / math.sqrt(spread) if spread > 1e-12 else math.copysign(math.inf, above)

    def end(wanted: float) -> float:
        """Return the difference of which the data are that far above, which falls with it."""
        low, high = -1.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if distance(middle) > wanted else (low, middle)
        return (low + high) / 2

    return end(intervals.Z), end(-intervals.Z)


def _log_binomial(trials: int, p: float) -> Array:
    """Return the logarithm of the probability of each number of successes, [trials + 1]."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    k = np.arange(trials + 1)
    ways = factorials[-1] - factorials - factorials[::-1]
    return np.asarray(ways + k * math.log(p) + (trials - k) * math.log1p(-p))
