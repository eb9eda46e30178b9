"""The runs below a folder: what each is, which is the best, and what of them can be removed."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plcli.errors import ModelError, UsageError, listed
from plcli.runs import metric_names
from plcli.runs.folder import Run

OWN = {  # what plcli writes into a run folder
    *("config.yaml", "environment.json", "metrics.csv", "metrics.json", "train.log"),
    *("checkpoints", "model", "predictions", "report.html", "figures", "export", "package"),
}
OWN_BEGINNINGS = (
    *("test_rows", "test_predictions", "errors", "suspected_labels", "analysis"),
    *("predictions", ".plcli", "events.out", "lock", ".lock"),
)
RECENT = 120  # seconds: an unfinished run with a newer file may still be trained


@dataclass(frozen=True)
class Listed:
    """A run in a list.

    Attributes:
        run: the run.
        state: `finished`; `unfinished`; or `changing`, if it may still be trained.
        changed: when its newest file was written, in seconds since 1970.
        size: the bytes of its files.
        metrics: the content of its metrics.json; empty without it.
    """

    run: Run
    state: str
    changed: float
    size: int
    metrics: dict[str, Any]

    @property
    def monitor(self) -> str | None:
        """The metric that chose the best epoch, without its stage; None if it is not known."""
        name = (self.metrics.get("fit") or {}).get("monitor")
        return None if name is None else metric_names.without_stage(str(name), "validation")

    def value(self, metric: str, split: str) -> float | None:
        """Return a metric of a split; None if the run has none."""
        found = (self.metrics.get(split) or {}).get(metric)
        return found if isinstance(found, float) else None


def describe(run: Run) -> Listed:
    """Return what a run is."""
    files = [path for path in run.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    stats = [path.stat() for path in files]
    changed = max((each.st_mtime for each in stats), default=0.0)
    state = "finished"
    if not run.finished:
        state = "changing" if time.time() - changed < RECENT else "unfinished"
    return Listed(run, state, changed, sum(each.st_size for each in stats), _metrics(run))


def _metrics(run: Run) -> dict[str, Any]:
    path = run.folder / "metrics.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (ValueError, TypeError, OSError):
        return {}  # a list shows the other runs all the same


def runs_below(folder: Path) -> Iterator[Run]:
    """Yield the runs in a folder, oldest first.

    Raises:
        UsageError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder. Name the folder that holds the runs.")
    configs = sorted(folder.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    yield from (Run(path.parent) for path in configs)


def best(found: list[Listed], *, metric: str | None, split: str) -> tuple[Listed, str]:
    """Return the best finished run, and the metric that decides.

    Args:
        found: the runs.
        metric: the metric; by default the one that chose the epochs of the runs.
        split: the split.

    Raises:
        UsageError: if no metric is named and the runs have different ones, or none has it.
    """
    finished = [each for each in found if each.state == "finished"]
    if metric is None:
        monitors = sorted({each.monitor for each in finished if each.monitor})
        if len(monitors) != 1:
            raise UsageError(
                "runs best: the runs were chosen by "
                f"{listed(monitors) if monitors else 'no metric'}. Name one with --metric."
            )
        metric = monitors[0]
    direction = metric_names.direction(metric)
    if direction is None:
        raise UsageError(
            f"--metric {metric}: its name does not say whether larger values are better. "
            "Name another one."
        )
    values = [(each, each.value(metric, split)) for each in finished]
    known = [(value, each) for each, value in values if value is not None]
    if not known:
        names = {name for each in finished for name in each.metrics.get(split) or {}}
        plain = sorted(
            n for n in names if any(each.value(n, split) is not None for each in finished)
        )
        raise UsageError(
            f"--metric {metric}: no finished run has it for the {split} split. "
            f"There are: {listed(plain) if plain else 'none'}."
        )
    chosen = (max if direction == "max" else min)(known, key=lambda pair: pair[0])
    return chosen[1], metric


def foreign(folder: Path) -> list[str]:
    """Return the names of entries of a run folder that plcli did not write."""
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in OWN and not path.name.startswith(OWN_BEGINNINGS)
    )


def check_removable(run: Run, given: str) -> None:
    """Check that a whole run may be removed.

    Args:
        run: the run.
        given: what the user named.

    Raises:
        UsageError: if it is a part of a run, is being trained, or holds other files.
    """
    if Path(given).resolve() != run.folder.resolve():
        raise UsageError(f"{given}: is a part of the run {run.folder}. Name the run folder.")
    if describe(run).state == "changing":
        raise UsageError(
            f"{run.folder}: was written to within the last {RECENT} seconds and is not finished, "
            "so it may still be trained. Stop it first, or wait."
        )
    if others := foreign(run.folder):
        raise UsageError(
            f"{run.folder}: also holds {listed(others)}, which plcli did not write. "
            "Move them, or remove the folder by hand."
        )


def remove(folder: Path) -> None:
    """Remove a folder.

    Raises:
        ModelError: if it cannot be removed.
    """
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise ModelError(f"{folder}: cannot be removed ({error.strerror or error}).") from None


def prunable(found: list[Listed], *, keep: int | None) -> tuple[list[Path], list[Path]]:
    """Return the checkpoints of finished runs, and the finished runs that are old.

    The weights of a finished run are in its model/ folder, so that its checkpoints, most of which
    are the states of optimizers, are only needed for `--ckpt_path`.

    Args:
        found: the runs, oldest first.
        keep: how many of the newest finished runs to keep; None keeps all.
    """
    finished = [each for each in found if each.state == "finished"]
    old = [] if keep is None else finished[: max(0, len(finished) - keep)]
    kept = [each for each in finished if each not in old]
    checkpoints = [each.run.checkpoints for each in kept if each.run.checkpoints.is_dir()]
    return checkpoints, [each.run.folder for each in old if not foreign(each.run.folder)]


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
