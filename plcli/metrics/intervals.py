"""95 % intervals of scores.

A score is a function of sums over rows, such as the counts of a confusion matrix. Rows with equal
statistics are a cell, so that resampling rows is drawing the counts of cells from a multinomial
distribution. numpy alone.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
RESAMPLES = 2000
MOST_CELLS = 20_000  # above it, the asymptotic interval of the jackknife is as good, and quick
MOST_NUMBERS = 2**24  # in memory at once
Z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
FEWEST_ROWS = 4
FEWEST_DEGREES = 3.0  # of freedom; with fewer, one outlier of any size would leave no upper end

Array = npt.NDArray[np.float64]
Value = Callable[[Array], Array]  # sums [..., statistics] -> scores [...]
Parts = Callable[[Array], tuple[Array, Array]]  # sums -> successes and trials, [...]
OfClasses = Callable[[Array], tuple[Array, Array, npt.NDArray[np.bool_]]]  # each [..., classes]


class Scale(NamedTuple):
    """A scale on which the estimate of a score is nearly symmetric, such as arctanh(r).

    Attributes:
        to: the scale as a rising function of the score.
        back: its inverse.
        slope: its derivative.
        heavy: whether the standard error is uncertain, as where single rows weigh much.
        of_square: whether it is a scale of the square of the score.
    """

    to: Callable[[float], float]
    back: Callable[[float], float]
    slope: Callable[[float], float]
    heavy: bool = True
    of_square: bool = False


@dataclass(frozen=True)
class Interval:
    """A 95 % interval.

    Attributes:
        value: the score.
        low: its lower end.
        high: its upper end.
        method: how it was computed: `wilson`, `bca`, `student`, `jackknife` or `fisher`.
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


@dataclass(frozen=True, eq=False)
class Table:
    """The statistics of the rows of an evaluation, and the scores that follow from their sums.

    Attributes:
        cells: float64 [cells, statistics], the statistics of a row of each cell.
        cell_of: int64 [rows], the cell of each row.
        values: the scores by name.
        proportions: for scores that are proportions of independent trials: successes and trials.
        f1: those of `proportions` whose score is the F1 of both / either, which is 2 p / (1 + p).
        means_of_f1: scores that are the mean of the F1 of classes: successes and trials of each
            class, [..., classes], as in `f1`, and whether it counts.
        scales: scores with an interval that is symmetric on a scale.
        bounded: scores between 0 and 1.
        errors: for scores that are 0 or 1 in all resamples if no row is wrong or right: successes
            and trials of which their interval is then taken.
        trials_in_groups: of a table of groups: successes and trials for scores of which a group
            without a trial says nothing.
    """

    cells: Array
    cell_of: npt.NDArray[np.int64]
    values: Mapping[str, Value]
    proportions: Mapping[str, Parts] = field(default_factory=dict)
    f1: frozenset[str] = frozenset()
    means_of_f1: Mapping[str, OfClasses] = field(default_factory=dict)
    scales: Mapping[str, Scale] = field(default_factory=dict)
    bounded: bool = True
    errors: Parts | None = None
    trials_in_groups: Mapping[str, Parts] = field(default_factory=dict)

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
        shared = {} if self.errors is None else dict.fromkeys(self.values, self.errors)
        return replace(
            self,
            cells=sums,
            cell_of=np.arange(len(names)),
            proportions={},
            errors=None,
            trials_in_groups={**shared, **self.proportions},
        )


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


