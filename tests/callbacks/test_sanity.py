"""What is tried before the first epoch, and that nothing is left of it."""

from pathlib import Path

import pytest
import torch

from plcli.callbacks.sanity import Rehearsal
from plcli.runs.artefact import sha256
from plcli.tasks.linear_regression import SimpleLinearModel
from tests.conftest import Command, message, message_rows, write_rows
from tests.running import read_metrics

STOP = "lightning.pytorch.callbacks.EarlyStopping"


def watching(monitor: str) -> list[str]:
    """The words for a callback that watches a metric."""
    return ["--trainer.callbacks", f"[{{class_path: {STOP}, init_args: {{monitor: {monitor}}}}}]"]


@pytest.mark.parametrize("monitor", ["val_rmsee", "train_los"])
def test_a_monitor_that_is_not_logged_is_told_before_training(
    plcli: Command, linear_config: Path, monitor: str
) -> None:
    result = plcli("fit", "-c", linear_config, "--run", "here", *watching(monitor))
    said = f"trainer.callbacks: the monitored metric '{monitor}' is not logged."
    assert (result.code, said in message(result), "epoch 1" in result.err) == (2, True, False)


@pytest.mark.parametrize("monitor", ["val_rmse", "train_loss"])
def test_a_monitor_that_is_logged_is_found(
    plcli: Command, linear_config: Path, monitor: str
) -> None:
    result = plcli("fit", "-c", linear_config, "--run", "here", *watching(monitor))
    assert result.code == 0, result.err


def test_a_test_split_that_cannot_be_scored_is_told_before_training(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: SimpleLinearModel, batch: object, batch_idx: int) -> None:
        raise ZeroDivisionError("the test step")

    monkeypatch.setattr(SimpleLinearModel, "test_step", broken)
    result = plcli("fit", "-c", linear_config, "--run", "here")
    assert "ZeroDivisionError: the test step" in result.err
    assert not Path("here/checkpoints/last.ckpt").exists()


@pytest.mark.parametrize("config", ["linear_config", "text_config"])
def test_a_rehearsal_leaves_no_trace(
    plcli: Command, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, config: str
) -> None:
    path = request.getfixturevalue(config)
    plcli("fit", "-c", path, "--run", "with", *watching("train_loss"))
    monkeypatch.setattr(Rehearsal, "on_train_start", lambda *arguments: None)
    plcli("fit", "-c", path, "--run", "without", *watching("train_loss"))
    weights = [sha256(Path(run, "model/model.safetensors")) for run in ("with", "without")]
    assert weights[0] == weights[1]
    assert read_metrics(Path("with")) == read_metrics(Path("without"))


def test_a_test_split_of_one_row_is_scored(plcli: Command, linear_config: Path) -> None:
    write_rows(Path("one.csv"), [{"a": 1, "b": 2, "y": 3}])
    result = plcli("fit", "-c", linear_config, "--data.test", "one.csv", "--run", "here")
    assert result.code == 0


def test_a_rehearsal_keeps_the_modes_of_modules(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    step = SimpleLinearModel.training_step

    def noting(self: SimpleLinearModel, batch: object, batch_idx: int) -> torch.Tensor:
        modes.append(self.layer.training)
        return step(self, batch, batch_idx)  # type: ignore[arg-type]

    monkeypatch.setattr(SimpleLinearModel, "training_step", noting)
    plcli("fit", "-c", linear_config, "--run", "here")
    assert set(modes) == {True}


def test_a_leak_is_told_with_its_count(plcli: Command, text_config: Path) -> None:
    said = plcli("fit", "-c", text_config, "--run", "here").err
    assert "validation: 12 of 12 rows are also in the training split" in said


def test_no_leak_is_told_where_there_is_none(plcli: Command, text_config: Path) -> None:
    changed = [{**row, "message": f"{row['message']}, new"} for row in message_rows(1)]
    write_rows(Path("new.jsonl"), changed)
    words = ["--data.test", "new.jsonl", "--data.validation", "new.jsonl", "--run", "here"]
    assert "also in the training split" not in plcli("fit", "-c", text_config, *words).err


def test_empty_texts_are_counted(plcli: Command, text_config: Path) -> None:
    rows_with_gaps = [{"message": "", "intent": "billing"}, *message_rows(1)]
    write_rows(Path("gaps.jsonl"), rows_with_gaps)
    said = plcli("fit", "-c", text_config, "--data.train", "gaps.jsonl", "--run", "here").err
    assert "train: 13 rows, 1 with an empty text (data.empty_text)" in said


@pytest.mark.parametrize(("command", "key"), [("fit", "--data.test"), ("predict", "--input")])
def test_empty_texts_are_refused_where_that_is_asked_for(
    plcli: Command, text_config: Path, text_run: object, command: str, key: str
) -> None:
    write_rows(Path("gaps.jsonl"), [*message_rows(1), {"message": " ", "intent": "billing"}])
    started = ("-c", text_config) if command == "fit" else ("--run", text_run.folder)  # type: ignore[attr-defined]
    words = ("--output", "out.csv") if command == "predict" else ()
    result = plcli(command, *started, key, "gaps.jsonl", "--data.empty_text", "refuse", *words)
    assert (result.code, message(result)) == (
        3,
        "plcli: gaps.jsonl, row 13: column 'message' is empty, as in 1 rows in all. "
        "Fill in or remove them, or set data.empty_text: keep.\n",
    )
    assert not list(Path().glob("out.csv*"))


def test_a_file_in_another_encoding_is_trained_on(plcli: Command, text_config: Path) -> None:
    text = "message,intent\n" + "".join(f"café {i},{'ab'[i % 2]}\n" for i in range(8))
    Path("latin.csv").write_bytes(text.encode("cp1252"))
    words = ["--data.train", "latin.csv", "--data.validation", "latin.csv", "--data.test", "null"]
    result = plcli("fit", "-c", text_config, *words, "--data.encoding", "cp1252", "--run", "here")
    assert result.code == 0, result.err
