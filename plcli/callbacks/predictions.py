"""Writes the rows that `predict_step` returns, in the order of the input."""

import logging
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback

from plcli.errors import UsageError
from plcli.runs.predictions import Lines, Sink, flatten
from plcli.training.prediction_rows import numbered, places_of, rows_of
from plcli.training.signals import signals

logger = logging.getLogger(__name__)


class PredictionWriter(Callback):
    """Restores the input order of rows and writes them to a sink.

    Batches arrive sorted by length, so some rows are held back until their turn.

    A kept column with the name of a predicted one is written as `input.NAME`. The ids have the
    name of their column, unless a predicted column has it.

    Args:
        sink: the destination of the rows. The first `sink.rows` are there already.
        first: the row of the input that is the first one of the sink.
        chunk: number of rows after which the sink keeps what it has; None never does.
        id_name: the name of the column of ids.
        further: further columns of the rows (DataContract.further_columns); None without any.
    """

    def __init__(
        self,
        sink: Sink | Lines,
        *,
        first: int = 0,
        chunk: int | None = None,
        id_name: str = "id",
        further: Any = None,
    ) -> None:
        self.sink, self.first, self.chunk = sink, first, chunk
        self.id_name, self.further = id_name, further
        self._names: dict[str, str] | None = None  # of kept columns, as they are written
        self.count, self._next = sink.rows, first + sink.rows
        self._waiting: dict[int, Mapping[str, Any]] = {}
        self._seen = 0
        self._name = "predict_step"

    def on_predict_batch_end(
        self,
        trainer: Any,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the rows that are next in the input order.

        Raises:
            UsageError: if predict_step returns nothing, or values that are no rows.
        """
        signals.check()
        self._name = f"{type(pl_module).__name__}.predict_step"
        rows = rows_of(outputs, name=self._name)
        if trainer.num_predict_batches and len(trainer.num_predict_batches) > 1:
            rows = [{"dataloader": dataloader_idx, **row} for row in rows]
        places = places_of(batch, first=self._seen, count=len(rows))
        self._seen += len(rows)
        self._waiting.update(zip(places, rows, strict=True))
        while self._next in self._waiting:
            self._write(self._next)
            self._next += 1
            done = self._next - self.first
            if self.chunk is not None and done % self.chunk == 0:
                self.sink.keep(done)

    def _write(self, index: int) -> None:
        row = numbered(self._waiting.pop(index), index)
        truth, kept = ({}, {}) if self.further is None else self.further.at(index)
        if self._names is None:
            self._names = self._named({*row, *flatten(row), *truth}, list(kept))
        named = {self.id_name if name == "id" else name: value for name, value in row.items()}
        written = {self._names[name]: cell for name, cell in kept.items() if name in self._names}
        try:
            self.sink.write(named, {**truth, **written})
        except (TypeError, ValueError) as error:  # an object, or a new column
            raise UsageError(f"{self._name}: row {index} cannot be written: {error}.") from error
        self.count += 1

    def _named(self, taken: set[str], kept: list[str]) -> dict[str, str]:
        """Return the names under which kept columns are written; the id column is there anyway."""
        own_id = self.id_name
        if own_id in taken - {"id"}:
            logger.info(
                "the ids are in the column 'id', as predictions have a column '%s' of their own",
                own_id,
            )
            self.id_name = "id"
        taken = taken - {"id"} | {self.id_name}
        names: dict[str, str] = {}
        for name in kept:
            if name == own_id == self.id_name and own_id != "id":
                continue
            written = name
            while written in taken:
                written = f"input.{written}"
            names[name] = written
            taken.add(written)
        if renamed := [f"{old} as {new}" for old, new in names.items() if old != new]:
            logger.info("kept columns with the name of another one: %s", ", ".join(renamed))
        return names

    def on_predict_end(self, trainer: Any, pl_module: Any) -> None:
        """Write the remaining rows, if batches were skipped, and close the sink."""
        signals.check()
        for index in sorted(self._waiting):
            self._write(index)
        self.sink.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Discard an incomplete file, or say how many of its rows are kept."""
        if kept := self.sink.abandon():
            logger.info("%d rows are kept; the same command continues after them", kept)
