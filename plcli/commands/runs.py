"""plcli runs: lists runs, shows one, names the best, removes or prunes them."""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from plcli.cli import campaign_tables, run_options
from plcli.cli.run_options import RunOptions
from plcli.errors import UsageError, did_you_mean
from plcli.runs import inventory, metrics_file, results, tables
from plcli.runs.environment import command_line
from plcli.runs.folder import ROOT, Run
from plcli.runs.inventory import Listed

USAGE = {
    "[list] [FOLDER]": "the runs in a folder (default: runs), oldest first",
    "show RUN": "one run: its metrics with intervals, and what it was made of",
    "best [FOLDER]": "print the finished run with the best metric of the validation split",
    "rm RUN ...": "remove runs; asks first",
    "prune [FOLDER]": "remove the checkpoints of finished runs (model/ stays) and, with --keep, "
    "old runs; asks first",
}
OPTIONS = {
    "metric": "for list and best: the metric (default: the one that chose the best epoch)",
    "split": "for list and best: validation (default) or test",
    "keep": "for prune: the number of the newest finished runs to keep; others are removed",
}
FLAGS = {"yes": "for rm and prune: do not ask"}
ACTIONS = {  # and the options that each has
    "list": ("metric", "split"),
    "show": (),
    "best": ("metric", "split"),
    "rm": ("yes",),
    "prune": ("keep", "yes"),
}


def run(words: Sequence[str]) -> int:
    """Run an action on runs, and return the exit code."""
    given = run_options.parse("runs", words, usage=USAGE, options=OPTIONS, flags=FLAGS)
    if given is None:
        return 0
    action, rest = _action(given)
    console = Console()
    if action == "show":
        _show(console, inventory.named(_one(rest, action)))
    elif action == "rm":
        _remove(console, rest, given)
    else:
        folder = Path(_one(rest, action)) if rest else ROOT
        found = [inventory.describe(each) for each in inventory.runs_below(folder)]
        if action == "prune":
            _prune(console, found, given)
        elif action == "best":
            _tell_damaged(found)
            chosen, metric = inventory.best(
                found, metric=given.options.get("metric"), split=_split(given)
            )
            value = chosen.value(metric, _split(given))
            print(f"{_split(given)} {metric} {value:.4f}", file=sys.stderr)
            console.print(str(chosen.run.folder), markup=False, highlight=False, soft_wrap=True)
        else:
            _list(console, folder, found, given)
    return 0


def _action(given: RunOptions) -> tuple[str, list[str]]:
    """Return the action and the words behind it.

    Raises:
        UsageError: if there is no such action, or it does not have an option.
    """
    first, *rest = given.words or ["list"]
    if first not in ACTIONS:
        if not Path(first).is_dir():
            raise UsageError(
                f"runs: got '{first}', expected {', '.join(ACTIONS)} or a folder."
                f"{did_you_mean(first, ACTIONS)}"
            )
        first, rest = "list", given.words
    for option in given.options:
        if option not in ACTIONS[first]:
            raise UsageError(f"--{option}: `plcli runs {first}` does not have it. Remove it.")
    return first, rest


def _one(words: list[str], action: str) -> str:
    if len(words) != 1:
        raise UsageError(f"runs {action}: got {len(words)} names, expected one.")
    return words[0]


def _tell_damaged(found: list[Listed]) -> None:
    """Say which runs cannot be among the best, as their scores are not known."""
    for each in found:
        if each.damage is not None:
            path = each.run.folder / metrics_file.NAME
            told = f"left out: {path} is damaged ({each.damage}). {metrics_file.remedy(each.run)}"
            print(told, file=sys.stderr)


def _split(given: RunOptions) -> str:
    split = given.options.get("split", "validation")
    if split not in ("validation", "test"):
        raise UsageError(f"--split: got '{split}', expected validation or test.")
    return split


