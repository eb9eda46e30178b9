"""SplitData: a LightningDataModule for sources of rows, their splits and their loaders.

A subclass implements `columns(split)` (the columns to read besides the id), `open(split)` (a Split,
whose items are whole batches) and `facts()` (the constructor arguments of the model that depend on
the data). Facts flow only from the training split to the model.
"""

import copy
import shutil
import weakref
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningDataModule

from plcli.data import folds, leakage, loading, rows
from plcli.data.cache import temporary_folder
from plcli.data.cells import Kind
from plcli.data.further_columns import FurtherColumns, Wanted
from plcli.data.rows import Rows
from plcli.data.samplers import ALL, LengthOrderedBatches, ShuffledBatches
from plcli.data.sources import Decimal, Documents, Format, Quoting, Reading
from plcli.data.split import Batch, Split
from plcli.data.validation_cut import grouped_cut, put_back, stratified_cut
from plcli.errors import DataError, UsageError

Source = str | list[str]
CHECKED_ROWS = 16  # of a batch for checks
STAGE_SPLITS = {  # in fit the test, too, so that errors in its rows are reported before training
    "fit": ("train", "validation", "test"),
    "validate": ("validation",),
    "test": ("test",),
    "predict": ("predict",),
}


class SplitData(LightningDataModule):
    """The splits of sources of rows.

    Args:
        sources: train, validation, test and predict; None for those not given.
        inputs: the columns that a row to predict must have.
        id: a column of row ids for predictions.
        group: a column whose equal values mark rows that belong together; None if there is none.
        batch_size: number of rows per batch and device.
        validation_fraction: the fraction of training rows that is split off if no validation rows
            are given.
        num_workers: number of processes that prepare batches; 0 uses the main process.
        seed: the seed of the order of training rows.
        split_seed: the seed of the validation split and of folds; None takes `seed`.
        fold: the fold of the training rows whose held-out part is the validation split.
        tokens_per_batch: number of tokens per batch and device, instead of batch_size.
        bucket_batches: number of training batches whose rows are sorted by length together; None
            chooses.
        pieces: number of micro-batches of similar length per training batch; None chooses.
        encoding: the encoding of text files; None is UTF-8.
        quoting: whether quotes enclose the cells of csv and tsv files.
        delimiter: what separates the cells of csv and tsv files; None goes by the extension.
        decimal: the decimal separator of numbers in text files.
        format: the annotation tool that wrote json and jsonl files.
    """

    documents: Documents = "lines"  # the rows of a .txt file; rows to predict are always lines
    # samplers distribute rows among ranks, so that Lightning does not wrap them
    distributes_rows: ClassVar[bool] = True
    whole_batches = False
    predicted = ALL  # the range of the rows that a prediction takes

    def __init__(
        self,
        *,
        sources: dict[str, Source | None],
        inputs: list[str],
        id: str | None,  # noqa: A002  # the config key
        batch_size: int,
        validation_fraction: float,
        num_workers: int,
        seed: int | None,
        group: str | None = None,
        split_seed: int | None = None,
        fold: folds.Fold | None = None,
        tokens_per_batch: int | None = None,
        bucket_batches: int | None = 1,
        pieces: int | None = 1,
        encoding: str | None = None,
        quoting: Quoting | None = None,
        delimiter: str | None = None,
        decimal: Decimal | None = None,
        format: Format | None = None,  # noqa: A002  # the config key
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise UsageError(f"data.batch_size: got {batch_size}, expected 1 or more.")
        for name, value in (("seed", seed), ("split_seed", split_seed)):
            if value is not None and value < 0:
                raise UsageError(f"data.{name}: got {value}, expected 0 or more.")
        if not 0 <= validation_fraction < 1:
            raise UsageError(
                f"data.validation_fraction: got {validation_fraction}, "
                "expected 0 or more and below 1."
            )
        self.sources, self.inputs, self.id, self.group = sources, inputs, id, group
        self.held_out = fold
        self.num_workers, self.encoding = num_workers, encoding
        self.quoting, self.delimiter = quoting, delimiter
        self.decimal, self.format = decimal, format
        self.bucket_batches, self.pieces = bucket_batches, pieces
        self.sizes: dict[str, Any] = {
            "batch_size": None if tokens_per_batch else batch_size,
            "tokens_per_batch": tokens_per_batch,
        }
        self.validation_fraction, self.seed = validation_fraction, seed
        self.cut_seed = split_seed if split_seed is not None else seed or 0
        self._in_memory: dict[str, Rows] = {}  # by split; they go before its source
        self._rows: dict[str, Rows] = {}
        self._splits: dict[str, Split] = {}

    # implemented by subclasses

    def columns(self, split: str) -> dict[str, Kind]:
        """Return the columns of a split, and the kind of each."""
        raise NotImplementedError

    def open(self, split: str) -> Split:
        """Return a split, ready to return batches."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """Return the constructor arguments of the model that depend on the data."""
        raise NotImplementedError

    def strata(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the stratum of each row, whose proportions the validation split keeps.

        By default all rows are in one stratum.
        """
        return np.zeros(len(rows), np.int64)

    def trained_names(self, rows: Rows) -> Sequence[Collection[str]] | None:
        """Return the names in each row that stay in training; None if strata say enough."""
        return None

    def kept_together(self) -> npt.NDArray[np.int64] | None:
        """Return the group of each training row that no fold divides; None if there are none."""
        return self.groups("train")

    def cut(self, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the row numbers for training, and those split off for validation.

        Rows of a group stay together, and every name of `trained_names` stays in training.
        """
        settings: Any = {"fraction": self.validation_fraction, "seed": self.cut_seed}
        groups, names = self.groups("train"), self.trained_names(rows)
        if groups is None:
            found = stratified_cut(self.strata(rows), **settings)
        else:
            found = grouped_cut(groups, self.strata(rows), **settings)
        return found if names is None else put_back(*found, names, groups=groups)

    def input_columns(self, split: str) -> list[str]:
        """Return the input columns of a split; rows to predict must have `inputs`."""
        return self.inputs

    def describe(self, split: str) -> str:
        """Return a one-line description of a split."""
        return f"{split}: {len(self.split(split))} rows"

    # rows and splits

    def has(self, split: str) -> bool:
        """Whether the config names a split, or it can be split off."""
        return (split in self._in_memory or self.sources[split] is not None) or (
            split == "validation"
            and self.sources["train"] is not None
            and (self.validation_fraction > 0 or self.held_out is not None)
        )

    def rows(self, split: str) -> Rows:
        """Return the rows of the source of a split.

        For a validation split that is split off, these are the rows of train.

        Raises:
            UsageError: if the config does not name the split.
            DataError: if the source is not valid.
        """
        if split in self._in_memory:
            return self._in_memory[split]
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
                quoting=self.quoting,
                delimiter=self.delimiter,
                decimal=self.decimal,
                format=self.format,
                split=split,
            )
        return self._rows[split]

    def cache(self, split: str) -> Path | None:
        """Return the cache folder of a split; None is the default folder.

        Rows to predict have a temporary folder.
        """
        return self._temporary_cache if split == "predict" else None

    @cached_property
    def _temporary_cache(self) -> Path:
        folder = temporary_folder()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _all_columns(self, split: str) -> dict[str, Kind]:
        further = [self.id, None if split == "predict" else self.group]
        return {name: Kind.TEXT for name in further if name} | self.columns(split)

    def groups(self, split: str) -> npt.NDArray[np.int64] | None:
        """Return the group of each row of the source of a split, int64 [rows].

        Groups are numbered from 0 in the order of the rows. A row with an empty cell is a group of
        its own. None if data.group is not given.

        Raises:
            UsageError: if the column holds lists.
        """
        if self.group is None:
            return None
        from plcli.data import grouping

        rows = self.rows(split)
        return grouping.numbered(rows.table.column(self.group), key="data.group", name=self.group)

    def predict_values(self, texts: Sequence[str], *, source: str) -> None:
        """Predict texts of the command line, plain or JSON objects, instead of a file."""
        self.id = None
        self._splits.pop("predict", None)
        self._read(rows.from_texts(texts, self.inputs), "predict", source)

    def with_rows(
        self, split: str, values: Sequence[Mapping[str, Any]], *, source: str
    ) -> "SplitData":
        """Return a data module with these rows in memory instead of the source of a split.

        It shares the tokenizer with this one, and nothing that changes, so that several can be used
        at the same time.

        Args:
            split: predict or test.
            values: the rows. Without a value for the id column in each, rows are numbered.
            source: what the rows are, for messages.

        Raises:
            DataError: if a column is missing, or a cell is not of its kind.
        """
        other = self.without_rows()
        if self.id is not None and not all(self.id in row for row in values):
            other.id = None
        other._read(values, split, source)
        return other

    def with_source(self, split: str, source: Source) -> "SplitData":
        """Return a data module like this one with another source of a split."""
        other = self.without_rows()
        other.sources = {**self.sources, split: source}
        return other

    def without_rows(self) -> "SplitData":
        """Return a copy that has read no rows of predict and test yet."""
        other = copy.copy(self)
        other._in_memory, other._rows, other._splits = {}, {}, {}
        vars(other).pop("_temporary_cache", None)
        return other

    def _read(self, values: Sequence[Mapping[str, Any]], split: str, source: str) -> None:
        columns = self._all_columns(split)
        self._in_memory[split] = rows.from_values(values, columns, source=source)

    @cached_property
    def _cut(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        rows = self.rows("train")
        if self.held_out is None:
            return self.cut(rows)
        return folds.parts(
            self.held_out,
            self.strata(rows),
            groups=self.kept_together(),
            names=self.trained_names(rows),
            seed=self.cut_seed,
            source=rows.source,
        )

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

        Rows that are split off for validation are excluded.
        """
        cells, kept = self.rows("train").table.column(column), self.subset("train")
        return cells.combine_chunks() if kept is None else cells.take(kept).combine_chunks()

    def split(self, name: str) -> Split:
        """Return a split, opened once."""
        if name not in self._splits:
            subset = self.subset(name)
            if name == "validation" and subset is not None and not len(subset):
                raise DataError(
                    f"{self.rows(name).source}: no row can be split off for validation: there is "
                    "only one, or each has a label of its own. Give data.validation a file, or add "
                    "rows; or name the label column, if it is another one."
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
        """Return a small batch of the first rows of a split, for checks."""
        opened = self.split(split)
        return opened[range(min(len(opened), self.sizes["batch_size"] or 1, CHECKED_ROWS))]

    def ids(self, split: str, indices: npt.NDArray[np.int64]) -> list[Any]:
        """Return the ids of rows: the id column, or the row numbers without one."""
        if self.id is None:
            numbers: list[Any] = indices.tolist()
            return numbers
        names: list[Any] = self.rows(split).table.column(self.id).take(indices).to_pylist()
        return names

    @property
    def id_name(self) -> str:
        """The name of the ids in predictions: that of the id column, or id."""
        return self.id or "id"

    def truth_columns(self) -> dict[str, Kind]:
        """Return the columns with what predictions should be, such as labels."""
        columns, inputs = self.columns("test"), self.input_columns("test")
        return {name: kind for name, kind in columns.items() if name not in inputs}

    def further_columns(self, names: Sequence[str] | None, *, truth: bool) -> FurtherColumns:
        """Return further columns of the rows to predict, to be written beside predictions.

        Args:
            names: the columns to keep; None keeps all.
            truth: whether to read the label columns.

        Raises:
            UsageError: if there are no label columns.
            DataError: if a column does not exist.
        """
        labels = getattr(self, "labels", None)
        wanted = Wanted(names, self.truth_columns() if truth else {}, labels)
        if truth and not wanted.truth:
            raise UsageError(
                f"--with-truth: {type(self).__name__} reads no label column. Remove the option."
            )
        return self._further("predict", wanted)

    def _further(self, split: str, wanted: Wanted) -> FurtherColumns:
        source, num_rows = self.sources[split], len(self.rows(split))
        assert source is not None
        documents = "lines" if split == "predict" else self.documents
        reading = Reading(
            *(self.encoding, documents, self.quoting, self.delimiter, self.decimal, self.format)
        )
        settings: Any = {"inputs": self.inputs, "num_rows": num_rows, "split": split}
        return FurtherColumns(source, reading, wanted, **settings)

    def cells_of(self, split: str, names: Sequence[str], *, option: str) -> dict[str, list[Any]]:
        """Return the cells of any columns of a split's source, in the order of its rows.

        Args:
            split: the split.
            names: the columns.
            option: the option that names them, for messages.

        Raises:
            DataError: if a column does not exist.
        """
        further = self._further(split, Wanted(names, {}, option=option))
        rows = [further.at(index)[1] for index in range(len(self.rows(split)))]
        return {name: [row[name] for row in rows] for name in names}

    def inputs_of(self, split: str, indices: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the input cells of rows of a split by column, given their numbers."""
        table, names = self.rows(split).table, self.input_columns(split)
        cells = [table.column(name).take(indices).to_pylist() for name in names]
        return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]

    def fingerprints(self) -> Mapping[str, str]:
        """Return the fingerprint of every source that has been read, by split."""
        return {split: source.fingerprint for split, source in self._rows.items()}

    def row_digests(self) -> Mapping[str, str]:
        """Return the sha256 of the rows that have been read, as they are trained on, by split."""
        return {
            split: source.file.sha256()
            for split, source in self._rows.items()
            if source.file is not None
        }

    # Lightning's hooks

    def prepare_data(self) -> None:
        """Fill the caches on rank 0, for the other ranks."""
        if self.trainer is not None and self.trainer.state.fn is not None:
            self.setup(self.trainer.state.fn.value)

    def setup(self, stage: str) -> None:
        """Open the splits of a stage."""
        for split in STAGE_SPLITS[stage]:
            if stage != "fit" or split == "train" or self.has(split):
                self.split(split)

    def leaks(self) -> list[str]:
        """Return a warning for validation and test each, if they share rows with training."""
        return leakage.warnings(
            {
                split: (self.rows(split), self.input_columns(split), self.subset(split))
                for split in ("train", "validation", "test")
                if self.has(split)
            }
        )

    def train_dataloader(self) -> Any:
        """Return random batches, in a different order every epoch.

        With `overfit_batches` they are the same batches in the same order.
        """
        split = self.split("train")
        if getattr(self.trainer, "overfit_batches", 0):  # without a trainer there is none
            self.num_pieces = 1
            return self._ordered("train")
        rank, world_size = loading.share(split, "train", self.trainer)
        batches = ShuffledBatches(
            split.lengths,
            **self.sizes,
            window=self.bucket_batches,
            pieces=self.pieces or (1 if self.whole_batches or self._on_gpu() else None),
            seed=self.seed or 0,
            rank=rank,
            world_size=world_size,
        )
        self.num_pieces = batches.pieces
        return loading.loader(split, batches, num_workers=self.num_workers)

    def use_whole_batches(self) -> None:
        """Run training batches whole by default."""
        self.whole_batches = True

    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type != "cpu"

    def val_dataloader(self) -> Any:
        """Return batches of the validation split, sorted by length."""
        return self._ordered("validation") if self.has("validation") else []

    def test_dataloader(self) -> Any:
        """Return batches of the test split, sorted by length."""
        return self._ordered("test")

    def predict_dataloader(self) -> Any:
        """Return batches of the rows to predict, sorted by length."""
        return self._ordered("predict", rows=self.predicted)

    def _ordered(self, name: str, *, rows: slice = ALL) -> Any:
        split = self.split(name)
        rank, world_size = loading.share(split, name, self.trainer)
        batches = LengthOrderedBatches(
            split.lengths, **self.sizes, rows=rows, rank=rank, world_size=world_size
        )
        return loading.loader(split, batches, num_workers=self.num_workers)
