"""The order of batches and their random numbers, as functions of plain values.

- The order of an epoch's batches is a function of (seed, epoch); a loader can start at any batch.
- Random numbers in the data of a batch are a function of (seed, epoch, batch, rank), whichever
  process loads it.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset


def reseed(*key: Any) -> int:
    """Seed all random generators with a hash of plain values.

    Returns:
        The seed.
    """
    seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed costs half a millisecond if CUDA is not initialized yet
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    return seed


class Drawn(NamedTuple):
    """What a sampler yields, with the key that seeds the random numbers of its data."""

    key: tuple[Any, ...]
    index: Any


class Order:
    """A (batch) sampler whose order differs by epoch, and which can start at any batch.

    Args:
        inner: the loader's own (batch) sampler.
        key: what seeds the random numbers of the data, in addition to epoch and batch.
        rows: the row numbers of a data set that is a subset of another; None if it is not.
        epoch: returns the index of the current epoch.
    """

    def __init__(
        self, inner: Any, *, key: tuple[Any, ...], rows: Any, epoch: Callable[[], int]
    ) -> None:
        self.inner, self.key, self.rows, self.epoch = inner, key, rows, epoch
        self.start = 0
        samplers = (inner, getattr(inner, "sampler", None))
        generators = (getattr(sampler, "generator", None) for sampler in samplers)
        self._generators = [
            (generator, generator.initial_seed())
            for generator in generators
            if isinstance(generator, torch.Generator)
        ]

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:  # attributes that Lightning and users read
        if name == "inner":  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[Drawn]:
        return self._drawn(self.epoch())

    def _drawn(self, epoch: int) -> Iterator[Drawn]:
        # at the first batch, as a loader with workers makes two iterators and draws from the second
        start, self.start = self.start, 0
        for number, index in enumerate(self.indices(epoch)):
            if number >= start:
                yield Drawn((*self.key, epoch, number), index)

    def indices(self, epoch: int) -> Iterator[Any]:
        """Yield what the loader's own sampler yields in an epoch."""
        reseed("order", *self.key[:-1], epoch)  # all ranks share one order
        for generator, seed in self._generators:
            generator.manual_seed((seed * 1_000_003 + epoch) % 2**63)
        yield from self.inner


@runtime_checkable
class Drawing(Protocol):
    """A data set that takes a seed for its random numbers, instead of using global generators."""

    def drawn(self, index: Any, seed: int) -> Any:
        """Return the item or batch at an index, with random numbers from the seed."""


class SeededRows:
    """A data set whose random numbers only depend on the batch.

    Args:
        inner: the loader's own data set.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:  # attributes that users read
        if name == "inner":
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, Drawn):
            return self.inner[index]
        seed = reseed(*index.key)
        if isinstance(self.inner, Drawing):
            return self.inner.drawn(index.index, seed)
        return self.inner[index.index]

    def __getitems__(self, drawn: Drawn) -> Any:
        reseed(*drawn.key)
        if callable(many := getattr(self.inner, "__getitems__", None)):
            return many(drawn.index)
        return [self.inner[index] for index in drawn.index]


def has_order(loader: Any) -> bool:
    """Return whether the batches of a loader come from a sampler."""
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def make_resumable(loader: Any, what: str, loop: Any, epoch: Callable[[], int]) -> Order:
    """Give a loader an order and random numbers that only depend on seed, epoch and batch."""
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    inner, data = getattr(loader, name), loader.dataset
    if isinstance(inner, Order):
        return inner
    order = Order(
        inner,
        key=(what, loop.seed, loop.trainer.global_rank),
        rows=getattr(data, "row_numbers", getattr(data, "indices", None)),
        epoch=epoch,
    )
    # a loader does not allow changing these; they remain equivalent except for the order
    object.__setattr__(loader, name, order)
    object.__setattr__(loader, "dataset", SeededRows(data))
    return order
