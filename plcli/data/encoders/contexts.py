"""Encodes questions and contexts with answers as windows of tokens with labels.

Every window of a context begins with the question (Devlin et al. 2019, section 4.2). The label of a
window without the whole answer is its first token, [CLS].
"""

import json
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from plcli.data.encoders import places
from plcli.data.encoders.encoder import IDS
from plcli.data.encoders.text import need_fast, set_truncation, windows
from plcli.errors import DataError, UsageError


class Fate(IntEnum):
    """What happened to the answer of a row."""

    NO_ANSWER = 0
    WHOLE = 1
    INSIDE_TOKENS = 2  # begins or ends inside a token
    IN_NO_WINDOW = 3  # no window contains the whole answer


def parse(cell: str, context: str, *, where: str, column: str) -> list[tuple[int, str]]:
    """Return the answers of a row, each with the index of its first character.

    Args:
        cell: JSON, as in a column of Kind.OBJECT.
        context: the context of the row.
        where: the row, for messages.
        column: the column, for messages.

    Raises:
        DataError: if an answer is not in SQuAD format, or not in the context.
    """
    value = json.loads(cell)
    texts, starts = (
        (value.get("text"), value.get("answer_start")) if isinstance(value, dict) else (None, None)
    )
    if not isinstance(texts, list) or not isinstance(starts, list):
        raise DataError(
            f"{where}: column '{column}' contains {cell:.60}, which is not in SQuAD format. "
            'Write {"text": ["..."], "answer_start": [0]}, with empty lists for no answer.'
        )
    if len(texts) != len(starts):
        raise DataError(
            f"{where}: column '{column}' contains {len(texts)} text and {len(starts)} "
            "answer_start. Give one answer_start for each text."
        )
    for text, start in zip(texts, starts, strict=True):
        _check(text, start, context, f"{where}: column '{column}'")
    return list(zip(starts, texts, strict=True))


def _check(text: Any, start: Any, context: str, where: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{where} contains the answer {text!r:.60}, which is not text. "
            "Write the words of the context, or empty lists for no answer."
        )
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise DataError(
            f"{where} contains answer_start {start!r:.60}; expected a number from 0: the number "
            "of characters of the context before the answer."
        )
    found = context[start : start + len(text)]
    if found != text:
        places = [at for at in range(len(context)) if context.startswith(text, at)]
        nearest = min(places, key=lambda at: abs(at - start), default=None)
        remedy = (
            "It is not in the context. Correct the row, or remove it."
            if nearest is None
            else f"It is at {nearest}. Count characters, not bytes, and from 0."
        )
        raise DataError(
            f"{where} says that {text!r:.60} is at {start} in the context, but {found!r:.60} is "
            f"there. {remedy}"
        )


