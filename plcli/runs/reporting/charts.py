"""Charts as inline SVG: lines, bars, points, histograms, matrices, intervals.

A chart is text that a page contains as it is. It has no style of its own: classes name the roles
(`grid`, `s0` for the first series), and the page's style sheet gives them colours, light and dark.
Texts of a chart are escaped here. What the page shows while the pointer is on a mark is in its
`data-t`; a chart of lines has its scales in `data-x` and `data-y`, from which values are read back.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plcli.runs.reporting.numbers import number, thinned, tick_names, ticks
from plcli.runs.reporting.page import text as escape
from plcli.runs.tables import shortened

WIDTH, HEIGHT = 360, 210  # units of the drawing, which are about pixels on a phone
LETTER = 6.4  # mean width of a letter of 11 units
ROW = 22  # height of a bar with its name
HALF, WHOLE = 400, 880  # widths for a matrix
LONGEST = 24  # letters of a name in a chart


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        name: its name, which is beside its end.
        points: (x, y) in ascending order of x.
        faint: whether it is the background of another one.
        dots: whether its points are marked, too.
    """

    name: str
    points: Sequence[tuple[float, float]]
    faint: bool = False
    dots: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar of a chart.

    Attributes:
        name: its name.
        value: its length.
        low: the lower end of its interval; None without one.
        high: the upper end.
        note: a short text behind it.
        title: what is shown while the pointer is on it; its name and value by default.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    note: str = ""
    title: str = ""


def lines(
    series: Sequence[Line],
    *,
    title: str,
    x_name: str,
    x_range: tuple[float | None, float | None] = (None, None),
    y_range: tuple[float | None, float | None] = (None, None),
    rules: Sequence[tuple[float, str]] = (),
    levels: Sequence[tuple[float, str]] = (),
    diagonal: bool = False,
) -> str:
    """Return a chart of lines.

    Args:
        series: the lines.
        title: what it shows.
        x_name: what the horizontal axis is.
        x_range: the ends of the horizontal axis; None takes those of the values.
        y_range: those of the vertical axis.
        rules: (x, name) of vertical lines, such as the best epoch.
        levels: (y, name) of horizontal lines, such as a baseline.
        diagonal: whether to draw y = x.
    """
    points = [point for line in series for point in line.points if math.isfinite(point[1])]
    if not points:
        return ""
    xs, ys = [x for x, _ in points], [y for _, y in points] + [y for y, _ in levels]
    x_scale = _Scale(
        min(xs) if x_range[0] is None else x_range[0],
        max(xs) if x_range[1] is None else x_range[1],
    )
    y_scale = _Scale(
        min(ys) if y_range[0] is None else y_range[0],
        max(ys) if y_range[1] is None else y_range[1],
        padded=y_range == (None, None),
    )
    y_ticks = ticks(y_scale.low, y_scale.high)
    names = tick_names(y_ticks)
    labelled = len([line for line in series if not line.faint]) > 1
    left = 12 + LETTER * max(map(len, names), default=1)
    short = shortened([*(line.name for line in series), *(name for _, name in levels)], LONGEST)
    longest = max((len(short[line.name]) for line in series if not line.faint), default=0)
    right = WIDTH - (12 + LETTER * longest if labelled else 12)
    top, bottom = 14 if rules else 8, HEIGHT - 34
    x_scale.pixels, y_scale.pixels = (left, right), (bottom, top)
    parts = _grid(x_scale, y_scale, y_ticks, names, x_name=x_name)
    if diagonal:
        first, last = max(x_scale.low, y_scale.low), min(x_scale.high, y_scale.high)
        parts.append(
            f'<line class="rule" x1="{x_scale(first):.1f}" y1="{y_scale(first):.1f}" '
            f'x2="{x_scale(last):.1f}" y2="{y_scale(last):.1f}"/>'
        )
    for y, name in levels:
        at = y_scale(y)
        parts.append(
            f'<line class="rule" x1="{left:.1f}" y1="{at:.1f}" x2="{right:.1f}" y2="{at:.1f}"/>'
            f'<text class="note" x="{right - 2:.1f}" y="{at + (12 if at < top + 14 else -4):.1f}" '
            f'text-anchor="end">{escape(short[name])}</text>'
        )
    for x, name in rules:
        at = x_scale(x)
        anchor = "end" if at > (left + right) / 2 else "start"
        parts.append(
            f'<line class="rule" x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}"/>'
            f'<text class="note" x="{at:.1f}" y="{top - 4}" text-anchor="{anchor}">'
            f"{escape(name)}</text>"
        )
    ends: list[tuple[float, int, str]] = []
    place = -1
    for line in series:
        place += not line.faint
        shown = [point for point in thinned(line.points) if math.isfinite(point[1])]
        if not shown:
            continue
        drawn = [f"{x_scale(x):.1f} {y_scale(y):.1f}" for x, y in shown]
        kind = f"s{max(0, place) % 6}" + (" faint" if line.faint else "")
        if len(shown) > 1:
            parts.append(
                f'<path class="line {kind}" data-n="{escape(line.name)}" d="M{"L".join(drawn)}"/>'
            )
        if line.dots or len(shown) == 1:
            parts += [
                f'<circle class="dot {kind}" cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="2.5" '
                f'data-t="{escape(line.name)}: {number(y)} at {number(x)}"/>'
                for x, y in shown
            ]
        if labelled and not line.faint:
            ends.append((y_scale(shown[-1][1]), place % 6, line.name))
    for at, kind_of, name in _apart(ends, least=13, low=top, high=bottom):
        parts.append(
            f'<text class="name t{kind_of}" x="{right + 6:.1f}" y="{at + 4:.1f}">'
            f"{escape(short[name])}</text>"
        )
    parts.append(f'<g class="cursor"><line y1="{top}" y2="{bottom}"/></g>')
    scales = f'data-x="{x_scale.described}" data-y="{y_scale.described}" data-u="{escape(x_name)}"'
    return _svg(parts, title=title, scales=scales, kind="lines")


