"""Documents -> blocks of tokens, for language models.

A document's tokens are cached whole. Blocks are ranges of them, computed when a split is opened, so
that nothing is tokenised again for blocks of another size.
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
        lengths: int32 [all rows], tokens a document.
        rows: the row numbers of the split; None means all.
        size: tokens a block at most.
        joined: whether a block goes on from one document to the next; all but the last are full.
        whole: whether only the first block of a document is used, as of one that cannot go on
            without its beginning.
        least: tokens a block at least; what is left of a document and shorter is left out.
        learnt: uint8 [tokens of the split], which are to be learnt; a block that has none but its
            first, which nothing stands before, is left out. By default all are.

    Attributes:
        lengths: int32 [blocks].
        rows: int64 [blocks], the row in which each begins.
        num_cut: documents whose end is left out.
        num_unlearnt: blocks that are left out as nothing of them is learnt.
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
        learnt: npt.NDArray[np.uint8] | None = None,
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
            owners = np.repeat(np.arange(len(sizes)), counts)
            within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
            self._first = self._starts[owners] + within * size
            self._stop = np.minimum(self._first + size, (self._starts + sizes)[owners])
        self._keep(self._stop - self._first >= least)
        self.num_unlearnt = 0
        if learnt is not None and len(self._first):
            ranges = np.stack([self._first + 1, self._stop], 1).ravel()  # reduced in turn
            teaches = np.maximum.reduceat(np.append(learnt, [0, 0]), ranges)[::2] > 0
            teaches &= self._stop - self._first > 1
            self.num_unlearnt = int((~teaches).sum())
            self._keep(teaches)
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
        """Return what a column of lists holds for the tokens of a block."""
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
    """Encodes whole documents, uncut.

    Beside input_ids it gives, for each token, its `bytes`, as `byte_counts` has them, and whether
    it `begins` a word, as the tokenizer cuts words.

    Args:
        tokenizer: a fast one of transformers.
        special: whether the tokenizer's special tokens are added.
        end: the id of a token that is to stand behind every document; None adds none.

    Raises:
        ModelError: if the tokenizer is not a fast one.
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
    """Encode texts with a fast tokenizer, uncut and with the place of every token."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.no_truncation()
    encodings: list[Any] = backend.encode_batch(list(texts), add_special_tokens=special)
    return encodings


def byte_counts(text: str, offsets: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """Return how many UTF-8 bytes of a text each of its tokens stands for.

    Blanks that a tokenizer drops count for the token behind them, those at the end for the last
    one, and a character of several tokens for the first of these, so that the counts sum up to the
    bytes of the text whatever the tokenizer.

    Args:
        text: the text.
        offsets: where each token begins and ends, in characters; (0, 0) for special tokens.
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
    """Return token ids as one tensor, int64 [entries, longest]."""
    width = max(map(len, cells))
    array = np.full((len(cells), width), fill, np.int64)
    for row, cell in zip(array, cells, strict=True):
        row[width - len(cell) if left else 0 :][: len(cell)] = cell
    return torch.from_numpy(array)


def attention_mask(cells: Sequence[npt.NDArray[Any]], *, left: bool = False) -> torch.Tensor:
    """Return which places of `padded` cells hold a token, int64 [entries, longest]."""
    return padded([np.ones(len(cell)) for cell in cells], 0, left=left)
