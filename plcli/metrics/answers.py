"""Answers in a context: finds the best spans and the answer from the logits of windows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch


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


def answered(
    start_logits: torch.Tensor,
    end_logits: torch.Tensor,
    batch: Mapping[str, Any],
    *,
    n_best: int,
    max_answer: int,
    no_answer_threshold: float | None,
) -> list[dict[str, Any]]:
    """Return the answer of each row, and its candidates.

    Args:
        start_logits: [windows, tokens].
        end_logits: [windows, tokens].
        batch: attention_mask; char_starts and char_ends, int64 [windows, tokens], the characters of
            tokens in the context, or -1 for other tokens; row_index, int64 [windows], the row
            index of each window; contexts, the text of each row.
        n_best: maximum number of spans per row.
        max_answer: maximum number of tokens per span.
        no_answer_threshold: a row has no answer if the score of no answer exceeds that of the best
            span by more than this; None if every row has an answer.
    """
    logits, contexts = (start_logits.float(), end_logits.float()), batch["contexts"]
    places = {name: batch[name] for name in ("char_starts", "char_ends", "row_index")}
    spans = best_spans(*logits, **places, contexts=contexts, n_best=n_best, max_answer=max_answer)
    none: Sequence[float | None] = [None] * len(contexts)
    if no_answer_threshold is not None:
        masks = {name: batch[name] for name in ("attention_mask", "row_index")}
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
    row_index: torch.Tensor,
    contexts: Sequence[str],
    n_best: int,
    max_answer: int,
) -> list[list[Span]]:
    """Return the best spans of each row in all its windows, best first; see `answered`."""
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
    for row, *window in zip(row_index.tolist(), *(each.tolist() for each in columns), strict=True):
        for score, start, end in zip(*window, strict=True):
            if not math.isfinite(score):
                continue
            text = contexts[row][start:end]  # with a leading space, for some tokenizers
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
    row_index: torch.Tensor,
    rows: int,
) -> list[float]:
    """Return the score of no answer of each row: the sum of the logits of the first token, [CLS].

    Of several windows the lowest score counts, as in the SQuAD 2 script of BERT.
    """
    first = attention_mask.argmax(1, keepdim=True)  # padding may be on the left
    scores = (start_logits + end_logits).gather(1, first).squeeze(1)
    lowest = torch.full((rows,), math.inf, device=scores.device)
    found: list[float] = lowest.scatter_reduce(0, row_index, scores, "amin").tolist()
    return found


def choose(
    context: str, spans: Sequence[Span], no_answer: float | None, *, threshold: float
) -> dict[str, Any]:
    """Return the answer of a row and its candidates; no answer is an empty span.

    Args:
        context: the context of the row.
        spans: the best spans, best first; empty for an empty context.
        no_answer: the score of no answer; None if every row has an answer.
        threshold: the margin by which no answer must exceed the score of the best span.
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
    is_empty = not spans or (no_answer is not None and no_answer - spans[0].score > threshold)
    answer = entries[-1 if is_empty else 0]
    entries.sort(key=lambda entry: -float(entry["score"]))
    return {**answer, "n_best": entries}
