"""Writes what `predict_step` returns, in the order of the input."""

from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback

from plcli.runs.predictions import Lines, Sink


class PredictionWriter(Callback):
    """Puts rows back in input order and hands them to a sink.

    Batches come in length order, so a few are held back.

    Args:
        sink: takes rows.
    """

    def __init__(self, sink: Sink | Lines) -> None:
        self.sink = sink
        self.count = self._next = 0
        self._waiting: dict[int, Mapping[str, Any]] = {}
        self._seen = 0

    def on_predict_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the rows whose turn it is."""
        rows = (
            outputs
            if isinstance(outputs, list)
            else [{"prediction": value} for value in outputs.tolist()]
        )
        indices = (
            batch["index"]
            if isinstance(batch, Mapping) and "index" in batch
            else range(self._seen, self._seen + len(rows))
        )
        self._seen += len(rows)
        self._waiting.update(zip(indices, rows, strict=True))
        while self._next in self._waiting:
            self._write(self._next)
            self._next += 1

    def _write(self, index: int) -> None:
        row = self._waiting.pop(index)
        self.sink.write(row if "id" in row else {"id": index, **row})
        self.count += 1

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Write what is left where batches were left out, and put the file in its place."""
        for index in sorted(self._waiting):
            self._write(index)
        self.sink.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Leave no half of a file."""
        self.sink.abandon()
