"""Exact match and F1 of answers, row by row, as in the script of SQuAD (Rajpurkar et al. 2016)."""

import re
import string
from collections import Counter
from collections.abc import Sequence

import torch

from plcli.metrics.scoring import Means

NAMES = ("exact_match", "f1")
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
