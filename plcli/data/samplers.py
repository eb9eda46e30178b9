"""Batch samplers, whose batches depend only on the seed, the epoch and the world size.

Samplers have no state to save in a checkpoint. In every epoch each row is in exactly one batch: the
rows are distributed among the ranks without padding.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

# Chosen by measurement: docs/batches.md.
FEW_STEPS = 100  # per epoch: short trainings learn less from batches that are not fully random
WINDOW = 50
RANDOM_PIECES = 4
ORDERED_ROWS = 16_384  # rows that are sorted by length together for evaluation and prediction
ALL = slice(None)
Lengths = Sequence[int] | npt.NDArray[np.int32]


class ShuffledBatches(torch.utils.data.Sampler[list[int]]):
    """Random batches for training.

    The order changes every epoch; the number of batches is equal on all ranks and in all epochs.

    Args:
        lengths: [rows], number of tokens per row.
        batch_size: number of rows per batch and rank.
        tokens_per_batch: approximate number of tokens per batch and rank, instead of batch_size.
        window: number of batches whose rows are sorted by length together, cut into micro-batches
            and shuffled again; 1 keeps batches random. By default 50, or 1 in epochs of fewer than
            100 batches; see docs/batches.md.
        pieces: number of micro-batches of similar length in a batch of a window; with 1 the whole
            batch has similar lengths. By default 1, or 4 for random batches, which the data module
            splits.
        seed: the seed of the order.
        rank: the rank of this process.
        world_size: the number of processes.

    Raises:
        ValueError: if there are fewer rows than ranks.
    """

    drop_last = False  # Lightning reads this attribute

    def __init__(
        self,
        lengths: Lengths,
        *,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        window: int | None = None,
        pieces: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(lengths) < world_size:
            raise ValueError(f"{len(lengths)} rows cannot be distributed among {world_size} ranks")
        self.lengths = np.asarray(lengths)
        self.batch_size, self.tokens_per_batch = batch_size, tokens_per_batch
        self.seed, self.rank, self.world_size, self.epoch = seed, rank, world_size, 0
        self.window = window or (WINDOW if len(self) >= FEW_STEPS else 1)
        self.pieces = pieces or (RANDOM_PIECES if self.window == 1 else 1)

    def __len__(self) -> int:
        rows = len(self.lengths)
        if self.tokens_per_batch is not None:
            steps = round(int(self.lengths.sum()) / (self.tokens_per_batch * self.world_size))
            return min(max(1, steps), rows // self.world_size)
        assert self.batch_size is not None
        whole, rest = divmod(rows, self.batch_size * self.world_size)
        return whole + (rest >= self.world_size)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        generator = np.random.default_rng((self.seed, self.epoch))
        order = generator.permutation(len(self.lengths))
        bounds = self._bounds(order, len(self))
        steps = [order[first:last] for first, last in itertools.pairwise(bounds)]
        if self.window > 1:
            steps = [
                step
                for first in range(0, len(steps), self.window)
                for step in self._shuffled(steps[first : first + self.window], generator)
            ]
            steps = [steps[number] for number in generator.permutation(len(steps))]
        for step in steps:
            yield step[self.rank :: self.world_size].tolist()

    def _bounds(self, order: npt.NDArray[np.int64], steps: int) -> list[int]:
        """Return the bounds of the rows of each step, for all ranks, in the order."""
        rows = len(order)
        if self.tokens_per_batch is None:
            assert self.batch_size is not None
            size = self.batch_size * self.world_size
            return [*range(0, steps * size, size), rows]
        return self._even_tokens(order, steps, least=self.world_size)

    def _even_tokens(self, order: npt.NDArray[np.int64], parts: int, *, least: int) -> list[int]:
        """Cut an order into parts of similar numbers of tokens, with at least `least` rows."""
        rows, ends = len(order), np.cumsum(self.lengths[order])
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts) + 1
        for part in range(len(cuts)):
            before = cuts[part - 1] if part else 0
            cuts[part] = min(max(cuts[part], before + least), rows - least * (parts - 1 - part))
        return [0, *cuts.tolist(), rows]

    def _shuffled(
        self, steps: list[npt.NDArray[np.int64]], generator: np.random.Generator
    ) -> list[npt.NDArray[np.int64]]:
        """Sort the rows of steps by length, cut them into micro-batches, and shuffle these."""
        rows = np.concatenate(steps)
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        pieces = min(self.pieces, *(len(step) // self.world_size for step in steps))
        if self.tokens_per_batch is None:
            sizes = [len(part) for step in steps for part in np.array_split(step, pieces)]
            bounds = [0, *itertools.accumulate(sizes)]
        else:
            least = math.ceil(self.world_size / pieces)  # so that every rank has a row
            bounds = self._even_tokens(rows, len(steps) * pieces, least=least)
        numbers = np.arange(len(steps) * pieces).reshape(len(steps), pieces)
        return [
            np.concatenate([rows[bounds[number] : bounds[number + 1]] for number in step])
            for step in generator.permuted(numbers, axis=0)
        ]


class LengthOrderedBatches(torch.utils.data.SequentialSampler):  # Lightning leaves its order alone
    """Batches of similar length, with every row once.

    They are for evaluation and prediction, where the order does not change results. Rows are sorted
    by length within windows, so that restoring the input order needs a buffer of one window.

    Args:
        lengths: [rows], number of tokens per row.
        batch_size: number of rows per batch.
        tokens_per_batch: maximum number of tokens per batch with padding, instead of batch_size.
        window: number of rows that are sorted together.
        rows: the range of the rows; others are left out.
        rank: the rank of this process.
        world_size: the number of processes. Their numbers of batches differ by at most one, and
            each has a batch, as metrics are reduced over all processes.
    """

    drop_last = False

    def __init__(
        self,
        lengths: Lengths,
        *,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        window: int = ORDERED_ROWS,
        rows: slice = ALL,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size, self.tokens_per_batch, self.window = batch_size, tokens_per_batch, window
        self.rows = range(len(lengths))[rows]
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(range(self.rank, sum(1 for _ in self._batches()), self.world_size))

    def __iter__(self) -> Iterator[list[int]]:  # type: ignore[override]  # batches of rows
        for number, batch in enumerate(self._batches()):
            if number % self.world_size == self.rank:
                yield batch.tolist()

    def _batches(self) -> Iterator[npt.NDArray[np.int64]]:
        most = max(1, len(self.rows) // self.world_size)  # so that every rank has a batch
        for start in range(self.rows.start, self.rows.stop, self.window):
            part = self.lengths[start : min(start + self.window, self.rows.stop)]
            order = start + np.argsort(-part, kind="stable")
            first = 0
            while first < len(order):
                size = self.batch_size
                if self.tokens_per_batch is not None:
                    size = max(1, self.tokens_per_batch // max(1, int(self.lengths[order[first]])))
                assert size is not None
                size = min(size, most)
                yield order[first : first + size]
                first += size
