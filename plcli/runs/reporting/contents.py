"""What a report shows: the files of a run folder, read as they are."""

import csv
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plcli.config import secrets
from plcli.config.files import load_yaml
from plcli.errors import ModelError, UsageError
from plcli.runs import artefact, metric_names, metrics_file
from plcli.runs.folder import Run, check_local, flat
from plcli.runs.reporting import forms

ANALYSIS = "analysis.json"
MOST_LINES = 200_000  # of metrics.csv that are read
SPLIT_LINE = re.compile(r"^\S+ \S+ (INFO|WARNING) ((train|validation|test): \d+ rows.*)$")
TRAINED_LINE = re.compile(r"^\S+ \S+ INFO (training [\d,]+ parameters .*)$")
WARNING_LINE = re.compile(r"^\S+ \S+ WARNING (?:warning: )?(.*)$")


@dataclass(frozen=True, eq=False)
class Contents:
    """The files of a run.

    Attributes:
        run: the run.
        name: its name.
        card: the content of plcli.json; empty for a run that is not finished.
        config: the resolved config.
        metrics: the content of metrics.json, or the metrics of the card.
        steps: the lines of metrics.csv until the end of the training, each a number by name.
        environment: the content of environment.json.
        analysis: the content of analysis.json; empty without it.
        others: those of other files than the run's test split, by the name of the file.
        described: what train.log says of each split, and of the training.
        warnings: the warnings in train.log.
    """

    run: Run
    name: str
    card: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, float]] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    analysis: dict[str, Any] = field(default_factory=dict)
    others: dict[str, dict[str, Any]] = field(default_factory=dict)
    described: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def split(self) -> str | None:
        """The split that the report is about: test, or validation without one."""
        return next((name for name in ("test", "validation") if self.metrics.get(name)), None)

    @property
    def scores(self) -> dict[str, Any]:
        """The metrics of that split."""
        return dict(self.metrics.get(self.split or "") or {})

    @property
    def monitor(self) -> str | None:
        """The metric that chose the best epoch, without its stage."""
        name = (self.metrics.get("fit") or {}).get("monitor")
        return None if name is None else metric_names.without_stage(str(name), "validation")

    @property
    def plain(self) -> dict[str, Any]:
        """The keys of the config that are set, by their dotted names."""
        return {key: value for key, value in flat(self.config) if value is not None}


def read(run: Run) -> Contents:
    """Read the files of a run.

    Raises:
        ModelError: if one is damaged.
    """
    folder = run.folder
    card = _json(run.model / artefact.CARD) if run.finished else {}
    metrics = metrics_file.read(run) or dict(card.get("metrics") or {})
    if not metrics and card.get("metrics"):
        metrics = dict(card["metrics"])
    described, warnings = _log(folder / "train.log")
    others = {
        path.name: _json(path) for path in sorted(folder.glob("analysis-*.json")) if path.is_file()
    }
    if metrics and (folder / metrics_file.NAME).is_file():
        _check(folder / metrics_file.NAME, metrics)
    config = load_yaml(run.config) if run.config.is_file() else {}
    return Contents(
        run,
        name=folder.resolve().name,
        card=card,
        config=dict(secrets.hide(config)),
        metrics=metrics,
        steps=_steps(folder / "metrics.csv", (metrics.get("fit") or {}).get("steps")),
        environment=_json(folder / "environment.json"),
        analysis=_json(folder / ANALYSIS),
        others=others,
        described=described,
        warnings=warnings,
    )


def check_output(option: str, given: str) -> None:
    """Check that a page can be written to a path.

    Args:
        option: the option that names it.
        given: the path.

    Raises:
        UsageError: if its folder does not exist, or it is a folder or no .html file.
    """
    check_local(option, given)
    path = Path(given)
    if path.is_dir():
        raise UsageError(f"{option} {given}: is a folder. Name a file, such as {path}/report.html.")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{option} {given}: expected a file that ends with .html.")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {given}: there is no folder {path.parent}. Make it first.")


def _json(path: Path) -> dict[str, Any]:
    """Return the mapping in a file; empty without the file.

    Raises:
        ModelError: if it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    _check(path, found)
    return dict(found)


def _check(path: Path, found: Any) -> None:
    """Check that a file has the form that plcli writes.

    Raises:
        ModelError: if it does not.
    """
    form = next((form for name, form in forms.BY_FILE.items() if path.name == name), None)
    if form is None:
        form = forms.ANALYSIS if path.name.startswith("analysis-") else {}
    if reason := forms.wrong(found, form):
        raise _damaged(path, reason)


def _damaged(path: Path, reason: str) -> ModelError:
    return ModelError(
        f"{path}: is damaged ({reason[:200]}). Restore it from a copy, or remove it to have a "
        "report without it; `plcli test --run RUN` writes an analysis.json again."
    )


def _steps(path: Path, count: int | None) -> list[dict[str, float]]:
    """Return the lines of metrics.csv; cells that are no numbers are left out.

    Args:
        path: the file.
        count: number of steps of the training, after which the best weights are scored again, with
            the thresholds that were chosen then; None if it is not known.
    """
    if not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="", errors="replace") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        found = [
            {
                name: value
                for name, cell in zip(names, line, strict=False)
                if cell and (value := _number(cell)) is not None
            }
            for line in itertools.islice(lines, MOST_LINES)
        ]
    return [line for line in found if not count or line.get("step", 0) < count]


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _log(path: Path) -> tuple[dict[str, str], list[str]]:
    """Return what a log says last of each split and of the training, and its warnings."""
    described: dict[str, str] = {}
    warnings: dict[str, None] = {}
    if path.is_file():
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                if found := SPLIT_LINE.match(line):
                    described[found[3]] = found[2].partition(": ")[2]
                elif found := TRAINED_LINE.match(line):
                    described["training"] = found[1]
                elif found := WARNING_LINE.match(line):
                    warnings[found[1]] = None
    return described, list(warnings)
