"""Rows whose label looks wrong: confident learning.

Northcutt, Jiang and Chuang 2021, Confident Learning: Estimating Uncertainty in Dataset Labels,
Journal of Artificial Intelligence Research 70, section 3: the threshold of a class is the mean
probability of it in the rows that are labelled with it. A row that reaches the threshold of another
class than its own is off the diagonal of the confident joint. As in the authors' library cleanlab
(`find_label_issues(filter_by="confident_learning", return_indices_ranked_by="normalized_margin")`),
of several classes that are reached the most likely one counts, and a row whose own class is the
most likely one is left out. The probabilities have to be of a model that was not trained on the
rows.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from plcli.metrics.intervals import Array


@dataclass(frozen=True, eq=False)
class Suspected:
    """Rows whose label looks wrong, the lowest margin first.

    Attributes:
        rows: int64 [suspected], the positions of the rows.
        suggested: int64 [suspected], the class that each looks like.
        margins: [suspected], the probability of the given class minus that of the most likely other
            one, from -1 to 0.
    """

    rows: npt.NDArray[np.int64]
    suggested: npt.NDArray[np.int64]
    margins: Array


def suspected(chances: Array, given: npt.NDArray[np.int64]) -> Suspected:
    """Return the rows whose label looks wrong.

    Args:
        chances: the probability of each class, [rows, classes].
        given: the label of each row, int64 [rows].
    """
    rows, size = np.arange(len(given)), chances.shape[1]
    own = chances[rows, given].astype(np.float64)
    counts = np.bincount(given, minlength=size)
    sums = np.bincount(given, weights=own, minlength=size)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reached = chances >= thresholds - 1e-6
    several = reached.sum(1) > 1
    best = chances.argmax(1)
    looks = np.where(several, best, reached.argmax(1))
    found = np.flatnonzero(reached.any(1) & (looks != given) & (best != given))
    others = chances[found].astype(np.float64)
    others[np.arange(len(found)), given[found]] = -np.inf
    margins = own[found] - (others.max(1) if len(found) else np.zeros(0))
    order = np.argsort(margins, kind="stable")
    return Suspected(found[order], looks[found][order], margins[order])


def suspected_of_labels(chances: Array, given: npt.NDArray[np.bool_]) -> Suspected:
    """Return labels of rows that look wrong, where a row can have several.

    Each label is by itself two classes: having it and not having it.

    Args:
        chances: the probability of each label, [rows, labels].
        given: whether each row has each label, bool [rows, labels].

    Returns:
        The suspected ones; `suggested` is the label in question, which the row then has or not, as
        opposed to now.
    """
    parts = []
    for label in range(given.shape[1]):
        own = chances[:, label].astype(np.float64)
        found = suspected(np.stack([1 - own, own], axis=1), given[:, label].astype(np.int64))
        parts.append((found.rows, np.full(len(found.rows), label), found.margins))
    rows, labels, margins = (np.concatenate(each) for each in zip(*parts, strict=True))
    order = np.argsort(margins, kind="stable")
    return Suspected(rows[order], labels[order], margins[order])
