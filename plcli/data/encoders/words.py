"""Words, or texts -> windows of tokens that know their words and, where given, their tags.

Labels stand on the first piece of a word. Of a word that stands in two windows or more, only the
one counts where it has most context: there it is learned, scored and predicted.
"""

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from plcli.data.encoders.encoder import IDS
from plcli.data.encoders.text import need_fast
from plcli.data.tagging import OUTSIDE, Span, Tagging
from plcli.data.tagging import read as read_spans
from plcli.errors import DataError, UsageError, did_you_mean, listed
from plcli.pretrained.label_ids import IGNORED

VERSION = 1  # of what is a word, and of the columns
Numbers = npt.NDArray[np.int64]
FAR = 1 << 30  # tokens of context: where the text begins or ends, none is missing


class WordEncoder:
    """Encodes words with tags, or texts with spans of characters, into windows.

    Beside input_ids and row, each entry has start and end, where on the first pieces of words
    stands what these words are of the row: a text's characters, or the words' own numbers;
    elsewhere IGNORED. With tags there are labels as well, and on each row's first entry its true
    spans (start, end and type, one after another), and counts: of spans that no run of whole words
    is, and of tags that belong to no span. Words that no token stands for are counted too.

    Args:
        tokenizer: a fast one of transformers.
        max_length: tokens a window at most.
        stride: tokens that a window repeats of the one before it; by default a quarter.
        words: whether rows are lists of words; else they are texts.
        tagging: the tags; None where a split has none.
        column: the column of tags or spans, for messages.

    Raises:
        ModelError: if the tokenizer is not a fast one.
        UsageError: if the windows do not move on.
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
                f"window of data.max_length {max_length} without the special ones."
            )
        self.tokenizer, self.max_length, self.words = tokenizer, max_length, words
        self.stride = room // 4 if stride is None else stride
        self.step = room - self.stride
        self.tagging, self.column = tagging, column
        self.key = ["words", VERSION, max_length, self.stride, words, tagging and tagging.names]
        columns = {"input_ids": IDS, "row": pa.int32(), "start": IDS, "end": IDS}
        columns["tokenless"] = pa.int32()
        if tagging is not None:
            columns |= {"labels": IDS, "spans": IDS}
            columns |= {"unaligned": pa.int32(), "strays": pa.int32()}
        self.columns: Mapping[str, pa.DataType] = columns

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode the words or texts of some rows, and their tags or spans where given."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_padding()
        backend.enable_truncation(self.max_length, stride=self.stride)  # from the left to the right
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
                kept = {row.span(span) for span in self.tagging.spans(labels.tolist())}
                first["spans"] = [value for span in true for value in span]
                first["unaligned"] = sum(span not in kept for span in true)
                first["strays"] = self.tagging.strays(labels.tolist())
            for name, value in first.items():
                values[name] += [value, *([[] if name == "spans" else 0] * (count - 1))]
        return values

    def _labels(
        self, row: "_Row", source: Any, cell: Any, where: str
    ) -> tuple[Numbers, list[Span]]:
        """Return the label ids of a row's words, and its true spans."""
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
        for number, tag in enumerate(tags):
            if tag not in known:
                raise DataError(
                    f"{where}: tag '{tag}' of word {number + 1} is not one of {listed(known)}."
                    f"{did_you_mean(tag, known) or ' Mend it, or name all tags in data.labels.'}"
                )
        ids = np.array([known[tag] for tag in tags], np.int64)
        return ids[row.start], self.tagging.spans(ids.tolist())

    def _from_spans(
        self, row: "_Row", found: Sequence[tuple[int, int, str]], where: str
    ) -> tuple[Numbers, list[Span]]:
        assert self.tagging is not None
        types = {name: number for number, name in enumerate(self.tagging.types)}
        labels = np.full(len(row.start), self.tagging.ids[OUTSIDE])
        true, free = [], 0
        for start, end, name in found:
            if name not in types:
                raise DataError(
                    f"{where}: label '{name}' of the span {start}-{end} is not one of "
                    f"{listed(types)}."
                    f"{did_you_mean(name, types) or ' Mend it, or name all tags in data.labels.'}"
                )
            true.append((start, end, types[name]))
            first = max(free, int(np.searchsorted(row.end, start, side="right")))
            free = max(free, int(np.searchsorted(row.start, end)))
            labels[first:free] = self.tagging.tag(types[name], first=False)
            labels[first : min(first + 1, free)] = self.tagging.tag(types[name], first=True)
        return labels, true