class ContextEncoder:
    """Encodes questions with the windows of their contexts, and their answers.

    A question is truncated if it leaves less than half of a window for new tokens of the context.

    Args:
        tokenizer: a fast tokenizer of transformers.
        max_length: maximum number of tokens per window, with the question and special tokens.
        stride: number of context tokens that a window repeats of the window before it.
        answers: the column of answers, for messages; None without answers.

    Raises:
        ModelError: if the tokenizer is not a fast tokenizer.
        UsageError: if the stride leaves no room in a window.
    """

    def __init__(
        self, tokenizer: Any, *, max_length: int, stride: int, answers: str | None
    ) -> None:
        need_fast(tokenizer, "windows of a context")
        self.tokenizer, self.max_length, self.stride = tokenizer, max_length, stride
        self.answers = answers
        self.key = ["contexts", max_length, stride, answers]
        special = tokenizer.backend_tokenizer.num_special_tokens_to_add(True)
        self.longest_question = (max_length - special - stride) // 2
        if self.longest_question < 1:
            most = max_length - special - 2
            raise UsageError(
                f"data.stride: {stride} tokens leave no room for a question and more of its "
                f"context in {max_length} (data.max_length). "
                + (f"Set it to {most} or less." if most >= 0 else "Raise data.max_length.")
            )
        self.columns: Mapping[str, pa.DataType] = {
            "input_ids": IDS,
            "token_type_ids": pa.list_(pa.uint8()),
            "row": pa.int32(),
            "question_cut": pa.bool_(),
            "char_starts": IDS,  # of each token in the context; -1 for other tokens
            "char_ends": IDS,
        }
        if answers is not None:
            numbers = ("first_token", "last_token", "answer_tokens", "fate")
            self.columns = {**self.columns, **dict.fromkeys(numbers, pa.int32())}

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode columns of questions, contexts and, if there are any, answers."""
        questions, cut = self._cut(cells[0])
        set_truncation(self.tokenizer, self.max_length, stride=self.stride, strategy="only_second")
        # encode_batch_fast returns no offsets, and wrong token types for later windows.
        encodings = self.tokenizer.backend_tokenizer.encode_batch(
            list(zip(questions, cells[1], strict=True))
        )
        rows, entries = windows(encodings)
        values: dict[str, list[Any]] = {name: [] for name in self.columns}
        for row, window in zip(rows, entries, strict=True):
            inside = np.array([part == 1 for part in window.sequence_ids], bool)
            offsets = np.where(inside[:, None], np.array(window.offsets).reshape(-1, 2), -1)
            values["char_starts"].append(offsets[:, 0])
            values["char_ends"].append(offsets[:, 1])
            values["token_type_ids"].append(window.type_ids)
            values["input_ids"].append(window.ids)
            values["question_cut"].append(cut[row])
        values["row"] = rows
        if self.answers is not None:
            for row, context in enumerate(cells[1]):
                found = parse(cells[2][row], context, where=where(row), column=self.answers)
                first, last = np.searchsorted(rows, [row, row + 1])
                labels = _labels(
                    [values[name][first:last] for name in ("char_starts", "char_ends")],
                    context,
                    found[0] if found else None,
                )
                for name, numbers in labels.items():
                    values[name] += numbers
        return values

    def places(self, cells: Sequence[Any]) -> places.Places:
        """Return where the tokens of a row are in its question, as it is cut, and its context."""
        (question,), _ = self._cut([cells[0]])
        set_truncation(self.tokenizer, self.max_length, stride=self.stride, strategy="only_second")
        encodings = self.tokenizer.backend_tokenizer.encode_batch([(question, cells[1])])
        return places.of([question, cells[1]], windows(encodings)[1])

    def _cut(self, questions: Sequence[str]) -> tuple[list[str], list[bool]]:
        """Truncate questions to leave enough room, and return which of them were cut."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        # Some tokenizers make tokens of leading spaces.
        kept = [question.lstrip() for question in questions]
        encodings = backend.encode_batch(kept, add_special_tokens=False)
        cut = [len(encoding) > self.longest_question for encoding in encodings]
        for row in np.flatnonzero(cut):
            kept[row] = kept[row][: encodings[row].offsets[self.longest_question - 1][1]]
        return kept, cut


def _labels(
    offsets: Sequence[Sequence[npt.NDArray[Any]]], context: str, answer: tuple[int, str] | None
) -> dict[str, list[int]]:
    """Return the labels of the windows of a row, and the tokens and fate of its answer."""
    count = len(offsets[0])
    spans = [(0, 0)] * count
    fate, tokens = Fate.NO_ANSWER, 0
    if answer is not None:
        start, end = answer[0], answer[0] + len(answer[1])
        fate = Fate.IN_NO_WINDOW
        for number, (starts, ends) in enumerate(zip(*offsets, strict=True)):
            inside = np.flatnonzero(starts >= 0)
            if not len(inside) or starts[inside[0]] > start or ends[inside[-1]] < end:
                continue
            first = int(inside[starts[inside] <= start][-1])
            last = int(inside[ends[inside] >= end][0])
            whole = context[starts[first] : ends[last]].strip() == answer[1].strip()
            fate, tokens = Fate.WHOLE if whole else Fate.INSIDE_TOKENS, last - first + 1
            spans[number] = first, last
    return {
        "first_token": [first for first, _ in spans],
        "last_token": [last for _, last in spans],
        "answer_tokens": [tokens] * count,
        "fate": [fate] * count,
    }
