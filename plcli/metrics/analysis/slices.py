"""Scores of parts of the rows: of each value of a column, or of short and long rows."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from plcli.metrics.analysis.details import Lengths
from plcli.metrics.evaluated import EvaluatedRows

LENGTH = "length"  # the slice that is no column
FEW = 30  # rows, of which scores say little
MOST_VALUES = 30  # of a column
MANY_NUMBERS = 12  # different numbers, of which ranges are made
PARTS = 4


def values_of(cells: Sequence[Any]) -> list[str | None]:
    """Return the slice of each row by its cell; many different numbers are put into quartiles."""
    plain = [None if cell in (None, "") else cell for cell in cells]
    numbers = [_number(cell) for cell in plain if cell is not None]
    if len(set(numbers)) > MANY_NUMBERS and None not in numbers:
        known = np.array([_number(cell) if cell is not None else np.nan for cell in plain], float)
        return _ranges(known, whole=all(float(number or 0).is_integer() for number in numbers))
    return [None if cell is None else str(cell) for cell in plain]


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    try:
        found = float(cell)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def of_lengths(lengths: Lengths) -> list[str | None]:
    """Return the quartile of each row's length, such as `12 to 31 tokens`."""
    found = _ranges(lengths.values.astype(np.float64), whole=True)
    return [None if each is None else f"{each} {lengths.unit}" for each in found]


def _ranges(numbers: npt.NDArray[np.float64], *, whole: bool) -> list[str | None]:
    """Return the quartile of each number, named by its smallest and largest number."""
    known = np.isfinite(numbers)
    inner = np.unique(np.quantile(numbers[known], np.arange(1, PARTS) / PARTS, method="lower"))
    place = np.where(known, np.searchsorted(inner, numbers), -1)
    names: dict[int, str] = {}
    for part in np.unique(place[known]).tolist():
        own = numbers[place == part]
        low, high = (f"{end:.0f}" if whole else f"{end:.4g}" for end in (own.min(), own.max()))
        names[part] = low if low == high else f"{low} to {high}"
    return [names.get(part) for part in place.tolist()]


def slices(
    rows: EvaluatedRows, by: str, values: Sequence[str | None], *, in_order: bool
) -> list[dict[str, Any]]:
    """Return the number of rows and the scores with intervals of each value.

    Args:
        rows: the rows.
        by: the column, or `length`.
        values: the value of each row.
        in_order: whether the values are ranges, in whose order they are; otherwise the most
            frequent one is first. Beyond MOST_VALUES, those with the fewest rows are left out.
    """
    counts = Counter(values)
    shown = [value for value, _ in counts.most_common(MOST_VALUES)]
    if in_order:
        shown.sort(key=lambda value: (value is None, _first_number(value)))
    places: dict[str | None, list[int]] = {value: [] for value in shown}
    for position, value in enumerate(values):
        if value in places:
            places[value].append(position)
    return [
        {
            "by": by,
            "value": value,
            "n": len(chosen),
            "few": len(chosen) < FEW,
            "scores": scores(rows, np.array(chosen, np.int64)),
        }
        for value, chosen in places.items()
    ]


def are_ranges(values: Sequence[str | None], cells: Sequence[Any]) -> bool:
    """Whether the slices of cells are ranges of numbers."""
    return any(
        value is not None and value != str(cell) for value, cell in zip(values, cells, strict=True)
    )


def _first_number(value: str | None) -> float:
    found = _number((value or "").split(" ")[0])
    return np.inf if found is None else found


def scores(rows: EvaluatedRows, chosen: npt.NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """Return the scores of some rows, without those of single classes, and their intervals."""
    columns = {name: column[chosen] for name, column in rows.columns.items()}
    units = None if rows.units is None else rows.units[chosen]
    with np.errstate(all="ignore"):
        values = rows.scoring.scores(columns)
        ends = rows.scoring.intervals(columns, groups=units) if len(chosen) > 1 else {}
    found = {}
    for name, value in values.items():
        if "." in name or not np.isfinite(value):
            continue
        found[name] = {"value": float(value)}
        if name in ends:
            found[name] |= {"low": ends[name].low, "high": ends[name].high}
    return found