def _list(console: Console, folder: Path, found: list[Listed], given: RunOptions) -> None:
    """Print a line for each run."""
    if not found:
        console.print(f"{folder}: no runs", markup=False)
        return
    table = tables.table("run", "state", "changed", "metric", _split(given), "size")
    for each in found:
        metric = given.options.get("metric") or each.monitor
        table.add_row(
            each.run.folder.name.replace("[", r"\["),
            each.progress,
            time.strftime("%Y-%m-%d %H:%M", time.localtime(each.changed)),
            metric or "",
            _told(each, metric, _split(given)),
            _bytes(each.size),
        )
    console.print(table)


def _told(each: Listed, metric: str | None, split: str) -> str:
    """Return the value of a metric, of a campaign with its deviation."""
    value = None if metric is None else each.value(metric, split)
    if metric is None or value is None:
        return ""
    deviation = each.deviation(metric, split)
    return f"{value:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")


def _show(console: Console, run: Run) -> None:
    """Print one run."""
    each, folder = inventory.describe(run), run.folder
    lines = {"run": str(folder), "state": each.progress, "size": _bytes(each.size)}
    fit = each.metrics.get("fit") or {}
    if epoch := metrics_file.chosen_epoch(fit):
        lines["best epoch"] = epoch
    for key in ("monitor", "epochs", "steps", "seconds"):
        if fit.get(key) is not None:
            lines[key.replace("_", " ")] = str(fit[key])
    path = folder / "environment.json"
    if path.is_file():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            lines["command"] = command_line(found.get("command"))
        except (ValueError, AttributeError):
            lines["command"] = f"not known: {path} is damaged"
    elif each.campaign is not None:
        lines["command"] = command_line(list(each.campaign.command))
    if each.damage is not None:
        lines["metrics"] = f"not known, as metrics.json is damaged ({each.damage}). "
        lines["metrics"] += metrics_file.remedy(run)
    for name, text in lines.items():
        console.print(f"{name}: {text}", markup=False, highlight=False, soft_wrap=True)
    order = ["validation", "test"]
    splits = {name: each.metrics[name] for name in order if name in each.metrics}
    if each.campaign is not None and splits:
        campaign_tables.show(console, each.metrics)
    elif splits:
        results.show(console, splits)


def _remove(console: Console, names: list[str], given: RunOptions) -> None:
    """Remove runs, after a question."""
    if not names:
        raise UsageError("runs rm: names no run. Name one or more run folders.")
    runs = [inventory.named(name) for name in names]
    for each, name in zip(runs, names, strict=True):
        inventory.check_removable(each, name)
    folders = [each.folder for each in runs]
    if _agreed(console, "remove", folders, given):
        for folder in folders:
            inventory.remove(folder)


def _prune(console: Console, found: list[Listed], given: RunOptions) -> None:
    """Remove checkpoints and old runs, after a question."""
    keep = given.options.get("keep")
    if keep is not None and not (keep.isascii() and keep.isdigit()):
        raise UsageError(f"--keep: got '{keep}', expected a whole number, 0 or more.")
    checkpoints, old = inventory.prunable(found, keep=None if keep is None else int(keep))
    if not checkpoints and not old:
        console.print("nothing to prune")
    elif _agreed(console, "remove", [*checkpoints, *old], given):
        for folder in (*checkpoints, *old):
            inventory.remove(folder)


def _agreed(console: Console, what: str, folders: list[Path], given: RunOptions) -> bool:
    """Show what is to be removed, and ask whether it shall be.

    Raises:
        UsageError: if nobody can be asked.
    """
    for folder in folders:
        size = _bytes(inventory.size_of(folder))
        console.print(f"{folder}  {size}", markup=False, highlight=False, soft_wrap=True)
    if "yes" in given.options:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"nothing was removed, as nobody can be asked. Add --yes to {what} this.")
    answer = input(f"{what} these {len(folders)} folders? [y/N] ")
    return answer.strip().lower() in ("y", "yes")


def _bytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
