"""Scores of spans against seqeval."""

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from plcli.data.tagging import Tagging
from plcli.metrics import spans
from plcli.metrics.spans import SpanScores, counts_of_rows
from tests.data.test_tagging import BIO, rows_of


def measured(true: Sequence[Sequence[str]], guessed: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Put tags through the running counts in parts, and return the scores."""
    tagging = Tagging(BIO)
    metric = SpanScores(len(tagging.types))
    for part in (slice(0, 7), slice(7, 8), slice(8, None)):
        both = [
            [tagging.spans([tagging.ids[tag] for tag in tags]) for tags in rows[part]]
            for rows in (true, guessed)
        ]
        pairs = [
            (a, b)
            for x, y in zip(true[part], guessed[part], strict=True)
            for a, b in zip(x, y, strict=True)
        ]
        counts = counts_of_rows(*both, num_types=len(tagging.types))
        metric.update(counts, torch.tensor([[sum(a == b for a, b in pairs), len(pairs)]]))
    return spans.summary(metric.compute(), tagging.types)


@pytest.fixture(scope="module")
def tagged() -> tuple[list[list[str]], list[list[str]]]:
    """True tags, and guesses of which a part is wrong, stray I- among both."""
    true, generator = rows_of(BIO), random.Random(1)
    wrong = [
        [tag if generator.random() < 0.8 else generator.choice(BIO) for tag in row] for row in true
    ]
    return true, wrong


Tagged = tuple[list[list[str]], list[list[str]]]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("precision", precision_score), ("recall", recall_score), ("f1", f1_score)],
)
def test_a_score_is_that_of_seqeval_strict(name: str, theirs: Any, tagged: Tagged) -> None:
    assert measured(*tagged)[name] == pytest.approx(theirs(*tagged, mode="strict", scheme=IOB2))


def test_the_table_of_types_is_that_of_seqeval_strict(tagged: Tagged) -> None:
    theirs = classification_report(*tagged, mode="strict", scheme=IOB2, output_dict=True)
    for name, row in measured(*tagged)["types"].items():
        assert {k.removesuffix("-score"): v for k, v in theirs[name].items()} == pytest.approx(row)


def test_the_accuracy_is_that_of_words(tagged: Tagged) -> None:
    pairs = [(a, b) for x, y in zip(*tagged, strict=True) for a, b in zip(x, y, strict=True)]
    assert measured(*tagged)["accuracy"] == np.mean([a == b for a, b in pairs])


def test_without_spans_scores_are_zero() -> None:
    assert measured([["O"]] * 9, [["O"]] * 9)["f1"] == 0
