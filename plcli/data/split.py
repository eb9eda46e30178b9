"""Split: the rows of a split, whose items are whole batches."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

Batch = dict[str, Any]


class Split(Dataset[Batch]):
    """The rows of a split. An item is a whole batch; its index is a list of positions.

    Args:
        make_batch: returns the batch of row numbers, with a seed for random draws, or None.
        lengths: int32 [all rows], the lengths by which batches are sorted.
        subset: the row numbers of this split; None means all.
        rows: int64 [all items], the row of each item if items are parts of rows, for messages.
    """

    def __init__(
        self,
        make_batch: Callable[[npt.NDArray[np.int64], int | None], Batch],
        lengths: npt.NDArray[np.int32],
        subset: npt.NDArray[np.int64] | None,
        *,
        rows: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.make_batch = make_batch
        self.subset = np.arange(len(lengths)) if subset is None else subset
        self.row_numbers = self.subset if rows is None else rows[self.subset]
        self.lengths = lengths[self.subset]

    def __len__(self) -> int:
        return len(self.subset)

    def __getitem__(self, positions: Sequence[int]) -> Batch:  # a whole batch
        return self.make_batch(self.subset[list(positions)], None)

    def drawn(self, positions: Sequence[int], seed: int) -> Batch:
        """Return a whole batch, whose random draws depend on the seed."""
        return self.make_batch(self.subset[list(positions)], seed)
