"""What is said of the rows of a test one by one, and what of the data is needed for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_ROWS = 50  # of each kind in analysis.json
LONGEST_TEXT = 1000  # characters

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Lengths:
    """The lengths of rows.

    Attributes:
        values: int [rows].
        unit: tokens or characters.
        truncated: bool [rows], which rows were cut; None if it is not known.
        limit: what longer rows are cut to; None without a limit.
    """

    values: npt.NDArray[Any]
    unit: str = "tokens"
    truncated: npt.NDArray[np.bool_] | None = None
    limit: int | None = None


@dataclass(frozen=True, eq=False)
class Described:
    """What the data say of the rows that were scored.

    Attributes:
        numbers: int64 [rows], the number of each row in its source; a row with several blocks is
            there once.
        ids: the id of each row.
        inputs: returns the input cells of rows by column, given their positions here.
        slices: the value of each row in each column that slices the scores.
        lengths: the lengths of the rows; None if they have none.
    """

    numbers: npt.NDArray[np.int64]
    ids: Sequence[Any]
    inputs: Callable[[Positions], Sequence[Mapping[str, Any]]]
    slices: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    lengths: Lengths | None = None


@dataclass(frozen=True, eq=False)
class Details:
    """What a task says of each row.

    Attributes:
        badness: float [rows], by which rows are sorted, the worst first.
        by: the key of a row, or what else, that sorts.
        wrong: bool [rows]; None if no row is right or wrong.
        row: returns what is said of a row as plain values, given its position and input cells.
    """

    badness: npt.NDArray[Any]
    by: str
    wrong: npt.NDArray[np.bool_] | None
    row: Callable[[int, Mapping[str, Any]], dict[str, Any]]

    def worst(self, most: int) -> Positions:
        """Return the positions of the worst rows, of those that are wrong if any can be."""
        order = np.argsort(-self.badness, kind="stable")
        if self.wrong is not None:
            order = order[self.wrong[order]]
        return order[:most]


def text_of(cells: Mapping[str, Any]) -> str:
    """Return the input of a row as one text: words joined by spaces, columns by ` | `."""
    return " | ".join(plain_text(cell) for cell in cells.values())


def plain_text(cell: Any) -> str:
    """Return a cell as text; the words of a list are joined by spaces."""
    if isinstance(cell, list):
        return " ".join(str(part) for part in cell)
    return "" if cell is None else str(cell)


def shortened(text: str) -> str:
    """Return a text of at most LONGEST_TEXT characters."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"


def finite(value: Any) -> Any:
    """Return a plain value in which numbers that are not finite are None."""
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
