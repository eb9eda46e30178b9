"""Encodes documents, and cuts them into blocks of tokens for language models.

The tokens of whole documents are cached. Blocks are ranges of these tokens, computed when a split
is opened, so that another block size does not need another tokenisation.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from plcli.data.encoders.encoder import IDS
from plcli.data.encoders.text import need_fast
from plcli.data.token_cache import Encoded

FLAGS = pa.list_(pa.uint8())


class Blocks:
    """Cuts the documents of a split into blocks.

    Args:
        lengths: int32 [all rows], number of tokens per document.
        rows: the row numbers of the split; None means all.
        size: maximum number of tokens per block.
        joined: whether a block continues from one document to the next; all blocks except the last
            are full.
        whole: whether only the first block of a document is used, for documents whose rest has no
            meaning without the beginning.
        least: minimum number of tokens per block; a shorter rest of a document is dropped.
        in_loss: uint8 [tokens of the split], which tokens to train on, by default all. A block
            without such a token after its first is dropped, as the first has nothing before it.

    Attributes:
        lengths: int32 [blocks].
        rows: int64 [blocks], the row in which each block begins.
        num_cut: number of documents that are truncated.
        num_without_targets: number of blocks that are dropped because there is nothing to train on.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.int32],
        rows: npt.NDArray[np.int64] | None,
        *,
        size: int,
        joined: bool = False,
        whole: bool = False,
        least: int = 1,
        in_loss: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        self.size, self.least = size, least
        self._used = np.arange(len(lengths)) if rows is None else rows
        sizes = lengths[self._used].astype(np.int64)
        self._ends = sizes.cumsum()
        self._starts = self._ends - sizes
        self.num_cut = 0
        if joined:
            self._first = np.arange(0, sizes.sum(), size)
            self._stop = np.minimum(self._first + size, sizes.sum())
        else:
            if whole:
                self.num_cut = int((sizes > size).sum())
                sizes = np.minimum(sizes, size)
            counts = -(-sizes // size)
            document = np.repeat(np.arange(len(sizes)), counts)
            within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
            self._first = self._starts[document] + within * size
            self._stop = np.minimum(self._first + size, (self._starts + sizes)[document])
        self._keep(self._stop - self._first >= least)
        self.num_without_targets = 0
        if in_loss is not None and len(self._first):
            ranges = np.stack([self._first + 1, self._stop], 1).ravel()  # (first, stop) pairs
            useful = np.maximum.reduceat(np.append(in_loss, [0, 0]), ranges)[::2] > 0
            useful &= self._stop - self._first > 1
            self.num_without_targets = int((~useful).sum())
            self._keep(useful)
        self.lengths = (self._stop - self._first).astype(np.int32)
        self.rows = self._used[np.searchsorted(self._ends, self._first, side="right")]

    def _keep(self, wanted: npt.NDArray[np.bool_]) -> None:
        self._first, self._stop = self._first[wanted], self._stop[wanted]

    def __len__(self) -> int:
        return len(self.lengths)

    def __str__(self) -> str:
        return (
            f"{len(self._used)} rows in {len(self)} blocks of at most {self.size} tokens, "
            f"{int(self.lengths.sum())} in all"
        )

    def take(self, encoded: Encoded, column: str, block: int) -> npt.NDArray[Any]:
        """Return the values of a list column for the tokens of a block."""
        first, stop = int(self._first[block]), int(self._stop[block])
        document = int(np.searchsorted(self._ends, first, side="right"))
        parts = []
        while first < stop:
            start = int(self._starts[document])
            cell = encoded.numbers(column, int(self._used[document]))
            parts.append(cell[first - start : stop - start])
            first, document = int(self._ends[document]), document + 1
        return np.concatenate(parts)


class DocumentEncoder:
    """Encodes whole documents without truncation.

    Besides input_ids, it returns for each token its `bytes` (see `byte_counts`), and whether it
    `begins` a word of the tokenizer.

    Args:
        tokenizer: a fast tokenizer of transformers.
        special: whether the special tokens of the tokenizer are added.
        end: the id of a token to append to every document; None appends none.

    Raises:
        ModelError: if the tokenizer is not a fast tokenizer.
    """

    columns: Mapping[str, pa.DataType] = {"input_ids": IDS, "bytes": IDS, "begins": FLAGS}

    def __init__(self, tokenizer: Any, *, special: bool, end: int | None) -> None:
        need_fast(tokenizer, "language models")
        self.tokenizer, self.special, self.end = tokenizer, special, end
        self.key = ["documents", special, end]

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode one column of texts."""
        encodings = encode_whole(self.tokenizer, cells[0], special=self.special)
        values: dict[str, list[Any]] = {name: [] for name in self.columns}
        for text, encoding in zip(cells[0], encodings, strict=True):
            words = np.array([-1 if word is None else word for word in encoding.word_ids], np.int64)
            end = [] if self.end is None or encoding.ids[-1:] == [self.end] else [self.end]
            values["input_ids"].append(encoding.ids + end)
            counts = byte_counts(text, encoding.offsets)
            values["bytes"].append(np.append(counts, [0] * len(end)).astype(np.int64))
            begins = np.diff(words, prepend=-2) != 0
            values["begins"].append(np.append(begins, [True] * len(end)).astype(np.int64))
        return values


def encode_whole(tokenizer: Any, texts: Sequence[str], *, special: bool) -> list[Any]:
    """Encode texts with a fast tokenizer, without truncation and with offsets."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    encodings: list[Any] = backend.encode_batch(list(texts), add_special_tokens=special)
    return encodings


def byte_counts(text: str, offsets: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return the number of UTF-8 bytes of a text that each of its tokens represents.

    Spaces that a tokenizer drops count for the next token, or for the last token at the end of the
    text. A character of several tokens counts for the first of them. With any tokenizer, the counts
    sum to the bytes of the text.

    Args:
        text: the text.
        offsets: the first and last character (exclusive) of each token; (0, 0) for special
            tokens.
    """
    if not offsets:
        return np.zeros(0, np.int64)
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    places = np.concatenate([[0], sizes.cumsum()])
    stops = np.array([stop for _, stop in offsets], np.int64)
    ends = np.maximum.accumulate(places[stops])
    counts: npt.NDArray[np.int64] = np.diff(ends, prepend=0)
    if stops.any():
        counts[np.flatnonzero(stops)[-1]] += places[-1] - ends[-1]
    return counts


def padded(cells: Sequence[npt.NDArray[Any]], fill: int, *, left: bool = False) -> torch.Tensor:
    """Return token ids as one padded tensor, int64 [entries, longest]."""
    width = max(map(len, cells))
    array = np.full((len(cells), width), fill, np.int64)
    for row, cell in zip(array, cells, strict=True):
        row[width - len(cell) if left else 0 :][: len(cell)] = cell
    return torch.from_numpy(array)


def attention_mask(cells: Sequence[npt.NDArray[Any]], *, left: bool = False) -> torch.Tensor:
    """Return the attention mask of `padded` token ids, int64 [entries, longest]."""
    return padded([np.ones(len(cell)) for cell in cells], 0, left=left)
