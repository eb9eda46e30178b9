"""Which rows are split off for validation."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def stratified_cut(
    strata: npt.NDArray[Any], *, fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split off a fraction of the rows of each stratum; a stratum of one row is not split.

    Args:
        strata: [rows], the stratum of each row.
        fraction: the fraction to split off, between 0 and 1.
        seed: the seed of the random choice.

    Returns:
        The row numbers that remain and those that are split off, ascending.
    """
    generator = np.random.default_rng(seed)
    cut = []
    for stratum in np.unique(strata):
        members = generator.permutation(np.flatnonzero(strata == stratum))
        cut.append(members[: min(max(1, round(len(members) * fraction)), len(members) - 1)])
    cut_off = np.sort(np.concatenate(cut))
    return np.setdiff1d(np.arange(len(strata)), cut_off), cut_off


def grouped_cut(
    groups: npt.NDArray[np.int64],
    strata: npt.NDArray[Any],
    *,
    fraction: float,
    seed: int,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Split off whole groups of rows, about a fraction of the rows of each stratum.

    A group is in the stratum of most of its rows. One group remains at least, and one is split off
    if there are two.

    Args:
        groups: [rows], the group of each row, numbered from 0.
        strata: [rows], the stratum of each row.
        fraction: the fraction to split off, between 0 and 1.
        seed: the seed of the random choice.

    Returns:
        The row numbers that remain and those that are split off, ascending.
    """
    sizes = np.bincount(groups)
    _, stratum_of = np.unique(strata, return_inverse=True)
    pairs, counts = np.unique(
        np.stack([groups, stratum_of.reshape(-1)]), axis=1, return_counts=True
    )
    by_count = np.lexsort((counts, pairs[0]))  # the last one of a group has the most rows
    main = np.zeros(len(sizes), np.int64)
    main[pairs[0][by_count]] = pairs[1][by_count]
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(main[order], kind="stable")]
    chosen: list[int] = []
    owed = 0.0
    for group in order:  # what a stratum is short of is taken from the next one
        owed += fraction * sizes[group]
        if owed >= sizes[group] / 2 and len(chosen) < len(sizes) - 1:
            chosen.append(int(group))
            owed -= sizes[group]
    if not chosen and len(sizes) > 1:
        chosen = [min(order, key=lambda group: sizes[group])]
    is_cut = np.isin(groups, chosen)
    return np.flatnonzero(~is_cut), np.flatnonzero(is_cut)


def put_back(
    kept: npt.NDArray[np.int64],
    cut: npt.NDArray[np.int64],
    names: Sequence[Collection[str]],
    *,
    groups: npt.NDArray[np.int64] | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Move rows back to training until all names occur there; one row is left for validation.

    Args:
        kept: the row numbers for training.
        cut: the row numbers that are split off.
        names: [all rows], the names in each row.
        groups: [all rows], the group of each row, which is moved as a whole; None moves rows.

    Returns:
        The row numbers that remain and those that are split off, ascending.
    """
    learned = set().union(*(names[row] for row in kept))
    back = np.zeros(0, np.int64)
    for row in cut:
        if learned.issuperset(names[row]):
            continue
        moved = np.array([row]) if groups is None else cut[groups[cut] == groups[row]]
        if len(back) + len(moved) < len(cut):
            learned.update(*(names[each] for each in moved))
            back = np.append(back, moved)
    return np.sort(np.append(kept, back).astype(np.int64)), np.setdiff1d(cut, back)
