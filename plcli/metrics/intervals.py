"""95 % intervals of scores, and of the difference of two models on the same rows.

A score is a function of sums over rows, such as the counts of a confusion matrix. Rows with equal
statistics are a cell, so that resampling rows is drawing the counts of cells from a multinomial
distribution. numpy alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 2000
MOST_CELLS = 20_000  # above it, the asymptotic interval of the jackknife is as good, and quick
MOST_NUMBERS = 2**24  # in memory at once
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)

Array = npt.NDArray[np.float64]
Value = Callable[[Array], Array]  # sums [..., statistics] -> scores [...]
Parts = Callable[[Array], tuple[Array, Array]]  # sums -> successes and trials, [...]


@dataclass(frozen=True)
class Interval:
    """A 95 % interval.

    Attributes:
        value: the score.
        low: its lower end.
        high: its upper end.
        method: how it was computed: `wilson`, `bca`, `jackknife` or `fisher`.
        n: the number of independent units: rows, groups of rows, or the trials of a proportion.
    """

    value: float
    low: float
    high: float
    method: str
    n: int

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "method": self.method,
            "n": self.n,
        }


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


@dataclass(frozen=True, eq=False)
class Table:
    """The statistics of the rows of an evaluation, and the scores that follow from their sums.

    Attributes:
        cells: float64 [cells, statistics], the statistics of a row of each cell.
        cell_of: int64 [rows], the cell of each row.
        values: the scores by name.
        proportions: for scores that are proportions of independent trials: successes and trials.
        f1: those of `proportions` whose score is the F1 of both / either, which is 2 p / (1 + p).
        bounded: scores between 0 and 1.
        errors: for scores that are 0 or 1 in all resamples if no row is wrong or right: successes
            and trials of which their interval is then taken.
    """

    cells: Array
    cell_of: npt.NDArray[np.int64]
    values: Mapping[str, Value]
    proportions: Mapping[str, Parts] = field(default_factory=dict)
    f1: frozenset[str] = frozenset()
    bounded: bool = True
    errors: Parts | None = None

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The number of rows of each cell, int64 [cells]."""
        return np.bincount(self.cell_of, minlength=len(self.cells))

    @property
    def total(self) -> Array:
        """The sums over all rows, float64 [statistics]."""
        return np.asarray(self.counts @ self.cells)

    def scores(self) -> dict[str, float]:
        """Return every score."""
        with np.errstate(all="ignore"):
            return {name: float(value(self.total)) for name, value in self.values.items()}

    def grouped(self, groups: npt.NDArray[Any]) -> "Table":
        """Return the table whose units are groups of rows, such as the rows of a document.

        Args:
            groups: [rows], equal for rows of the same group.
        """
        names, of_row = np.unique(groups, return_inverse=True)
        sums = np.zeros((len(names), self.cells.shape[1]))
        np.add.at(sums, of_row, self.cells[self.cell_of])
        return replace(self, cells=sums, cell_of=np.arange(len(names)), proportions={}, errors=None)


def of_rows(statistics: npt.NDArray[Any], values: Mapping[str, Value], **settings: Any) -> Table:
    """Return a table of rows; rows with equal statistics share a cell.

    Args:
        statistics: [rows, statistics].
        values: the scores by name.
        settings: further attributes of the table.
    """
    cells, cell_of = np.unique(statistics, axis=0, return_inverse=True)
    return Table(np.asarray(cells, np.float64), cell_of.reshape(-1), values, **settings)


def mean_of(column: int) -> Value:
    """Return the score that is the mean of a column; the first column of the table has to be 1."""
    return lambda sums: sums[..., column] / sums[..., 0]


def means(columns: Mapping[str, npt.NDArray[Any]], **settings: Any) -> Table:
    """Return the table of the means of columns, each [rows]."""
    ones = np.ones(len(next(iter(columns.values()))))
    statistics = np.stack([ones, *columns.values()], axis=1).astype(np.float64)
    values = {name: mean_of(number) for number, name in enumerate(columns, start=1)}
    return of_rows(statistics, values, **settings)


# of one model


