"""Batch samplers: which rows make a batch, as a function of (seed, epoch, world size) alone.

No sampler keeps state that a checkpoint would have to hold, and no row is ever left out or given
twice: the ranks share each epoch's rows out among themselves instead of padding.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch


class ShuffledBatches(torch.utils.data.Sampler[list[int]]):
    """Random batches for training.

    A new order every epoch, the same number of batches on every rank.

    Args:
        num_rows: rows of the split.
        batch_size: rows a batch and rank.
        seed: of the order.
        rank: this process's number; world_size: how many there are.

    Raises:
        ValueError: if there are fewer rows than ranks.
    """

    drop_last = False  # Lightning asks every batch sampler for it

    def __init__(
        self, num_rows: int, *, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        if num_rows < world_size:
            raise ValueError(f"{num_rows} rows cannot be shared out among {world_size} ranks")
        self.num_rows, self.batch_size, self.seed = num_rows, batch_size, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0
        self.sampler = self  # where Lightning looks for set_epoch

    def __len__(self) -> int:
        whole, rest = divmod(self.num_rows, self.batch_size * self.world_size)
        return whole + (rest >= self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def order(self) -> npt.NDArray[np.int64]:
        """Return the epoch's order of all rows."""
        return np.random.default_rng((self.seed, self.epoch)).permutation(self.num_rows)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order()
        size = self.batch_size * self.world_size
        last = len(self) - 1
        for step in range(len(self)):
            rows = order[step * size :] if step == last else order[step * size : (step + 1) * size]
            yield rows[self.rank :: self.world_size].tolist()


class LengthOrderedBatches(torch.utils.data.Sampler[list[int]]):
    """Every row once, batches of like length.

    For evaluation and prediction, where order does not change the result. Rows are sorted by length
    inside windows of many batches; results can be put back in input order with at most one window
    of them held back.

    Args:
        lengths: [rows], tokens a row.
        batch_size: rows a batch.
        window: batches a window.
        rank: this process's number; world_size: how many there are. Ranks may differ by one batch.
    """

    drop_last = False

    def __init__(
        self,
        lengths: Sequence[int] | npt.NDArray[np.int32],
        *,
        batch_size: int,
        window: int = 512,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size, self.window, self.rank, self.world_size = (
            batch_size,
            window,
            rank,
            world_size,
        )

    def __len__(self) -> int:
        total = -(-len(self.lengths) // self.batch_size)
        return len(range(self.rank, total, self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        rows = self.window * self.batch_size
        batch = 0
        for start in range(0, len(self.lengths), rows):
            order = start + np.argsort(-self.lengths[start : start + rows], kind="stable")
            for first in range(0, len(order), self.batch_size):
                if batch % self.world_size == self.rank:
                    yield order[first : first + self.batch_size].tolist()
                batch += 1