def bars(
    values: Sequence[Bar],
    *,
    title: str,
    span: tuple[float, float] | None = None,
    levels: Sequence[tuple[float, str]] = (),
) -> str:
    """Return horizontal bars with their intervals, one below the other.

    Args:
        values: the bars.
        title: what it shows.
        span: the ends of the axis; by default from 0 to the largest value.
        levels: (value, name) of vertical lines.
    """
    if not values:
        return ""
    reach = [end for bar in values for end in (bar.value, bar.low, bar.high) if end is not None]
    low, high = span or (min(0.0, *reach), max(0.0, *reach))
    scale = _Scale(low, high)
    short = shortened([bar.name for bar in values], LONGEST)
    left = 8 + LETTER * max(map(len, short.values()))
    notes = max(len(bar.note) for bar in values)
    right = WIDTH - (10 + LETTER * notes if notes else 10)
    bottom = ROW * len(values) + 6
    scale.pixels = (left, right)
    marks = ticks(low, high)
    parts = [
        f'<line class="grid" x1="{scale(x):.1f}" y1="2" x2="{scale(x):.1f}" y2="{bottom}"/>'
        f'<text class="tick" x="{scale(x):.1f}" y="{bottom + 14}" text-anchor="middle">'
        f"{name}</text>"
        for x, name in zip(marks, tick_names(marks), strict=True)
    ]
    for place, bar in enumerate(values):
        middle = ROW * place + ROW / 2 + 2
        start, end = sorted((scale(max(low, 0.0)), scale(bar.value)))
        told = bar.title or f"{bar.name}: {number(bar.value)}" + (
            f" (95 % {number(bar.low)} to {number(bar.high)})"
            if bar.low is not None and bar.high is not None
            else ""
        )
        parts.append(
            f'<g data-t="{escape(told)}"><rect class="hit" x="0" y="{middle - ROW / 2}" '
            f'width="{WIDTH}" height="{ROW}"/>'
            f'<text class="label" x="{left - 6:.1f}" y="{middle + 4}" text-anchor="end">'
            f"{escape(short[bar.name])}</text>"
            f'<rect class="bar" x="{start:.1f}" y="{middle - 6}" '
            f'width="{max(1.0, end - start):.1f}" height="12" rx="2"/>'
        )
        if bar.low is not None and bar.high is not None:
            parts.append(
                f'<path class="whisker" d="M{scale(bar.low):.1f} {middle}H{scale(bar.high):.1f}'
                f'M{scale(bar.low):.1f} {middle - 3}v6M{scale(bar.high):.1f} {middle - 3}v6"/>'
            )
        if bar.note:
            parts.append(
                f'<text class="tick" x="{WIDTH - 4}" y="{middle + 4}" text-anchor="end">'
                f"{escape(bar.note)}</text>"
            )
        parts.append("</g>")
    for x, name in levels:
        parts.append(
            f'<line class="rule" x1="{scale(x):.1f}" y1="2" x2="{scale(x):.1f}" y2="{bottom}">'
            f"</line><title>{escape(name)}</title>"
        )
    return _svg(parts, title=title, height=bottom + 20)


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    x_name: str,
    rules: Sequence[tuple[float, str]] = (),
) -> str:
    """Return a histogram.

    Args:
        edges: the ends of the bins, one more than there are bins.
        counts: the number of rows in each bin.
        title: what it shows.
        x_name: what the horizontal axis is.
        rules: (x, name) of vertical lines, such as the maximum length.
    """
    if not counts or len(edges) != len(counts) + 1:
        return ""
    x_scale = _Scale(
        min([edges[0], *(x for x, _ in rules)]), max([edges[-1], *(x for x, _ in rules)])
    )
    y_scale = _Scale(0.0, max(max(counts), 1))
    y_ticks = [each for each in ticks(0, y_scale.high) if each == int(each)]
    names = tick_names(y_ticks)
    left, top, bottom = 12 + LETTER * max(map(len, names)), 16, HEIGHT - 34
    x_scale.pixels, y_scale.pixels = (left, WIDTH - 12), (bottom, top)
    parts = _grid(x_scale, y_scale, y_ticks, names, x_name=x_name)
    for start, end, count in zip(edges, edges[1:], counts, strict=False):
        if not count:
            continue
        told = f"{number(start)} to {number(end)}: {number(count)}"
        parts.append(
            f'<rect class="bar" x="{x_scale(start) + 0.5:.1f}" y="{y_scale(count):.1f}" '
            f'width="{max(1.0, x_scale(end) - x_scale(start) - 1):.1f}" '
            f'height="{max(0.5, bottom - y_scale(count)):.1f}" data-t="{escape(told)}"/>'
        )
    for x, name in rules:
        at = x_scale(x)
        anchor = "end" if at > WIDTH / 2 else "start"
        parts.append(
            f'<line class="rule" x1="{at:.1f}" y1="{top}" x2="{at:.1f}" y2="{bottom}"/>'
            f'<text class="note" x="{at:.1f}" y="{top - 5}" text-anchor="{anchor}">'
            f"{escape(name)}</text>"
        )
    return _svg(parts, title=title)


