"""What is kept of each row of an evaluation, from which its intervals follow."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.scoring import Columns, Scoring

# by name, [rows] or [rows, n]; a list of plain values is shown, not scored
RowColumns = Mapping[str, torch.Tensor | list[Any]]
LOGITS = "logits"
MOST_LOGITS = 2**26  # numbers in a process, for the analysis of a test: a quarter of a gigabyte


class RowCollector:
    """Collects what is kept of each row, batch by batch.

    Args:
        analysed: whether rows are analysed afterwards, for which lists of plain values are kept,
            and logits if they are not too many.
    """

    def __init__(self, *, analysed: bool = False) -> None:
        self._analysed = analysed
        self._empty()

    def _empty(self) -> None:
        self._index: list[npt.NDArray[np.int64]] = []
        self._groups: list[int] = []
        self._columns: dict[str, list[torch.Tensor]] = {}
        self._outputs: dict[str, list[Any]] = {}
        self._count = self._logits = 0
        self.token_counts: torch.Tensor | None = None  # int64 [vocabulary]

    def add(
        self,
        index: Sequence[int] | None,
        columns: RowColumns,
        *,
        groups: Sequence[int] | None = None,
    ) -> None:
        """Add a batch.

        Args:
            index: the number of each row in its source; None if the batch does not say it.
            columns: what is kept of them.
            groups: the group of each row; None if they have none.
        """
        rows = len(next(iter(columns.values())))
        counted = range(self._count, self._count + rows)
        numbers = counted if index is None or len(index) != rows else index
        self._index.append(np.fromiter(numbers, np.int64, rows))
        self._groups += groups or []
        self._count += rows
        for name, column in columns.items():
            if isinstance(column, list):
                if self._analysed:
                    self._outputs.setdefault(name, []).extend(column)
                continue
            if name == LOGITS and self._analysed:
                self._logits += column.numel()
                if self._logits > MOST_LOGITS:
                    self._columns.pop(name, None)
                    continue
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
        taken = self.take(world_size=world_size)
        columns = taken.columns
        index, groups, outputs = taken.index, taken.groups, taken.outputs
        if late:
            columns = {**columns, **{name: _array(each) for name, each in late.items()}}
            if any(len(column) != len(index) for column in columns.values()):
                index, groups, outputs = np.zeros(0, np.int64), None, {}  # they are not of rows
        made = scoring(self) if columns else None
        self.token_counts = None
        if made is None:
            return None
        return EvaluatedRows(index, columns, made, groups=groups, outputs=outputs)

    def take(self, *, world_size: int) -> "Taken":
        """Return the rows of all processes in the order of their numbers, and forget them."""
        own = Taken(
            np.concatenate(self._index) if self._index else np.zeros(0, np.int64),
            {name: _array(torch.cat(parts)) for name, parts in self._columns.items()},
            np.array(self._groups, np.int64) if self._groups else None,
            self._outputs,
        )
        counts = None if self.token_counts is None else self.token_counts.cpu()
        self._empty()
        if world_size > 1:
            gathered: list[Any] = [None] * world_size
            torch.distributed.all_gather_object(gathered, (own, counts))
            own = _joined([each for each, _ in gathered])
            counts = None if counts is None else sum(each for _, each in gathered)
        order = np.argsort(own.index, kind="stable")
        self.token_counts = counts
        return Taken(
            own.index[order],
            {name: column[order] for name, column in own.columns.items()},
            None if own.groups is None else own.groups[order],
            {name: [values[row] for row in order] for name, values in own.outputs.items()},
        )


@dataclass(frozen=True, eq=False)
class Taken:
    """What a collector has of rows: their numbers, columns, groups and plain values."""

    index: npt.NDArray[np.int64]
    columns: Columns
    groups: npt.NDArray[np.int64] | None
    outputs: dict[str, list[Any]]


def _joined(parts: Sequence[Taken]) -> Taken:
    """Return the rows of several processes; logits that one of them has dropped are left out."""
    parts = [part for part in parts if len(part.index)] or list(parts[:1])
    first, grouped = parts[0], all(part.groups is not None for part in parts)
    names = [name for name in first.columns if all(name in part.columns for part in parts)]
    return Taken(
        np.concatenate([part.index for part in parts]),
        {name: np.concatenate([part.columns[name] for part in parts]) for name in names},
        np.concatenate([part.groups for part in parts if part.groups is not None])
        if grouped
        else None,
        {name: [each for part in parts for each in part.outputs[name]] for name in first.outputs},
    )


def _array(column: torch.Tensor | list[Any]) -> npt.NDArray[Any]:
    """Return a column as an array; numpy has no bfloat16."""
    assert isinstance(column, torch.Tensor)
    column = column.cpu()
    found: npt.NDArray[Any] = (column.float() if column.dtype == torch.bfloat16 else column).numpy()
    return found
