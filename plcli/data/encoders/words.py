"""Encodes words or texts as windows of tokens, with their words and optional tags.

The label of a word is on its first token. A word in several windows counts only in the window with
the most context on both sides: there it is trained on, scored and predicted.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from plcli.data.encoders import places
from plcli.data.encoders.encoder import IDS
from plcli.data.encoders.text import need_fast
from plcli.data.tagging import OUTSIDE, Span, Tagging, to_iob2
from plcli.data.tagging import read as read_spans
from plcli.errors import DataError, UsageError, did_you_mean, listed
from plcli.pretrained.label_ids import IGNORED

VERSION = 1  # of the definition of a word, and of the columns
Numbers = npt.NDArray[np.int64]
FAR = 1 << 30  # tokens of context at the beginning or end of a text, where none is missing


class WordEncoder:
    """Encodes words with tags, or texts with spans of characters, into windows.

    Besides input_ids and row, each entry has start and end. On the first token of a word they are
    the characters of the word in the text, or the range of its index among the words; other tokens
    have IGNORED. tokenless is the number of words without a token. With tags there are also labels;
    spans, the true spans as a flat list of start, end and type; unaligned, the number of spans that
    do not cover whole words; and strays, the number of I-x tags outside of any span. The first
    entry of a row has the spans and numbers of the row.

    Args:
        tokenizer: a fast tokenizer of transformers.
        max_length: maximum number of tokens per window.
        stride: number of tokens that a window repeats of the window before it; by default a
            quarter.
        words: whether rows are lists of words; otherwise they are texts.
        tagging: the tag set; None for a split without tags.
        column: the column of tags or spans, for messages.
        iob1: whether tags are converted from the scheme IOB1.

    Raises:
        ModelError: if the tokenizer is not a fast tokenizer.
        UsageError: if max_length or stride leaves no room for new tokens in a window.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        stride: int | None,
        words: bool,
        tagging: Tagging | None = None,
        column: str = "",
        iob1: bool = False,
    ) -> None:
        need_fast(tokenizer, "labels of words")
        special = tokenizer.backend_tokenizer.num_special_tokens_to_add(False)
        room = max_length - special
        if room < 1:
            raise UsageError(
                f"data.max_length: got {max_length}, expected more than the {special} special "
                "tokens of a window."
            )
        if stride is not None and not 0 <= stride < room:
            raise UsageError(
                f"data.stride: got {stride}, expected 0 or more and below {room}, the tokens of a "
                f"window of data.max_length {max_length} without the special tokens."
            )
        self.tokenizer, self.max_length, self.words = tokenizer, max_length, words
        self.stride = room // 4 if stride is None else stride
        self.step = room - self.stride
        self.tagging, self.column, self.iob1 = tagging, column, iob1
        self.key = ["words", VERSION, max_length, self.stride, words, tagging and tagging.names]
        self.key += ["iob1"] if iob1 else []
        columns = {"input_ids": IDS, "row": pa.int32(), "start": IDS, "end": IDS}
        columns["tokenless"] = pa.int32()
        if tagging is not None:
            columns |= {"labels": IDS, "spans": IDS}
            columns |= {"unaligned": pa.int32(), "strays": pa.int32()}
        self.columns: Mapping[str, pa.DataType] = columns

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode the words or texts of rows, and their tags or spans if given.

        Raises:
            DataError: if a row has an unknown tag or label, or another number of tags than words.
        """
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(self.max_length, stride=self.stride)  # windows from left to right
        encodings = backend.encode_batch(cells[0], is_pretokenized=self.words)
        values: dict[str, list[Any]] = {name: [] for name in self.columns}
        for number, (source, encoding) in enumerate(zip(cells[0], encodings, strict=True)):
            row = _Row([encoding, *encoding.overflowing], source, step=self.step)
            count = len(row.windows)
            values["row"] += [number] * count
            values["input_ids"] += [
                window.ids or [self.tokenizer.pad_token_id] for window in row.windows
            ]
            values["start"] += row.placed(row.start)
            values["end"] += row.placed(row.end)
            tokenless = len(source) - len(row.start) if self.words else 0
            first: dict[str, Any] = {"tokenless": tokenless}
            if self.tagging is not None:
                labels, true = self._labels(row, source, cells[1][number], where(number))
                values["labels"] += row.placed(labels)
                tags = labels[labels != IGNORED].tolist()  # all of the row, or none
                kept = {row.span(span) for span in self.tagging.spans(tags)}
                first["spans"] = [value for span in true for value in span]
                first["unaligned"] = sum(span not in kept for span in true)
                first["strays"] = self.tagging.strays(tags)
            for name, value in first.items():
                values[name] += [value, *([[] if name == "spans" else 0] * (count - 1))]
        return values

    def places(self, cells: Sequence[Any]) -> places.Places:
        """Return where the tokens of a row are in its text, or in its words joined by spaces."""
        source = cells[0]
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(self.max_length, stride=self.stride)
        (encoding,) = backend.encode_batch([source], is_pretokenized=self.words)
        found = [encoding, *encoding.overflowing]
        if not self.words:
            return places.of([source], found)
        starts, at = dict[int, int](), 0
        for number, word in enumerate(source):
            starts[number] = at
            at += len(word) + 1
        return places.of([" ".join(source)], found, starts=starts)

    def _labels(
        self, row: "_Row", source: Any, cell: Any, where: str
    ) -> tuple[Numbers, list[Span]]:
        """Return the label ids of the words of a row, and its true spans.

        A row without tags has IGNORED as labels.
        """
        if cell is None:
            return np.full(len(row.start), IGNORED), []
        if self.words:
            return self._from_tags(row, source, cell, where)
        return self._from_spans(row, read_spans(cell, source, where, self.column), where)

    def _from_tags(
        self, row: "_Row", words: Sequence[str], tags: Sequence[str], where: str
    ) -> tuple[Numbers, list[Span]]:
        assert self.tagging is not None
        if len(words) != len(tags):
            raise DataError(
                f"{where}: has {len(words)} words, but {len(tags)} tags in column "
                f"'{self.column}'. Give each word one tag."
            )
        known = self.tagging.ids
        tags = to_iob2(tags) if self.iob1 else tags
        for number, tag in enumerate(tags):
            if tag not in known:
                raise DataError(
                    f"{where}: tag '{tag}' of word {number + 1} is not one of {listed(known)}."
                    f"{did_you_mean(tag, known) or ' Correct it, or name all in data.labels.'}"
                )
        ids = np.array([known[tag] for tag in tags], np.int64)
        return ids[row.start], self.tagging.spans(ids.tolist())

    def _from_spans(
        self, row: "_Row", found: Sequence[tuple[int, int, str]], where: str
    ) -> tuple[Numbers, list[Span]]:
        assert self.tagging is not None
        types = {name: number for number, name in enumerate(self.tagging.types)}
        labels = np.full(len(row.start), self.tagging.ids[OUTSIDE])
        true, free = [], 0  # free: the first word after the spans so far
        for start, end, name in found:
            if name not in types:
                raise DataError(
                    f"{where}: label '{name}' of the span {start}-{end} is not one of "
                    f"{listed(types)}."
                    f"{did_you_mean(name, types) or ' Correct it, or name all in data.labels.'}"
                )
            true.append((start, end, types[name]))
            first = max(free, int(np.searchsorted(row.end, start, side="right")))
            free = max(free, int(np.searchsorted(row.start, end)))
            labels[first:free] = self.tagging.tag(types[name], first=False)
            labels[first : min(first + 1, free)] = self.tagging.tag(types[name], first=True)
        return labels, true


class _Row:
    """The windows of a row, and the words in them.

    Args:
        windows: the encodings, in order.
        source: the text or the words of the row.
        step: number of tokens between the beginnings of two windows.

    Attributes:
        start, end: int64 [words that have a token], the characters of each word, or the range of
            its index among the words.
    """

    def __init__(self, windows: Sequence[Any], source: Any, *, step: int) -> None:
        self.windows = windows
        self._inner = [np.flatnonzero(np.equal(w.special_tokens_mask, 0)) for w in windows]
        lengths = [len(inner) for inner in self._inner]
        self._begins = [step * number for number in range(len(windows))]
        total = self._begins[-1] + lengths[-1]
        word, self._window = np.full(total, -1), np.zeros(total, np.int64)
        places, context = np.zeros((total, 2), np.int64), np.full(total, -1)
        for number, (window, inner) in enumerate(zip(windows, self._inner, strict=True)):
            own = slice(self._begins[number], self._begins[number] + len(inner))
            ids = window.word_ids
            word[own] = [-1 if ids[token] is None else ids[token] for token in inner]
            places[own] = np.array(window.offsets, np.int64).reshape(-1, 2)[inner]
            left = np.arange(len(inner)) + (0 if number else FAR)
            right = np.arange(len(inner))[::-1] + (0 if number < len(windows) - 1 else FAR)
            here = np.minimum(left, right)
            self._window[own][here > context[own]] = number
            context[own] = np.maximum(context[own], here)
        if isinstance(source, str):
            places, new = _in_text(source, word, places)
            self._firsts = np.flatnonzero(new)
            self.start = places[self._firsts, 0]
            ends = np.append(self._firsts, total)
            self.end = np.array(
                [places[a:b, 1].max() for a, b in zip(ends[:-1], ends[1:], strict=True)], np.int64
            )
        else:
            new = np.diff(word, prepend=-1) != 0
            self._firsts = np.flatnonzero(new & (word >= 0))
            self.start = word[self._firsts]
            self.end = self.start + 1

    def placed(self, values: Numbers) -> list[Numbers]:
        """Put the value of each word on its first token, in the window where the word counts.

        Args:
            values: int64 [words that have a token].

        Returns:
            int64 [tokens] for each window, IGNORED on other tokens.
        """
        found = []
        for number, window in enumerate(self.windows):
            placed = np.full(max(1, len(window.ids)), IGNORED)
            own = self._window[self._firsts] == number
            inner = self._firsts[own] - self._begins[number]
            placed[self._inner[number][inner]] = values[own]
            found.append(placed)
        return found

    def span(self, span: Span) -> Span:
        """Convert a span of words that have tokens to one of characters, or of all words."""
        first, end, type_ = span
        return int(self.start[first]), int(self.end[end - 1]), type_


def _in_text(text: str, word: Numbers, places: Numbers) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Return the characters of tokens without surrounding spaces, and which tokens begin a word.

    The words are those of the tokenizer, further split at punctuation: for a tokenizer that splits
    only at spaces, "Paris." is one word.
    """
    trimmed, new = np.zeros_like(places), np.zeros(len(word), bool)
    before, last = -2, 0  # word and end of the last token that is not only spaces
    for number, (start, end) in enumerate(places.tolist()):
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if start >= end:  # the mark of a beginning of a word may be a separate token
            continue
        trimmed[number] = start, end
        new[number] = (
            word[number] != before
            or start > last
            or (_is_punctuation(text[start]) or _is_punctuation(text[last - 1]))
            and start == last
        )
        before, last = word[number], end
    return trimmed, new


