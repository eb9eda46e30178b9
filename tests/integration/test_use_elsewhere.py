"""A run that was moved, and a model folder alone, are used as before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from plcli.tasks.linear_regression import SimpleLinearModel
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import Command, FinishedRun, message, message_rows, metric, number, write_rows
from tests.running import read_rows

ROW = '{"a": 1, "b": 2}'


# from anywhere


@pytest.fixture
def moved(plcli: Command, linear_config: Path) -> Path:
    """A run whose training data was moved away, with another folder as the working one."""
    assert plcli("fit", "-c", linear_config, "--run", "here").code == 0
    Path("table.csv").rename("moved.csv")
    return Path("here").absolute()


def test_a_run_is_used_from_another_folder(
    plcli: Command, linear_run: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = plcli("test", "--run", linear_run.folder)
    assert number(result, "rmse") == metric(linear_run.folder, "test", "rmse")


def test_a_run_whose_relative_data_was_typed_is_used_from_another_folder(
    plcli: Command, linear_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--data.train", "table.csv", "--data.test", "table.csv", "--run", "here"]
    plcli("fit", "-c", linear_config, *words)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert plcli("test", "--run", "../here").code == 0


def test_a_run_predicts_without_its_training_data(plcli: Command, moved: Path) -> None:
    assert plcli("predict", "--run", moved, ROW).code == 0


def test_a_run_is_tested_on_a_file_without_its_training_data(plcli: Command, moved: Path) -> None:
    result = plcli("test", "--run", moved, "--data.test", "moved.csv")
    assert number(result, "rmse") == metric(moved, "test", "rmse")


def test_a_run_is_validated_on_a_file_without_its_training_data(
    plcli: Command, moved: Path
) -> None:
    assert plcli("validate", "--run", moved, "--data.validation", "moved.csv").code == 0


def test_a_test_file_that_was_moved_away_is_told(plcli: Command, moved: Path) -> None:
    result = plcli("test", "--run", moved)
    assert (result.code, str(Path("table.csv").absolute()) in message(result)) == (3, True)


def test_a_classifier_predicts_without_its_training_data(plcli: Command, text_config: Path) -> None:
    plcli("fit", "-c", text_config, "--run", "here")
    Path("train.jsonl").unlink()
    assert plcli("predict", "--run", "here", "where is my parcel").code == 0


def test_the_labels_of_other_test_data_change_no_label_of_the_model(
    plcli: Command, text_run: FinishedRun
) -> None:
    rows = [row for row in message_rows() if row["intent"] == "praise"]
    write_rows(Path("praise.jsonl"), rows)
    result = plcli("test", "--run", text_run.folder, "--data.test", "praise.jsonl")
    assert result.code == 0


def test_a_label_that_the_model_does_not_know_is_told(
    plcli: Command, text_run: FinishedRun
) -> None:
    write_rows(Path("new.jsonl"), [{"message": "hello", "intent": "prais"}])
    result = plcli("test", "--run", text_run.folder, "--data.test", "new.jsonl")
    assert (result.code, message(result)) == (
        3,
        "plcli: new.jsonl, row 1: label 'prais' is not one of billing, delivery, praise. "
        "Did you mean 'praise'?\n",
    )


# the model folder alone


def test_a_model_folder_predicts_as_its_run_does(
    plcli: Command, linear_run: FinishedRun, linear_model: Path
) -> None:
    alone, run = (
        plcli("predict", "--run", folder, ROW).out for folder in (linear_model, linear_run.folder)
    )
    assert alone == run


def test_a_model_folder_of_a_classifier_predicts_as_its_run_does(
    plcli: Command, text_run: FinishedRun, text_model: Path
) -> None:
    alone, run = (
        plcli("predict", "--run", folder, "where is my parcel").out
        for folder in (text_model, text_run.folder)
    )
    assert alone == run


def test_a_model_folder_is_tested_on_a_file(
    plcli: Command, linear_run: FinishedRun, linear_model: Path
) -> None:
    table = linear_run.config.with_name("table.csv")
    result = plcli("test", "--run", linear_model, "--data.test", table)
    assert number(result, "rmse") == metric(linear_run.folder, "test", "rmse")


def test_a_model_folder_of_a_classifier_is_tested_on_a_file(
    plcli: Command, text_run: FinishedRun, text_model: Path
) -> None:
    rows = text_run.config.with_name("test.jsonl")
    result = plcli("test", "--run", text_model, "--data.test", rows)
    assert number(result, "loss") == metric(text_run.folder, "test", "loss")


def test_a_model_folder_that_stands_in_its_run_is_tested_as_the_run(
    plcli: Command, linear_run: FinishedRun
) -> None:
    result = plcli("test", "--run", linear_run.folder / "model")
    assert number(result, "rmse") == metric(linear_run.folder, "test", "rmse")


def test_a_model_folder_without_a_test_file_says_how_to_name_one(
    plcli: Command, linear_model: Path
) -> None:
    result = plcli("test", "--run", linear_model)
    assert (result.code, message(result)) == (
        2,
        "plcli: data.test is not given. Name a file: --data.test FILE.\n",
    )


def test_a_model_folder_has_no_last_checkpoint(plcli: Command, linear_model: Path) -> None:
    assert plcli("test", "--run", linear_model, "--ckpt_path", "last").code == 4


def test_a_model_folder_without_anything_to_predict_says_so(
    plcli: Command, linear_model: Path
) -> None:
    result = plcli("predict", "--run", linear_model)
    assert (result.code, message(result)) == (
        2,
        "plcli: nothing to predict. Give --input FILE, --input - or a text.\n",
    )


def test_a_read_only_model_folder_predicts_a_text(plcli: Command, text_model: Path) -> None:
    text_model.chmod(0o555)
    assert plcli("predict", "--run", text_model, "where is it").code == 0


# in other tools


def weights_of(run: FinishedRun) -> dict[str, torch.Tensor]:
    path = run.folder / "checkpoints" / "best.ckpt"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


@pytest.mark.parametrize(
    ("fixture", "cls"), [("text_run", TextClassifier), ("linear_run", SimpleLinearModel)]
)
def test_lightning_loads_a_checkpoint_of_a_task(
    request: pytest.FixtureRequest, fixture: str, cls: Any
) -> None:
    run: FinishedRun = request.getfixturevalue(fixture)
    module = cls.load_from_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    expected = weights_of(run)
    assert all(torch.equal(value, expected[key]) for key, value in module.state_dict().items())


def test_a_loaded_classifier_knows_its_labels(text_run: FinishedRun) -> None:
    path = text_run.folder / "checkpoints" / "best.ckpt"
    module = TextClassifier.load_from_checkpoint(path)
    assert module.labels == ["billing", "delivery", "praise"]


def test_a_regression_has_the_same_numbers_in_a_cross_encoder(
    plcli: Command, text_config: Path
) -> None:
    from sentence_transformers import CrossEncoder

    rows = [
        {"a": row["message"], "b": "late parcel", "y": 2.0 + n % 3}
        for n, row in enumerate(message_rows())
    ]
    path = write_rows(Path("pairs.jsonl"), rows)
    words = ["--data.train", path, "--data.validation", path, "--data.test", "null"]
    words += ["--data.text", "[a, b]", "--data.label", "y", "--data.problem", "regression"]
    assert plcli("fit", "-c", text_config, "--run", "here", *words).code == 0
    plcli("predict", "--run", "here", "--input", path, "--output", "out.jsonl")
    expected = [row["score"] for row in read_rows(Path("out.jsonl"))]
    scores = CrossEncoder("here/model").predict([(row["a"], row["b"]) for row in rows])
    assert scores.tolist() == pytest.approx(expected, abs=1e-5)