def scatter(points: Sequence[tuple[float, float]], *, title: str, x_name: str, y_name: str) -> str:
    """Return points beside the diagonal, both axes with the same ends."""
    if not points:
        return ""
    ends = [value for point in points for value in point]
    x_scale, y_scale = (_Scale(min(ends), max(ends), padded=True) for _ in range(2))
    y_ticks = ticks(y_scale.low, y_scale.high)
    names = tick_names(y_ticks)
    left, top, bottom = 12 + LETTER * max(map(len, names), default=1), 16, HEIGHT + 50
    x_scale.pixels, y_scale.pixels = (left, WIDTH - 12), (bottom, top)
    parts = _grid(x_scale, y_scale, y_ticks, names, x_name=x_name, height=HEIGHT + 84)
    parts.append(f'<text class="note" x="{left:.1f}" y="{top - 5}">{escape(y_name)}</text>')
    low, high = x_scale.low, x_scale.high
    parts.append(
        f'<line class="rule" x1="{x_scale(low):.1f}" y1="{y_scale(low):.1f}" '
        f'x2="{x_scale(high):.1f}" y2="{y_scale(high):.1f}"/>'
    )
    parts += [
        f'<circle class="point" cx="{x_scale(x):.1f}" cy="{y_scale(y):.1f}" r="2.2" '
        f'data-t="{escape(x_name)} {number(x)}, {escape(y_name)} {number(y)}"/>'
        for x, y in points
    ]
    return _svg(parts, title=title, height=HEIGHT + 84)


