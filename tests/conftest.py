"""Shared pieces: the command run in this process, small data files, tiny random models."""

import csv
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from plcli.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tiny models; threads of several workers would wait
os.fsync = lambda handle: None  # forty waits a fit; a process that is killed loses nothing without

MESSAGES = {
    "billing": [
        "the invoice is wrong",
        "you charged me twice",
        "wrong amount on the invoice",
        "charged too much money",
    ],
    "delivery": [
        "where is my parcel",
        "the parcel is late",
        "my parcel never came",
        "late again where is it",
    ],
    "praise": [
        "thank you very much",
        "great service thank you",
        "what a great shop",
        "very happy thank you",
    ],
}


@dataclass
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]  # what the fixture plcli is
Resolved = Callable[..., dict[str, Any]]  # what the fixture resolved is


@pytest.fixture(autouse=True)
def _on_a_machine_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be said of bf16, whatever the machine is."""
    monkeypatch.setattr("plcli.training.hardware.time_of_bf16", lambda: 1.0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLCLI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PLCLI_RUN", raising=False)  # what a fit of a failed test may have left


@pytest.fixture
def plcli(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `plcli WORDS...` in this process.

    SystemExit (such as --print_config's) gives its code.
    """

    def run(*words: object) -> Result:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def resolved(plcli: Command) -> Resolved:
    """Return the config that `plcli COMMAND WORDS... --print_config` prints."""

    def resolve(*words: object, command: str = "fit") -> dict[str, Any]:
        result = plcli(command, *words, "--print_config")
        assert result.code == 0, result.err
        values: dict[str, Any] = yaml.safe_load(result.out)
        return values

    return resolve


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows as .jsonl or .csv, by the ending."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        if path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def message_rows(times: int = 1) -> list[dict[str, str]]:
    """Rows with the columns message and intent, each message so many times with a number added."""
    return [
        {"message": f"{text} {number}" if number else text, "intent": intent}
        for number in range(times)
        for intent, texts in MESSAGES.items()
        for text in texts
    ]


TINY_BERT = {
    "model_type": "bert",
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
}


def write_text_config(folder: Path) -> Path:
    """Write a config that trains a tiny classifier from random weights, one epoch on 24 rows."""
    write_rows(folder / "train.jsonl", message_rows(2))
    write_rows(folder / "test.jsonl", message_rows(1))
    return write_config(
        folder / "text.yaml",
        model={
            "class_path": "plcli.tasks.text_classification.TextClassifier",
            "init_args": {"architecture": TINY_BERT},
        },
        data={
            "class_path": "plcli.tasks.text_classification.TextClassificationData",
            "init_args": {
                "train": str(folder / "train.jsonl"),
                "validation": str(folder / "test.jsonl"),
                "test": str(folder / "test.jsonl"),
                "text": "message",
                "label": "intent",
                "batch_size": 8,
            },
        },
        trainer={"max_epochs": 1, "accelerator": "cpu"},
    )


def table_rows() -> list[dict[str, int]]:
    """Forty rows of y = 2 a - b + 5."""
    return [{"a": i % 7, "b": (i * 3) % 11, "y": 2 * (i % 7) - (i * 3) % 11 + 5} for i in range(40)]


def write_linear_config(folder: Path) -> Path:
    """Write a config of a linear regression on 40 rows of y = 2 a - b + 5, two epochs."""
    write_rows(folder / "table.csv", table_rows())
    return write_config(
        folder / "table.yaml",
        model={"class_path": "plcli.tasks.linear_regression.SimpleLinearModel"},
        data={
            "class_path": "plcli.tasks.linear_regression.TableData",
            "init_args": {
                "train": str(folder / "table.csv"),
                "test": str(folder / "table.csv"),
                "features": ["a", "b"],
                "target": "y",
            },
        },
        trainer={"max_epochs": 2, "accelerator": "cpu"},
    )


def write_config(path: Path, **sections: Any) -> Path:
    """Write a config file."""
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return path


@pytest.fixture
def text_config(tmp_path: Path) -> Path:
    """A config that trains a tiny classifier from random weights, one epoch on 24 rows."""
    return write_text_config(tmp_path)


@pytest.fixture
def linear_config(tmp_path: Path) -> Path:
    """A config of a linear regression on 40 rows of y = 2 a - b + 5, two epochs."""
    return write_linear_config(tmp_path)


@dataclass(frozen=True)
class FinishedRun:
    """A run that tests share, and its config; a test that changes it takes a copy."""

    config: Path
    folder: Path

    def copy(self, folder: str | Path) -> Path:
        """Copy the run folder."""
        return Path(shutil.copytree(self.folder, folder))


def fit_once(config: Path, *words: str) -> FinishedRun:
    """Fit a config into a folder beside it."""
    folder = config.parent / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(config.parent)
        patch.setenv("PLCLI_CACHE", str(config.parent / "cache"))
        assert main(["fit", "-c", str(config), "--run", str(folder), *words]) == 0
    return FinishedRun(config, folder)


@pytest.fixture(scope="session")
def linear_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A finished run of the linear config."""
    return fit_once(write_linear_config(tmp_path_factory.mktemp("linear")))


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A finished run of the text config."""
    return fit_once(write_text_config(tmp_path_factory.mktemp("text")))


@pytest.fixture
def linear_model(linear_run: FinishedRun) -> Path:
    """The model/ folder of a run, copied away."""
    return Path(shutil.copytree(linear_run.folder / "model", "model"))


def signed(model: Path) -> Path:
    """Write the sums of a changed model/ folder anew, as one who forges it would."""
    card = json.loads((model / "plcli.json").read_text())
    weights = {"plcli.json", "model.safetensors", "adapter_model.safetensors"}
    card["files"] = {
        str(path.relative_to(model)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in model.rglob("*")
        if path.is_file() and path.name not in weights
    }
    card.pop("card_sha256", None)  # an older card has none
    (model / "plcli.json").write_text(json.dumps(card))
    return model


@pytest.fixture
def text_model(text_run: FinishedRun) -> Path:
    """The model/ folder of a classifier, copied away."""
    return Path(shutil.copytree(text_run.folder / "model", "model"))


def message(result: Result) -> str:
    """Return what a command said on standard error, without log lines and bars."""
    return re.sub(r"^(\d\d:\d\d:\d\d .*|\r.*\n)\n?", "", result.err, flags=re.MULTILINE)


def number(result: Result, name: str) -> float:
    """Return a metric of the last split in the table that a command printed."""
    lines = result.out.splitlines()
    columns = [cell.strip() for cell in re.split("[┃│]", next(x for x in lines if " metric " in x))]
    last = max(index for index, name in enumerate(columns) if name in ("validation", "test"))
    line = next(line for line in lines if f" {name} " in line)
    return float(line.split("│")[last])


def metric(run: Path, split: str, name: str) -> float:
    """Return a number of a run's metrics.json as it is printed."""
    value: float = json.loads((run / "metrics.json").read_text())[split][name]
    return round(value, 4)


def printed_rows(result: Result) -> list[dict[str, Any]]:
    """Return the JSON lines that predict printed."""
    return [json.loads(line) for line in result.out.splitlines()]
