"""TextData: the base LightningDataModule of all text tasks.

It and its subclasses are dataclasses, whose fields are the keys of a config. The data module of a
task implements

- `inputs`: the columns that a row to predict must have, set in `__post_init__`;
- `columns(split)`: the kind of each column of a split;
- `targets(rows)`: the labels of all rows as an array; or, if labels are made together with tokens,
  its own `encoder(split)` and `collate(split, encoded, indices)`;
- `cut_blocks(split)`, if batches consist of blocks of documents instead of rows;
- `facts()`: the facts of its model, in addition to those here.

The tokenizer, encoding and batches are here, and splits and loaders in split_data.py. A batch
contains whole rows, and all windows of each.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from plcli.config.marks import (
    FACT,
    FREE,
    LEARNING,
    OTHER_ROWS,
    PATH,
    TRAIN,
    USE,
    VALIDATION,
    instead_of,
    renamed_to,
)
from plcli.data import fitted_tokenizers, folds
from plcli.data.cells import Kind
from plcli.data.encoders.documents import Blocks
from plcli.data.encoders.encoder import Encoder
from plcli.data.encoders.text import TextEncoder
from plcli.data.rows import Rows
from plcli.data.sources import Decimal, Format, Quoting
from plcli.data.split import Batch, Split
from plcli.data.split_data import Source, SplitData
from plcli.data.token_cache import Encoded, encode
from plcli.data.unlabelled import UnlabelledData
from plcli.errors import DataError, UsageError
from plcli.pretrained import tokenizers

logger = logging.getLogger(__name__)

EmptyText = Literal["keep", "refuse"]
FITTED_LONGEST = 256  # tokens: the default for a fitted tokenizer
LONGEST = 512  # tokens: the default for a tokenizer without a limit, or with a very large one


@dataclass(kw_only=True, eq=False, repr=False)
class TextData(UnlabelledData):
    """The splits of text rows, which are tokenised once and batched by length.

    Args:
        train: training rows: a path, a glob, a list, s3://..., hf:NAME or package:NAME/FILE.
        validation: validation rows; by default a stratified part of the training rows is split off.
        test: test rows.
        predict: rows to predict; they need no label column.
        id: a column of row ids for predictions; by default rows are numbered from 0.
        group: a column with equal values for rows that belong together, such as those of a
            document: they are split off together, and intervals are of groups instead of rows.
        tokenizer: the name or path of the tokenizer; by default that of model.pretrained.
        wordpieces: vocabulary size of the tokenizer that is fitted on the training rows if there is
            no pretrained one.
        max_length: maximum number of tokens per row; by default that of the tokenizer, up to 512.
        batch_size: number of rows per batch and device.
        tokens_per_batch: approximate number of tokens per batch and device, instead of batch_size.
        pieces: number of micro-batches of similar length in which a training batch is run, each
            padded separately; the gradient is that of the whole batch. By default 1, but 4 for
            random batches on a CPU; on a GPU small micro-batches cost more than padding.
        bucket_batches: number of training batches whose rows are sorted by length together, cut
            into micro-batches of similar length and shuffled again, to save padding; 1 keeps
            batches random. By default 50, or 1 in epochs of fewer than 100 batches and where the
            loss is a mean over tokens, which batches of short rows would distort.
        window: the old name of bucket_batches.
        validation_fraction: the fraction of training rows that is split off if no validation rows
            are given.
        num_workers: number of processes that prepare batches; 0 uses the main process.
        folds: divides the training rows into this number of stratified folds, for `fold`.
        fold: the fold, from 1, whose rows are the validation split; the others are trained on.
        seed: the seed of the order of training rows, and of the validation split; by default
            seed_everything.
        split_seed: the seed of the validation split and of folds alone; by default `seed`.
        encoding: the encoding of text files, such as cp1252; by default UTF-8.
        quoting: whether quotes enclose the cells of csv and tsv files (csv), or are plain
            characters (none); by default they do, and cells that look like several rows are
            refused.
        delimiter: what separates the cells of csv and tsv files, such as ';'; by default a comma
            in .csv and a tab in .tsv files.
        decimal: the decimal separator of numbers in text files; '.' and ',' also allow separated
            thousands. By default a point, and numbers such as 1,000 are refused.
        format: the annotation tool that wrote json and jsonl files, or rows for none; by default
            the content says it.
        empty_text: whether rows with empty or missing text are kept (and counted) or refused.
        unlabelled: whether training rows may have no label, so that they have only the soft labels
            of a teacher; by default if there is one (model.teacher).
    """

    template = None  # type: str | None
    # joins columns to one text; a task sets it, or has a key of this name
    fits: ClassVar[fitted_tokenizers.Kind] = "wordpiece"  # the kind of a fitted tokenizer
    # the default of bucket_batches; None depends on the number of batches: docs/batches.md
    default_bucket_batches: ClassVar[int | None] = None

    train: Source | None = field(default=None, metadata=TRAIN)
    validation: Source | None = field(default=None, metadata=VALIDATION)
    test: Source | None = field(default=None, metadata=OTHER_ROWS)
    predict: Source | None = field(default=None, metadata=OTHER_ROWS)
    id: str | None = field(default=None, metadata=USE)
    group: str | None = None
    tokenizer: str | None = field(default=None, metadata=PATH)
    wordpieces: int = field(default=8000, metadata=LEARNING)
    max_length: int | None = field(default=None, metadata=FACT)
    batch_size: int = field(default=32, metadata={**USE, **instead_of("tokens_per_batch")})
    tokens_per_batch: int | None = field(default=None, metadata=USE)
    pieces: int | None = field(default=None, metadata=LEARNING)
    bucket_batches: int | None = field(default=None, metadata=LEARNING)
    window: int | None = field(default=None, metadata={**renamed_to("bucket_batches"), **LEARNING})
    validation_fraction: float = 0.1
    folds: int | None = None
    fold: int | None = None
    split_seed: int | None = None
    num_workers: int = field(default=0, metadata=FREE)
    seed: int | None = None
    encoding: str | None = field(default=None, metadata=USE)
    quoting: Quoting | None = field(default=None, metadata=USE)
    delimiter: str | None = field(default=None, metadata=USE)
    decimal: Decimal | None = field(default=None, metadata=USE)
    format: Format | None = field(default=None, metadata=USE)
    empty_text: EmptyText = field(default="keep", metadata=USE)
    unlabelled: bool | None = field(default=None, metadata=LEARNING)

    def __post_init__(self) -> None:
        """Check the values; a subclass must set `inputs` before."""
        if not hasattr(self, "inputs"):
            raise TypeError(
                f"{type(self).__name__}: its __post_init__ has to set self.inputs first"
            )
        if self.window is not None:
            if self.bucket_batches is not None:
                raise UsageError(
                    f"data.window: got {self.window}, but it is the old name of "
                    f"data.bucket_batches, which is {self.bucket_batches}. Remove data.window."
                )
            logger.warning("data.window is now data.bucket_batches; rename the key")
            self.bucket_batches = self.window
        self.check_unlabelled()
        super().__init__(
            sources={
                "train": self.train,
                "validation": self.validation,
                "test": self.test,
                "predict": self.predict,
            },
            inputs=self.inputs,
            id=self.id,
            group=self.group,
            batch_size=self.batch_size,
            validation_fraction=self.validation_fraction,
            num_workers=self.num_workers,
            seed=self.seed,
            split_seed=self.split_seed,
            fold=folds.given(self.folds, self.fold, validation=self.validation),
            tokens_per_batch=self.tokens_per_batch,
            bucket_batches=self.bucket_batches or self.default_bucket_batches,
            pieces=self.pieces,
            encoding=self.encoding,
            quoting=self.quoting,
            delimiter=self.delimiter,
            decimal=self.decimal,
            format=self.format,
        )
        for name, value, least in (
            ("pieces", self.pieces, 1),
            ("bucket_batches", self.bucket_batches, 1),
            ("tokens_per_batch", self.tokens_per_batch, 1),
            ("wordpieces", self.wordpieces, 10),
            ("max_length", self.max_length, 4),  # two words with their special tokens
        ):
            if value is not None and value < least:
                raise UsageError(f"data.{name}: got {value}, expected {least} or more.")

    # implemented by tasks

    def columns(self, split: str) -> dict[str, Kind]:
        """Return the input columns as text columns."""
        return dict.fromkeys(self.input_columns(split), Kind.TEXT)

    def targets(self, rows: Rows) -> npt.NDArray[Any] | None:
        """Return the labels of all rows, [rows] or [rows, labels]; None if they are on tokens."""
        return None

    def encoder(self, split: str) -> Encoder:
        """Return the encoder of the `encoded_columns`."""
        return TextEncoder(
            self.loaded_tokenizer, max_length=self.longest, pairs=len(self.inputs) == 2
        )

    def encoded_columns(self, split: str) -> list[str]:
        """Return the columns to encode."""
        return self.input_columns(split)

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Return a batch of whole rows, without the labels of `targets`, index and id.

        If a split is cut into blocks, the indices are those of blocks.
        """
        return dict(encoded.batch(indices))

    def collate_drawn(
        self,
        split: str,
        encoded: Encoded,
        indices: npt.NDArray[np.int64],
        draws: np.random.RandomState,
    ) -> Batch:
        """Return a batch like `collate`, with random draws that depend only on the seed."""
        return self.collate(split, encoded, indices)

    def cut_blocks(self, split: str) -> Blocks | None:
        """Return the blocks of a split; None if its batches consist of rows."""
        return None

    def fitted_columns(self) -> list[str]:
        """Return the columns on whose texts a tokenizer is fitted."""
        return self.input_columns("train")

    def texts(self, cells: tuple[Any, ...]) -> Iterator[str]:
        """Yield the texts of a row, from the cells of the fitted columns."""
        yield from cells

    @property
    def texts_key(self) -> Any:
        """Everything that `texts` depends on besides the columns, such as a template."""
        return None

    def facts(self) -> dict[str, Any]:
        """Return the vocabulary size, the padding token id and the maximum number of tokens."""
        return {
            "max_length": self.longest,
            "vocab_size": len(self.loaded_tokenizer),
            "pad_token_id": self.loaded_tokenizer.pad_token_id,
        }

    # tokens

    @cached_property
    def loaded_tokenizer(self) -> Any:
        """The pretrained tokenizer, or a tokenizer fitted on the training split."""
        if self.tokenizer:
            return tokenizers.load_tokenizer(self.tokenizer)
        kept = self.subset("train")
        key = [
            self.rows("train").fingerprint,
            self.fitted_columns(),
            None if kept is None else hashlib.sha256(kept.tobytes()).hexdigest(),
            self.texts_key,
        ]
        return fitted_tokenizers.fit(
            self.fits,
            self._training_texts,
            vocab_size=self.wordpieces,
            max_length=self.max_length or FITTED_LONGEST,
            key=repr(key),
        )

    def _training_texts(self) -> Iterator[str]:
        rows, kept = self.rows("train"), self.subset("train")
        used = np.ones(len(rows), bool) if kept is None else np.isin(np.arange(len(rows)), kept)
        row = 0
        for columns in rows.parts(self.fitted_columns()):
            for cells in zip(*columns, strict=True):
                if used[row]:
                    yield from self.texts(cells)
                row += 1

    @property
    def longest(self) -> int:
        """Maximum number of tokens per row."""
        return self.max_length or min(self.loaded_tokenizer.model_max_length, LONGEST)

    @property
    def limit(self) -> str:
        """The maximum number of tokens and its key, for messages on truncated rows."""
        return f"{self.longest} tokens (data.max_length)"

    @cached_property
    def _encoded(self) -> dict[tuple[str, str], Encoded]:
        return {}

    def without_rows(self) -> SplitData:
        """Return a copy with the same tokenizer, that has encoded no rows yet."""
        _ = self.loaded_tokenizer  # loaded before the copy, so that both have the same one
        other = super().without_rows()
        for name in ("_encoded", "_blocks"):
            vars(other).pop(name, None)
        return other

    def encoded(self, split: str) -> Encoded:
        """Return the tokenised rows of the source of a split."""
        rows = self.rows(split)
        if (split, rows.fingerprint) not in self._encoded:
            in_memory = rows.file is None
            self._encoded[split, rows.fingerprint] = encode(
                rows,
                self.encoded_columns(split),
                self.loaded_tokenizer,
                encoder=self.encoder(split),
                cache=None if in_memory else self.cache(split),  # makes a folder
                in_memory=in_memory,
            )
        return self._encoded[split, rows.fingerprint]

    def lengths_of(self, split: str, indices: npt.NDArray[np.int64]) -> dict[str, Any]:
        """Return the number of tokens of rows, which are truncated, and the limit."""
        encoded = self.encoded(split)
        values, truncated = encoded.row_lengths[indices], encoded.truncated[indices]
        return {"values": values, "truncated": truncated, "limit": self.longest}

    def text_columns(self, split: str) -> list[list[str]]:
        """Return the columns of each text; a template joins several columns."""
        columns = self.input_columns(split)
        return [[column] for column in columns] if self.template is None else [columns]

    def empty(self, split: str) -> npt.NDArray[np.int64]:
        """Return the numbers of the rows of a split with an empty text."""
        texts = [self.empty_rows(split, columns) for columns in self.text_columns(split)]
        return np.unique(np.concatenate(texts))

    def empty_rows(self, split: str, columns: list[str]) -> npt.NDArray[np.int64]:
        """Return the numbers of the rows of a split in which all of these columns are empty."""
        found = np.ones(len(self.rows(split)), bool)
        for column in columns:
            cells = self.rows(split).table.column(column)
            if pa.types.is_list(cells.type):
                found &= pc.equal(pc.list_value_length(cells), 0).to_numpy()
            else:
                found &= pc.equal(pc.utf8_trim_whitespace(cells), "").to_numpy()
        numbers = np.flatnonzero(found)
        kept = self.subset(split)
        return numbers if kept is None else numbers[np.isin(numbers, kept)]

    def check_filled(self, split: str, columns: list[str]) -> None:
        """Refuse empty texts if data.empty_text is refuse, and training texts that are all empty.

        Args:
            split: the split.
            columns: the columns of one text.

        Raises:
            DataError: if such a text is empty.
        """
        source = self.rows(split).source
        empty, named = self.empty_rows(split, columns), "' and '".join(columns)
        if len(empty) and self.empty_text == "refuse":
            raise DataError(
                f"{source}, row {empty[0] + 1}: column '{named}' is empty, as in {len(empty)} "
                "rows in all. Fill in or remove them, or set data.empty_text: keep."
            )
        if split == "train" and len(empty) and len(empty) == len(self._training_rows()):
            keys = self._keys_of(columns) or self._keys_of(self.input_columns(split))
            raise DataError(
                f"{source}: column '{named}' is empty in all training rows. "
                f"Name another column with {' or '.join(keys)}."
            )

    def _keys_of(self, columns: list[str]) -> list[str]:
        """Return the config keys that name these columns, or a template with them."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return [
            f"data.{key}"
            for key, value in given.items()
            if value in (*columns, columns)
            or any(f"{{{column}}}" in str(value) for column in columns)
        ]

    def _training_rows(self) -> Any:
        kept = self.subset("train")
        return self.rows("train") if kept is None else kept

    def open(self, split: str) -> Split:
        """Tokenise a split, whose batches `collate` makes."""
        for columns in self.text_columns(split):
            self.check_filled(split, columns)
        encoded = self.encoded(split)
        targets = None if split == "predict" else self.targets(self.rows(split))
        blocks = self.blocks(split)
        lengths = encoded.row_lengths if blocks is None else blocks.lengths
        groups = self.groups(split) if split in ("validation", "test") else None

        def make(indices: npt.NDArray[np.int64], draws: np.random.RandomState) -> Batch:
            batch = self.collate_drawn(split, encoded, indices, draws)
            if split == "predict":
                batch |= {"index": indices.tolist(), "id": self.ids(split, indices)}
            elif targets is not None:
                batch["labels"] = torch.from_numpy(targets[indices])
            if split in ("validation", "test"):
                row_numbers = indices if blocks is None else blocks.rows[indices]
                batch["index"] = row_numbers.tolist()
                if groups is not None:
                    batch["group"] = groups[row_numbers].tolist()
            return batch

        def whole(indices: npt.NDArray[np.int64], seed: int | None) -> Batch:
            return make(indices, _draws(seed))

        def pieces(indices: npt.NDArray[np.int64], seed: int | None) -> Batch:
            draws = _draws(seed)
            by_length = indices[np.argsort(lengths[indices], kind="stable")]
            parts = np.array_split(by_length, min(self.num_pieces, len(indices)))
            return {"pieces": [make(part, draws) for part in parts]}

        make_batch = pieces if split == "train" else whole
        if blocks is None:
            return Split(make_batch, lengths, self.subset(split))
        return Split(make_batch, lengths, None, rows=blocks.rows)

    @cached_property
    def _blocks(self) -> dict[str, Blocks | None]:
        return {}

    def blocks(self, split: str) -> Blocks | None:
        """Return the blocks of a split, which are cut once.

        Raises:
            DataError: if there are no blocks.
        """
        if split not in self._blocks:
            blocks = self.cut_blocks(split)
            if blocks is not None and not len(blocks):
                raise DataError(
                    f"{self.rows(split).source}: no text of the {split} split is long enough for a "
                    f"block of {blocks.least} tokens. Add rows, or give data.{split} a file of its "
                    "own."
                )
            self._blocks[split] = blocks
        return self._blocks[split]

    def describe(self, split: str) -> str:
        """Return the number of rows or blocks, with the truncated and empty ones."""
        rows, blocks = self.split(split).row_numbers, self.blocks(split)
        cut = int(self.encoded(split).truncated[rows].sum()) if blocks is None else blocks.num_cut
        empty = len(self.empty(split))
        notes = f", {cut} cut to {self.limit}" if cut else ""
        notes += f", {empty} with an empty text (data.empty_text)" if empty else ""
        if split == "train" and (missing := self.num_unlabelled):
            notes += f", {missing} without a label, for the teacher alone (data.unlabelled)"
        return (super().describe(split) if blocks is None else f"{split}: {blocks}") + notes

    def save_pretrained(self, folder: Path) -> None:
        """Save what a reader of the artefact needs of the data: the tokenizer."""
        self.loaded_tokenizer.model_max_length = self.longest
        self.loaded_tokenizer.save_pretrained(folder)


def _draws(seed: int | None) -> np.random.RandomState:
    """Return random numbers of a seed; without one, as outside of plcli, torch draws one."""
    chosen = int(torch.randint(2**31, ())) if seed is None else seed
    return np.random.RandomState(chosen % 2**32)
