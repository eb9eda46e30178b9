"""The folds of the training rows: each row is held out by one of them, with its group.

Folds are stratified, and their sizes differ as little as strata and groups allow. Names that
training has to know, such as labels, stay in the training part of every fold: where all rows of a
name would be held out together, one of them, with its group, is never held out.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plcli.errors import DataError, UsageError

logger = logging.getLogger(__name__)

NEVER = -1  # the fold of a row that is never held out


@dataclass(frozen=True)
class Fold:
    """A fold of the training rows.

    Attributes:
        count: the number of folds.
        number: this one, from 1.
    """

    count: int
    number: int


def given(count: int | None, number: int | None, *, validation: object) -> Fold | None:
    """Return the fold of data.folds and data.fold; None if neither is given.

    Args:
        count: data.folds.
        number: data.fold.
        validation: data.validation.

    Raises:
        UsageError: if only one is given or out of range, or validation rows are given as well.
    """
    if count is None and number is None:
        return None
    if count is None or number is None:
        raise UsageError(
            "data.folds and data.fold: only one is given. Give both, such as --data.folds 5 "
            "--data.fold 1, or train all of them with `plcli fit --folds 5`."
        )
    if count < 2:
        raise UsageError(f"data.folds: got {count}, expected 2 or more.")
    if not 1 <= number <= count:
        raise UsageError(f"data.fold: got {number}, expected 1 to {count} (data.folds).")
    if validation is not None:
        raise UsageError(
            "data.folds: a fold is validated on the training rows that it holds out, but "
            "data.validation is given as well. Add its rows to data.train, a list of sources, and "
            "set --data.validation null."
        )
    return Fold(count, number)


def folds_of(
    strata: npt.NDArray[Any],
    *,
    count: int,
    seed: int,
    groups: npt.NDArray[np.int64] | None = None,
    names: Sequence[Collection[str]] | None = None,
    source: str,
) -> npt.NDArray[np.int64]:
    """Return the fold that holds out each row, int64 [rows], from 0; -1 for those that none does.

    Args:
        strata: [rows], the stratum of each row, whose proportions the folds keep.
        count: the number of folds.
        seed: the seed of the random choice.
        groups: int64 [rows], equal for rows that are held out together; None for each by itself.
        names: [rows], the names in each row that training has to know; None for the strata.
        source: the source of the rows, for messages.

    Raises:
        DataError: if there are fewer rows or groups than folds.
    """
    units = np.arange(len(strata)) if groups is None else groups
    size = len(np.unique(units))
    if size < count:
        what = "rows" if groups is None else "groups of rows that stay together"
        raise DataError(
            f"{source}: has {size} {what}, too few for {count} folds. Use at most {size}, or add "
            "rows."
        )
    _, stratum_of = np.unique(strata, return_inverse=True)
    stratum_of = stratum_of.reshape(-1)
    if groups is None:
        found = _of_rows(stratum_of, count=count, seed=seed)
    else:
        found = _of_groups(groups, stratum_of, count=count, seed=seed)
    needed = _of_one_fold(found, stratum_of) if names is None else _needed(found, names)
    found[np.isin(units, units[needed])] = NEVER
    return found


def parts(
    fold: Fold,
    strata: npt.NDArray[Any],
    *,
    seed: int,
    groups: npt.NDArray[np.int64] | None = None,
    names: Sequence[Collection[str]] | None = None,
    source: str,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the row numbers for training, and those that a fold holds out; see `folds_of`."""
    found = folds_of(strata, count=fold.count, seed=seed, groups=groups, names=names, source=source)
    if never := int((found == NEVER).sum()):
        logger.info(
            "data.folds: %d of %d rows are in the training part of every fold, as no other rows "
            "have their labels",
            never,
            len(found),
        )
    held_out = found == fold.number - 1
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _of_rows(stratum_of: npt.NDArray[np.int64], *, count: int, seed: int) -> npt.NDArray[np.int64]:
    """Deal the rows out one stratum after the other, each in random order."""
    order = np.random.default_rng(seed).permutation(len(stratum_of))
    order = order[np.argsort(stratum_of[order], kind="stable")]
    found = np.empty(len(order), np.int64)
    found[order] = np.arange(len(order)) % count
    return found


def _of_groups(
    groups: npt.NDArray[np.int64], stratum_of: npt.NDArray[np.int64], *, count: int, seed: int
) -> npt.NDArray[np.int64]:
    """Give whole groups, large ones first, to the fold with the fewest rows of their stratum.

    The stratum of a group is that of most of its rows.
    """
    _, group_of = np.unique(groups, return_inverse=True)
    group_of = group_of.reshape(-1)
    sizes = np.bincount(group_of)
    pairs, counts = np.unique(np.stack([group_of, stratum_of]), axis=1, return_counts=True)
    bounds = np.searchsorted(pairs[0], np.arange(len(sizes) + 1))
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    loads = np.zeros((stratum_of.max() + 1, count), np.int64)
    totals = np.zeros(count, np.int64)
    fold_of = np.empty(len(sizes), np.int64)
    for group in order:
        own = slice(bounds[group], bounds[group + 1])
        main = pairs[1, own][np.argmax(counts[own])]
        chosen = min(range(count), key=lambda fold: (loads[main, fold], totals[fold]))
        fold_of[group] = chosen
        loads[pairs[1, own], chosen] += counts[own]
        totals[chosen] += sizes[group]
    return fold_of[group_of]


def _of_one_fold(
    found: npt.NDArray[np.int64], stratum_of: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the first row of each stratum all of whose rows one fold holds out."""
    _, first = np.unique(stratum_of, return_index=True)
    differs = np.bincount(stratum_of, weights=found != found[first][stratum_of])
    return np.asarray(first[differs == 0], np.int64)


def _needed(
    found: npt.NDArray[np.int64], names: Sequence[Collection[str]]
) -> npt.NDArray[np.int64]:
    """Return a row of each name all of whose rows one fold holds out."""
    first: dict[str, int] = {}
    several: set[str] = set()
    for row, own in enumerate(names):
        for name in own:
            if name not in first:
                first[name] = row
            elif found[first[name]] != found[row]:
                several.add(name)
    return np.array([row for name, row in first.items() if name not in several], np.int64)
