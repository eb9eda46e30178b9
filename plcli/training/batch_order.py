"""The order of batches and the random numbers in them, as functions of plain values.

- The order of an epoch's batches is a function of (seed, epoch); a loader is told its first batch.
- Random numbers inside a batch's data are a function of (seed, epoch, batch, rank), in whatever
  process it is made.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset


def reseed(*key: Any) -> int:
    """Make all random numbers that follow a function of some plain values.

    Returns:
        The seed that they follow from.
    """
    seed = int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "little")
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed costs half a millisecond where CUDA is not in use yet
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch's own
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    return seed


class Drawn(NamedTuple):
    """What a sampler gave, and what the random numbers of its data depend on."""

    key: tuple[Any, ...]
    index: Any


class Order:
    """The batches of a loader: another order every epoch, which may be begun at any batch.

    Args:
        inner: the loader's own (batch) sampler.
        key: what the data's random numbers depend on, beside epoch and batch.
        rows: the row numbers of a data set that is a part of another; None where it is none.
        epoch: returns the number of the epoch.
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

    def __getattr__(self, name: str) -> Any:  # what Lightning and users ask a sampler for
        if name == "inner":  # while it is copied or unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __iter__(self) -> Iterator[Drawn]:
        start, self.start = self.start, 0  # only once, and not when the first batch is asked for
        return self._drawn(self.epoch(), start)

    def _drawn(self, epoch: int, start: int) -> Iterator[Drawn]:
        for number, index in enumerate(self.indices(epoch)):
            if number >= start:
                yield Drawn((*self.key, epoch, number), index)

    def indices(self, epoch: int) -> Iterator[Any]:
        """Yield what the loader's own sampler gives in an epoch."""
        reseed("order", *self.key[:-1], epoch)  # the ranks share one order out
        for generator, seed in self._generators:
            generator.manual_seed((seed * 1_000_003 + epoch) % 2**63)
        yield from self.inner


@runtime_checkable
class Drawing(Protocol):
    """A data set that is given the seed of what it draws, instead of global random numbers."""

    def drawn(self, index: Any, seed: int) -> Any:
        """Return what the loader asks for at an index, whatever is drawn for it by the seed."""


class SeededRows:
    """A data set whose random numbers depend on the batch alone.

    Args:
        inner: the loader's own data set.
    """

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:  # what users ask their data set for
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
    return isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset)


def take_in_hand(loader: Any, what: str, loop: Any, epoch: Callable[[], int]) -> Order:
    """Give a loader an order and random numbers that depend on the epoch alone."""
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
    # a loader refuses the change of its parts; here they are the same, but for the order
    object.__setattr__(loader, name, order)
    object.__setattr__(loader, "dataset", SeededRows(data))
    return order
