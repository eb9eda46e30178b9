"""Exact match and F1 of answers, row by row, as in the script of SQuAD (Rajpurkar et al. 2016)."""

import math
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from plcli.metrics.scoring import Means

NAMES = ("exact_match", "f1")
MARGINS = ("margin", "span_f1", "none_f1")
LEAST = 1e-30  # of a probability, for its logarithm
KINDS = ("has_answer", "no_answer")


def normalized(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation and articles."""
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def score(predicted: str, answers: Sequence[str]) -> tuple[float, float]:
    """Return exact match, 0 or 1, and F1 of an answer; the best of several correct answers counts.

    Args:
        predicted: the answer; empty for none.
        answers: the correct answers; empty if there is none.
    """
    words, exact, best = normalized(predicted), 0.0, 0.0
    for answer in answers or [""]:
        correct = normalized(answer)
        exact = max(exact, float(words == correct))
        if not words or not correct:
            best = max(best, float(words == correct))
            continue
        common = sum((Counter(words) & Counter(correct)).values())
        best = max(best, 2 * common / (len(words) + len(correct)))
    return exact, best


def rows(
    predicted: Sequence[str],
    answers: Sequence[Sequence[str]],
    *,
    contexts: Sequence[str],
    empty: bool,
) -> dict[str, torch.Tensor]:
    """Return what `scoring` needs of each row.

    Args:
        predicted: the predicted answer of each row.
        answers: the correct answers of each row.
        contexts: the context of each row, which is the baseline's answer.
        empty: whether the baseline gives no answer instead.
    """
    scores = [score(*row) for row in zip(predicted, answers, strict=True)]
    simple = [""] * len(answers) if empty else contexts
    baseline = [score(*row) for row in zip(simple, answers, strict=True)]
    found = {}
    for prefix, values in (("", scores), ("baseline.", baseline)):
        columns = torch.tensor(values, dtype=torch.float32).view(-1, 2)
        for kind in ("", *(f"{kind}_" for kind in KINDS if empty)):
            for number, name in enumerate(NAMES):
                found[f"{prefix}{kind}{name}"] = columns[:, number]
    has = torch.tensor([bool(correct) for correct in answers])
    return found | {"has_answer": has.float(), "no_answer": (~has).float()}


def margins(
    rows: Sequence[Mapping[str, Any]], answers: Sequence[Sequence[str]]
) -> dict[str, torch.Tensor]:
    """Return what `best_threshold` needs of each row.

    Args:
        rows: the answers of `plcli.metrics.answers.answered`, with their candidates.
        answers: the correct answers of each row.
    """
    found = []
    for row, correct in zip(rows, answers, strict=True):
        none = max((c["score"] for c in row["n_best"] if c["start"] == c["end"]), default=0.0)
        spans = [each for each in row["n_best"] if each["start"] < each["end"]]
        text, best = (spans[0]["answer"], spans[0]["score"]) if spans else ("", 0.0)
        # the scores are a softmax, so that their ratio is the difference of the logits
        margin = math.log(max(none, LEAST)) - math.log(max(best, LEAST))
        found.append([margin, score(text, correct)[1], score("", correct)[1]])
    columns = torch.tensor(found, dtype=torch.float32).view(-1, 3)
    return dict(zip(MARGINS, columns.unbind(1), strict=True))


def best_threshold(columns: Mapping[str, npt.NDArray[Any]]) -> float:
    """Return the threshold of no answer with the largest F1 on rows.

    It lies in the middle between the margins of two rows, or beyond all of them.

    Args:
        columns: those of `margins`.
    """
    margin, with_span, without = (columns[name].astype(np.float64) for name in MARGINS)
    order = np.argsort(-margin, kind="stable")
    margin, gains = margin[order], (without - with_span)[order]
    totals = np.concatenate([[0.0], np.cumsum(gains)])  # of the first rows without an answer
    ends = np.concatenate([[margin[0] + 2], margin, [margin[-1] - 2]])
    between = (ends[1:] + ends[:-1]) / 2
    allowed = ends[:-1] > ends[1:]  # a threshold cannot separate equal margins
    return float(between[int(np.argmax(np.where(allowed, totals, -np.inf)))])


def scoring(*, unanswerable: bool) -> Means:
    """Return how the scores follow from the rows.

    Args:
        unanswerable: whether questions can have no answer, so that both kinds have scores, too.
    """
    kinds = KINDS if unanswerable else ()
    return Means(
        names=[*NAMES, *(f"{kind}_{name}" for kind in kinds for name in NAMES)],
        proportions=["exact_match", *(f"{kind}_exact_match" for kind in kinds)],
        only={f"{kind}_{name}": kind for kind in kinds for name in NAMES},
        baseline_name="no answer" if unanswerable else "whole context",
    )
