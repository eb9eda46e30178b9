"""What is kept of each row of an evaluation, from which its intervals follow."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.scoring import Columns, Scoring

RowColumns = Mapping[str, torch.Tensor]  # by name, [rows] or [rows, n]


class RowCollector:
    """Collects what is kept of each row, batch by batch."""

    def __init__(self) -> None:
        self._index: list[npt.NDArray[np.int64]] = []
        self._columns: dict[str, list[torch.Tensor]] = {}
        self._count = 0
        self.token_counts: torch.Tensor | None = None  # int64 [vocabulary]

    def add(self, index: Sequence[int] | None, columns: RowColumns) -> None:
        """Add a batch.

        Args:
            index: the number of each row in its source; None if the batch does not say it.
            columns: what is kept of them.
        """
        rows = len(next(iter(columns.values())))
        counted = range(self._count, self._count + rows)
        numbers = counted if index is None or len(index) != rows else index
        self._index.append(np.fromiter(numbers, np.int64, rows))
        self._count += rows
        for name, column in columns.items():
            self._columns.setdefault(name, []).append(column.detach())

    def count_tokens(self, ids: torch.Tensor, *, size: int) -> None:
        """Count tokens, int64 [tokens], of a vocabulary of a size."""
        counts = torch.bincount(ids, minlength=size)
        self.token_counts = counts if self.token_counts is None else self.token_counts + counts

    def finish(
        self,
        scoring: Callable[["RowCollector"], Scoring | None],
        late: RowColumns | None,
        world_size: int,
    ) -> EvaluatedRows | None:
        """Return the rows of an evaluation, and forget them; None if nothing was kept.

        Args:
            scoring: returns how the scores follow from the columns.
            late: columns of all rows of all processes that are known at the end, or None.
            world_size: the number of processes, all of which must call this.
        """
        index, columns = self.take(world_size=world_size)
        if late:
            columns = {**columns, **{name: _array(each) for name, each in late.items()}}
            if any(len(column) != len(index) for column in columns.values()):
                index = np.zeros(0, np.int64)  # they are not of rows
        made = scoring(self) if columns else None
        self.token_counts = None
        return None if made is None else EvaluatedRows(index, columns, made)

    def take(self, *, world_size: int) -> tuple[npt.NDArray[np.int64], Columns]:
        """Return the rows of all processes in the order of their numbers, and forget them."""
        found = {name: _array(torch.cat(parts)) for name, parts in self._columns.items()}
        index = np.concatenate(self._index) if self._index else np.zeros(0, np.int64)
        counts = None if self.token_counts is None else self.token_counts.cpu()
        self.__init__()  # type: ignore[misc]  # empty again
        if world_size > 1:
            gathered: list[Any] = [None] * world_size
            torch.distributed.all_gather_object(gathered, (index, found, counts))
            index = np.concatenate([each[0] for each in gathered])
            names = gathered[0][1]
            found = {name: np.concatenate([each[1][name] for each in gathered]) for name in names}
            counts = None if counts is None else sum(each[2] for each in gathered)
        order = np.argsort(index, kind="stable")
        self.token_counts = counts
        return index[order], {name: column[order] for name, column in found.items()}


def _array(column: torch.Tensor) -> npt.NDArray[Any]:
    """Return a column as an array; numpy has no bfloat16."""
    column = column.cpu()
    found: npt.NDArray[Any] = (column.float() if column.dtype == torch.bfloat16 else column).numpy()
    return found
