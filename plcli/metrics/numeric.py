"""Scores of numbers as functions of the rows: errors and correlations."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plcli.metrics import intervals
from plcli.metrics.intervals import Array, Interval, Scale, Table, Value
from plcli.metrics.paired import FEWEST_UNITS, Difference
from plcli.metrics.scoring import Baseline, Columns, Scoring

DRAWN = 200  # resamples of correlations, of which only the standard error is taken
# On these scales the two ends miss the true score about equally often, with normal errors and with
# outliers (benchmarks/interval_coverage.py).
FOURTH_ROOT = Scale(
    lambda x: -(x**-0.25), lambda y: y**-4.0 if y < 0 else math.inf, lambda x: 0.25 * x**-1.25
)
LOGARITHM = Scale(math.log, math.exp, lambda x: 1 / x)
UNEXPLAINED = Scale(
    lambda x: -math.log(1 - x), lambda y: 1 - math.exp(-y), lambda x: 1 / (1 - x), heavy=False
)
FISHER = Scale(math.atanh, math.tanh, lambda x: 1 / (1 - x * x))
SCALES = {
    "mse": FOURTH_ROOT,
    "rmse": FOURTH_ROOT._replace(of_square=True),
    "mae": LOGARITHM,
    "r2": UNEXPLAINED,
    "pearson": FISHER,
}


@dataclass(frozen=True, kw_only=True)
class Numbers(Scoring):
    """Numbers: the columns truth and prediction, [rows] or [rows, targets].

    Attributes:
        names: the scores, of mse, rmse, mae, r2, pearson, spearman.
        mean: the mean of the training targets, [targets], if it is known.
        centre: what truth and prediction are distances from, [targets].
    """

    names: list[str]
    mean: list[float] | None = None
    centre: list[float] | None = None

    def tables(self, columns: Columns) -> list[Table]:
        """Return the sums of which all scores but rank correlations are functions."""
        truth, predicted = (_matrix(columns[name]) for name in ("truth", "prediction"))
        centre = truth.mean(0)
        truth, predicted = truth - centre, predicted - centre
        error, size = predicted - truth, truth.shape[1]
        predicted = predicted - predicted.mean(0)  # of correlations alone
        statistics = np.concatenate(
            [
                np.ones((len(truth), 1)),
                (error**2).mean(1, keepdims=True),
                np.abs(error).mean(1, keepdims=True),
                error**2,
                truth,
                truth**2,
                predicted,
                predicted**2,
                truth * predicted,
            ],
            axis=1,
        )

        def means(sums: Array) -> list[Array]:
            scaled = sums / sums[..., :1]
            return [scaled[..., 3 + k * size : 3 + (k + 1) * size] for k in range(6)]

        def r2(sums: Array) -> Array:
            square, t, tt, *_ = means(sums)
            return np.asarray((1 - square / (tt - t**2)).mean(-1))

        def pearson(sums: Array) -> Array:
            _, t, tt, p, pp, tp = means(sums)
            spread = _variance(tt, t) * _variance(pp, p)
            return np.asarray(((tp - t * p) / np.sqrt(spread))[..., 0])

        values: dict[str, Value] = {
            "mse": intervals.mean_of(1),
            "rmse": lambda sums: np.sqrt(sums[..., 1] / sums[..., 0]),
            "mae": intervals.mean_of(2),
            "r2": r2,
            "pearson": pearson,
        }
        chosen = {name: values[name] for name in self.names if name in values}
        rows = np.arange(len(truth))
        tables = [Table(statistics, rows, chosen, scales=SCALES, bounded=False)] if chosen else []
        if "loss" in columns:
            tables.append(intervals.means({"loss": columns["loss"]}, bounded=False))
        return tables

    def readable(self, columns: Columns) -> dict[str, Any]:
        """Return the columns in the unit of the targets."""
        return {
            name: self._moved(values, 1) if name in ("truth", "prediction") else values
            for name, values in columns.items()
        }

    def from_readable(self, columns: Mapping[str, list[Any]]) -> Columns:
        """Return the columns of a file, as distances from the centre."""
        return {
            name: self._moved(np.array(values), -1) if name in ("truth", "prediction") else values
            for name, values in super().from_readable(columns).items()
        }

    def _moved(self, values: npt.NDArray[Any], side: int) -> Array:
        centre = np.asarray(self.centre or [0.0])
        moved = _matrix(values) + side * centre
        found: Array = moved if values.ndim > 1 else moved[:, 0]
        return found

    def baseline(self, columns: Columns) -> Baseline | None:
        """Return the mean of the training targets, for every row."""
        if self.mean is None:
            return None
        truth = columns["truth"]
        mean = np.zeros_like(truth, np.float64) + np.asarray(
            self.mean if truth.ndim > 1 else self.mean[0]
        )
        return Baseline("mean", {"truth": truth, "prediction": mean})

    def scores(self, columns: Columns) -> dict[str, float]:
        """Return every score by name."""
        found = super().scores(columns)
        if "spearman" in self.names:
            truth, predicted = (_matrix(columns[name])[:, 0] for name in ("truth", "prediction"))
            found["spearman"] = _spearman(truth, predicted)
        return found

    def intervals(
        self, columns: Columns, *, groups: npt.NDArray[Any] | None = None
    ) -> dict[str, Interval]:
        """Return the interval of every score.

        That of Spearman's correlation is Fisher's, symmetric in arctanh(r), with the standard error
        of resampled r, without groups: it takes each row by itself.
        """
        found = super().intervals(columns, groups=groups)
        truth, predicted = (_matrix(columns[name])[:, 0] for name in ("truth", "prediction"))
        if "spearman" not in self.names or len(truth) < 4 or groups is not None:
            return found
        value = _spearman(truth, predicted)
        drawn = _rank_correlations(truth, [predicted])[:, 0]
        if abs(value) < 1 and np.isfinite(drawn).any():
            # of r itself: arctanh(1) of resamples without the rows out of order is infinite
            spread = float(np.nanstd(drawn)) * FISHER.slope(value)
            error = intervals.Z * spread * _scale(len(truth))
            low, high = (math.tanh(math.atanh(value) + side * error) for side in (-1, 1))
            found["spearman"] = Interval(value, low, high, "fisher", len(truth))
        return found

    def difference(
        self,
        first: Columns,
        second: Columns,
        name: str,
        *,
        groups: npt.NDArray[Any] | None = None,
    ) -> Difference | None:
        """Return the difference of a score on the same rows; of ranks, without groups alone."""
        if name != "spearman":
            return super().difference(first, second, name, groups=groups)
        if groups is not None or len(first["truth"]) < FEWEST_UNITS:
            return None
        truth = _matrix(first["truth"])[:, 0]
        both = [_matrix(each["prediction"])[:, 0] for each in (first, second)]
        one, two = (_spearman(truth, each) for each in both)
        ranked = _rank_correlations(truth, both)
        spread = float(np.nanstd(ranked[:, 1] - ranked[:, 0]))
        error = intervals.Z * spread * _scale(len(truth))
        if not math.isfinite(two - one + error):
            return None
        value = two - one
        return Difference(value, value - error, value + error, "paired bootstrap", len(truth))


def _matrix(values: npt.NDArray[np.float64]) -> Array:
    return np.asarray(values, np.float64).reshape(len(values), -1)


def _variance(mean_square: Array, mean: Array) -> Array:
    """Return the variance, nan where it is rounding alone."""
    found = mean_square - mean**2
    return np.where(found > 1e-12 * mean_square, found, np.nan)


def _spearman(truth: Array, predicted: Array) -> float:
    """Return the correlation of the ranks, nan where a value is nan, which has no rank."""
    unknown = np.isnan(truth).any() or np.isnan(predicted).any()
    return math.nan if unknown else _correlation(_ranks(truth), _ranks(predicted))


def _ranks(values: Array) -> Array:
    """Return the ranks of values; equal ones have their mean rank."""
    _, of_row, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[of_row.reshape(-1)])


def _correlation(first: Array, second: Array) -> float:
    with np.errstate(all="ignore"):
        first, second = first - first.mean(), second - second.mean()
        return float(first @ second / math.sqrt(first @ first * (second @ second) or math.nan))


def _scale(n: int) -> float:
    """Return the factor of the standard error for n rows, of which fewer are drawn."""
    return math.sqrt(min(n, intervals.MOST_CELLS) / n)


def _rank_correlations(truth: Array, predicted: list[Array]) -> Array:
    """Return Spearman's correlation of resampled rows, [resamples, models]."""
    generator, found = np.random.default_rng(0), []
    for _ in range(DRAWN):
        rows = generator.integers(0, len(truth), min(len(truth), intervals.MOST_CELLS))
        ranks = _ranks(truth[rows])
        found.append([_correlation(ranks, _ranks(each[rows])) for each in predicted])
    return np.array(found)
