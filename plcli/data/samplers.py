"""Batch samplers: which rows make a batch, as a function of (seed, epoch, world size) alone.

No sampler keeps state that a checkpoint would have to hold, and no row is ever left out or given
twice: the ranks share each epoch's rows out among themselves instead of padding.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

# Chosen by measurement: docs/batches.md.
FEW_STEPS = 100  # in an epoch: a short training learns less from batches that are not quite random
WINDOW = 50
RANDOM_PIECES = 4
Lengths = Sequence[int] | npt.NDArray[np.int32]


class ShuffledBatches(torch.utils.data.Sampler[list[int]]):
    """Random batches for training.

    A new order every epoch, the same number of batches on every rank and in every epoch.

    Args:
        lengths: [rows], tokens a row.
        batch_size: rows a batch and rank.
        tokens_per_batch: instead of batch_size: tokens a batch and rank, about; a row counts whole.
        window: batches whose rows are sorted by length together, cut into pieces, and dealt out
            again at random; 1 keeps batches random. By default 50, and 1 where an epoch has fewer
            than 100 batches: see docs/batches.md.
        pieces: of like length that a batch of a window is made of; one makes whole batches of like
            length. By default 1, and 4 for random batches, which their reader may part so.
        seed: of the order.
        rank: this process's number.
        world_size: how many processes there are.

    Raises:
        ValueError: if there are fewer rows than ranks.
    """

    drop_last = False  # Lightning asks every batch sampler for it

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
            raise ValueError(f"{len(lengths)} rows cannot be shared out among {world_size} ranks")
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
        """Choose the epoch whose order the next iteration gives."""
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
                for step in self._dealt(steps[first : first + self.window], generator)
            ]
            steps = [steps[number] for number in generator.permutation(len(steps))]
        for step in steps:
            yield step[self.rank :: self.world_size].tolist()

    def _bounds(self, order: npt.NDArray[np.int64], steps: int) -> list[int]:
        """Return where each step's rows, those of all ranks, begin and end in the order."""
        rows = len(order)
        if self.tokens_per_batch is None:
            assert self.batch_size is not None
            size = self.batch_size * self.world_size
            return [*range(0, steps * size, size), rows]
        return self._even_tokens(order, steps, least=self.world_size)

    def _even_tokens(self, order: npt.NDArray[np.int64], parts: int, *, least: int) -> list[int]:
        """Cut an order into parts of like many tokens and at least so many rows."""
        rows, ends = len(order), np.cumsum(self.lengths[order])
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts) + 1
        for part in range(len(cuts)):
            before = cuts[part - 1] if part else 0
            cuts[part] = min(max(cuts[part], before + least), rows - least * (parts - 1 - part))
        return [0, *cuts.tolist(), rows]

    def _dealt(
        self, steps: list[npt.NDArray[np.int64]], generator: np.random.Generator
    ) -> list[npt.NDArray[np.int64]]:
        """Sort the rows of some steps by length, cut them into pieces and deal these out anew."""
        rows = np.concatenate(steps)
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        pieces = min(self.pieces, *(len(step) // self.world_size for step in steps))
        if self.tokens_per_batch is None:
            sizes = [len(part) for step in steps for part in np.array_split(step, pieces)]
            bounds = [0, *itertools.accumulate(sizes)]
        else:
            least = math.ceil(self.world_size / pieces)  # so that every rank gets a row
            bounds = self._even_tokens(rows, len(steps) * pieces, least=least)
        numbers = np.arange(len(steps) * pieces).reshape(len(steps), pieces)
        return [
            np.concatenate([rows[bounds[number] : bounds[number + 1]] for number in step])
            for step in generator.permuted(numbers, axis=0)
        ]


class LengthOrderedBatches(torch.utils.data.Sampler[list[int]]):
    """Every row once, batches of like length.

    For evaluation and prediction, where order does not change the result. Rows are sorted by length
    inside windows; results can be put back in input order with at most one window held back.

    Args:
        lengths: [rows], tokens a row.
        batch_size: rows a batch.
        tokens_per_batch: instead of batch_size: tokens a batch at most, padding included.
        window: rows that are sorted together.
        rank: this process's number.
        world_size: how many processes there are; their numbers of batches may differ by one, and
            none has none, as an evaluation's sums are taken over all of them.
    """

    drop_last = False

    def __init__(
        self,
        lengths: Lengths,
        *,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        window: int = 16_384,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size, self.tokens_per_batch, self.window = batch_size, tokens_per_batch, window
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return len(range(self.rank, sum(1 for _ in self._batches()), self.world_size))

    def __iter__(self) -> Iterator[list[int]]:
        for number, batch in enumerate(self._batches()):
            if number % self.world_size == self.rank:
                yield batch.tolist()

    def _batches(self) -> Iterator[npt.NDArray[np.int64]]:
        most = max(1, len(self.lengths) // self.world_size)  # so that every rank has a batch
        for start in range(0, len(self.lengths), self.window):
            part = self.lengths[start : start + self.window]
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
