"""Strict scores of spans from running counts.

They are those of seqeval in strict mode with the scheme IOB2: a span is correct if its start, end
and type are correct.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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

    def update(
        self,
        true: Sequence[Sequence[Span]],
        predicted: Sequence[Sequence[Span]],
        right: int,
        words: int,
    ) -> None:
        """Add rows.

        Args:
            true: the true spans of each row.
            predicted: the predicted spans of each row.
            right: the number of words with the correct tag.
            words: the number of words.
        """
        counts = torch.zeros_like(self.spans, device="cpu")
        for true_row, predicted_row in zip(true, predicted, strict=True):
            groups = (set(true_row) & set(predicted_row), predicted_row, true_row)
            for column, spans in enumerate(groups):
                for _, _, type_ in spans:
                    counts[type_, column] += 1
        self.spans += counts.to(self.spans.device)
        self.words += torch.tensor([right, words], device=self.words.device)

    def compute(self) -> dict[str, torch.Tensor]:
        """Return the counts, int64: spans [types, 3], words [2]."""
        return {"spans": self.spans, "words": self.words}


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
