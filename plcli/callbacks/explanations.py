"""Adds explanations to the rows that `predict_step` returns, before they are written."""

from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Callback

from plcli.training.prediction_rows import places_of

NAME = "explanation"  # the column


class Explanations(Callback):
    """Adds what moved the decision to each row.

    Args:
        explain: returns the explanation of rows, given their numbers.
    """

    def __init__(self, explain: Callable[[Sequence[int]], list[Any]]) -> None:
        self.explain = explain

    def on_predict_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Add the explanations of a batch to its rows, in place."""
        found = self.explain(places_of(batch, first=0, count=len(outputs)))
        for row, explanation in zip(outputs, found, strict=True):
            row[NAME] = explanation
