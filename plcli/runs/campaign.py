"""The folder of a campaign: runs of one config with several seeds, or on several folds.

runs/x/campaign.json        the sub-runs, the config that they share and the command
runs/x/seed-1/, seed-2/     sub-runs, ordinary run folders; fold-1/, fold-2/ of folds
runs/x/metrics.json         the mean, the deviation and the scores of each sub-run
runs/x/model/ and files     those of the best sub-run, so that the folder can be used as a run
"""

import json
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from plcli.errors import ModelError
from plcli.runs import atomic_files, model_card
from plcli.runs.folder import CAMPAIGN as NAME
from plcli.runs.folder import Run

MARK = "campaign"  # the key of metrics.json that only a campaign has
SPLITS = ("validation", "test")
NOT_COPIED = {"metrics.json", "report.html", "validation_rows.parquet", NAME}

Kind = Literal["seeds", "folds"]
# the key of the config in which the sub-runs differ
OF_A_MEMBER: dict[Kind, str] = {"seeds": "seed_everything", "folds": "data.init_args.fold"}


@dataclass(frozen=True)
class Campaign:
    """A campaign.

    Attributes:
        folder: its folder.
        kind: seeds or folds.
        numbers: the seeds, or the folds from 1.
        config: the values that were given for all sub-runs, by dotted key.
        command: the command that started it, without secrets.
    """

    folder: Path
    kind: Kind
    numbers: tuple[int, ...]
    config: Mapping[str, Any]
    command: Sequence[str]

    @property
    def runs(self) -> dict[int, Run]:
        """The sub-runs by their seed or fold."""
        noun = self.kind.removesuffix("s")
        return {number: Run(self.folder / f"{noun}-{number}") for number in self.numbers}

    @property
    def num_done(self) -> int:
        """The number of finished sub-runs."""
        return sum(run.finished for run in self.runs.values())

    @property
    def option(self) -> str:
        """The option of fit that gives these sub-runs."""
        if self.kind == "folds":
            return f"--folds {len(self.numbers)}"
        return f"--seeds {','.join(map(str, self.numbers))}"

    def __str__(self) -> str:
        return f"a campaign of {len(self.numbers)} {self.kind}"

    def save(self) -> None:
        """Write campaign.json."""
        plain = {
            "kind": self.kind,
            "numbers": list(self.numbers),
            "config": dict(self.config),
            "command": list(self.command),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
        atomic_files.write_text(self.folder / NAME, text)


def exists(folder: Path) -> bool:
    """Whether a folder is that of a campaign."""
    return (folder / NAME).is_file()


def read(folder: Path) -> Campaign:
    """Return the campaign of a folder.

    Raises:
        ModelError: if its file is damaged.
    """
    path = folder / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        kind, numbers, config, command = (
            found[key] for key in ("kind", "numbers", "config", "command")
        )
        if kind not in ("seeds", "folds") or not all(type(each) is int for each in numbers):
            raise ValueError("its sub-runs are no seeds or folds")
        return Campaign(folder, kind, tuple(numbers), dict(config), list(command))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is damaged ({error}). Train in another folder.") from None


def scores(run: Run) -> dict[str, Any]:
    """Return the metrics.json of a finished sub-run.

    Raises:
        ModelError: if it is damaged, or does not say how the run was trained.
    """
    path = run.folder / "metrics.json"
    found = read_json(path)
    if not isinstance(found.get("fit"), Mapping):
        raise _damaged(path, "it does not say which epoch was the best")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file of a sub-run.

    Raises:
        ModelError: if it is damaged.
    """
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, reason: object) -> ModelError:
    return ModelError(
        f"{path}: is damaged ({reason}). Remove {path.parent} and run the same command again."
    )


@dataclass(frozen=True)
class Summary:
    """What the sub-runs of a campaign reach.

    Attributes:
        each: the metrics.json of each sub-run, by its name.
        best: the name of the best sub-run.
        monitor: the validation metric that chose it; None if there is none, so that it is the
            first one.
        mode: whether smaller (min) or larger (max) values are better.
    """

    each: Mapping[str, Mapping[str, Any]]
    best: str
    monitor: str | None
    mode: str | None

    def values(self, split: str) -> dict[str, list[float]]:
        """Return the finite scores of a split that all sub-runs have."""
        parts = [_numbers(metrics.get(split) or {}) for metrics in self.each.values()]
        return {
            name: [part[name] for part in parts]
            for name in parts[0]
            if all(name in part for part in parts)
        }

    def mean(self, split: str) -> dict[str, float]:
        """Return the mean of each score of a split."""
        return {name: statistics.fmean(values) for name, values in self.values(split).items()}

    def deviation(self, split: str) -> dict[str, float]:
        """Return the standard deviation of each score of a split, with n - 1."""
        return {name: statistics.stdev(values) for name, values in self.values(split).items()}

    def baselines(self, split: str) -> dict[str, dict[str, float]]:
        """Return the mean scores of each baseline of a split that all sub-runs have."""
        parts = [
            (metrics.get(split) or {}).get("baselines") or {} for metrics in self.each.values()
        ]
        return {
            name: Summary(
                {str(number): {split: part[name]} for number, part in enumerate(parts)},
                *("", None, None),
            ).mean(split)
            for name in parts[0]
            if all(name in part for part in parts)
        }

    def plain(self, kind: Kind, out_of_fold: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the metrics.json of a campaign.

        Its validation scores are those out of fold or, without any, means, as are its test scores.

        Args:
            kind: seeds or folds.
            out_of_fold: the scores of all rows that a fold has held out; None if not known.
        """
        found: dict[str, Any] = {}
        for split in SPLITS:
            if mean := self.mean(split):
                baselines = self.baselines(split)
                found[split] = {**mean, **({"baselines": baselines} if baselines else {})}
        if out_of_fold:
            found["validation"] = {**found.get("validation", {}), **out_of_fold}
        fits = [metrics.get("fit") or {} for metrics in self.each.values()]
        seconds = [each.get("seconds") for each in fits]
        known = [value for value in seconds if isinstance(value, (int, float))]
        best = dict(self.each[self.best].get("fit") or {})
        found["fit"] = {**best, "seconds": round(sum(known), 3) if known else None}
        found[MARK] = {
            "kind": kind,
            "best": self.best,
            "monitor": self.monitor,
            "mode": self.mode,
            "mean": {split: self.mean(split) for split in SPLITS if self.mean(split)},
            "deviation": {
                split: self.deviation(split) for split in SPLITS if self.deviation(split)
            },
            "out_of_fold": dict(out_of_fold) if out_of_fold else None,
            "runs": {
                name: {key: _plain(metrics[key]) for key in (*SPLITS, "fit") if key in metrics}
                for name, metrics in self.each.items()
            },
        }
        return found


def summary(each: Mapping[str, Mapping[str, Any]]) -> Summary:
    """Return the summary of finished sub-runs.

    The best one is that with the best value of the validation metric that chose its epoch; the test
    split is never looked at.

    Args:
        each: the metrics.json of each sub-run, by its name.
    """
    fits = {name: metrics.get("fit") or {} for name, metrics in each.items()}
    known = {
        name: float(fit["value"])
        for name, fit in fits.items()
        if isinstance(fit.get("value"), (int, float)) and math.isfinite(fit["value"])
    }
    first = next(iter(each))
    monitors = {(fits[name].get("monitor"), fits[name].get("mode")) for name in known}
    if len(monitors) != 1:  # none was ever finite, or there is no metric
        return Summary(each, first, None, None)
    ((monitor, mode),) = monitors
    best = (min if mode == "min" else max)(known, key=lambda name: known[name])
    return Summary(each, best, monitor, mode)


def keep_best(campaign: Campaign, best: Run) -> None:
    """Copy the files of the best sub-run to the campaign's folder, its model last.

    The weights are linked, not copied, where the file system can.
    """
    folder = campaign.folder
    for path in sorted(best.folder.iterdir()):
        if path.is_file() and path.name not in NOT_COPIED and not path.name.startswith("."):
            handle, temporary = atomic_files.new_file(folder)
            with open(handle, "wb") as target, open(path, "rb") as source:
                shutil.copyfileobj(source, target)
            temporary.replace(folder / path.name)
    made = atomic_files.new_folder(folder)
    shutil.copytree(best.model, made / "model", copy_function=_link)
    _name_campaign(made / "model" / model_card.FILE, campaign, best)
    old = folder / "model"
    if old.exists():
        old.rename(made / "old")
    (made / "model").rename(old)
    atomic_files.sync_folder(folder)
    shutil.rmtree(made)


def _name_campaign(card: Path, campaign: Campaign, best: Run) -> None:
    """Let the model card, of which there is a link, name the campaign and its model."""
    if not card.is_file():
        return
    text = card.read_text(encoding="utf-8")
    text = text.replace(str(best.model), str(campaign.folder / "model"))
    name = campaign.folder.name
    text = text.replace(f"\n# {best.folder.name}\n", f"\n# {name}\n").replace(
        f"- name: {best.folder.name}\n", f"- name: {name}\n"
    )
    text = text.replace(
        "they do not say how the score varies with the seed",
        f"how they vary over the {campaign.kind} is in metrics.json of the campaign; of its models "
        f"this is the best, {best.folder.name}",
    )
    card.unlink()
    card.write_text(text, encoding="utf-8")


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _numbers(scores: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in scores.items()
        if isinstance(value, float) and math.isfinite(value)
    }


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in values.items()
        if value is None or isinstance(value, (str, int, float))
    }