def intervals(table: Table, *, seed: int = 0) -> dict[str, Interval]:
    """Return the interval of every score that has one.

    A proportion has Wilson's score interval, which holds near 0 and 1 as well. Scores with a scale
    have Student's on it. Other scores have the BCa interval of the bootstrap (Efron 1987, Better
    bootstrap confidence intervals), or, of very many different rows, that of the jackknife.
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
        draws: dict[str, list[Array]] = {name: [] for name in rest if name not in table.scales}
        if draws and len(table.cells) <= MOST_CELLS:
            for sums in _resampled(table.cells, counts, np.random.default_rng(seed)):
                for name, kept in draws.items():
                    kept.append(rest[name](sums))
        without = {name: _without_one(value, table.cells, total) for name, value in rest.items()}
        for name, value in rest.items():
            own = float(value(total))
            if name in table.scales:
                made = student(own, without[name], counts, table.scales[name])
            else:
                drawn = np.concatenate(draws[name]) if draws[name] else None
                made = _interval(own, drawn, without[name], counts, n=n)
                made = _of_no_errors(table, name, made) if made.low == made.high else made
            if made is not None:
                found[name] = _of_unseen(made, table, name) if name in table.means_of_f1 else made
    return {name: found[name] for name in table.values if name in found}


def _of_no_errors(table: Table, name: str, made: Interval) -> Interval | None:
    """Return the interval of a score that is equal in all resamples; None if it has none."""
    if not table.bounded or made.value not in (0.0, 1.0):
        return None
    n = float(len(table.cell_of))
    if name in table.trials_in_groups:  # the groups that have a trial
        n = float(table.counts @ (table.trials_in_groups[name](table.cells)[1] > 0))
    successes, trials = (made.value * n, n) if table.errors is None else table.errors(table.total)
    if not trials:  # no label is true or predicted
        return None
    other = wilson(float(successes), float(trials))
    if made.value == 1.0:
        return replace(made, low=other.low, method=other.method)
    return replace(made, high=other.high, method=other.method)


def _of_unseen(made: Interval, table: Table, name: str) -> Interval:
    """Return the interval of a mean of F1s with what classes without a right row add to it.

    Such a class has an F1 of 0 in all resamples, as if that were certain. Its upper end is that of
    Wilson, or 1 if no row is predicted or true, and is joined with the other one as those of
    independent scores are (MOVER: Zou and Donner 2008, Statistics in Medicine 27).
    """
    successes, _, counted = table.means_of_f1[name](table.total)
    trials = table.counts @ (table.means_of_f1[name](table.cells)[1] > 0)  # rows, or groups of them
    unseen = np.flatnonzero(counted & (successes == 0))
    ends = [wilson(0.0, float(trials[k]), f1=True).high if trials[k] else 1.0 for k in unseen]
    made = replace(made, low=min(made.low, made.value), high=max(made.high, made.value))
    apart = (made.high - made.value) ** 2 + sum((end / counted.sum()) ** 2 for end in ends)
    return replace(made, high=min(1.0, made.value + math.sqrt(apart)))


def student(
    value: float, without: Array, counts: npt.NDArray[np.int64], scale: Scale
) -> Interval | None:
    """Return the interval of a score that is symmetric on a scale; None for few or equal rows.

    The standard error is that of the jackknife. How uncertain it is follows from the kurtosis of
    what each row changes: the quantile is Student's for as many degrees of freedom as a normal
    sample with that uncertainty has (Satterthwaite 1946, Biometrics Bulletin 2).

    Args:
        value: the score.
        without: the score without one row of each cell, [cells].
        counts: the rows of each cell, [cells].
        scale: the scale.
    """
    if scale.of_square:
        made = student(value * value, without**2, counts, scale._replace(of_square=False))
        if made is None:
            return None
        return replace(made, value=value, low=math.sqrt(made.low), high=math.sqrt(made.high))
    n = int(counts.sum())
    if n < FEWEST_ROWS:
        return None
    change = np.average(without, weights=counts) - without
    largest = float(np.abs(change).max())
    if not math.isfinite(largest) or largest <= 1e-12 * abs(value):
        return None
    second, fourth = (float(counts @ (change / largest) ** power) / n for power in (2, 4))
    degrees = float(n - 1)
    if scale.heavy:
        degrees = min(degrees, 2 * n / max(fourth / second**2 - 1, 1e-9))
    error = student_quantile(max(degrees, FEWEST_DEGREES)) * math.sqrt(second * (n - 1)) * largest
    try:
        moved = [scale.to(value) + side * error * scale.slope(value) for side in (-1, 1)]
        low, high = (scale.back(end) for end in moved)
    except (ArithmeticError, ValueError):  # beyond the scale, or what a float can hold
        return None
    return Interval(value, low, high, "student", n) if low < value < high < math.inf else None


def student_quantile(degrees: float) -> float:
    """Return the 97.5 % quantile of Student's t by Cornish and Fisher's expansion.

    Args:
        degrees: of freedom, at least 3, for which it is right to 1 %.
    """
    terms = [
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
    ]
    return Z + sum(term / degrees**power for power, term in enumerate(terms, start=1))


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
    if not known.any():
        return Interval(value, value, value, "bca", n)
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
    section 5.3).
    """
    return student_quantile(max(n - 1, FEWEST_DEGREES)) * math.sqrt(n / (n - 1))
