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


def put_back(
    kept: npt.NDArray[np.int64], cut: npt.NDArray[np.int64], names: Sequence[Collection[str]]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Move rows back to training until all names occur there; one row is left for validation.

    Args:
        kept: the row numbers for training.
        cut: the row numbers that are split off.
        names: [all rows], the names in each row.

    Returns:
        The row numbers that remain and those that are split off, ascending.
    """
    learned = set().union(*(names[row] for row in kept))
    back: list[int] = []
    for row in cut:
        if len(back) < len(cut) - 1 and not learned.issuperset(names[row]):
            learned.update(names[row])
            back.append(row)
    return np.sort(np.append(kept, back).astype(np.int64)), np.setdiff1d(cut, back)
