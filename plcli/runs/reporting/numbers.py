"""Numbers for a reader: their text, the ticks of an axis, and lines of fewer or smoother points."""

import math
from collections.abc import Sequence

MOST_POINTS = 160  # of a line: its extremes in that many columns, so that no spike is lost


def number(value: float, digits: int = 4) -> str:
    """Return a number for a reader, with so many significant digits."""
    if not math.isfinite(value):
        return str(value)
    size = abs(value)
    if value == int(value) and size < 1e15:
        return f"{int(value):,}"
    if size >= 10**digits:
        return f"{value:,.0f}"
    if size < 1e-4:
        return f"{value:.{max(0, digits - 2)}e}"
    places = max(0, digits - 1 - math.floor(math.log10(size)))
    return f"{value:,.{min(places, digits)}f}" if size < 1 else f"{value:,.{places}f}"


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return round numbers between two numbers, about evenly many.

    They are multiples of 1, 2 or 5 times a power of ten.
    """
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= most:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [place * step for place in range(first, last + 1)]


def tick_names(values: Sequence[float]) -> list[str]:
    """Return the names of ticks: equally many decimals, and k or M for thousands."""
    if not values:
        return []
    largest = max(map(abs, values))
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if largest >= size:
            scale = {"G": 1e9, "M": 1e6, "k": 1e3}[unit]
            return [f"{value / scale:g}{unit}" if value else "0" for value in values]
    if 0 < largest < 1e-3:
        return _small_names(values)
    step = min((b - a for a, b in zip(values, values[1:], strict=False)), default=largest or 1)
    places = max(0, min(6, -math.floor(math.log10(step) + 1e-9))) if step > 0 else 0
    return [
        f"{value:.{places}f}".replace("-0", "0") if not value else f"{value:.{places}f}"
        for value in values
    ]


def _small_names(values: Sequence[float]) -> list[str]:
    """Return numbers below a thousandth with as many digits as tell them apart."""
    for digits in range(6):
        names = [f"{value:.{digits}e}".replace("e-0", "e-") if value else "0" for value in values]
        exact = all(
            math.isclose(float(name), value) for name, value in zip(names, values, strict=True)
        )
        if exact:
            break
    return names


def thinned(
    points: Sequence[tuple[float, float]], most: int = MOST_POINTS
) -> list[tuple[float, float]]:
    """Return at most about 2 `most` points: the lowest and the highest one of each column."""
    if len(points) <= 2 * most:
        return list(points)
    size = len(points) / most
    found: list[tuple[float, float]] = []
    for column in range(most):
        part = points[int(column * size) : int((column + 1) * size)]
        low, high = min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])
        found += sorted({low, high})
    return [points[0], *found, points[-1]]


def smoothed(points: Sequence[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Return an exponential mean over about `window` points, corrected at its start."""
    keep, mean, weight, found = 1 - 1 / max(1, window), 0.0, 0.0, []
    for x, y in points:
        mean, weight = mean * keep + y * (1 - keep), weight * keep + 1 - keep
        found.append((x, mean / weight))
    return found
