"""TextData: the LightningDataModule that every text task builds on.

It and its tasks are dataclasses: their fields are the keys of a config. A task's data module gives

- `inputs`: the columns that a row to predict must have, set in `__post_init__`;
- `columns(split)`: what each column of a split holds;
- `targets(rows)`: the labels of all rows as an array; or, where labels are made with the tokens,
  an `encoder(split)` and a `collate(split, encoded, indices)` of its own;
- `cut_blocks(split)` where batches hold blocks of documents instead of rows;
- `facts()`: what its model has to know, added to what stands here.

The rest stands here and in splits.py: tokenizer, encoding, batches. A batch holds whole rows; of a
row that was cut into windows it holds all of them.
"""

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
    OTHER_ROWS,
    PATH,
    TRAIN,
    USE,
    VALIDATION,
    renamed_to,
)
from plcli.data import fitted_tokenizers
from plcli.data.cells import Kind
from plcli.data.encoders.documents import Blocks
from plcli.data.encoders.encoder import Encoder
from plcli.data.encoders.text import TextEncoder
from plcli.data.rows import Rows
from plcli.data.split_data import Batch, Source, Split, SplitData
from plcli.data.token_cache import Encoded, encode
from plcli.errors import DataError, UsageError
from plcli.pretrained import tokenizers

logger = logging.getLogger(__name__)

EmptyText = Literal["keep", "refuse"]
FITTED_LONGEST = 256  # tokens: the default for a tokenizer that is fitted here
LONGEST = 512  # tokens: the default where a tokenizer names no limit, or a very large one