def intervals(table: Table, *, seed: int = 0) -> dict[str, Interval]:
    """Return the interval of every score that has one.

    A proportion has Wilson's score interval, which holds near 0 and 1 as well. Other scores have
    the BCa interval of the bootstrap (Efron 1987, Better bootstrap confidence intervals), or, of
    very many different rows, that of the jackknife.
    """
    total, n, found = table.total, len(table.cell_of), dict[str, Interval]()
    with np.errstate(all="ignore"):
        for name, parts in table.proportions.items():
            successes, trials = (float(part) for part in parts(total))
            if trials > 0:
                found[name] = wilson(successes, trials, f1=name in table.f1)
        rest = {
            name: value for name, value in table.values.items() if name not in table.proportions
        }
        rest = {name: value for name, value in rest.items() if math.isfinite(value(total))}
        if not rest or n < 2:
            return found
        counts = table.counts
        draws: dict[str, list[Array]] = {name: [] for name in rest}
        if len(table.cells) <= MOST_CELLS:
            for sums in _resampled(table.cells, counts, np.random.default_rng(seed)):
                for name, value in rest.items():
                    draws[name].append(value(sums))
        without = {name: _without_one(value, table.cells, total) for name, value in rest.items()}
        for name, value in rest.items():
            own = np.concatenate(draws[name]) if draws[name] else None
            made = _interval(float(value(total)), own, without[name], counts, n=n)
            kept = _of_no_errors(table, made) if made.low == made.high else made
            if kept is not None:
                found[name] = kept
    return {name: found[name] for name in table.values if name in found}


def _of_no_errors(table: Table, made: Interval) -> Interval | None:
    """Return the interval of a score that is equal in all resamples; None if it has none."""
    if not table.bounded or made.value not in (0.0, 1.0):
        return None
    n = float(len(table.cell_of))
    successes, trials = (made.value * n, n) if table.errors is None else table.errors(table.total)
    other = wilson(float(successes), float(trials))
    if made.value == 1.0:
        return replace(made, low=other.low, method=other.method)
    return replace(made, high=other.high, method=other.method)


def wilson(successes: float, trials: float, *, f1: bool = False) -> Interval:
    """Return Wilson's score interval of a proportion (Wilson 1927).

    Args:
        successes: the number of successes.
        trials: the number of trials.
        f1: whether the value is the F1, 2 p / (1 + p), of the proportion p of both / either: with
            true positives as successes, and all that is predicted or true as trials.
    """
    p, extra = successes / trials, Z * Z / trials
    centre = (p + extra / 2) / (1 + extra)
    width = Z / (1 + extra) * math.sqrt(p * (1 - p) / trials + extra / (4 * trials))
    # at 0 and 1 the ends are exact, but for rounding
    low = 0.0 if successes <= 0 else max(0.0, centre - width)
    high = 1.0 if successes >= trials else min(1.0, centre + width)
    if f1:
        p, low, high = (2 * part / (1 + part) for part in (p, low, high))
    return Interval(p, low, high, "wilson", round(trials))


