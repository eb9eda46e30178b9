"""Shared pieces: the command run in this process, small data files, tiny random models."""

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from plcli.__main__ import main

ROOT = Path(__file__).resolve().parent.parent
os.environ["HF_HUB_OFFLINE"] = "1"

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


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLCLI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def plcli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
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


@pytest.fixture
def text_config(tmp_path: Path) -> Path:
    """A config that trains a tiny classifier from random weights, one epoch on 24 rows."""
    write_rows(tmp_path / "train.jsonl", message_rows(2))
    write_rows(tmp_path / "test.jsonl", message_rows(1))
    return write_config(
        tmp_path / "text.yaml",
        model={
            "class_path": "plcli.tasks.text_classification.TextClassifier",
            "init_args": {"architecture": TINY_BERT},
        },
        data={
            "class_path": "plcli.tasks.text_classification.TextClassificationData",
            "init_args": {
                "train": str(tmp_path / "train.jsonl"),
                "validation": str(tmp_path / "test.jsonl"),
                "test": str(tmp_path / "test.jsonl"),
                "text": "message",
                "label": "intent",
                "batch_size": 8,
            },
        },
        trainer={"max_epochs": 1, "accelerator": "cpu"},
    )


@pytest.fixture
def linear_config(tmp_path: Path) -> Path:
    """A config of a linear regression on 40 rows of y = 2 a - b + 5, two epochs."""
    rows = [{"a": i % 7, "b": (i * 3) % 11, "y": 2 * (i % 7) - (i * 3) % 11 + 5} for i in range(40)]
    write_rows(tmp_path / "table.csv", rows)
    return write_config(
        tmp_path / "table.yaml",
        model={"class_path": "plcli.tasks.linear_regression.SimpleLinearModel"},
        data={
            "class_path": "plcli.tasks.linear_regression.TableData",
            "init_args": {
                "train": str(tmp_path / "table.csv"),
                "test": str(tmp_path / "table.csv"),
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
