"""Answers in a context: rows -> windows of tokens with their labels; logits -> the best spans.

A question stands at the beginning of every window of its context (Devlin et al. 2019, section 4.2).
A window that does not hold the whole answer has its first token, [CLS], for label.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from plcli.data.token_cache import IDS, need_fast, set_truncation, windows
from plcli.errors import DataError, UsageError


class Fate(IntEnum):
    """What became of a row's answer."""

    NO_ANSWER = 0
    WHOLE = 1
    INSIDE_TOKENS = 2  # it begins or ends inside a token
    IN_NO_WINDOW = 3  # as a whole


@dataclass(frozen=True)
class Span:
    """A part of a context.

    Attributes:
        start: its first character.
        end: the character after its last.
        score: the sum of the logits of its first and last token.
    """

    start: int
    end: int
    score: float


def parse(cell: str, context: str, *, where: str, column: str) -> list[tuple[int, str]]:
    """Return the answers of a row, each with its first character; none where it has none.

    Args:
        cell: JSON, as rows.Kind.OBJECT keeps it.
        context: the text that they stand in.
        where: the row, for messages.
        column: the column, for messages.

    Raises:
        DataError: if they are not in the form of SQuAD, or are not in the context.
    """
    value = json.loads(cell)
    texts, starts = (
        (value.get("text"), value.get("answer_start")) if isinstance(value, dict) else (None, None)
    )
    if not isinstance(texts, list) or not isinstance(starts, list):
        raise DataError(
            f"{where}: column '{column}' holds {cell:.60}, which is not in the form of SQuAD. "
            'Write {"text": ["..."], "answer_start": [0]}, with empty lists for no answer.'
        )
    if len(texts) != len(starts):
        raise DataError(
            f"{where}: column '{column}' holds {len(texts)} text and {len(starts)} answer_start. "
            "Give one answer_start for each text."
        )
    for text, start in zip(texts, starts, strict=True):
        _check(text, start, context, f"{where}: column '{column}'")
    return list(zip(starts, texts, strict=True))


