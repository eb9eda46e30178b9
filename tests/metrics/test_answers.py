"""Answers: the best spans over all windows, and when there is none."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from plcli.metrics.answers import Span as Found
from plcli.metrics.answers import best_spans, choose, no_answer_scores
from tests.data.encoders.test_contexts import LONG, encoded


def brute_force(
    start: np.ndarray, end: np.ndarray, got: dict[str, Any], *, max_answer: int
) -> list[tuple[int, int]]:
    """Return all spans of one row by their best score, with nothing of plcli."""
    best: dict[tuple[int, int], float] = {}
    for window, (starts, ends) in enumerate(zip(got["char_starts"], got["char_ends"], strict=True)):
        for i in range(len(starts)):
            for j in range(i, min(i + max_answer, len(starts))):
                if starts[i] >= 0 and starts[j] >= 0:
                    span = (int(starts[i]), int(ends[j]))
                    score = float(start[window, i] + end[window, j])
                    best[span] = max(score, best.get(span, -math.inf))
    return sorted(best, key=lambda span: -best[span])


def stacked(cells: Sequence[Any]) -> torch.Tensor:
    """Pad lists on the right with -1."""
    width = max(map(len, cells))
    return torch.tensor([[*map(int, cell), *[-1] * (width - len(cell))] for cell in cells])


@pytest.mark.parametrize("max_answer", [1, 3, 50])
def test_the_best_spans_are_those_of_a_search_of_all(max_answer: int) -> None:
    got = encoded(("x y", LONG))
    starts, ends = stacked(got["char_starts"]), stacked(got["char_ends"])
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, *starts.shape, generator=generator)
    spans = best_spans(
        *logits,
        char_starts=starts,
        char_ends=ends,
        row_index=torch.zeros(len(starts), dtype=torch.long),
        contexts=[LONG],
        n_best=9,
        max_answer=max_answer,
    )[0]
    expected = brute_force(*logits.numpy(), got, max_answer=max_answer)[:9]
    assert [(span.start, span.end) for span in spans] == expected


def test_every_row_has_the_spans_of_its_own_windows() -> None:
    got = encoded(("x y", LONG), ("x", "b"))
    starts, ends = stacked(got["char_starts"]), stacked(got["char_ends"])
    spans = best_spans(
        torch.zeros(starts.shape),
        torch.zeros(starts.shape),
        char_starts=starts,
        char_ends=ends,
        row_index=torch.tensor(got["row"]),
        contexts=[LONG, "b"],
        n_best=3,
        max_answer=2,
    )
    assert [(span.start, span.end) for span in spans[1]] == [(0, 1)]


def test_a_span_has_no_blanks_at_its_ends() -> None:
    spans = best_spans(
        torch.zeros(1, 1),
        torch.zeros(1, 1),
        char_starts=torch.tensor([[1]]),
        char_ends=torch.tensor([[4]]),
        row_index=torch.tensor([0]),
        contexts=["a b c"],
        n_best=3,
        max_answer=2,
    )
    assert spans == [[Found(2, 3, 0.0)]]


@pytest.mark.parametrize("mask", [[1, 1, 0], [0, 1, 1]])
def test_no_answer_has_the_lowest_score_of_a_rows_first_tokens(mask: list[int]) -> None:
    position = mask.index(1)
    logits = torch.zeros(3, 3)
    logits[:, position] = torch.tensor([1.0, 0.5, 7.0])
    scores = no_answer_scores(
        logits,
        2 * logits,
        attention_mask=torch.tensor([mask] * 3),
        row_index=torch.tensor([0, 0, 1]),
        rows=2,
    )
    assert scores == [1.5, 21.0]


SPANS = [Found(0, 1, 2.0), Found(2, 3, 1.0)]


def test_probabilities_are_shared_out_among_the_best_spans() -> None:
    row = choose("a b c", SPANS, None, threshold=0.0)
    expected = torch.tensor([2.0, 1.0]).softmax(0).tolist()
    assert [entry["score"] for entry in row["n_best"]] == pytest.approx(expected)


@pytest.mark.parametrize(("threshold", "text"), [(0.4, ""), (0.6, "a")])
def test_no_answer_is_given_from_a_difference_of_scores(threshold: float, text: str) -> None:
    row = choose("a b c", SPANS, 2.5, threshold=threshold)
    assert row["answer"] == text


def test_an_empty_context_has_the_empty_answer() -> None:
    row = choose("", [], None, threshold=0.0)
    assert (row["answer"], row["start"], row["end"], row["score"]) == ("", 0, 0, 1.0)