def _resampled(
    cells: Array, counts: npt.NDArray[np.int64], generator: np.random.Generator
) -> Iterator[Array]:
    """Yield the sums of resampled rows, [resamples, statistics], in parts."""
    n, size = int(counts.sum()), max(len(cells), cells.shape[1])
    part = max(1, MOST_NUMBERS // max(size, n if len(cells) * 4 > n else 1))
    rows = np.repeat(np.arange(len(cells)), counts) if len(cells) * 4 > n else None
    for first in range(0, RESAMPLES, part):
        number = min(part, RESAMPLES - first)
        if rows is None:  # few cells
            drawn = generator.multinomial(n, counts / n, size=number)
        else:
            places = rows[generator.integers(0, n, (number, n))]
            places += np.arange(number)[:, None] * len(cells)
            drawn = np.bincount(places.ravel(), minlength=number * len(cells))
            drawn = drawn.reshape(number, len(cells))
        yield drawn @ cells


def _without_one(value: Value, cells: Array, total: Array) -> Array:
    """Return the score without one row of each cell, [cells]."""
    part = max(1, MOST_NUMBERS // max(1, cells.shape[1]))
    return np.concatenate(
        [value(total - cells[first : first + part]) for first in range(0, len(cells), part)]
    )


def _interval(
    value: float, draws: Array | None, without: Array, counts: npt.NDArray[np.int64], *, n: int
) -> Interval:
    """Return the BCa interval of resampled scores, or the jackknife's without them."""
    known = np.isfinite(without)
    influence = np.where(known, np.average(without[known], weights=counts[known]) - without, 0.0)
    squares = float(counts @ influence**2)
    if draws is None:
        error = Z * math.sqrt(squares * (n - 1) / n)
        return Interval(value, value - error, value + error, "jackknife", n)
    draws = draws[np.isfinite(draws)]
    if not len(draws) or np.ptp(draws) < 1e-12 or squares == 0:
        return Interval(value, value, value, "bca", n)
    below = (np.sum(draws < value) + np.sum(draws == value) / 2) / len(draws)
    edge = 0.5 / len(draws)
    bias = NormalDist().inv_cdf(min(max(below, edge), 1 - edge))
    acceleration = float(counts @ influence**3) / (6 * squares**1.5)
    ends, wide = [], _expanded(n)
    for z in (-wide, wide):
        moved = bias + (bias + z) / (1 - acceleration * (bias + z))
        ends.append(NormalDist().cdf(moved))
    low, high = np.quantile(draws, ends)
    return Interval(value, float(low), float(high), "bca", n)


def _expanded(n: int) -> float:
    """Return the normal quantile for n rows, wider for few of them.

    Resamples of n rows vary as if divided by n, not n - 1, and have normal tails; the factor makes
    up for both, as for a mean (Hesterberg 2015, What Teachers Should Know about the Bootstrap,
    section 5.3). Student's quantile is Cornish and Fisher's expansion.
    """
    student = Z + (Z**3 + Z) / (4 * (n - 1))
    return student * math.sqrt(n / (n - 1))


# of two models on the same rows


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
        The difference; None if there is nothing to resample.
    """
    if name in first.proportions and name in second.proportions and name not in first.f1:
        parts = [
            each.proportions[name](each.cells[each.cell_of]) for each in (first, second)
        ]  # successes and trials of each row
        (right, trials), (other, others) = parts
        if np.array_equal(trials, others) and np.isin(trials, (0, 1)).all():
            counted = trials == 1
            return mcnemar(right[counted] > 0, other[counted] > 0)
    pairs, cell_of = np.unique(
        np.stack([first.cell_of, second.cell_of], axis=1), axis=0, return_inverse=True
    )
    width = first.cells.shape[1]
    cells = np.concatenate([first.cells[pairs[:, 0]], second.cells[pairs[:, 1]]], axis=1)
    one, two = first.values[name], second.values[name]

    def value(sums: Array) -> Array:
        return np.asarray(two(sums[..., width:]) - one(sums[..., :width]))

    both = Table(cells, cell_of.reshape(-1), {name: value}, bounded=False)
    made = intervals(both, seed=seed).get(name)
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

    return end(Z), end(-Z)


def clopper_pearson(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a proportion (Clopper and Pearson 1934)."""

    def root(upper: bool) -> float:
        low, high = 0.0, 1.0
        for _ in range(50):
            p = (low + high) / 2
            terms = np.exp(_log_binomial(trials, p))
            tail = terms[: successes + 1].sum() if upper else terms[successes:].sum()
            is_low = tail > (1 - LEVEL) / 2 if upper else tail < (1 - LEVEL) / 2
            low, high = (p, high) if is_low else (low, p)
        return (low + high) / 2

    return (
        0.0 if successes == 0 else root(upper=False),
        1.0 if successes == trials else root(upper=True),
    )


def _log_binomial(trials: int, p: float) -> Array:
    """Return the logarithm of the probability of each number of successes, [trials + 1]."""
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, trials + 1)))])
    k = np.arange(trials + 1)
    ways = factorials[-1] - factorials - factorials[::-1]
    return np.asarray(ways + k * math.log(p) + (trials - k) * math.log1p(-p))
