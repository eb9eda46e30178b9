"""The tables of a campaign: mean and deviation of each score, and the scores of each sub-run."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from plcli.errors import printable
from plcli.runs import metric_names, metrics_file, tables
from plcli.runs.campaign import MARK, SPLITS


def show(console: Console, metrics: Mapping[str, Any]) -> None:
    """Print the tables of the metrics.json of a campaign."""
    found = metrics[MARK]
    _show_means(console, metrics, found)
    _show_runs(console, found)


def spread(found: Mapping[str, Any], metric: str, split: str) -> str:
    """Return a score of a campaign as `mean ± deviation`, or nothing if it has none."""
    mean = (found["mean"].get(split) or {}).get(metric)
    deviation = (found["deviation"].get(split) or {}).get(metric)
    return "" if mean is None or deviation is None else f"{mean:.4f} ± {deviation:.4f}"


def _show_means(console: Console, metrics: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Print a row for each score, with the baselines of the test."""
    splits = [split for split in SPLITS if found["mean"].get(split)]
    if not splits:
        return
    rows = found.get("out_of_fold") or {}
    last = splits[-1]
    of = "validation" if rows else last  # the rows that the baselines are of
    baselines = (metrics.get(of) or {}).get("baselines") or {}
    extra = ["out of fold", "95 % interval"] if rows else []
    table = tables.table(
        "metric",
        *extra,
        *(f"{split} ± sd" for split in splits),
        *(f"baseline of {'out of fold' if rows else of}: {escape(name)}" for name in baselines),
    )
    names = dict.fromkeys(name for split in splits for name in found["mean"][split])
    for name in names:
        cells = []
        if rows:
            ends = (rows.get("intervals") or {}).get(name)
            cells.append(f"{rows[name]:.4f}" if isinstance(rows.get(name), float) else "")
            cells.append(f"{ends['low']:.4f} to {ends['high']:.4f}" if ends else "")
        cells += [spread(found, name, split) for split in splits]
        cells += [f"{each[name]:.4f}" if name in each else "" for each in baselines.values()]
        table.add_row(escape(printable(name)), *cells)
    console.print(table)


def _show_runs(console: Console, found: Mapping[str, Any]) -> None:
    """Print a row for each sub-run."""
    monitor = found["monitor"]
    metric = None if monitor is None else metric_names.without_stage(monitor, "validation")
    splits = [split for split in SPLITS if metric in (found["mean"].get(split) or {})]
    scores = (f"{split}: {escape(str(metric))}" for split in splits)
    table = tables.table("sub-run", "best epoch", *scores, "seconds")
    for name, run in found["runs"].items():
        fit = run.get("fit") or {}
        values = [(run.get(split) or {}).get(metric) for split in splits]
        seconds = fit.get("seconds")
        table.add_row(
            name + (" (best)" if name == found["best"] and monitor is not None else ""),
            metrics_file.chosen_epoch(fit),
            *("" if value is None else f"{value:.4f}" for value in values),
            "" if seconds is None else f"{seconds:.1f}",
        )
    console.print(table)
