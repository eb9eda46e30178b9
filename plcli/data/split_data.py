"""SplitData: sources -> rows -> splits -> loaders, for any LightningDataModule over rows.

A data module built on it gives `columns(split)` (what to read, beside the id), `open(split)` (a
Split of whole batches) and `facts()` (what the model has to know of the data, by the names of the
model's constructor). Facts flow one way, from the training split to the model.
"""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from plcli.data import leakage, rows
from plcli.data.cache import cache_folder
from plcli.data.cells import Kind
from plcli.data.rows import Rows
from plcli.data.samplers import LengthOrderedBatches, ShuffledBatches
from plcli.data.sources import Documents
from plcli.errors import DataError, UsageError

Source = str | list[str]
Batch = dict[str, Any]
STAGE_SPLITS = {
    "fit": ("train", "validation", "test"),  # what is wrong with test rows is told before training
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("predict",),
}


class Split(Dataset[Batch]):
    """The rows of a split; an item is a whole batch, taken out by a list of positions.

    Args:
        make_batch: row numbers, and the seed of what is drawn, or None -> batch.
        lengths: int32 [all rows], what batches are ordered by.
        subset: the row numbers of this split; None means all.
        rows: int64 [all items], where items are parts of rows: the row of each, for messages.
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
        """Return a whole batch, for which random numbers are drawn by a seed where it needs any."""
        return self.make_batch(self.subset[list(positions)], seed)


def _as_it_is(batch: Batch) -> Batch:
    return batch


class SplitData(LightningDataModule):
    """Splits over sources of rows.

    Args:
        sources: train, validation, test and predict; None where one is not given.
        inputs: the columns that a row to predict must have.
        id: a column that names the rows in predictions.
        batch_size: rows a batch and device.
        validation_fraction: the part of the training rows that is cut off where no validation is
            given.
        num_workers: processes that prepare batches; 0 prepares them in the main process.
        seed: of the cut and of the order of the training rows.
        tokens_per_batch: instead of batch_size: tokens a batch and device.
        bucket_batches: number of training batches whose rows are sorted by length together; None
            chooses.
        pieces: of like length that a training batch is made of; None chooses.
        encoding: of files of text; None stands for UTF-8.
    """

    documents: Documents = "lines"  # what a row of a .txt file is; rows to predict are lines
    shares_rows_out: ClassVar[bool] = (
        True  # among the ranks, so that Lightning need not wrap the samplers
    )

    def __init__(
        self,
        *,
        sources: dict[str, Source | None],
        inputs: list[str],
        id: str | None,
        batch_size: int,
        validation_fraction: float,
        num_workers: int,
        seed: int | None,
        tokens_per_batch: int | None = None,
        bucket_batches: int | None = 1,
        pieces: int | None = 1,
        encoding: str | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UsageError(f"data.batch_size: got {batch_size}, expected 1 or more.")
        if seed is not None and seed < 0:
            raise UsageError(f"data.seed: got {seed}, expected 0 or more.")
        if not 0 <= validation_fraction < 1:
            raise UsageError(
                f"data.validation_fraction: got {validation_fraction}, "
                "expected 0 or more and below 1."
            )
        self.sources, self.inputs, self.id = sources, inputs, id
        self.num_workers, self.encoding = num_workers, encoding
        self.bucket_batches, self.pieces = bucket_batches, pieces
        self.sizes: dict[str, Any] = {
            "batch_size": None if tokens_per_batch else batch_size,
            "tokens_per_batch": tokens_per_batch,
        }
        self.validation_fraction, self.seed = validation_fraction, seed
        self._typed: Rows | None = None
        self._rows: dict[str, Rows] = {}
        self._splits: dict[str, Split] = {}

    # what a data module gives

    def columns(self, split: str) -> dict[str, Kind]:
        """Return the columns of a split and what each holds."""
        raise NotImplementedError

    def open(self, split: str) -> Split:
        """Return a split, ready to give batches."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return what the model has to know, by the names of its constructor."""
        raise NotImplementedError

    def strata(self, rows: Rows) -> npt.NDArray[Any]:
        """Return a class a row that the validation cut keeps in proportion.

        Here all rows are one class.
        """
        return np.zeros(len(rows), np.int64)

    def cut(self, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the row numbers that stay for training and those cut off for validation."""
        return stratified_cut(
            self.strata(rows), fraction=self.validation_fraction, seed=self.seed or 0
        )

    def input_columns(self, split: str) -> list[str]:
        """Return the columns of a split that hold its inputs; those to predict need `inputs`."""
        return self.inputs

    def describe(self, split: str) -> str:
        """Return a line on a split."""
        return f"{split}: {len(self.split(split))} rows"

    # rows and splits

    def has(self, split: str) -> bool:
        """Whether the config names a split, or one can be cut off."""
        if split == "predict" and self._typed is not None:
            return True
        return self.sources[split] is not None or (
            split == "validation"
            and self.sources["train"] is not None
            and self.validation_fraction > 0
        )

    def rows(self, split: str) -> Rows:
        """Return a split's rows as they were read.

        A validation split that is cut off has those of train.

        Raises:
            UsageError: if the config names no such split.
            DataError: if the source is not as it has to be.
        """
        if split == "predict" and self._typed is not None:
            return self._typed
        if split == "validation" and self.sources[split] is None and self.has(split):
            return self.rows("train")
        source = self.sources[split]
        if source is None:
            raise UsageError(f"data.{split} is not given. Name a file: --data.{split} FILE.")
        if split not in self._rows:
            columns = self._all_columns(split)
            self._rows[split] = rows.load(
                source,
                columns,
                cache=self.cache(split),
                encoding=self.encoding,
                documents="lines" if split == "predict" else self.documents,
            )
        return self._rows[split]

    def cache(self, split: str) -> Path | None:
        """Return the cache folder of a split: one that is removed at the end for rows to predict.

        None stands for the usual one.
        """
        return self._passing if split == "predict" else None

    @cached_property
    def _passing(self) -> Path:
        cache_folder().mkdir(parents=True, exist_ok=True)
        folder = tempfile.mkdtemp(dir=cache_folder(), prefix="predict-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def _all_columns(self, split: str) -> dict[str, Kind]:
        return ({self.id: Kind.TEXT} if self.id else {}) | self.columns(split)

    def predict_values(self, texts: Sequence[str], *, source: str) -> None:
        """Predict what was typed, plain texts or JSON objects, instead of a file."""
        self.id = None
        self._splits.pop("predict", None)
        values = rows.from_texts(texts, self.inputs)
        self._typed = rows.from_values(values, self._all_columns("predict"), source=source)

    @cached_property
    def _cut(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        return self.cut(self.rows("train"))

    def subset(self, split: str) -> npt.NDArray[np.int64] | None:
        """Return the row numbers of a split within its rows; None means all."""
        if (
            split not in ("train", "validation")
            or self.sources["validation"] is not None
            or not self.has("validation")
        ):
            return None
        kept, cut_off = self._cut
        return kept if split == "train" else cut_off

    def training_column(self, column: str) -> Any:
        """Return a column of the training split as an Arrow array.

        It is without the rows cut off for validation.
        """
        cells, kept = self.rows("train").table.column(column), self.subset("train")
        return cells.combine_chunks() if kept is None else cells.take(kept).combine_chunks()

    def split(self, name: str) -> Split:
        """Return a split, opened once."""
        if name not in self._splits:
            subset = self.subset(name)
            if name == "validation" and subset is not None and not len(subset):
                raise DataError(
                    f"{self.rows(name).source}: no row can be cut off for validation: there is one "
                    "alone, or one of each label. Give data.validation a file, or add rows."
                )
            opened = self.open(name)
            if name == "train" and len(opened) < 2:
                raise DataError(
                    f"{self.rows(name).source}: {len(opened)} row is left for training, which "
                    "needs two or more. Add rows, or lower data.validation_fraction."
                )
            self._splits[name] = opened
        return self._splits[name]

    def first_batch(self, split: str) -> Batch:
        """Return a batch of a split's first rows, to try it."""
        opened = self.split(split)
        return opened[range(min(len(opened), self.sizes["batch_size"] or 1))]

    def ids(self, split: str, indices: npt.NDArray[np.int64]) -> list[Any]:
        """Return the ids of rows: the id column's, else the row numbers."""
        if self.id is None:
            numbers: list[Any] = indices.tolist()
            return numbers
        names: list[Any] = self.rows(split).table.column(self.id).take(indices).to_pylist()
        return names

    def fingerprints(self) -> Mapping[str, str]:
        """Return the fingerprint of every source that was read."""
        return {split: source.fingerprint for split, source in self._rows.items()}

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Fill the caches on rank 0; the other ranks then find them."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            self.setup(self.trainer.state.fn.value)

    def setup(self, stage: str) -> None:
        """Open the splits of a stage."""
        for split in STAGE_SPLITS[stage]:
            if stage != "fit" or split == "train" or self.has(split):
                self.split(split)

    def leaks(self) -> list[str]:
        """Return a line for validation and test each, if rows of it also stand in training."""
        hashes = {
            split: leakage.hashes(self.rows(split), self.input_columns(split), self.subset(split))
            for split in ("validation", "test")
            if self.has(split)
        }
        counts = leakage.counted(
            self.rows("train"), self.input_columns("train"), self.subset("train"), hashes
        )
        return [
            f"{split}: {count} of {len(hashes[split])} rows also stand in the training split, so "
            f"that its score says little; remove them from data.{split} or data.train"
            for split, count in counts.items()
            if count
        ]

    def train_dataloader(self) -> Any:
        """Batches of random rows, another order every epoch."""
        split = self.split("train")
        rank, world_size = self._share(split, "train")
        batches = ShuffledBatches(
            split.lengths,
            **self.sizes,
            window=self.bucket_batches,
            pieces=self.pieces or (1 if self._on_gpu() else None),
            seed=self.seed or 0,
            rank=rank,
            world_size=world_size,
        )
        self.num_pieces = batches.pieces
        return self._loader(split, batches)

    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type != "cpu"

    def val_dataloader(self) -> Any:
        """Batches of the validation split in length order."""
        return self._ordered("validation") if self.has("validation") else []

    def test_dataloader(self) -> Any:
        """Batches of the test split in length order."""
        return self._ordered("test")

    def predict_dataloader(self) -> Any:
        """Batches of the rows to predict in length order."""
        return self._ordered("predict")

    def _ordered(self, name: str) -> Any:
        split = self.split(name)
        rank, world_size = self._share(split, name)
        return self._loader(
            split,
            LengthOrderedBatches(split.lengths, **self.sizes, rank=rank, world_size=world_size),
        )

    def _loader(self, split: Split, batches: Any) -> Any:
        return DataLoader(
            split,
            sampler=batches,
            batch_size=None,  # the sampler gives whole batches
            collate_fn=_as_it_is,  # type: ignore[arg-type]  # typed for lists of items
            num_workers=self.num_workers,
            multiprocessing_context="fork"
            if self.num_workers
            else None,  # shares the memory map; nothing is pickled
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def _share(self, split: Split, name: str) -> tuple[int, int]:
        """Return this process's number and how many there are."""
        if self.trainer is None:
            return 0, 1
        world_size = self.trainer.world_size
        if len(split) < world_size:
            raise DataError(
                f"data.{name}: {len(split)} rows cannot be shared out among {world_size} processes."
            )
        return self.trainer.global_rank, world_size


def stratified_cut(
    strata: npt.NDArray[Any], *, fraction: float, seed: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Cut a part off, each class in proportion; a class of one row stays whole.

    Args:
        strata: [rows], a class a row.
        fraction: the part to cut off, between 0 and 1.
        seed: of the choice.

    Returns:
        The row numbers that stay and those that are cut off, ascending.
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
    """Put rows that were cut off back until all names are learned; one is left to validate on.

    Args:
        kept: the row numbers that stay for training.
        cut: those that were cut off.
        names: [all rows], what is to be learned of each.

    Returns:
        The row numbers that stay and those that are cut off, ascending.
    """
    learned = set().union(*(names[row] for row in kept))
    back: list[int] = []
    for row in cut:
        if len(back) < len(cut) - 1 and not learned.issuperset(names[row]):
            learned.update(names[row])
            back.append(row)
    return np.sort(np.append(kept, back).astype(np.int64)), np.setdiff1d(cut, back)
