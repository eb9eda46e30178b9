"""plcli compare: how runs differ, their metrics with intervals, and which of them is better."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from plcli.cli import hints, run_options
from plcli.errors import UsageError, did_you_mean, listed, printable
from plcli.metrics import comparison, evaluated
from plcli.metrics.evaluated import KeptRows
from plcli.metrics.paired import FEWEST_UNITS, Difference
from plcli.runs import atomic_files, metric_names, metrics_file, tables, test_rows
from plcli.runs.folder import open_run
from plcli.runs.reporting import compared, contents
from plcli.runs.reporting.compared import Told
from plcli.runs.sides import Scored, Side

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
    sides = [
        Side(name, each, metrics_file.read(each)) for name, each in zip(names, runs, strict=True)
    ]
    for side in sides:
        if side.campaign is not None:
            _say_campaign(console, side)
    _show_configs(console, sides)
    split = "test" if any("test" in side.metrics for side in sides) else "validation"
    scored = [each for side in sides for each in side.scored(split)]
    _show_metrics(console, split, scored)
    told: list[Told] = []
    for side in sides[1:]:
        told += _compare(console, sides[0], side, metric=given.options.get("metric"))
    if output is not None:
        files = [contents.read(side.run) for side in sides]
        shown = compared.render([side.best for side in sides], files, told, split, scored)
        with atomic_files.disk_errors_explained():
            atomic_files.write_text(Path(output), shown)
        console.print(output, markup=False, highlight=False, soft_wrap=True)
    return 0


def _say_campaign(console: Console, side: Side) -> None:
    """Print what the scores and the rows of a campaign are."""
    found = side.campaign
    assert found is not None
    said = f"{side.name}: {found}; its scores are means ± standard deviation"
    if found.kind == "folds":
        said += ", without a test those out of fold"
    said += (
        ", and those of its ensemble"
        if side.has_ensemble
        else "; its ensemble was not tested on its test rows "
        f"({hints.command('test', side.run.folder, '--ensemble')})"
    )
    console.print(said, markup=False, highlight=False, soft_wrap=True)


def _show_configs(console: Console, sides: Sequence[Side]) -> None:
    """Print the keys whose values differ."""
    configs = [side.config() for side in sides]
    keys = [
        key
        for key in sorted(set().union(*configs))
        if len({str(values.get(key)) for values in configs}) > 1
    ]
    if not keys:
        console.print("the configs are the same")
        return
    table = tables.table("config", *(_plain(side.name) for side in sides))
    for key in keys:
        cells = (str(values[key]) if key in values else "" for values in configs)
        table.add_row(*map(_plain, (key, *cells)))
    console.print(table)


def _monitor(metrics: Mapping[str, Any]) -> str | None:
    """Return the metric that chose the best epoch, without its stage."""
    name = (metrics.get("fit") or {}).get("monitor")
    return None if name is None else metric_names.without_stage(name, "validation")


def _show_metrics(console: Console, split: str, scored: Sequence[Scored]) -> None:
    """Print the scores of the test split, or of the validation without one."""
    plain = [
        name
        for name in dict.fromkeys(name for each in scored for name in each.scores)
        if any(isinstance(each.scores.get(name), float) for each in scored)
    ]
    if not plain:
        return
    table = tables.table(split, *(_plain(each.name) for each in scored))
    for name in plain:
        cells = []
        for each in scored:
            value, ends = each.scores.get(name), (each.scores.get("intervals") or {}).get(name)
            shown = f"{value:.4f}" if isinstance(value, float) else ""
            if name in each.deviation and shown:
                shown += f" ± {each.deviation[name]:.4f}"
            cells.append(f"{shown} ({ends['low']:.4f} to {ends['high']:.4f})" if ends else shown)
        table.add_row(_plain(name), *cells)
    console.print(table)


def _plain(name: str) -> str:
    """Return a name as a cell of a table shows it."""
    return escape(printable(name))


def _rows(folder: Path) -> list[tuple[Path, KeptRows]]:
    return [
        (path, evaluated.read(table, where=str(path))) for path, table in test_rows.read(folder)
    ]


def _compare(console: Console, one_side: Side, other: Side, *, metric: str | None) -> list[Told]:
    """Print which of two runs is better, and return what was said.

    A campaign is compared by its ensemble; if it has none, or another campaign beside it has none,
    by its best sub-run.
    """
    told: list[Told] = []
    both = all(side.has_ensemble for side in (one_side, other) if side.campaign is not None)
    (first_name, first_folder), (second_name, second_folder) = (
        side.rows(ensemble=both) for side in (one_side, other)
    )
    monitor = _monitor(one_side.metrics)

    def say(text: str, metric: str = "", difference: Difference | None = None) -> None:
        told.append(Told(text, metric, first_name, second_name, difference))
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    tasks = (one_side.task, other.task)
    if None not in tasks and tasks[0] != tasks[1]:
        say(
            f"{second_name} and {first_name} have different tasks, {tasks[1]} and {tasks[0]}, so "
            "that none is better. Compare runs of one task."
        )
        return told
    first = first_name, _rows(first_folder)
    second = second_name, _rows(second_folder)
    for (name, files), side in ((first, one_side), (second, other)):
        if not files:
            words = () if "test" in side.metrics else ("--data.test", "FILE")
            test = hints.command("test", Path(side.name), *words)
            say(f"{name}: keeps no test rows, which a paired test needs. Run `{test}`.")
            return told
    for path, one in first[1]:
        for other_path, two in second[1]:
            pairs = comparison.paired(one, two)
            if pairs is None:
                continue
            if path.name != test_rows.NAME or other_path.name != test_rows.NAME:
                say(f"on the rows of {path} and {other_path}:")
            if pairs.units < FEWEST_UNITS:
                say(
                    f"too few {pairs.unit_name} to tell models apart by: got {pairs.units}, "
                    f"expected {FEWEST_UNITS} or more."
                )
                return told
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
                        unit_name=pairs.unit_name,
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
