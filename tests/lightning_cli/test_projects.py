"""Small LightningCLI projects, each run by LightningCLI itself and by plcli: the same numbers.

A project is a config in projects/ with classes in projects/lab/. Nothing in it is for plcli.
"""

import csv
import importlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.killed_fits import fork
from tests.lightning_cli import reference
from tests.lightning_cli.reference import Numbers

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning says to users' projects
PROJECTS = Path(__file__).parent / "projects"


def lab(path: str) -> Callable[[], Any]:
    """Return a function that imports a class of the projects."""
    module, _, name = path.rpartition(".")
    return lambda: getattr(importlib.import_module(f"lab.{module}"), name)


class Project(NamedTuple):
    """What differs from `main.py fit -c NAME.yaml` and `plcli fit -c NAME.yaml`.

    Attributes:
        main: the arguments of LightningCLI in its main.py.
        cli: its class.
        words: more words for plcli.
        last_validation: whether plcli validates once more, after the last step.
    """

    main: dict[str, Any] = {}
    cli: type[reference.NotedCLI] = reference.NotedCLI
    words: tuple[str, ...] = ()
    last_validation: bool = False


OMEGACONF = {"parser_mode": "omegaconf", "fit": {"parser_mode": "omegaconf"}}
DIFFERENT = {
    "bound_classes": Project(
        main={
            "model_class": lab("modules.Classifier"),
            "datamodule_class": lab("data.Points"),
        },
        words=("--model", "lab.modules.Classifier", "--data", "lab.data.Points"),
    ),
    "interpolation": Project(
        main={"parser_kwargs": lambda: OMEGACONF},
        words=("--parser_mode", "omegaconf"),
    ),
    "linked_argument": Project(cli=reference.LinkedCLI),
    "max_steps": Project(last_validation=True),
}
NAMES = sorted(path.stem for path in PROJECTS.glob("*.yaml"))


def copied(folder: Path) -> Path:
    """Copy all projects into a folder of their own."""
    return Path(shutil.copytree(PROJECTS, folder))


def logged_by_plcli(run: Path) -> Numbers:
    """Read metrics.csv, without the scores of the test split at the end of a fit."""
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        lines = [
            {name: float(value) for name, value in line.items() if value}
            for line in csv.DictReader(file)
        ]
    if any(name.startswith("test") for name in lines[-1]):
        lines[-1] = {
            name: value for name, value in lines[-1].items() if not name.startswith("test")
        }
    for line in lines:
        line.pop("lr", None)  # LightningCLI does not write it
        line["epoch"] -= 1  # and counts from 0
    numbers = {int(line.pop("step")): line for line in lines}
    return {step: line for step, line in numbers.items() if line.keys() - {"epoch"}}


@pytest.fixture(scope="session")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Numbers, Numbers]]:
    """Return what LightningCLI and plcli log for a project."""

    def both(name: str) -> tuple[Numbers, Numbers]:
        project = DIFFERENT.get(name, Project())
        folder = tmp_path_factory.mktemp(name)
        config = f"{name}.yaml"
        theirs = copied(folder / "theirs")
        expected = reference.run(theirs, ["fit", "-c", config], project.cli, **project.main)
        ours = copied(folder / "ours")
        words = ("--allow-import", "lab", "--run", "run", *project.words)
        ended = fork("fit", "-c", config, *words, folder=ours)
        assert ended.code == 0, ended.said
        return expected, logged_by_plcli(ours / "run")

    return both


@pytest.mark.parametrize("name", NAMES)
def test_a_project_logs_the_numbers_that_it_logs_with_lightning_cli(
    logged: Callable[[str], tuple[Numbers, Numbers]], name: str
) -> None:
    expected, found = logged(name)
    if DIFFERENT.get(name, Project()).last_validation:
        last = found[max(found)]
        validated = {key: last.pop(key) for key in list(last) if key.startswith("val")}
        assert validated
    assert found == expected