def _check(text: Any, start: Any, context: str, where: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise DataError(
            f"{where} holds the answer {text!r:.60}, which is no text. "
            "Write the words of the context, or empty lists for no answer."
        )
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise DataError(
            f"{where} holds answer_start {start!r:.60}; expected a number from 0: how many "
            "characters of the context stand before the answer."
        )
    found = context[start : start + len(text)]
    if found != text:
        places = [at for at in range(len(context)) if context.startswith(text, at)]
        nearest = min(places, key=lambda at: abs(at - start), default=None)
        remedy = (
            "It stands nowhere in the context. Mend the row, or remove it."
            if nearest is None
            else f"It stands at {nearest}. Count characters, not bytes, and from 0."
        )
        raise DataError(
            f"{where} says that {text!r:.60} stands at {start} in the context, where {found!r:.60} "
            f"stands. {remedy}"
        )


class ContextEncoder:
    """Encodes questions with the windows of their contexts, and their answers.

    A question is cut where less than half of a window's tokens were left for new ones of the
    context.

    Args:
        tokenizer: of transformers, a fast one.
        max_length: tokens a window at most, those of the question and special ones included.
        stride: tokens of the context that a window repeats of the one before it.
        answers: the column of answers, for messages; None where there is none.

    Raises:
        ModelError: if the tokenizer is not a fast one.
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
            "char_starts": IDS,  # of each token in the context; -1 outside of it
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
        # encode_batch_fast knows no characters, and mistakes the token types of later windows.
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

    def _cut(self, questions: Sequence[str]) -> tuple[list[str], list[bool]]:
        """Return questions that leave enough room, and which of them were cut for it."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        # Blanks at its beginning count as tokens of some tokenizers.
        kept = [question.lstrip() for question in questions]
        encodings = backend.encode_batch(kept, add_special_tokens=False)
        cut = [len(encoding) > self.longest_question for encoding in encodings]
        for row in np.flatnonzero(cut):
            kept[row] = kept[row][: encodings[row].offsets[self.longest_question - 1][1]]
        return kept, cut


def _labels(
    offsets: Sequence[Sequence[npt.NDArray[Any]]], context: str, answer: tuple[int, str] | None
) -> dict[str, list[int]]:
    """Return the labels of a row's windows, the answer's tokens, and what became of it."""
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


def answered(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    batch: Mapping[str, Any],
    *,
    n_best: int,
    max_answer: int,
    no_answer_threshold: float | None,
) -> list[dict[str, Any]]:
    """Return each row's answer and what it was chosen from.

    Args:
        start_logits: [windows, tokens].
        end_logits: [windows, tokens].
        batch: attention_mask; char_starts and char_ends, int64 [windows, tokens], the characters of
            tokens in the context, -1 outside of it; owners, int64 [windows], the row that each
            window is of; contexts of the rows.
        n_best: spans a row at most.
        max_answer: tokens a span at most.
        no_answer_threshold: no answer is given where its score is higher than that of the best span
            by more than this; None where there always is one.
    """
    logits, contexts = (start_logits.float(), end_logits.float()), batch["contexts"]
    places = {name: batch[name] for name in ("char_starts", "char_ends", "owners")}
    spans = best_spans(*logits, **places, contexts=contexts, n_best=n_best, max_answer=max_answer)
    none: Sequence[float | None] = [None] * len(contexts)
    if no_answer_threshold is not None:
        masks = {name: batch[name] for name in ("attention_mask", "owners")}
        none = no_answer_scores(*logits, **masks, rows=len(contexts))
    return [
        choose(*row, threshold=no_answer_threshold or 0.0)
        for row in zip(contexts, spans, none, strict=True)
    ]


def best_spans(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    *,
    char_starts: torch.Tensor,
    char_ends: torch.Tensor,
    owners: torch.Tensor,
    contexts: Sequence[str],
    n_best: int,
    max_answer: int,
) -> list[list[Span]]:
    """Return the best spans of each row over all its windows, the best first; see `answered`."""
    outside, width = char_starts < 0, char_starts.shape[1]
    longest = min(max_answer, width)
    starts = start_logits.masked_fill(outside, -math.inf)
    ends = end_logits.masked_fill(outside, -math.inf)
    ends = torch.nn.functional.pad(ends, (0, longest - 1), value=-math.inf)
    sums = (starts[:, :, None] + ends.unfold(1, longest, 1)).flatten(1)  # every allowed span
    scores, places = sums.topk(min(n_best, sums.shape[1]))
    first = places // longest
    last = (first + places % longest).clamp(max=width - 1)
    found: list[dict[tuple[int, int], float]] = [{} for _ in contexts]
    columns = (scores, char_starts.gather(1, first), char_ends.gather(1, last))
    for row, *window in zip(owners.tolist(), *(each.tolist() for each in columns), strict=True):
        for score, start, end in zip(*window, strict=True):
            if not math.isfinite(score):
                continue
            text = contexts[row][start:end]  # with the blank before it, for some tokenizers
            span = (end - len(text.lstrip()), start + len(text.rstrip()))
            if span[0] < span[1]:
                found[row][span] = max(score, found[row].get(span, -math.inf))
    return [
        sorted((Span(*span, score) for span, score in spans.items()), key=_order)[:n_best]
        for spans in found
    ]


def _order(span: Span) -> tuple[float, int, int]:
    return -span.score, span.start, span.end


def no_answer_scores(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    *,
    attention_mask: torch.Tensor,
    owners: torch.Tensor,
    rows: int,
) -> list[float]:
    """Return each row's score of no answer: the logits of the first token, [CLS].

    Of several windows that one counts which is least sure, as in BERT's script for SQuAD 2.
    """
    first = attention_mask.argmax(1, keepdim=True)  # padding may stand on the left
    scores = (start_logits + end_logits).gather(1, first).squeeze(1)
    lowest = torch.full((rows,), math.inf, device=scores.device)
    found: list[float] = lowest.scatter_reduce(0, owners, scores, "amin").tolist()
    return found


def choose(
    context: str, spans: Sequence[Span], no_answer: float | None, *, threshold: float
) -> dict[str, Any]:
    """Return a row's answer and what it was chosen from; no answer is an empty span.

    Args:
        context: the text that the spans are parts of.
        spans: the best spans, the best first; there is none in an empty context.
        no_answer: the score of no answer; None where there always is one.
        threshold: by how much more than the best span no answer has to score.
    """
    none = [] if no_answer is None and spans else [Span(0, 0, no_answer or 0.0)]
    candidates = [*spans, *none]
    scores = torch.tensor([span.score for span in candidates])
    entries: list[dict[str, Any]] = [
        {
            "answer": context[span.start : span.end],
            "start": span.start,
            "end": span.end,
            "score": probability,
        }
        for span, probability in zip(candidates, scores.softmax(0).tolist(), strict=True)
    ]
    refuses = not spans or (no_answer is not None and no_answer - spans[0].score > threshold)
    given = entries[-1 if refuses else 0]
    entries.sort(key=lambda entry: -float(entry["score"]))
    return {**given, "n_best": entries}