def _is_punctuation(letter: str) -> bool:
    return unicodedata.category(letter).startswith("P")


@dataclass
class Words:
    """The words of a row that have tokens: start, end and a value of each."""

    start: list[int]
    end: list[int]
    values: list[Any]

    def place(self, span: Span) -> Span:
        """Convert a span of these words to one of characters, or of all words."""
        first, end, type_ = span
        return self.start[first], self.end[end - 1], type_


def words_of(values: torch.Tensor, batch: Mapping[str, Any]) -> list[Words]:
    """Return the values of the words of each row of a batch.

    Args:
        values: [windows, tokens].
        batch: start and end, int64 [windows, tokens], of a WordEncoder; row_index, int64 [windows],
            the row index of each window, ascending.
    """
    counted = batch["start"] != IGNORED
    row_index = batch["row_index"][:, None].expand_as(counted)[counted].cpu().numpy()
    columns = [part[counted].cpu().numpy() for part in (batch["start"], batch["end"], values)]
    bounds = np.searchsorted(row_index, np.arange(int(batch["row_index"][-1]) + 2))
    return [
        Words(*(column[first:last].tolist() for column in columns))
        for first, last in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def found_spans(
    tagging: Tagging, source: Any, row: Words, scores: Sequence[float]
) -> dict[str, Any]:
    """Return the spans of a row, and the tags if the row is a list of words.

    Args:
        tagging: the tag set.
        source: the text or the list of words of the row.
        row: the tagged words of the row.
        scores: [tagged words], the probability of each tag.
    """
    words = None if isinstance(source, str) else source
    text = source if words is None else " ".join(words)
    located = [(span, row.place(span)) for span in tagging.spans(row.values)]
    found = []
    for (first, last, type_), (start, end, _) in located:
        numbers = {}
        if words is not None:
            numbers = {"start_word": start, "end_word": end}
            start, end = len(" ".join([*words[:start], ""])), len(" ".join(words[:end]))
        found.append(
            {
                "label": tagging.types[type_],
                "text": text[start:end],
                "start": start,
                "end": end,
                **numbers,
                "score": sum(scores[first:last]) / (last - first),
            }
        )
    if words is None:
        return {"spans": found}
    return {"spans": found, "tags": _tags(tagging, words, row, [place for _, place in located])}


def _tags(tagging: Tagging, words: Sequence[str], row: Words, places: Sequence[Span]) -> list[str]:
    """Return the tag of every word; a word without a token has that of the span around it, or O."""
    tags = [OUTSIDE] * len(words)
    for start, end, type_ in places:
        tags[start:end] = [tagging.names[tagging.tag(type_, first=False)]] * (end - start)
    for word, label in zip(row.start, row.values, strict=True):
        tags[word] = tagging.names[label]
    return tags
