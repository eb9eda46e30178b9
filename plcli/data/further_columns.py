"""Reads further columns of rows: those written beside predictions, or by which scores are sliced.

They are read from the source as they are, one row at a time, as when predictions are written. The
columns that a model needs are typed and cached (plcli.data.rows); these are neither, except for the
label column, which is read as it is for a score.
"""

import datetime
import decimal
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plcli.data import readers, sources
from plcli.data.cells import Kind, read_cell
from plcli.data.rows import _MISSING as MISSING
from plcli.data.rows import _cell as cell_of
from plcli.data.sources import Part, Reading
from plcli.errors import DataError, did_you_mean, listed

TRUTH = "truth"
LARGEST = 2**63  # of the integers in a parquet file


@dataclass(frozen=True)
class Wanted:
    """The further columns that are wanted.

    Attributes:
        names: the columns to keep; None keeps all.
        truth: the label columns of the task and their kinds; empty if they are not wanted.
        labels: the label names, for indicators such as [0, 0, 1]; None if there are none.
        option: the option that names the columns, for messages.
    """

    names: Sequence[str] | None
    truth: Mapping[str, Kind]
    labels: Sequence[str] | None = None
    option: str = "--keep"


class FurtherColumns:
    """The cells of further columns, in the order of the rows.

    Args:
        source: the source of the rows.
        reading: how text files are read.
        wanted: the columns.
        inputs: the columns that the model reads, which decide how some files are read.
        num_rows: the number of rows that the model reads.
        split: the split that is needed, for folders with several.

    Raises:
        DataError: if no row has one of the columns, or the source has another number of rows.
    """

    def __init__(
        self,
        source: str | Sequence[str],
        reading: Reading,
        wanted: Wanted,
        *,
        inputs: Sequence[str],
        num_rows: int,
        split: str = "predict",
    ) -> None:
        self.source = source if isinstance(source, str) else ", ".join(source)
        self._parts = sources.parts(source, reading, split=split)
        self._wanted, self._inputs, self._decimal = wanted, list(inputs), reading.decimal
        self._types: dict[str, set[str]] = {}
        number = 0
        for where, row in self._rows():
            number += 1
            for name in row if wanted.names is None else wanted.names:
                cell = cell_of(row, name)
                if cell is not MISSING:
                    self._types.setdefault(name, set()).add(_type(_plain(cell, where, name)))
            for name in wanted.truth:
                if cell_of(row, name) is not MISSING:
                    self._types.setdefault(name, set())
        self._check(number, num_rows)
        self._numbered = enumerate(self._rows())

    def _check(self, number: int, num_rows: int) -> None:
        _, first = next(self._rows())
        kept = self._wanted.names or []
        for name in [*kept, *self._wanted.truth]:
            if name not in self._types:
                named = f"Name one of these with {self._wanted.option}"
                remedy = named if name in kept else "Remove --with-truth"
                raise DataError(
                    f"{self.source}: has no column '{name}'.{did_you_mean(name, first)} It has "
                    f"{listed(first)}. {remedy}."
                )
        if number != num_rows:
            options = [self._wanted.option] if kept else []
            options += ["--with-truth"] if self._wanted.truth else []
            raise DataError(
                f"{self.source}: has {number} rows, of which the model reads {num_rows}, so that "
                f"{' and '.join(options) or '--keep'} cannot tell which is which. Leave it out."
            )

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for part in self._parts:
            names = [*self._inputs, *(self._wanted.names or ()), *self._wanted.truth]
            if self._wanted.names is None:
                names += _columns_of(part)
            is_text = not isinstance(part, sources.HubPart) and part.format() == "txt"
            yield from part.rows(self._inputs if is_text else names)

    @property
    def names(self) -> list[str]:
        """The columns to keep, in the order in which they are written."""
        return list(self._types if self._wanted.names is None else self._wanted.names)

    def at(self, index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the true values of a row and the cells to keep; indices have to ascend."""
        where, row = next(found for number, found in self._numbered if number == index)
        truth = {name: self._true(row, name, where) for name in self._wanted.truth}
        single = len(truth) == 1
        return (
            {TRUTH if single else f"{TRUTH}.{name}": cell for name, cell in truth.items()},
            {name: self._kept(row, name, where) for name in self.names},
        )

    def _true(self, row: Mapping[str, Any], name: str, where: str) -> Any:
        cell = cell_of(row, name)
        if cell is MISSING or cell is None or cell != cell or cell == "":
            return None
        kind = self._wanted.truth[name]
        found = read_cell(cell, kind, where, name, decimal=self._decimal)
        labels = self._wanted.labels or ()
        if kind is Kind.NAMES and _are_indicators(found, len(labels)):
            return [label for label, flag in zip(labels, found, strict=True) if flag == "1"]
        return json.loads(found) if kind is Kind.OBJECT else found

    def _kept(self, row: Mapping[str, Any], name: str, where: str) -> Any:
        cell = cell_of(row, name)
        if cell is MISSING:
            return None
        plain = _plain(cell, where, name)
        if plain is None or len(self._types[name] - {""}) == 1 or isinstance(plain, str):
            return plain
        return json.dumps(plain, ensure_ascii=False)  # a column with several types is text


def _columns_of(part: Part) -> list[str]:
    """Return the columns of a parquet or Arrow file; other files always give all."""
    import fsspec

    if isinstance(part, sources.HubPart) or part.format() not in ("parquet", "arrow"):
        return []
    with readers.file_errors(part.name), fsspec.open(part.path, "rb") as file:
        schema, _ = readers._arrow_batches(file, part.format())
        return list(schema.names)


def _are_indicators(cells: Sequence[str], num_labels: int) -> bool:
    """Whether a list has a 0 or 1 for each label; a list of names has none of them twice."""
    return len(cells) == num_labels > len(set(cells)) and set(cells) <= {"0", "1"}


def _type(value: Any) -> str:
    """Return the type of a plain value as a column of a file has it; "" for none."""
    if value is None:
        return ""
    if isinstance(value, (bool, str, list, dict)):
        return type(value).__name__
    return "number" if abs(value) < LARGEST else "large number"


def _plain(value: Any, where: str, column: str) -> Any:
    """Return a cell as JSON has it."""
    if isinstance(value, bytes):
        raise DataError(
            f"{where}: column '{column}' contains bytes, which cannot be written or counted. "
            "Name other columns."
        )
    if isinstance(value, Mapping):
        return {str(key): _plain(inner, where, column) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, where, column) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (decimal.Decimal, datetime.timedelta)):
        return str(value)
    return value
