"""Strict scores of spans from running counts.

They are those of seqeval in strict mode with the scheme IOB2: a span is correct if its start, end
and type are correct.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from plcli.data.tagging import Span


class SpanScores(Metric):
    """Running counts of spans and of words, from which strict scores are computed.

    Args:
        num_types: the number of types of spans.
    """

    full_state_update = False
    spans: torch.Tensor
    words: torch.Tensor

    def __init__(self, num_types: int) -> None:
        super().__init__()
        # for each type: correct, predicted and true spans
        self.add_state("spans", torch.zeros(num_types, 3, dtype=torch.int64), "sum")
        # words with the correct tag, and all words
        self.add_state("words", torch.zeros(2, dtype=torch.int64), "sum")

    def update(self, spans: torch.Tensor, words: torch.Tensor) -> None:
        """Add rows.

        Args:
            spans: the counts of `counts_of_rows`, int64 [rows, types, 3].
            words: the number of words with the correct tag and of all words, int64 [rows, 2].
        """
        self.spans += spans.sum(0).to(self.spans.device)
        self.words += words.sum(0).to(self.words.device)

    def compute(self) -> dict[str, torch.Tensor]:
        """Return the counts, int64: spans [types, 3], words [2]."""
        return {"spans": self.spans, "words": self.words}


def counts_of_rows(
    true: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]], *, num_types: int
) -> torch.Tensor:
    """Return the correct, predicted and true spans of each row and type, int64 [rows, types, 3].

    Args:
        true: the true spans of each row.
        predicted: the predicted spans of each row.
        num_types: the number of types of spans.
    """
    counts = np.zeros((len(true), num_types, 3), np.int64)
    for number, (true_row, predicted_row) in enumerate(zip(true, predicted, strict=True)):
        groups = (set(true_row) & set(predicted_row), predicted_row, true_row)
        for column, spans in enumerate(groups):
            for _, _, type_ in spans:
                counts[number, type_, column] += 1
    return torch.from_numpy(counts)


def summary(values: Mapping[str, torch.Tensor], types: Sequence[str]) -> dict[str, Any]:
    """Return precision, recall and F1 of all spans, the accuracy of words, and a table of types.

    Args:
        values: the computed SpanScores.
        types: the names of the types.
    """
    counts = values["spans"].tolist()
    right, words = values["words"].tolist()
    return {
        **_scores(*(sum(column) for column in zip(*counts, strict=True))),
        "accuracy": right / words if words else 0.0,
        "types": {
            name: _scores(*row) | {"support": row[2]}
            for name, row in zip(types, counts, strict=True)
        },
    }


def _scores(correct: int, predicted: int, true: int) -> dict[str, float]:
    return {
        "precision": correct / predicted if predicted else 0.0,
        "recall": correct / true if true else 0.0,
        "f1": 2 * correct / (predicted + true) if predicted + true else 0.0,
    }
