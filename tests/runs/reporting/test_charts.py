"""Charts as SVG: ticks, scales, lines of few points, labels, and escaped names."""

import math
import re

import pytest

from plcli.runs.reporting import charts
from plcli.runs.reporting.charts import Bar, Line
from plcli.runs.reporting.numbers import number, smoothed, thinned, tick_names, ticks


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 900, [0, 200, 400, 600, 800]),
        (0.13, 0.21, [0.14, 0.16, 0.18, 0.2]),
        (-3, 3, [-2, 0, 2]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0, 0.2, 0.4], ["0.0", "0.2", "0.4"]),
        ([0, 50_000, 100_000], ["0", "50k", "100k"]),
        ([0, 0.0001, 0.0002], ["0", "1e-4", "2e-4"]),
        ([0, 0.00005, 0.0001, 0.00015], ["0", "5.0e-5", "1.0e-4", "1.5e-4"]),
        ([6.2, 6.4], ["6.2", "6.4"]),
        ([], []),
    ],
)
def test_ticks_have_equally_many_decimals(values: list[float], wanted: list[str]) -> None:
    assert tick_names(values) == wanted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.72694, "0.7269"),
        (1993.4, "1,993"),
        (12.345, "12.35"),
        (3, "3"),
        (123_456.7, "123,457"),
        (0.00001234, "1.23e-05"),
        (-0.5, "-0.5000"),
        (math.nan, "nan"),
    ],
)
def test_numbers_have_four_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_a_line_of_many_points_keeps_its_extremes() -> None:
    points = [(float(x), math.sin(x / 500)) for x in range(10_000)]
    points[4321] = (4321.0, 9.0)
    few = thinned(points)
    assert len(few) < 400
    assert (4321.0, 9.0) in few
    assert few[0] == points[0]
    assert few[-1] == points[-1]
    assert [x for x, _ in few] == sorted(x for x, _ in few)


def test_a_mean_is_not_drawn_to_zero_at_its_start() -> None:
    assert [y for _, y in smoothed([(0, 4.0), (1, 4.0), (2, 4.0)], 10)] == pytest.approx([4.0] * 3)


def test_a_curve_is_small_and_says_its_scale() -> None:
    points = [(float(x), 2 / (1 + x)) for x in range(5000)]
    chart = charts.lines([Line("train", points)], title="loss", x_name="step")
    assert len(chart) < 8000
    x_scale, y_scale = (re.search(f'data-{axis}="([^"]+)"', chart) for axis in "xy")
    assert x_scale is not None
    assert y_scale is not None
    low, high, first, last = map(float, x_scale[1].split())
    place = first + (4999 - low) / (high - low) * (last - first)
    assert f"L{place:.1f} " in chart


def test_names_of_lines_do_not_cover_each_other() -> None:
    series = [Line(name, [(0.0, 1.0), (1.0, 1.0)]) for name in ("one", "two", "three")]
    chart = charts.lines(series, title="", x_name="step")
    heights = sorted(float(y) for y in re.findall(r'class="name [^>]* y="([\d.]+)"', chart))
    assert all(b - a >= 12.9 for a, b in zip(heights, heights[1:], strict=False))


@pytest.mark.parametrize(
    "chart",
    [
        charts.lines([Line("<b>", [(0.0, 1.0)])], title="<b>", x_name="<b>", levels=[(1, "<b>")]),
        charts.bars([Bar("<b>", 0.5, 0.4, 0.6, note="<b>")], title="<b>"),
        charts.matrix([[1, 2], [3, 4]], ["<b>", '"'], title="<b>"),
        charts.histogram([0, 1], [3], title="<b>", x_name="<b>", rules=[(1, "<b>")]),
        charts.scatter([(1, 2)], title="<b>", x_name="<b>", y_name="<b>"),
        charts.interval(0.5, 0.4, 0.6, span=(0, 1), marks=[(0.1, "<b>")]),
    ],
)
def test_names_in_charts_are_escaped(chart: str) -> None:
    assert chart.startswith("<svg")
    assert "<b>" not in chart
    assert "nan" not in chart


def test_charts_of_nothing_are_nothing() -> None:
    assert charts.lines([Line("a", [])], title="", x_name="") == ""
    assert charts.lines([Line("a", [(0.0, math.nan)])], title="", x_name="") == ""
    assert charts.bars([], title="") == ""
    assert charts.histogram([], [], title="", x_name="") == ""
    assert charts.matrix([], [], title="") == ""
    assert charts.scatter([], title="", x_name="", y_name="") == ""


def test_a_constant_has_a_chart() -> None:
    chart = charts.lines([Line("a", [(0.0, 2.5), (9.0, 2.5)])], title="", x_name="step")
    assert re.findall(r'text-anchor="end">([^<]+)<', chart) == ["2", "3"]
