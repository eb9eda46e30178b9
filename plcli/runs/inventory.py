"""The runs below a folder: what each is, which is the best, and what of them can be removed."""

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plcli.errors import ModelError, UsageError, listed
from plcli.runs import campaign, metric_names, metrics_file
from plcli.runs.campaign import Campaign
from plcli.runs.folder import CAMPAIGN, ENSEMBLE, Run, open_run

OWN = {  # what plcli writes into a run folder
    *("config.yaml", "environment.json", "metrics.csv", "metrics.json", "train.log"),
    *("checkpoints", "model", "predictions", "report.html", "figures", "export", "package"),
}
OWN_BEGINNINGS = (
    *("test_rows", "test_predictions", "errors", "suspected_labels", "analysis"),
    *("validation_rows", "out_of_fold", metrics_file.DAMAGED),
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
        metrics: the content of its metrics.json; empty without it, or if it is damaged.
        campaign: the campaign that it is; None for a single run.
        damage: what is wrong with its metrics.json; None if nothing is.
    """

    run: Run
    state: str
    changed: float
    size: int
    metrics: dict[str, Any]
    campaign: Campaign | None = None
    damage: str | None = None

    @property
    def progress(self) -> str:
        """The state, of a campaign with the number of runs that are done."""
        if self.damage is not None:
            return f"{self.state}, metrics.json is damaged"
        if self.campaign is None:
            return self.state
        count = len(self.campaign.numbers)
        if self.campaign.num_done < count:
            return f"{self.campaign.num_done} of {count} {self.campaign.kind} done"
        return f"{self.state}, {count} {self.campaign.kind}"

    def deviation(self, metric: str, split: str) -> float | None:
        """Return the standard deviation of a metric of a campaign; None if it has none."""
        found = (self.metrics.get(campaign.MARK) or {}).get("deviation") or {}
        value = (found.get(split) or {}).get(metric)
        return value if isinstance(value, float) else None

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
    size = sum({each.st_ino or number: each.st_size for number, each in enumerate(stats)}.values())
    found = campaign.read(run.folder) if campaign.exists(run.folder) else None
    damage = metrics_file.damage(run)  # a list shows the other runs all the same
    metrics = metrics_file.read(run) if damage is None else {}
    return Listed(run, state, changed, size, metrics, found, damage)


def named(name: str) -> Run:
    """Return the run of a folder, or of that of a campaign that is not finished.

    Raises:
        UsageError: if it is neither.
    """
    return Run(Path(name)) if campaign.exists(Path(name)) else open_run(name)


def runs_below(folder: Path) -> Iterator[Run]:
    """Yield the runs in a folder, oldest first.

    Raises:
        UsageError: if there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder. Name the folder that holds the runs.")
    files = [*folder.glob("*/config.yaml"), *folder.glob(f"*/{CAMPAIGN}")]
    by_age = sorted(files, key=lambda path: path.stat().st_mtime)
    yield from (Run(path) for path in dict.fromkeys(path.parent for path in by_age))


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
    own = set(OWN)
    if campaign.exists(folder):
        runs = campaign.read(folder).runs.values()
        own |= {ENSEMBLE, CAMPAIGN, *(run.folder.name for run in runs)}
        if others := [name for run in runs if run.folder.is_dir() for name in foreign(run.folder)]:
            return others
    return sorted(
        path.name
        for path in folder.iterdir()
        if path.name not in own and not path.name.startswith(OWN_BEGINNINGS)
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
    single = [run for each in kept for run in _runs_of(each)]
    checkpoints = [run.checkpoints for run in single if run.checkpoints.is_dir()]
    return checkpoints, [each.run.folder for each in old if not foreign(each.run.folder)]


def _runs_of(each: Listed) -> list[Run]:
    return [each.run] if each.campaign is None else list(each.campaign.runs.values())


def size_of(folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
