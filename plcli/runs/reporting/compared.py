"""The page of several runs: which is better, their metrics, curves and configs side by side."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from plcli import __version__
from plcli.runs import metric_names
from plcli.runs.reporting import charts, overview, page
from plcli.runs.reporting.charts import Line
from plcli.runs.reporting.contents import Contents
from plcli.runs.reporting.numbers import number
from plcli.runs.reporting.page import Markup, Section
from plcli.runs.sides import Scored

MOST_CHARTS = 8


class Ends(Protocol):
    """A difference of two runs with its interval."""

    @property
    def value(self) -> float:
        """The difference."""

    @property
    def low(self) -> float:
        """The lower end of its interval."""

    @property
    def high(self) -> float:
        """The upper end."""


@dataclass(frozen=True)
class Told:
    """What is said of a pair of runs.

    Attributes:
        text: the sentence.
        metric: the metric; empty for a remark.
        first: the run that is compared with, of a campaign with its model or ensemble.
        second: the run that is compared with it.
        difference: its difference, second minus first; None for a remark.
    """

    text: str
    metric: str = ""
    first: str = ""
    second: str = ""
    difference: Ends | None = None


def render(
    names: Sequence[str],
    runs: Sequence[Contents],
    told: Sequence[Told],
    split: str,
    scored: Sequence[Scored],
) -> str:
    """Return the page.

    Args:
        names: the runs as they were given, of a campaign with the sub-run that its files are of.
        runs: their files.
        told: what is said of each pair.
        split: the split of the scores.
        scored: the scores of the runs, of a campaign its means and those of its ensemble.
    """
    others = [each.name for each in scored]
    others += [name for each in told for name in (each.first, each.second) if name]
    short = _short(list(dict.fromkeys([*names, *others])))
    shown = [short[name] for name in names]
    sections = [
        Section("better", "Which is better", _better(short, told)),
        Section("metrics", "Metrics", _metrics(short, split, scored)),
        Section("curves", "Training", _curves(shown, runs)),
        Section("config", "Config", _configs(shown, runs)),
    ]
    return page.page(
        sections,
        title=" · ".join(shown),
        eyebrow="plcli compare",
        subtitle=f"{', '.join(names[1:])} compared with {names[0]}",
        footer=f"Made by plcli {__version__}.",
    )


def _short(names: Sequence[str]) -> dict[str, str]:
    """Return the last part of each path, or whole paths if these are the same."""
    last = [name.rpartition("/")[2] for name in names]
    return dict(zip(names, last if len({*last}) == len(last) else names, strict=True))


def _better(short: Mapping[str, str], told: Sequence[Told]) -> Markup:
    boxes = []
    for each in told:
        found = each.difference
        if found is None:
            boxes.append(page.element("article", page.paragraph(each.text, "plain")))
            continue
        # at the right the second run is better, also where smaller values are
        sign = -1.0 if metric_names.direction(each.metric) == "min" else 1.0
        low, high = sorted((sign * found.low, sign * found.high))
        reach = 1.1 * max(abs(low), abs(high)) or 1.0
        strip = charts.interval(
            sign * found.value,
            low,
            high,
            span=(-reach, reach),
            marks=[(0.0, "no difference")],
            width=220,
            told=f"{each.metric}: {number(found.value)} (95 % {number(found.low)} to "
            f"{number(found.high)})",
        )
        ends = (f"← {short[each.first]}", f"{short[each.second]} →")
        sides = page.join([page.element("span", name) for name in ends])
        drawn = page.element("div", page.join([Markup(strip), page.element("p", sides, "sides")]))
        said = each.text.removeprefix(f"{each.metric}: ")
        for name, brief in sorted(short.items(), key=lambda pair: -len(pair[0])):
            said = said.replace(name, brief) if "/" in name else said
        text = page.paragraph(said, "plain")
        head = page.element("div", page.join([page.element("h3", each.metric), text]))
        boxes.append(page.element("article", page.join([head, drawn]), "pair"))
    if not boxes:
        return Markup()
    told_how = "The arrows say which side means that a run is better; the tick is no difference."
    listed = page.element("div", page.join(boxes), "rows")
    return page.join([listed, page.paragraph(told_how, "soft")])


def _metrics(short: Mapping[str, str], split: str, scored: Sequence[Scored]) -> Markup:
    scores = [each.scores for each in scored]
    metrics = dict.fromkeys(
        name for each in scores for name, value in each.items() if isinstance(value, float)
    )
    cards = []
    for metric in metrics:
        known = [
            (each, each.scores[metric], (each.scores.get("intervals") or {}).get(metric))
            for each in scored
            if isinstance(each.scores.get(metric), float) and math.isfinite(each.scores[metric])
        ]
        if not known:
            continue
        span = _span([end for _, value, ends in known for end in _ends(value, ends)])
        rows = []
        for each, value, ends in known:
            told = f"{number(ends['low'])} to {number(ends['high'])}" if ends else ""
            if metric in each.deviation:
                told = f"± {number(each.deviation[metric])} (sd)"
            rows.append(
                [
                    short[each.name],
                    Markup(charts.interval(value, *_low_high(ends), span=span)),
                    number(value),
                    page.element("span", told, "keep"),
                ]
            )
        cards.append(page.table([f"{split} {metric}", "", "", "95 % interval"], rows, numbers=(2,)))
    return page.element("div", page.join(cards), "stack") if cards else Markup()


def _ends(value: float, ends: Mapping[str, float] | None) -> list[float]:
    return [value] if ends is None else [value, ends["low"], ends["high"]]


def _low_high(ends: Mapping[str, float] | None) -> tuple[float | None, float | None]:
    return (None, None) if ends is None else (ends["low"], ends["high"])


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.15 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _curves(names: Sequence[str], runs: Sequence[Contents]) -> Markup:
    series = [overview.series(run) for run in runs]
    metrics = dict.fromkeys(name for each in series for name in each if name != "lr")
    cards = []
    for metric in sorted(metrics, key=lambda name: name != "loss"):
        drawn = [
            Line(name, points, dots=len(points) <= 20)
            for name, each in zip(names, series, strict=True)
            if (points := each.get(metric, {}).get("validation"))
        ]
        if max((len(line.points) for line in drawn), default=0) > 1:
            last = max(line.points[-1][0] for line in drawn)
            chart = charts.lines(
                drawn, title=f"validation {metric} by step", x_name="step", x_range=(0.0, last)
            )
            cards.append(page.figure(chart, heading=f"validation {metric}"))
    return page.grid(cards[:MOST_CHARTS]) if cards else Markup()


def _configs(names: Sequence[str], runs: Sequence[Contents]) -> Markup:
    configs = [run.plain for run in runs]
    keys = [
        key
        for key in sorted(set().union(*configs))
        if len({str(each.get(key)) for each in configs}) > 1
    ]
    if not keys:
        return page.paragraph("The configs are the same.", "soft")
    rows: list[Sequence[Any]] = [
        [
            page.element("span", key.replace(".init_args", ""), "keep"),
            *(each.get(key, "") for each in configs),
        ]
        for key in keys
    ]
    return page.table(["key", *names], rows)
