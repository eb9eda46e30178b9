"""Compares two models on the same test rows, and says it in a sentence."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from plcli.metrics.evaluated import EvaluatedRows, KeptRows
from plcli.metrics.paired import Difference
from plcli.metrics.scoring import Columns


@dataclass(frozen=True)
class Pairs:
    """The rows that two files have in common, in the same order.

    Attributes:
        first: the columns of the first model.
        second: those of the second one.
        count: the number of rows.
        groups: the group of each, or the row of each block; None if each is by itself.
        unit_name: what is resampled: rows, or groups of them.
    """

    first: Columns
    second: Columns
    count: int
    groups: npt.NDArray[Any] | None = None
    unit_name: str = "rows"

    @property
    def units(self) -> int:
        """The number of independent units."""
        return self.count if self.groups is None else len(np.unique(self.groups))


def paired(first: KeptRows, second: KeptRows) -> Pairs | None:
    """Return the rows that two files have in common; None if they are of different sources.

    Sources are the same if their fingerprints are, or the ids and the true values of all rows.
    """
    one, two = first.rows, second.rows
    if type(one.scoring) is not type(two.scoring):
        return None
    if first.fingerprint is None or first.fingerprint != second.fingerprint:
        truths = [each.scoring.readable(each.columns).get("truth") for each in (one, two)]
        known = all(truth is not None for truth in truths)
        if not known or first.ids != second.ids:
            return None
        same = np.asarray(truths[0], dtype=object) == np.asarray(truths[1], dtype=object)
        if not np.all(same):
            return None
    common, chosen, others = np.intersect1d(one.index, two.index, return_indices=True)
    if len(common) < 2 or len(np.unique(one.index)) < len(one.index):
        if not np.array_equal(one.index, two.index):  # blocks, of which a row may have several
            return None
        chosen = others = np.arange(len(one.index))
    groups = None if one.units is None else one.units[chosen]
    unit_name = "rows" if one.groups is None else "groups of rows"
    return Pairs(_taken(one, chosen), _taken(two, others), len(chosen), groups, unit_name)


def _taken(rows: EvaluatedRows, chosen: Any) -> Columns:
    return {name: np.asarray(column)[chosen] for name, column in rows.columns.items()}


def differences(first: KeptRows, second: KeptRows, pairs: Pairs) -> dict[str, Difference]:
    """Return the difference of every score, second minus first, that both models have."""
    scoring = first.rows.scoring
    names = [
        name
        for name in scoring.scores(pairs.first)
        if "." not in name and name in second.rows.scoring.scores(pairs.second)
    ]
    found = {
        name: scoring.difference(pairs.first, pairs.second, name, groups=pairs.groups)
        for name in names
    }
    return {name: each for name, each in found.items() if each is not None}


def sentence(
    name: str,
    found: Difference,
    *,
    first: str,
    second: str,
    direction: Literal["min", "max"],
    bounded: bool,
    unit_name: str = "rows",
) -> str:
    """Return what can be said of a difference.

    Args:
        name: the score.
        found: the difference, second minus first.
        first: the name of the first model.
        second: that of the second one.
        direction: whether smaller or larger scores are better.
        bounded: whether the score is between 0 and 1, so that it is told in points of a hundred.
        unit_name: what was resampled: rows, or groups of them.
    """
    test = "McNemar's exact test" if found.method == "mcnemar" else "paired bootstrap"
    p = "" if found.p is None else f", p = {found.p:.2g}"
    rows = f"{found.n:,} {unit_name}"

    def told(value: float, sign: str = "") -> str:
        return f"{100 * value:{sign}.2f}" if bounded else f"{value:{sign}.3g}"

    unit = " points" if bounded else ""
    if not found.seen:
        width = (found.high - found.low) / 2
        if width == 0:
            return f"{name}: no difference can be seen: both are equal on all {rows}."
        ends = f"{told(found.low)} to {told(found.high)}"
        return (
            f"{name}: no difference can be seen: {told(found.value, '+')}{unit}, 95 % {ends} "
            f"({test}{p}). Fewer than about {told(width)}{unit} are invisible with {rows}."
        )
    better = second if (found.value > 0) == (direction == "max") else first
    low, high = sorted((abs(found.low), abs(found.high)))
    return (
        f"{name}: {better} is better by {told(abs(found.value))}{unit}, 95 % {told(low)} to "
        f"{told(high)} ({test}{p}, {rows})."
    )