class _Row:
    """The windows of a row and the words that stand in them.

    Args:
        windows: encodings, in order.
        source: the row's text, or its words.
        step: tokens from the beginning of a window to that of the next.

    Attributes:
        start, end: int64 [words that have a token], the words' characters, or their own numbers.
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
        """Put a number a word on the word's first piece, in the window where it counts."""
        found = []
        for number, window in enumerate(self.windows):
            placed = np.full(max(1, len(window.ids)), IGNORED)
            own = self._window[self._firsts] == number
            inner = self._firsts[own] - self._begins[number]
            placed[self._inner[number][inner]] = values[own]
            found.append(placed)
        return found

    def span(self, span: Span) -> Span:
        """Turn a span of words that have tokens into one of characters, or of all words."""
        first, end, type_ = span
        return int(self.start[first]), int(self.end[end - 1]), type_


def _in_text(text: str, word: Numbers, places: Numbers) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """Return the tokens' characters without blanks around, and which tokens begin a word.

    Words are the tokenizer's, and parted at punctuation where these are not: pieces of "Paris."
    may be one word of a tokenizer that parts at blanks alone.
    """
    trimmed, new = np.zeros_like(places), np.zeros(len(word), bool)
    before, last = -2, 0  # the word and the end of the last token that is not blank
    for number, (start, end) in enumerate(places.tolist()):
        piece = text[start:end]
        start += len(piece) - len(piece.lstrip())
        end = start + len(piece.strip())
        if start >= end:  # the mark of a word's beginning may be a token of its own
            continue
        trimmed[number] = start, end
        new[number] = (
            word[number] != before
            or start > last
            or (_parts(text[start]) or _parts(text[last - 1]))
            and start == last
        )
        before, last = word[number], end
    return trimmed, new


def _parts(letter: str) -> bool:
    return unicodedata.category(letter).startswith("P")


@dataclass
class Words:
    """A row's words that have tokens: where each starts and ends, and a value of each."""

    start: list[int]
    end: list[int]
    values: list[Any]

    def place(self, span: Span) -> Span:
        """Turn a span of these words into one of characters, or of all words."""
        first, end, type_ = span
        return self.start[first], self.end[end - 1], type_


def words_of(values: torch.Tensor, batch: Mapping[str, Any]) -> list[Words]:
    """Return the values that stand on words, for each row of a batch.

    Args:
        values: [windows, tokens].
        batch: start and end, int64 [windows, tokens], as they are encoded; owners, int64 [windows],
            the position of each window's row, ascending.
    """
    counted = batch["start"] != IGNORED
    owners = batch["owners"][:, None].expand_as(counted)[counted].cpu().numpy()
    columns = [part[counted].cpu().numpy() for part in (batch["start"], batch["end"], values)]
    bounds = np.searchsorted(owners, np.arange(int(batch["owners"][-1]) + 2))
    return [
        Words(*(column[first:last].tolist() for column in columns))
        for first, last in zip(bounds[:-1], bounds[1:], strict=True)
    ]


def found_spans(
    tagging: Tagging, source: Any, row: Words, scores: Sequence[float]
) -> dict[str, Any]:
    """Return a row's spans, and of words the tags.

    Args:
        tagging: how tags spell spans.
        source: the row: a text, or a list of words.
        row: its tagged words.
        scores: [tagged words], the probability of each one's tag.
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
    """Return a tag for every word; one without a token has that of the span around it, or O."""
    tags = [OUTSIDE] * len(words)
    for start, end, type_ in places:
        tags[start:end] = [tagging.names[tagging.tag(type_, first=False)]] * (end - start)
    for word, label in zip(row.start, row.values, strict=True):
        tags[word] = tagging.names[label]
    return tags
