"""plcli compare: how runs differ, their metrics with intervals, and which of them is better."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from plcli.cli import hints, run_options
from plcli.config.files import load_yaml
from plcli.errors import UsageError, did_you_mean, listed, printable
from plcli.metrics import comparison, evaluated
from plcli.metrics.evaluated import KeptRows
from plcli.metrics.intervals import Difference
from plcli.runs import atomic_files, campaign, metric_names, metrics_file, tables, test_rows
from plcli.runs.folder import Run, flat, open_run
from plcli.runs.reporting import compared, contents
from plcli.runs.reporting.compared import Told

USAGE = {"RUN RUN ...": "compare runs with the first one"}
OPTIONS = {
    "metric": "the metric to judge by (default: the one that chose the best epoch)",
    "html": "also write a page to this file, with intervals, curves and configs side by side",
}
BOUNDED = 1.0  # scores up to 1 are told in points of a hundred


def run(words: Sequence[str]) -> int:
    """Compare runs, and return the exit code."""
    given = run_options.parse("compare", words, usage=USAGE, options=OPTIONS, flags={})
    if given is None:
        return 0
    if len(given.words) < 2:
        raise UsageError(
            f"compare: got {len(given.words)} run{'s' * (len(given.words) != 1)}, expected two or "
            "more, such as `plcli compare runs/bert-1 runs/bert-2`."
        )
    runs = [open_run(word) for word in given.words]
    names = [word.rstrip("/") for word in given.words]
    if duplicates := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"compare: {duplicates[0]} is given twice. Name different runs.")
    output = given.options.get("html")
    if output is not None:
        contents.check_output("--html", output)
    console = Console()
    for name, each in zip(names, runs, strict=True):
        if campaign.exists(each.folder):
            _say_campaign(console, name, each)
    _show_configs(console, names, runs)
    metrics = [metrics_file.read(each) for each in runs]
    _show_metrics(console, names, metrics)
    rows = [_rows(each) for each in runs]
    told: list[Told] = []
    for name, own in zip(names[1:], rows[1:], strict=True):
        told += _compare(
            console,
            (names[0], rows[0]),
            (name, own),
            metric=given.options.get("metric"),
            monitor=_monitor(metrics[0]),
        )
    if output is not None:
        files = [contents.read(each) for each in runs]
        with atomic_files.disk_errors_explained():
            atomic_files.write_text(Path(output), compared.render(names, files, told))
        console.print(output, markup=False, highlight=False, soft_wrap=True)
    return 0


def _say_campaign(console: Console, name: str, run: Run) -> None:
    """Print what the scores and the rows of a campaign are."""
    found = campaign.read(run.folder)
    best = metrics_file.read(run)[campaign.MARK]["best"]
    scores = "out of fold, of the test means" if found.kind == "folds" else "means"
    console.print(
        f"{name}: {found}; its scores are {scores}, its config and rows those of the best, {best}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _show_configs(console: Console, names: list[str], runs: list[Run]) -> None:
    """Print the keys whose values differ."""
    configs = [dict(flat(load_yaml(each.config))) if each.config.exists() else {} for each in runs]
    keys = [
        key
        for key in sorted(set().union(*configs))
        if len({str(values.get(key)) for values in configs}) > 1
    ]
    if not keys:
        console.print("the configs are the same")
        return
    table = tables.table("config", *map(_plain, names))
    for key in keys:
        cells = (str(values[key]) if key in values else "" for values in configs)
        table.add_row(*map(_plain, (key, *cells)))
    console.print(table)


def _monitor(metrics: Mapping[str, Any]) -> str | None:
    """Return the metric that chose the best epoch, without its stage."""
    name = (metrics.get("fit") or {}).get("monitor")
    return None if name is None else metric_names.without_stage(name, "validation")


def _show_metrics(console: Console, names: list[str], metrics: list[dict[str, Any]]) -> None:
    """Print the scores of the test split, or of the validation without one."""
    split = "test" if any("test" in each for each in metrics) else "validation"
    scores = [each.get(split) or {} for each in metrics]
    plain = [
        name
        for name in dict.fromkeys(name for each in scores for name in each)
        if any(isinstance(each.get(name), float) for each in scores)
    ]
    if not plain:
        return
    table = tables.table(split, *map(_plain, names))
    for name in plain:
        cells = []
        for each in scores:
            value, ends = each.get(name), (each.get("intervals") or {}).get(name)
            shown = f"{value:.4f}" if isinstance(value, float) else ""
            cells.append(f"{shown} ({ends['low']:.4f} to {ends['high']:.4f})" if ends else shown)
        table.add_row(_plain(name), *cells)
    console.print(table)


def _plain(name: str) -> str:
    """Return a name as a cell of a table shows it."""
    return escape(printable(name))


def _rows(run: Run) -> list[tuple[Path, KeptRows]]:
    return [
        (path, evaluated.read(table, where=str(path))) for path, table in test_rows.read(run.folder)
    ]


def _compare(
    console: Console,
    first: tuple[str, list[tuple[Path, KeptRows]]],
    second: tuple[str, list[tuple[Path, KeptRows]]],
    *,
    metric: str | None,
    monitor: str | None,
) -> list[Told]:
    """Print which of two runs is better, and return what was said."""
    told: list[Told] = []

    def say(text: str, metric: str = "", difference: Difference | None = None) -> None:
        told.append(Told(text, metric, second[0], difference))
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    for name, files in (first, second):
        if not files:
            test = hints.command("test", Path(name))
            say(f"{name}: keeps no test rows, which a paired test needs. Run `{test}`.")
            return told
    for path, one in first[1]:
        for other_path, two in second[1]:
            pairs = comparison.paired(one, two)
            if pairs is None:
                continue
            if path.name != test_rows.NAME or other_path.name != test_rows.NAME:
                say(f"on the rows of {path} and {other_path}:")
            found = comparison.differences(one, two, pairs)
            for name in _judged(found, metric=metric, monitor=monitor):
                values = one.rows.scoring.scores(pairs.first)
                say(
                    comparison.sentence(
                        name,
                        found[name],
                        first=first[0],
                        second=second[0],
                        direction=metric_names.direction(name) or "max",
                        bounded=_is_bounded(name, values[name]),
                        unit_name="rows" if pairs.groups is None else "groups of rows",
                    ),
                    name,
                    found[name],
                )
            return told
    say(
        f"{second[0]} and {first[0]} were not tested on the same rows, so that only their "
        "intervals can be compared. Test both on one file with `plcli test --run RUN --data.test "
        "FILE`."
    )
    return told


def _judged(found: Mapping[str, Any], *, metric: str | None, monitor: str | None) -> list[str]:
    """Return the metrics to judge by: one that is named, or the monitored one first.

    Raises:
        UsageError: if there is no such metric.
    """
    if metric is not None and metric not in found:
        raise UsageError(
            f"--metric: got '{metric}', but the runs have {listed(found)}."
            f"{did_you_mean(metric, found)}"
        )
    if metric is not None:
        return [metric]
    return sorted(found, key=lambda name: name != monitor)


def _is_bounded(name: str, value: float) -> bool:
    words = {*metric_names.tokens(name)}
    unbounded = words & {"chrf", "bleu", "loss", "perplexity", "bits", "bytes"}
    return not unbounded and metric_names.direction(name) == "max" and abs(value) <= BOUNDED