@dataclass(kw_only=True, eq=False, repr=False)
class TextData(SplitData):
    """Splits of text rows, tokenised once and batched by length.

    Args:
        train: training rows: a path, a glob, a list, s3://..., hf:NAME or package:NAME/FILE.
        validation: validation rows; without them a part of the training rows is cut off, classes in
            proportion.
        test: test rows.
        predict: rows to predict; no label column is needed.
        id: a column that names the rows in predictions; without it they are numbered from 0.
        tokenizer: where the tokenizer comes from; follows model.pretrained.
        wordpieces: entries of the tokenizer that is fitted on the training rows where there is no
            pretrained one.
        max_length: tokens a row at most; by default what the tokenizer names, 512 at most.
        batch_size: rows a batch and device.
        tokens_per_batch: instead of batch_size: tokens a batch and device, about.
        pieces: parts of like length that a training batch is run in, each padded by itself; the
            gradient is that of the whole batch. By default 1; on a CPU 4 for random batches, but
            on a GPU small pieces cost more than padding does.
        bucket_batches: number of training batches whose rows are sorted by length together, cut
            into micro-batches of similar length and shuffled again, to save padding; 1 keeps
            batches random. By default 50, or 1 in epochs of fewer than 100 batches and where the
            loss is a mean over tokens, which batches of short rows would distort.
        window: the old name of bucket_batches.
        validation_fraction: the part of the training rows that is cut off where no validation is
            given.
        num_workers: processes that prepare batches; 0 prepares them in the main process.
        seed: of the cut and of the order of the training rows; follows seed_everything.
        encoding: of files of text, such as cp1252; by default UTF-8.
        empty_text: whether rows whose text is empty or missing are kept, counted, or refused.
    """

    template = None  # type: str | None
    # of columns that make one text: a task sets it, or has a key of that name
    fits: ClassVar[fitted_tokenizers.Kind] = "wordpiece"  # where there is no pretrained tokenizer
    usual_window: ClassVar[int | None] = None  # chosen by the number of batches: docs/batches.md

    train: Source | None = field(default=None, metadata=TRAIN)
    validation: Source | None = field(default=None, metadata=VALIDATION)
    test: Source | None = field(default=None, metadata=OTHER_ROWS)
    predict: Source | None = field(default=None, metadata=OTHER_ROWS)
    id: str | None = field(default=None, metadata=USE)
    tokenizer: str | None = field(default=None, metadata=PATH)
    wordpieces: int = 8000
    max_length: int | None = field(default=None, metadata=FACT)
    batch_size: int = field(default=32, metadata=USE)
    tokens_per_batch: int | None = field(default=None, metadata=USE)
    pieces: int | None = None
    bucket_batches: int | None = None
    window: int | None = field(default=None, metadata=renamed_to("bucket_batches"))
    validation_fraction: float = 0.1
    num_workers: int = field(default=0, metadata=FREE)
    seed: int | None = None
    encoding: str | None = field(default=None, metadata=USE)
    empty_text: EmptyText = field(default="keep", metadata=USE)

    def __post_init__(self) -> None:
        """Check the values; a task sets `inputs` before."""
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
        super().__init__(
            sources={
                "train": self.train,
                "validation": self.validation,
                "test": self.test,
                "predict": self.predict,
            },
            inputs=self.inputs,
            id=self.id,
            batch_size=self.batch_size,
            validation_fraction=self.validation_fraction,
            num_workers=self.num_workers,
            seed=self.seed,
            tokens_per_batch=self.tokens_per_batch,
            bucket_batches=self.bucket_batches or self.usual_window,
            pieces=self.pieces,
            encoding=self.encoding,
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

    # what a task gives

    def columns(self, split: str) -> dict[str, Kind]:
        """The input columns, of text."""
        return dict.fromkeys(self.input_columns(split), Kind.TEXT)

    def targets(self, rows: Rows) -> npt.NDArray[Any] | None:
        """Return the labels of all rows, [rows] or [rows, labels]; None where tokens hold them."""
        return None

    def encoder(self, split: str) -> Encoder:
        """Return what makes tokens of the inputs, and of `encoded_columns` beside them."""
        return TextEncoder(
            self.loaded_tokenizer, max_length=self.longest, pairs=len(self.inputs) == 2
        )

    def encoded_columns(self, split: str) -> list[str]:
        """Return the columns that the encoder takes."""
        return self.input_columns(split)

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of whole rows; labels of `targets`, or index and id, are added to it.

        Where a split is cut into blocks, the indices are those of blocks.
        """
        return dict(encoded.batch(indices))

    def collate_drawn(
        self,
        split: str,
        encoded: Encoded,
        indices: npt.NDArray[np.int64],
        draws: np.random.RandomState,
    ) -> Batch:
        """Make a batch as `collate` does, with random numbers that depend on its seed alone."""
        return self.collate(split, encoded, indices)

    def cut_blocks(self, split: str) -> Blocks | None:
        """Return the blocks that a split is cut into; None where its batches hold rows."""
        return None

    def fitted_columns(self) -> list[str]:
        """Return the columns whose texts a tokenizer is fitted on."""
        return self.input_columns("train")

    def texts(self, cells: tuple[Any, ...]) -> Iterator[str]:
        """Yield the texts of a row's fitted columns."""
        yield from cells

    @property
    def texts_key(self) -> Any:
        """What `texts` depends on beside the columns, such as a template."""
        return None

    def facts(self) -> dict[str, Any]:
        """The tokenizer's size, its padding, and the longest row."""
        return {
            "max_length": self.longest,
            "vocab_size": len(self.loaded_tokenizer),
            "pad_token_id": self.loaded_tokenizer.pad_token_id,
        }

    # tokens

    @cached_property
    def loaded_tokenizer(self) -> Any:
        """The pretrained tokenizer, or one that is fitted on the training split."""
        if self.tokenizer:
            return tokenizers.load_tokenizer(self.tokenizer)
        kept = self.subset("train")
        key = [
            self.rows("train").fingerprint,
            self.fitted_columns(),
            None if kept is None else (self.seed or 0, self.validation_fraction),
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
        """Tokens a row at most."""
        return self.max_length or min(self.loaded_tokenizer.model_max_length, LONGEST)

    @property
    def limit(self) -> str:
        """What longer rows are cut to, and the key that says so."""
        return f"{self.longest} tokens (data.max_length)"

    @cached_property
    def _encoded(self) -> dict[tuple[str, str], Encoded]:
        return {}

    def encoded(self, split: str) -> Encoded:
        """Return all rows of a split's source, tokenised."""
        rows = self.rows(split)
        if (split, rows.fingerprint) not in self._encoded:
            self._encoded[split, rows.fingerprint] = encode(
                rows,
                self.encoded_columns(split),
                self.loaded_tokenizer,
                encoder=self.encoder(split),
                cache=self.cache(split),
            )
        return self._encoded[split, rows.fingerprint]

    def text_columns(self, split: str) -> list[list[str]]:
        """Return the columns of each text that should not be empty; a template joins several."""
        columns = self.input_columns(split)
        return [[column] for column in columns] if self.template is None else [columns]

    def empty(self, split: str) -> npt.NDArray[np.int64]:
        """Return the numbers of a split's rows that hold an empty text."""
        texts = [self.empty_rows(split, columns) for columns in self.text_columns(split)]
        return np.unique(np.concatenate(texts))

    def empty_rows(self, split: str, columns: list[str]) -> npt.NDArray[np.int64]:
        """Return the numbers of a split's rows where all of these columns are empty."""
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
        """Refuse empty cells where data.empty_text says so, and columns that are empty throughout.

        Args:
            split: the split.
            columns: those that make one text together.

        Raises:
            DataError: if a row's cells of all these columns are empty.
        """
        source = self.rows(split).source
        empty, named = self.empty_rows(split, columns), "' and '".join(columns)
        if len(empty) and self.empty_text == "refuse":
            raise DataError(
                f"{source}, row {empty[0] + 1}: column '{named}' is empty, in {len(empty)} "
                "rows in all. Fill or remove them, or set data.empty_text: keep."
            )
        if split == "train" and len(empty) and len(empty) == len(self._training_rows()):
            keys = self._keys_of(columns) or self._keys_of(self.input_columns(split))
            raise DataError(
                f"{source}: column '{named}' is empty in all training rows. "
                f"Name another column with {' or '.join(keys)}."
            )

    def _keys_of(self, columns: list[str]) -> list[str]:
        """Return the keys of the config that name some columns, or a template of them."""
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
        """Tokenise a split; its batches are made by `collate`."""
        for columns in self.text_columns(split):
            self.check_filled(split, columns)
        encoded = self.encoded(split)
        targets = None if split == "predict" else self.targets(self.rows(split))
        blocks = self.blocks(split)
        lengths = encoded.row_lengths if blocks is None else blocks.lengths

        def make(indices: npt.NDArray[np.int64], draws: np.random.RandomState) -> Batch:
            batch = self.collate_drawn(split, encoded, indices, draws)
            if split == "predict":
                batch |= {"index": indices.tolist(), "id": self.ids(split, indices)}
            elif targets is not None:
                batch["labels"] = torch.from_numpy(targets[indices])
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
        """Return the blocks of a split, cut once.

        Raises:
            DataError: if there is none.
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
        """Rows, their blocks, and how many of them are cut; tasks add their classes."""
        rows, blocks = self.split(split).row_numbers, self.blocks(split)
        cut = int(self.encoded(split).truncated[rows].sum()) if blocks is None else blocks.num_cut
        empty = len(self.empty(split))
        said = f", {cut} cut to {self.limit}" if cut else ""
        said += f", {empty} with an empty text (data.empty_text)" if empty else ""
        return (super().describe(split) if blocks is None else f"{split}: {blocks}") + said

    def save_pretrained(self, folder: Path) -> None:
        """Save what a reader of the artefact needs of the data: the tokenizer."""
        self.loaded_tokenizer.model_max_length = self.longest
        self.loaded_tokenizer.save_pretrained(folder)


def _draws(seed: int | None) -> np.random.RandomState:
    """Return random numbers of a seed; without one, as outside of plcli, torch draws one."""
    chosen = int(torch.randint(2**31, ())) if seed is None else seed
    return np.random.RandomState(chosen % 2**32)
