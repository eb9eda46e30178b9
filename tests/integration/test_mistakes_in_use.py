"""A run that is used wrongly or is damaged, and folders that cannot be written, are told."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import Command, FinishedRun, message

LINEAR = "plcli.tasks.linear_regression"
TEXT = "plcli.tasks.text_classification"


# using a run: the command, words after `--run run`, the exit code and what is said


USES = {
    "a checkpoint that is not there": (
        ("test", "--ckpt_path", "nowhere.ckpt"),
        4,
        "nowhere.ckpt: no such checkpoint. Use --ckpt_path with best, last or a file.",
    ),
    "other labels": (
        ("test", "--data.labels", "[a, b]"),
        2,
        "data.labels: got ['a', 'b'], but the weights of run require "
        "['billing', 'delivery', 'praise']. Remove the key.",
    ),
    "other labels of the model": (
        ("predict", "--model.labels", "[a, b]", "where"),
        2,
        "model.labels: got ['a', 'b'], but the weights of run require "
        "['billing', 'delivery', 'praise']. Remove the key.",
    ),
    "another model class": (
        ("test", "--model", "SimpleLinearModel"),
        2,
        f"model.class_path: got {LINEAR}.SimpleLinearModel, but the weights of run were "
        f"trained with {TEXT}.TextClassifier. Remove the key, or train another run.",
    ),
    "another architecture": (
        ("test", "--model.architecture.hidden_size", "64"),
        2,
        "model.init_args.architecture.hidden_size: got 64, but the weights of run were trained "
        "with 32. Remove the key, or train another run.",
    ),
    "data of another task": (
        ("test", "--data", "TableData"),
        2,
        "TextClassifier is for text-classification, but TableData provides data for "
        f"linear-regression. Use data.class_path {TEXT}.TextClassificationData.",
    ),
    "an input and a text": (
        ("predict", "--input", "new.csv", "where"),
        2,
        "--input new.csv and the text 'where' are both given; give one of them.",
    ),
    "an input that is not there": (
        ("predict", "--input", "nowhere.csv"),
        3,
        "nowhere.csv: no such file. Check the path.",
    ),
    "an output of an unknown ending": (
        ("predict", "where", "--output", "out.txt"),
        2,
        "--output out.txt: the extension '.txt' is not one of .csv, .jsonl, .parquet.",
    ),
    "an output that exists": (
        ("predict", "where", "--output", "taken.csv"),
        2,
        "--output taken.csv: already exists. Remove it or name another file.",
    ),
    "an output that cannot be written": (
        ("predict", "where", "--output", "/proc/out.csv"),
        5,
        "--output /proc/out.csv: cannot be written (No such file or directory). "
        "Name a file in another folder.",
    ),
    "a misspelt key": (
        ("test", "--data.tests", "x.csv"),
        2,
        "unknown key '--data.tests'. Did you mean 'test'?",
    ),
}


@pytest.mark.parametrize("mistake", USES)
def test_a_wrong_use_of_a_run_is_told_in_one_message(
    plcli: Command, text_run: FinishedRun, mistake: str
) -> None:
    Path("run").symlink_to(text_run.folder)
    Path("taken.csv").touch()
    (command, *words), code, said = USES[mistake]
    result = plcli(command, "--run", "run", *words)
    assert (result.code, message(result)) == (code, f"plcli: {said}\n")


def test_pretrained_weights_for_a_run_that_was_trained_without_are_refused(
    plcli: Command, text_run: FinishedRun
) -> None:
    result = plcli("test", "--run", text_run.folder, "--model.pretrained", "bert-base-uncased")
    assert result.code == 2


def test_other_pretrained_weights_than_those_of_the_run_are_refused(
    plcli: Command, text_run: FinishedRun, text_config: Path
) -> None:
    start = str(text_run.folder / "model")
    words = ["--model.architecture", "null", "--model.pretrained", start, "--run", "tuned"]
    plcli("fit", "-c", text_config, *words)
    result = plcli("test", "--run", "tuned", "--model.pretrained", "bert-base-uncased")
    assert (result.code, message(result)) == (
        2,
        "plcli: model.init_args.pretrained: got bert-base-uncased, but the weights of "
        f"tuned were trained with {start}. Remove the key, or train another run.\n",
    )


# folders that cannot be written


def test_a_run_folder_that_is_a_file_is_told(plcli: Command, linear_config: Path) -> None:
    assert plcli("fit", "-c", linear_config, "--run", "table.csv").code in (2, 5)


def test_a_run_folder_that_cannot_be_made_is_told(plcli: Command, linear_config: Path) -> None:
    assert plcli("fit", "-c", linear_config, "--run", "/proc/run").code == 5


def test_a_cache_that_cannot_be_written_is_told(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLCLI_CACHE", str(linear_config / "cache"))
    result = plcli("fit", "-c", linear_config)
    assert result.code == 5
    assert "Set PLCLI_CACHE to a writable folder." in message(result)


# damaged artefacts and checkpoints


@pytest.fixture
def damaged(linear_run: FinishedRun) -> Path:
    """A copy of a run to damage."""
    return linear_run.copy("run")


def test_altered_weights_are_refused(plcli: Command, damaged: Path) -> None:
    weights = damaged / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    result = plcli("test", "--run", "run")
    assert (result.code, message(result)) == (
        4,
        "plcli: run/model/model.safetensors: has changed since it was written "
        "(its sha256 differs). Copy the folder again; a model that was changed on purpose is used "
        "with --model.pretrained.\n",
    )


def test_weights_that_are_gone_are_told(plcli: Command, damaged: Path) -> None:
    (damaged / "model" / "model.safetensors").unlink()
    result = plcli("test", "--run", "run")
    assert (result.code, message(result)) == (
        4,
        "plcli: run/model: contains no model.safetensors. Copy the complete folder again.\n",
    )


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", '{"sha256": 3}'])
def test_a_damaged_card_is_told(plcli: Command, damaged: Path, content: str) -> None:
    (damaged / "model" / "plcli.json").write_text(content)
    result = plcli("test", "--run", "run")
    assert result.code == 4


@pytest.mark.parametrize("key", ["facts", "model"])
def test_a_card_without_a_key_is_told(plcli: Command, damaged: Path, key: str) -> None:
    card = damaged / "model" / "plcli.json"
    values = json.loads(card.read_text())
    del values[key]
    card.write_text(json.dumps(values))
    shutil.move(damaged / "model", "model")
    result = plcli("predict", "--run", "model", '{"a": 1, "b": 2}')
    assert result.code == 4


def test_a_damaged_checkpoint_is_refused(plcli: Command, damaged: Path) -> None:
    last = damaged / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    result = plcli("test", "--run", "run", "--ckpt_path", "last")
    assert result.code == 4
    assert message(result).startswith(
        "plcli: run/checkpoints/last.ckpt: cannot be loaded as a checkpoint ("
    )


def test_a_file_that_is_no_checkpoint_is_refused(
    plcli: Command, damaged: Path, linear_config: Path
) -> None:
    result = plcli("test", "--run", "run", "--ckpt_path", linear_config)
    assert result.code == 4


def test_a_checkpoint_of_another_model_is_refused(
    plcli: Command, damaged: Path, text_run: FinishedRun
) -> None:
    other = text_run.folder / "checkpoints" / "last.ckpt"
    result = plcli("test", "--run", "run", "--ckpt_path", other)
    assert result.code == 4
    assert message(result).startswith(f"plcli: {other}: does not fit SimpleLinearModel: ")


def test_a_message_on_a_checkpoint_of_another_model_is_short(
    plcli: Command, damaged: Path, text_run: FinishedRun
) -> None:
    other = text_run.folder / "checkpoints" / "last.ckpt"
    assert len(message(plcli("test", "--run", "run", "--ckpt_path", other))) < 600


def test_a_damaged_config_of_a_run_is_told(plcli: Command, damaged: Path) -> None:
    (damaged / "config.yaml").write_text("[")
    result = plcli("test", "--run", "run")
    assert result.code == 2
    assert message(result).startswith("plcli: run/config.yaml, line 1: is not YAML")
