"""Scores of parts of the rows: of each value of a column, or of short and long rows."""

import datetime
import re
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
MANY = 12  # different numbers, of which ranges are made; or days, which are joined into months
FEW_TEXTS = 3  # different ones among many numbers, such as `unknown`
MOST_MONTHS = 24  # of dates; those of more are joined into years
PARTS = 4
DATE = re.compile(r"(\d{4})([-/.])(\d\d)\2(\d\d)(?:[T ]\d\d:\d\d.*)?")
PERIOD = re.compile(r"\d{4}-\d\d(-\d\d)?|\d\d:\d\d")
TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d.*")


def refusal(cells: Sequence[Any]) -> str | None:
    """Return why scores cannot be sliced by the cells of a column; None if they can be."""
    known = [cell for cell in cells if not _is_empty(cell)]
    if not known:
        return "has no value in any row"
    kinds = {list: "lists", dict: "mappings"}
    for kind, name in kinds.items():
        if any(isinstance(cell, kind) for cell in known):
            return f"contains {name}, which are no groups of rows"
    groups = Counter(value for value in values_of(cells) if value is not None)
    if len(groups) > MANY and max(groups.values()) == 1:
        return f"has {len(groups)} different values, each in one row alone, as ids have"
    return None


def values_of(cells: Sequence[Any]) -> list[str | None]:
    """Return the slice of each row by its cell.

    Many different numbers are put into quartiles, and many dates or times into days, months, years
    or hours. A few texts among many numbers are slices of their own.
    """
    plain = [None if _is_empty(cell) else cell for cell in cells]
    numbers = [None if cell is None else _number(cell) for cell in plain]
    texts = {str(cell) for cell, number in zip(plain, numbers, strict=True) if number is None}
    different = {number for number in numbers if number is not None}
    if len(different) > MANY and len(texts - {"None"}) <= FEW_TEXTS:
        known = np.array([np.nan if number is None else number for number in numbers], float)
        ranges = _ranges(known, whole=all(number.is_integer() for number in different))
        both = zip(plain, ranges, strict=True)
        return [str(cell) if one is None and cell is not None else one for cell, one in both]
    same = [None if cell is None else str(cell) for cell in plain]
    return _times(same) or same


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return None
    try:
        found = float(cell)
    except (TypeError, ValueError):
        return None
    return found if np.isfinite(found) else None


def _times(texts: Sequence[str | None]) -> list[str | None] | None:
    """Return the hour, or the day, month or year of each text; None if they are no such times.

    Days are those of dates as ISO 8601 has them, the year first.
    """
    if all(text is None or TIME.fullmatch(text) for text in texts):
        hours = [None if text is None else f"{text[:2]}:00" for text in texts]
        return hours if len({*texts} - {None}) > MANY else None
    days = [None if text is None else _day(text) for text in texts]
    if any(day is None and text is not None for day, text in zip(days, texts, strict=True)):
        return None
    for digits, most in ((10, MANY), (7, MOST_MONTHS), (4, None)):  # of YYYY-MM-DD
        parts = [None if day is None else day[:digits] for day in days]
        one_month = digits == 10 and len({day[:7] for day in days if day is not None}) == 1
        if one_month or most is None or len({*parts} - {None}) <= most:
            return parts
    return None


def _day(text: str) -> str | None:
    """Return a date as YYYY-MM-DD; None if a text is none."""
    found = DATE.fullmatch(text)
    if found is None:
        return None
    year, month, day = int(found[1]), int(found[3]), int(found[4])
    try:
        return datetime.date(year, month, day).isoformat()
    except ValueError:
        return None


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
        low, high = (_named(end, numbers[known], whole=whole) for end in (own.min(), own.max()))
        names[part] = low if low == high else f"{low} to {high}"
    return [names.get(part) for part in place.tolist()]


def _named(end: float, numbers: npt.NDArray[np.float64], *, whole: bool) -> str:
    """Return an end of a range with as many digits as tell its numbers apart, four or more."""
    if whole:
        return f"{end:.0f}"
    spread = float(np.ptp(np.quantile(numbers, [0.25, 0.75]))) or float(np.ptp(numbers))
    largest = float(np.abs(numbers).max())
    digits = 4 + max(0, int(np.ceil(np.log10(largest / spread)))) if spread and largest else 4
    return f"{end:.{min(digits, 17)}g}"


def slices(
    rows: EvaluatedRows, by: str, values: Sequence[str | None], *, in_order: bool
) -> list[dict[str, Any]]:
    """Return the number of rows and the scores with intervals of each value.

    Args:
        rows: the rows.
        by: the column, or `length`.
        values: the value of each row.
        in_order: whether they are in the order of their numbers or times; otherwise the most
            frequent one is first. Beyond MOST_VALUES, those with the fewest rows are left out.
    """
    counts = Counter(values)
    shown = [value for value, _ in counts.most_common(MOST_VALUES)]
    if in_order:
        shown.sort(key=lambda value: (value is None, _first_number(value), value or ""))
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


def are_ordered(values: Sequence[str | None]) -> bool:
    """Whether the slices of a column have an order of their own: numbers, ranges or times."""
    known = {value for value in values if value is not None}
    others = [
        value
        for value in known
        if not np.isfinite(_first_number(value)) and not PERIOD.fullmatch(value)
    ]
    return not others or len(others) <= FEW_TEXTS < len(known)


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
