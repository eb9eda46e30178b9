"""TextData: the LightningDataModule that every text task builds on.

A task's data module gives `columns(split)` (the columns beside text), `targets(rows)` (the labels
of all rows as an array) and `facts()`, added to those here. The rest stands here and in splits.py:
tokenizer, encoding, batches.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch

from plcli import encoding, pretrained
from plcli.errors import DataError, UsageError
from plcli.rows import Kind, Rows
from plcli.splits import Batch, Source, Split, SplitData

EmptyText = Literal["keep", "refuse"]
FITTED_LONGEST = 256  # tokens: the default for a tokenizer that is fitted here
LONGEST = 512  # tokens: the default where a tokenizer names no limit, or a very large one


class TextData(SplitData):
    """Splits of text rows, tokenised once and batched by length.

    Args:
        train: training rows: a path, a glob, a list, s3://..., hf:NAME or package:NAME/FILE.
        validation: validation rows; without them a stratified part of the training rows is cut off.
        test: test rows.
        predict: rows to predict; no label column is needed.
        text: the text column, or two columns for pairs.
        id: a column that names the rows in predictions; without it they are numbered from 0.
        tokenizer: where the tokenizer comes from; follows model.pretrained.
        wordpieces: entries of the tokenizer that is fitted on the training rows where there is no
            pretrained one.
        max_length: tokens a row at most; by default what the tokenizer names, 512 at most.
        batch_size: rows a batch and device.
        tokens_per_batch: instead of batch_size: tokens a batch and device, about.
        window: training batches whose rows are sorted by length together, cut into pieces of like
            length, and dealt out again at random, to save padding; 1 keeps batches random. By
            default 50, and 1 in epochs of fewer than 100 batches.
        pieces: parts of like length that a training batch is run in, each padded by itself; the
            gradient is that of the whole batch. By default 1; on a CPU 4 for random batches, but
            on a GPU small pieces cost more than padding does.
        validation_fraction: the part of the training rows that is cut off where no validation is
            given.
        num_workers: processes that prepare batches; 0 prepares them in the main process.
        seed: of the cut and of the order of the training rows; follows seed_everything.
        encoding: of files of text, such as cp1252; by default UTF-8.
        empty_text: whether rows whose text is empty or missing are kept, counted, or refused.
    """

    def __init__(
        self,
        train: Source | None,
        validation: Source | None,
        test: Source | None,
        predict: Source | None,
        text: str | list[str],
        id: str | None,
        tokenizer: str | None,
        wordpieces: int,
        max_length: int | None,
        batch_size: int,
        tokens_per_batch: int | None,
        pieces: int | None,
        window: int | None,
        validation_fraction: float,
        num_workers: int,
        seed: int | None,
        encoding: str | None,
        empty_text: EmptyText,
    ) -> None:
        self.text = [text] if isinstance(text, str) else text
        if not 1 <= len(self.text) <= 2:
            raise UsageError(
                f"data.text: names {len(self.text)} columns; give one, or two for pairs."
            )
        super().__init__(
            sources={"train": train, "validation": validation, "test": test, "predict": predict},
            inputs=self.text,
            id=id,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            num_workers=num_workers,
            seed=seed,
            tokens_per_batch=tokens_per_batch,
            window=window,
            pieces=pieces,
            encoding=encoding,
        )
        self.empty_text = empty_text
        for name, value, least in (
            ("pieces", pieces, 1),
            ("window", window, 1),
            ("tokens_per_batch", tokens_per_batch, 1),
            ("wordpieces", wordpieces, 10),
            ("max_length", max_length, 4),  # two words with their special tokens
        ):
            if value is not None and value < least:
                raise UsageError(f"data.{name}: got {value}, expected {least} or more.")
        self.tokenizer_name, self.wordpieces, self.limit = tokenizer, wordpieces, max_length

    # what a task gives

    def columns(self, split: str) -> dict[str, Kind]:
        """The text columns."""
        return dict.fromkeys(self.text, Kind.TEXT)

    def targets(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the labels of all rows, [rows] or [rows, labels]."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        """The tokenizer's size, its padding, and the longest row."""
        return {
            "max_length": self.max_length,
            "vocab_size": len(self.tokenizer),
            "pad_token_id": self.tokenizer.pad_token_id,
        }

    # tokens

    @cached_property
    def tokenizer(self) -> Any:
        """The pretrained tokenizer, or a WordPiece tokenizer fitted on the training split."""
        if self.tokenizer_name:
            return pretrained.load_tokenizer(self.tokenizer_name)
        kept = self.subset("train")
        key = [
            self.rows("train").fingerprint,
            self.text,
            None if kept is None else (self.seed, self.validation_fraction),
        ]
        return pretrained.fit_wordpiece(
            self._training_texts(),
            vocab_size=self.wordpieces,
            max_length=self.limit or FITTED_LONGEST,
            key=repr(key),
        )

    def _training_texts(self) -> Iterator[str]:
        rows, kept = self.rows("train"), self.subset("train")
        used = np.ones(len(rows), bool) if kept is None else np.isin(np.arange(len(rows)), kept)
        row = 0
        for columns in rows.parts(self.text):
            for cells in zip(*columns, strict=True):
                if used[row]:
                    yield from cells
                row += 1

    @property
    def max_length(self) -> int:
        """Tokens a row at most."""
        return self.limit or min(self.tokenizer.model_max_length, LONGEST)

    def encoded(self, split: str) -> encoding.Encoded:
        """Return all rows of a split's source, tokenised."""
        return encoding.encode(
            self.rows(split),
            self.text,
            self.tokenizer,
            max_length=self.max_length,
            cache=self.cache(split),
        )

    def empty(self, split: str) -> npt.NDArray[np.int64]:
        """Return the numbers of a split's rows that hold an empty text."""
        found = np.zeros(len(self.rows(split)), bool)
        for column in self.text:
            cells = self.rows(split).table.column(column)
            found |= pc.equal(pc.utf8_trim_whitespace(cells), "").to_numpy()
        numbers = np.flatnonzero(found)
        kept = self.subset(split)
        return numbers if kept is None else numbers[np.isin(numbers, kept)]

    def _check_empty(self, split: str) -> None:
        empty, source = self.empty(split), self.rows(split).source
        columns = "' or '".join(self.text)
        if len(empty) and self.empty_text == "refuse":
            raise DataError(
                f"{source}, row {empty[0] + 1}: column '{columns}' is empty, in {len(empty)} rows "
                "in all. Fill or remove them, or set data.empty_text: keep."
            )
        if split == "train" and len(empty) and len(empty) == len(self._training_rows()):
            raise DataError(
                f"{source}: column '{columns}' is empty in all training rows. "
                "Name another column with data.text."
            )

    def _training_rows(self) -> Any:
        kept = self.subset("train")
        return self.rows("train") if kept is None else kept

    def open(self, split: str) -> Split:
        """Tokenise a split; its batches hold tensors of tokens, and labels or, to predict, ids."""
        self._check_empty(split)
        encoded = self.encoded(split)
        targets = None if split == "predict" else self.targets(self.rows(split))

        def piece(indices: npt.NDArray[np.int64]) -> Batch:
            batch: Batch = dict(encoded.batch(indices))
            if targets is None:
                return batch | {"index": indices.tolist(), "id": self.ids(split, indices)}
            return batch | {"labels": torch.from_numpy(targets[indices])}

        def pieces(indices: npt.NDArray[np.int64]) -> Batch:
            by_length = indices[np.argsort(encoded.lengths[indices], kind="stable")]
            parts = np.array_split(by_length, min(self.num_pieces, len(indices)))
            return {"pieces": [piece(part) for part in parts]}

        make_batch = pieces if split == "train" else piece
        return Split(make_batch, encoded.lengths, self.subset(split))

    def describe(self, split: str) -> str:
        """Rows, and how many of them are cut; tasks add their classes."""
        cut = int(self.encoded(split).truncated[self.split(split).subset].sum())
        empty = len(self.empty(split))
        said = f", {cut} cut to {self.max_length} tokens (data.max_length)" if cut else ""
        said += f", {empty} with an empty text (data.empty_text)" if empty else ""
        return super().describe(split) + said

    def save_pretrained(self, folder: Path) -> None:
        """Save what a reader of the artefact needs of the data: the tokenizer."""
        self.tokenizer.model_max_length = self.max_length
        self.tokenizer.save_pretrained(folder)