def matrix(rows: Sequence[Sequence[float]], names: Sequence[str], *, title: str) -> str:
    """Return a confusion matrix: rows are the true classes, columns the predicted ones.

    A cell is as dark as its share of the rows of its class; its text is the number of rows.
    """
    if not names:
        return ""
    short = shortened(names, LONGEST)
    longest = LETTER * max(map(len, short.values()))
    left, slanted = max(22 + longest, 100), longest * 0.8
    size = cell_size(names)
    top = 20 + slanted
    width = left + size * len(names) + max(4, slanted - size / 2)
    height = top + size * len(names) + 6
    parts = [
        f'<text class="note" x="{left - 8:.1f}" y="12" text-anchor="end">true \\ predicted</text>'
    ]
    for place, name in enumerate(names):
        middle = left + size * place + size / 2
        parts.append(
            f'<text class="label" transform="translate({middle:.1f} {top - 6:.1f}) rotate(-45)">'
            f"{escape(short[name])}</text>"
            f'<text class="label" x="{left - 8:.1f}" y="{top + size * place + size / 2 + 4:.1f}" '
            f'text-anchor="end">{escape(short[name])}</text>'
        )
    for row, counts in enumerate(rows):
        total = sum(counts) or 1
        for column, count in enumerate(counts):
            share = count / total
            kind = "right" if row == column else "wrong"
            told = (
                f"{names[row]}, predicted as {names[column]}: {number(count)} "
                f"({share:.0%} of {number(total)})"
            )
            x, y = left + size * column, top + size * row
            parts.append(
                f'<g data-t="{escape(told)}"><rect class="empty" x="{x:.1f}" y="{y:.1f}" '
                f'width="{size - 2}" height="{size - 2}" rx="3"/>'
            )
            if count:
                parts.append(
                    f'<rect class="{kind}" fill-opacity="{0.12 + 0.88 * share:.2f}" x="{x:.1f}" '
                    f'y="{y:.1f}" width="{size - 2}" height="{size - 2}" rx="3"/>'
                )
                if size > 20:
                    dark = " on" if share > 0.55 else ""
                    parts.append(
                        f'<text class="cell{dark}" x="{x + size / 2 - 1:.1f}" '
                        f'y="{y + size / 2 + 3:.1f}" text-anchor="middle">{_compact(count)}</text>'
                    )
            parts.append("</g>")
    return _svg(parts, title=title, width=math.ceil(width), height=math.ceil(height), kind="matrix")


def cell_size(names: Sequence[str]) -> int:
    """Return the size of a cell of a matrix, which is to fit into half a page or a whole one."""
    taken = 22 + 1.8 * LETTER * max(map(len, shortened(names, LONGEST).values()))
    half = int((HALF - taken) / len(names))
    return min(34, half if half >= 22 else max(16, int((WHOLE - taken) / len(names))))


def is_wide(names: Sequence[str]) -> bool:
    """Whether a matrix needs the whole width of a page."""
    taken = 22 + 1.8 * LETTER * max(map(len, shortened(names, LONGEST).values()))
    return taken + cell_size(names) * len(names) > HALF


def interval(
    value: float,
    low: float | None,
    high: float | None,
    *,
    span: tuple[float, float],
    marks: Iterable[tuple[float, str]] = (),
    width: int = 150,
    told: str = "",
) -> str:
    """Return a value with its interval on a short axis, for a cell of a table.

    Args:
        value: the value.
        low: the lower end of the interval; None without one.
        high: the upper end.
        span: the ends of the axis.
        marks: (value, name) of small ticks, such as baselines.
        width: its width.
        told: what is shown while the pointer is on it; the numbers by default.
    """
    scale = _Scale(*span)
    scale.pixels = (4.0, width - 4.0)
    parts = [f'<line class="axis" x1="4" y1="9" x2="{width - 4}" y2="9"/>']
    for at, name in marks:
        parts.append(
            f'<g data-t="{escape(name)}: {number(at)}">'
            f'<path class="mark" d="M{scale(at):.1f} 3v12"/></g>'
        )
    known = number(value)
    if low is not None and high is not None:
        known += f" (95 % {number(low)} to {number(high)})"
        parts.append(
            f'<line class="range" x1="{scale(low):.1f}" y1="9" x2="{scale(high):.1f}" y2="9"/>'
        )
    parts.append(f'<circle class="value" cx="{scale(value):.1f}" cy="9" r="3.5"/>')
    told, drawn = told or known, "".join(parts)
    return (
        f'<svg class="strip" viewBox="0 0 {width} 18" width="{width}" height="18" role="img" '
        f'aria-label="{escape(told)}" data-t="{escape(told)}">{drawn}</svg>'
    )


