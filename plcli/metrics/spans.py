"""Strict scores of spans: running counts, and what they come to.

They are seqeval's in its strict mode with the scheme IOB2: a span counts where start, end and type
are right.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchmetrics import Metric

from plcli.data.tagging import Span


class SpanScores(Metric):
    """Running counts of spans and of words, from which strict scores are computed.

    Args:
        num_types: how many types of spans there are.
    """

    full_state_update = False
    spans: torch.Tensor
    words: torch.Tensor

    def __init__(self, num_types: int) -> None:
        super().__init__()
        # of each type: found rightly, found, there
        self.add_state("spans", torch.zeros(num_types, 3, dtype=torch.int64), "sum")
        # those with the right tag, and all
        self.add_state("words", torch.zeros(2, dtype=torch.int64), "sum")

    def update(
        self,
        true: Sequence[Sequence[Span]],
        predicted: Sequence[Sequence[Span]],
        right: int,
        words: int,
    ) -> None:
        """Add rows: their spans, the number of words with the right tag, and of all words."""
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
    """Return precision, recall and F1 over all spans, the accuracy of words, and a table of types.

    Args:
        values: what SpanScores computes.
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


def _scores(correct: int, found: int, there: int) -> dict[str, float]:
    return {
        "precision": correct / found if found else 0.0,
        "recall": correct / there if there else 0.0,
        "f1": 2 * correct / (found + there) if found + there else 0.0,
    }