class _Scale:
    """A linear scale from values to pixels; values outside of it are at its ends."""

    def __init__(self, low: float, high: float, *, padded: bool = False) -> None:
        if not high - low > 1e-6 * max(abs(low), abs(high)):
            low, high = low - (abs(low) or 1) * 0.5, high + (abs(high) or 1) * 0.5
        room = (high - low) * 0.06 if padded else 0.0
        starts_at_zero = low >= 0 and low - room < 0
        self.low, self.high = (0.0 if starts_at_zero else low - room), high + room
        self.pixels = (0.0, 1.0)

    def __call__(self, value: float) -> float:
        share = min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))
        return self.pixels[0] + share * (self.pixels[1] - self.pixels[0])

    @property
    def described(self) -> str:
        """Return the ends in values and pixels, for the script of the page."""
        return f"{self.low:.8g} {self.high:.8g} {self.pixels[0]:.1f} {self.pixels[1]:.1f}"


def _grid(
    x_scale: _Scale,
    y_scale: _Scale,
    y_ticks: Sequence[float],
    names: Sequence[str],
    *,
    x_name: str,
    height: int = HEIGHT,
) -> list[str]:
    (left, right), bottom = x_scale.pixels, y_scale.pixels[0]
    parts = [
        f'<line class="grid" x1="{left:.1f}" y1="{y_scale(y):.1f}" x2="{right:.1f}" '
        f'y2="{y_scale(y):.1f}"/><text class="tick" x="{left - 6:.1f}" y="{y_scale(y) + 4:.1f}" '
        f'text-anchor="end">{name}</text>'
        for y, name in zip(y_ticks, names, strict=True)
    ]
    marks = ticks(x_scale.low, x_scale.high)
    parts += [
        f'<text class="tick" x="{x_scale(x):.1f}" y="{bottom + 15:.1f}" text-anchor="middle">'
        f"{name}</text>"
        for x, name in zip(marks, tick_names(marks), strict=True)
    ]
    parts.append(
        f'<text class="note" x="{(left + right) / 2:.1f}" y="{height - 5}" text-anchor="middle">'
        f"{escape(x_name)}</text>"
    )
    return parts


def _apart(
    ends: Sequence[tuple[float, int, str]], *, least: float, low: float, high: float
) -> list[tuple[float, int, str]]:
    """Move labels apart, from the top to the bottom and back, so that none covers another."""
    placed = sorted(ends)
    places = [max(low, min(high, at)) for at, *_ in placed]
    for index in range(1, len(places)):
        places[index] = max(places[index], places[index - 1] + least)
    for index in reversed(range(len(places))):
        limit = high if index == len(places) - 1 else places[index + 1] - least
        places[index] = min(places[index], limit)
    return [(at, kind, name) for at, (_, kind, name) in zip(places, placed, strict=True)]


def _svg(
    parts: Sequence[str],
    *,
    title: str,
    width: int = WIDTH,
    height: int = HEIGHT,
    scales: str = "",
    kind: str = "",
) -> str:
    classes = f"chart {kind}".strip()
    fixed = f' width="{width}" height="{height}"' if kind == "matrix" else ""
    return (
        f'<svg class="{classes}" viewBox="0 0 {width} {height}"{fixed} role="img" '
        f'aria-label="{escape(title)}" {scales}>{"".join(parts)}</svg>'
    )


def _compact(count: float) -> str:
    return f"{count / 1000:.0f}k" if count >= 10_000 else f"{count:g}"
