"""validate, test and predict: which weights they take, where those may stand, what is written."""

import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import yaml

from tests.conftest import (
    FinishedRun,
    Result,
    fit_once,
    message,
    message_rows,
    number,
    write_config,
    write_linear_config,
    write_rows,
)

Command = Callable[..., Result]
ROW = '{"a": 1, "b": 2}'


@pytest.fixture(scope="module")
def worst_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run whose best epoch is its first, as the largest error is called the best."""
    config = write_linear_config(tmp_path_factory.mktemp("worst"))
    return fit_once(config, "--checkpoint.monitor", "val_rmse", "--checkpoint.mode", "max")


def metric(run: Path, split: str, name: str) -> float:
    """Return a number of a run's metrics.json as it is printed."""
    value: float = json.loads((run / "metrics.json").read_text())[split][name]
    return round(value, 4)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the lines of a csv file."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def printed_rows(result: Result) -> list[dict[str, Any]]:
    """Return the JSON lines that predict printed."""
    return [json.loads(line) for line in result.out.splitlines()]


# which weights


def test_test_uses_the_best_weights_of_a_run(plcli: Command, worst_run: FinishedRun) -> None:
    result = plcli("test", "--run", worst_run.folder)
    assert number(result, "rmse") == metric(worst_run.folder, "test", "rmse")


def test_validate_uses_the_best_weights_of_a_run(plcli: Command, worst_run: FinishedRun) -> None:
    result = plcli("validate", "--run", worst_run.folder)
    assert number(result, "rmse") == metric(worst_run.folder, "validation", "rmse")


def test_ckpt_path_best_says_the_same(plcli: Command, worst_run: FinishedRun) -> None:
    result = plcli("test", "--run", worst_run.folder, "--ckpt_path", "best")
    assert number(result, "rmse") == metric(worst_run.folder, "test", "rmse")


def test_ckpt_path_last_uses_the_last_weights(
    plcli: Command, worst_run: FinishedRun, linear_run: FinishedRun
) -> None:
    result = plcli("test", "--run", worst_run.folder, "--ckpt_path", "last")
    assert number(result, "rmse") == metric(linear_run.folder, "test", "rmse")


def test_ckpt_path_takes_a_file(
    plcli: Command, worst_run: FinishedRun, linear_run: FinishedRun
) -> None:
    last = worst_run.folder / "checkpoints" / "last.ckpt"
    result = plcli("test", "--run", worst_run.folder, "--ckpt_path", last)
    assert number(result, "rmse") == metric(linear_run.folder, "test", "rmse")


def test_predict_takes_the_checkpoint_that_is_named(plcli: Command, worst_run: FinishedRun) -> None:
    best, last = (
        plcli("predict", "--run", worst_run.folder, "--ckpt_path", name, ROW).out
        for name in ("best", "last")
    )
    assert best != last


def test_a_classifier_uses_the_last_weights_where_they_are_named(
    plcli: Command, text_run: FinishedRun
) -> None:
    result = plcli("test", "--run", text_run.folder, "--ckpt_path", "last")
    assert number(result, "loss") == metric(text_run.folder, "test", "loss")


def test_a_classifier_is_tested_with_its_weights(plcli: Command, text_run: FinishedRun) -> None:
    result = plcli("test", "--run", text_run.folder)
    assert number(result, "loss") == metric(text_run.folder, "test", "loss")


def test_a_config_means_its_newest_finished_run(plcli: Command, linear_run: FinishedRun) -> None:
    for name, time in (("new", 2_000_000_000), ("old", 1_000_000_000)):
        os.utime(linear_run.copy(f"runs/table-{name}") / "config.yaml", (time, time))
    result = plcli("test", "-c", linear_run.config)
    assert "using runs/table-new, the newest finished run of this config" in result.err


def test_a_config_does_not_mean_a_run_of_another_config(
    plcli: Command, linear_run: FinishedRun, text_run: FinishedRun
) -> None:
    linear_run.copy("runs/table-1")
    result = plcli("test", "-c", text_run.config)
    assert (result.code, message(result)) == (
        4,
        "plcli: no finished run of this config stands below runs/, and random weights are not "
        "scored. Train it with `plcli fit`, or name a run with --run.\n",
    )


def test_a_config_of_other_training_data_does_not_mean_the_run(
    plcli: Command, linear_run: FinishedRun
) -> None:
    linear_run.copy("runs/table-1")
    other = write_config(Path("other.yaml"), data={"init_args": {"train": "other.csv"}})
    assert plcli("test", "-c", linear_run.config, "-c", other).code == 4


def test_an_override_of_the_training_data_does_not_mean_the_run(
    plcli: Command, linear_run: FinishedRun
) -> None:
    linear_run.copy("runs/table-1")
    assert plcli("test", "-c", linear_run.config, "--data.train", "other.csv").code == 4


def test_a_config_of_another_learning_rate_does_not_mean_the_run(
    plcli: Command, linear_run: FinishedRun
) -> None:
    linear_run.copy("runs/table-1")
    optimizer = {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.5}}
    other = write_config(Path("other.yaml"), model={"init_args": {"optimizer": optimizer}})
    assert plcli("test", "-c", linear_run.config, "-c", other).code == 4


def test_an_unfinished_run_is_not_the_newest_finished_run(
    plcli: Command, linear_run: FinishedRun
) -> None:
    linear_run.copy("runs/table-1")
    shutil.rmtree("runs/table-1/model")
    assert plcli("test", "-c", linear_run.config).code == 4


def test_a_run_is_named_before_the_newest_is_looked_for(
    plcli: Command, worst_run: FinishedRun, linear_run: FinishedRun
) -> None:
    linear_run.copy("runs/table-1")
    result = plcli("test", "-c", worst_run.config, "--run", worst_run.folder)
    assert number(result, "rmse") == metric(worst_run.folder, "test", "rmse")


def test_what_a_config_says_of_the_test_split_counts(
    plcli: Command, linear_run: FinishedRun
) -> None:
    write_rows(Path("few.csv"), [{"a": i, "b": i, "y": i} for i in range(5)])
    other = write_config(Path("other.yaml"), data={"init_args": {"test": "few.csv"}})
    result = plcli("test", "--run", linear_run.folder, "-c", other)
    assert number(result, "rmse") != metric(linear_run.folder, "test", "rmse")


def test_the_same_architecture_may_be_typed_again(plcli: Command, text_run: FinishedRun) -> None:
    words = ["--model.architecture.hidden_size", "32"]
    assert plcli("test", "--run", text_run.folder, *words).code == 0


def test_the_same_labels_may_be_typed_again(plcli: Command, text_run: FinishedRun) -> None:
    words = ["--data.labels", "[billing, delivery, praise]"]
    assert plcli("test", "--run", text_run.folder, *words).code == 0


def test_the_same_config_of_a_relative_pretrained_folder_may_be_given_again(
    plcli: Command, text_run: FinishedRun, text_config: Path
) -> None:
    shutil.copytree(text_run.folder / "model", "weights")
    values = yaml.safe_load(text_config.read_text())
    values["model"]["init_args"] = {"pretrained": "weights"}
    config = write_config(Path("tuned.yaml"), **values)
    plcli("fit", "-c", config)
    assert plcli("test", "-c", config).code == 0


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


@pytest.fixture
def model(linear_run: FinishedRun) -> Path:
    """The model/ folder of a run, copied away."""
    return Path(shutil.copytree(linear_run.folder / "model", "model"))


@pytest.fixture
def text_model(text_run: FinishedRun) -> Path:
    """The model/ folder of a classifier, copied away."""
    return Path(shutil.copytree(text_run.folder / "model", "model"))


def test_a_model_folder_predicts_as_its_run_does(
    plcli: Command, linear_run: FinishedRun, model: Path
) -> None:
    alone, run = (
        plcli("predict", "--run", folder, ROW).out for folder in (model, linear_run.folder)
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
    plcli: Command, linear_run: FinishedRun, model: Path
) -> None:
    table = linear_run.config.with_name("table.csv")
    result = plcli("test", "--run", model, "--data.test", table)
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
    plcli: Command, model: Path
) -> None:
    result = plcli("test", "--run", model)
    assert (result.code, message(result)) == (
        2,
        "plcli: data.test is not given. Name a file: --data.test FILE.\n",
    )


def test_a_model_folder_has_no_last_checkpoint(plcli: Command, model: Path) -> None:
    assert plcli("test", "--run", model, "--ckpt_path", "last").code == 4


def test_a_model_folder_without_anything_to_predict_says_so(plcli: Command, model: Path) -> None:
    result = plcli("predict", "--run", model)
    assert (result.code, message(result)) == (
        2,
        "plcli: what is to be predicted? Give --input FILE, --input - or a text.\n",
    )


def test_a_read_only_model_folder_predicts_a_text(plcli: Command, text_model: Path) -> None:
    text_model.chmod(0o555)
    assert plcli("predict", "--run", text_model, "where is it").code == 0


# what is predicted


def test_a_text_gives_one_row(plcli: Command, text_run: FinishedRun) -> None:
    rows = printed_rows(plcli("predict", "--run", text_run.folder, "where is my parcel"))
    assert len(rows) == 1


def test_a_row_has_an_id_a_label_and_a_score(plcli: Command, text_run: FinishedRun) -> None:
    row = printed_rows(plcli("predict", "--run", text_run.folder, "where is my parcel"))[0]
    assert set(row) >= {"id", "label", "score"}


def test_a_predicted_label_is_a_name(plcli: Command, text_run: FinishedRun) -> None:
    row = printed_rows(plcli("predict", "--run", text_run.folder, "where is my parcel"))[0]
    assert row["label"] in ("billing", "delivery", "praise")


def test_several_texts_are_numbered_in_their_order(plcli: Command, text_run: FinishedRun) -> None:
    texts = ["a much longer text than the one that follows", "short", "neither long nor short"]
    rows = printed_rows(plcli("predict", "--run", text_run.folder, *texts))
    assert [row["id"] for row in rows] == [0, 1, 2]


def test_each_of_several_texts_gets_its_own_prediction(
    plcli: Command, text_run: FinishedRun
) -> None:
    texts = ["a much longer text than the one that follows", "short"]
    together = printed_rows(plcli("predict", "--run", text_run.folder, *texts))
    alone = [printed_rows(plcli("predict", "--run", text_run.folder, text))[0] for text in texts]
    assert [row["score"] for row in together] == pytest.approx([row["score"] for row in alone])


def test_nothing_but_rows_goes_to_standard_output(plcli: Command, text_run: FinishedRun) -> None:
    result = plcli("predict", "--run", text_run.folder, "where is it")
    assert [line for line in result.out.splitlines() if not line.startswith("{")] == []


def test_a_text_is_predicted_without_a_word_on_standard_error(
    plcli: Command, text_run: FinishedRun
) -> None:
    assert plcli("predict", "--run", text_run.folder, "where is it").err == ""


def test_an_empty_text_is_predicted(plcli: Command, text_run: FinishedRun) -> None:
    assert len(printed_rows(plcli("predict", "--run", text_run.folder, ""))) == 1


def test_a_json_object_with_the_text_column_is_a_row(plcli: Command, text_run: FinishedRun) -> None:
    plain, row = (
        plcli("predict", "--run", text_run.folder, text).out
        for text in ("where is it", '{"message": "where is it"}')
    )
    assert plain == row


def test_a_json_object_without_a_column_is_told(plcli: Command, linear_run: FinishedRun) -> None:
    result = plcli("predict", "--run", linear_run.folder, '{"a": 1}')
    assert (result.code, message(result)) == (
        3,
        "plcli: the command line, row 1: has no column 'b'. It has a; name one of these.\n",
    )


def test_standard_input_is_a_text_a_line(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my parcel\n\nthank you\n"))
    rows = printed_rows(plcli("predict", "--run", text_run.folder, "--input", "-"))
    assert [row["id"] for row in rows] == [0, 1, 2]


def test_standard_input_may_be_json_lines(
    plcli: Command, linear_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{ROW}\n{ROW}\n"))
    rows = printed_rows(plcli("predict", "--run", linear_run.folder, "--input", "-"))
    assert len(rows) == 2


def test_empty_standard_input_is_told(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    result = plcli("predict", "--run", text_run.folder, "--input", "-")
    assert (result.code, message(result)) == (
        2,
        "plcli: --input -: standard input is empty.\n",
    )


def test_standard_input_can_be_written_to_a_file(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("where\nwhat\n"))
    plcli("predict", "--run", text_run.folder, "--input", "-", "--output", "out.csv")
    assert [row["id"] for row in read_csv(Path("out.csv"))] == ["0", "1"]


# files


@pytest.fixture
def new_rows() -> Path:
    """Rows to predict, of many lengths, without labels, with an id of their own."""
    rows = [{"message": " ".join(["parcel"] * (1 + i * 7 % 13)), "key": f"k{i}"} for i in range(30)]
    return write_rows(Path("new.jsonl"), rows)


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "csv": read_csv,
    "jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    "parquet": lambda path: pyarrow.parquet.read_table(path).to_pylist(),
}


@pytest.mark.parametrize("ending", READERS)
def test_a_file_is_predicted_in_the_order_of_its_rows(
    plcli: Command, text_run: FinishedRun, new_rows: Path, ending: str
) -> None:
    output = Path(f"out.{ending}")
    plcli("predict", "--run", text_run.folder, "--input", new_rows, "--output", output)
    assert [int(row["id"]) for row in READERS[ending](output)] == list(range(30))


@pytest.mark.parametrize("ending", READERS)
def test_an_id_column_names_the_rows(
    plcli: Command, text_run: FinishedRun, new_rows: Path, ending: str
) -> None:
    output = Path(f"out.{ending}")
    words = ["--input", new_rows, "--output", output, "--data.id", "key"]
    plcli("predict", "--run", text_run.folder, *words)
    assert [row["id"] for row in READERS[ending](output)] == [f"k{i}" for i in range(30)]


@pytest.mark.parametrize("ending", READERS)
def test_every_ending_holds_the_same_scores(
    plcli: Command, text_run: FinishedRun, new_rows: Path, ending: str
) -> None:
    plcli("predict", "--run", text_run.folder, "--input", new_rows, "--output", f"out.{ending}")
    texts = [json.loads(line)["message"] for line in new_rows.read_text().splitlines()]
    printed = printed_rows(plcli("predict", "--run", text_run.folder, *texts))
    scores = [float(row["score"]) for row in READERS[ending](Path(f"out.{ending}"))]
    assert scores == pytest.approx([row["score"] for row in printed])


def test_rows_of_a_csv_file_are_predicted(plcli: Command, linear_run: FinishedRun) -> None:
    write_rows(Path("new.csv"), [{"a": 1, "b": 2}, {"a": 3, "b": 4}])
    plcli("predict", "--run", linear_run.folder, "--input", "new.csv", "--output", "out.jsonl")
    assert len(READERS["jsonl"](Path("out.jsonl"))) == 2


def test_the_output_may_stand_in_a_new_folder(plcli: Command, linear_run: FinishedRun) -> None:
    plcli("predict", "--run", linear_run.folder, ROW, "--output", "new/folder/out.csv")
    assert Path("new/folder/out.csv").exists()


def test_a_text_can_be_written_to_a_file(plcli: Command, linear_run: FinishedRun) -> None:
    assert plcli("predict", "--run", linear_run.folder, ROW, "--output", "out.csv").out == ""


def test_the_number_of_written_rows_is_told(
    plcli: Command, text_run: FinishedRun, new_rows: Path
) -> None:
    words = ["--input", new_rows, "--output", "out.csv"]
    assert "30 rows written to out.csv" in plcli("predict", "--run", text_run.folder, *words).err


def test_an_output_that_exists_is_left_as_it_is(plcli: Command, linear_run: FinishedRun) -> None:
    Path("out.csv").write_text("mine\n")
    plcli("predict", "--run", linear_run.folder, ROW, "--output", "out.csv")
    assert Path("out.csv").read_text() == "mine\n"


def test_a_prediction_that_fails_leaves_no_output(plcli: Command, linear_run: FinishedRun) -> None:
    write_rows(Path("new.csv"), [{"a": 1, "b": "two"}])
    plcli("predict", "--run", linear_run.folder, "--input", "new.csv", "--output", "out/out.csv")
    assert not [path for path in Path().rglob("*") if path.name.startswith((".out", "out."))]


def test_without_an_output_the_run_folder_takes_the_predictions(
    plcli: Command, text_run: FinishedRun, new_rows: Path
) -> None:
    text_run.copy("run")
    plcli("predict", "--run", "run", "--input", new_rows)
    assert Path("run/predictions/new.csv").exists()


def test_the_next_predictions_get_the_next_free_file(
    plcli: Command, text_run: FinishedRun, new_rows: Path
) -> None:
    text_run.copy("run")
    for _ in range(3):
        plcli("predict", "--run", "run", "--input", new_rows)
    names = {path.name for path in Path("run/predictions").iterdir()}
    assert names == {"new.csv", "new-2.csv", "new-3.csv"}


def test_a_model_folder_alone_takes_the_predictions(
    plcli: Command, text_model: Path, new_rows: Path
) -> None:
    plcli("predict", "--run", text_model, "--input", new_rows)
    assert Path("model/predictions/new.csv").exists()


def test_a_model_folder_is_still_whole_after_a_prediction(
    plcli: Command, text_model: Path, new_rows: Path
) -> None:
    plcli("predict", "--run", text_model, "--input", new_rows)
    assert plcli("predict", "--run", text_model, "where is it").code == 0


def test_without_an_input_the_test_split_is_predicted(
    plcli: Command, text_run: FinishedRun
) -> None:
    text_run.copy("run")
    plcli("predict", "--run", "run")
    assert len(read_csv(Path("run/predictions/test.csv"))) == 12


def test_without_an_input_it_is_said_that_the_test_split_is_predicted(
    plcli: Command, text_run: FinishedRun
) -> None:
    text_run.copy("run")
    assert "predicting the test split" in plcli("predict", "--run", "run").err


def test_the_input_needs_no_label_column(
    plcli: Command, text_run: FinishedRun, new_rows: Path
) -> None:
    words = ["--input", new_rows, "--output", "out.csv"]
    assert plcli("predict", "--run", text_run.folder, *words).code == 0


def test_an_input_without_the_text_column_is_told(plcli: Command, text_run: FinishedRun) -> None:
    write_rows(Path("new.csv"), [{"mesage": "hello"}])
    result = plcli("predict", "--run", text_run.folder, "--input", "new.csv")
    assert (result.code, message(result)) == (
        3,
        "plcli: new.csv: has no column 'message'. Did you mean 'mesage'? "
        "It has mesage; name one of these.\n",
    )


def test_another_text_column_may_be_named(plcli: Command, text_run: FinishedRun) -> None:
    write_rows(Path("new.csv"), [{"body": "where is it"}])
    words = ["--input", "new.csv", "--data.text", "body", "--output", "out.csv"]
    assert plcli("predict", "--run", text_run.folder, *words).code == 0


# a user's own classes

TRUSTED = ("--allow-import", "users_own")
OWN = '''
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset


def loader():
    x = torch.arange(8.0)[:, None]
    return DataLoader(TensorDataset(x, 2 * x), batch_size=4)


class Net(LightningModule):
    def __init__(self, width: int = 1):
        super().__init__()
        self.layer = torch.nn.Linear(1, width)

    def loss(self, batch):
        return (self.layer(batch[0]) - batch[1]).square().mean()

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch, batch_idx):
        return self.layer(batch[0]).squeeze(1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Plain(Net):
    def __init__(self):
        super().__init__(1)


class Needy(Net):
    def __init__(self, width: int):
        super().__init__(width)


class Whole(Net):
    """Brings its data along."""

    def train_dataloader(self):
        return loader()

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Data(LightningDataModule):
    def __init__(self, rows: int = 8):
        super().__init__()

    def train_dataloader(self):
        return loader()

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class PlainData(Data):
    def __init__(self):
        super().__init__()
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FinishedRun]:
    """A run of a user's own LightningModule and LightningDataModule."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "users_own.py").write_text(OWN)
    config = write_config(
        folder / "own.yaml",
        model={"class_path": "users_own.Net"},
        data={"class_path": "users_own.Data"},
        trainer={"max_epochs": 2, "accelerator": "cpu"},
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield fit_once(config, *TRUSTED)
    sys.modules.pop("users_own", None)


def test_a_users_own_module_is_tested(plcli: Command, own: FinishedRun) -> None:
    result = plcli("test", *TRUSTED, "--run", own.folder)
    assert number(result, "loss") == metric(own.folder, "test", "loss")


def test_a_users_own_module_is_validated(plcli: Command, own: FinishedRun) -> None:
    result = plcli("validate", *TRUSTED, "--run", own.folder)
    assert number(result, "loss") == metric(own.folder, "validation", "loss")


def test_a_users_own_module_predicts(plcli: Command, own: FinishedRun) -> None:
    plcli("predict", *TRUSTED, "--run", own.folder, "--output", "out.csv")
    assert [row["id"] for row in read_csv(Path("out.csv"))] == [str(i) for i in range(8)]


def test_a_users_own_module_predicts_plain_numbers(plcli: Command, own: FinishedRun) -> None:
    plcli("predict", *TRUSTED, "--run", own.folder, "--output", "out.jsonl")
    rows = READERS["jsonl"](Path("out.jsonl"))
    assert {type(row["prediction"]) for row in rows} == {float}


def test_a_users_own_module_is_found_by_its_config(plcli: Command, own: FinishedRun) -> None:
    own.copy("runs/own-1")
    assert plcli("test", *TRUSTED, "-c", own.config).code == 0


def test_a_users_own_model_folder_is_tested_alone(plcli: Command, own: FinishedRun) -> None:
    shutil.copytree(own.folder / "model", "model")
    assert plcli("test", *TRUSTED, "--run", "model").code == 0


@pytest.mark.parametrize("command", ["fit", "test", "validate", "predict"])
def test_a_module_without_arguments_serves(plcli: Command, own: FinishedRun, command: str) -> None:
    words = ["--model", "users_own.Plain", "--data", "users_own.PlainData"]
    if command != "fit":
        plcli("fit", *TRUSTED, "-c", own.config, *words, "--run", "plain")
    result = plcli(command, *TRUSTED, "-c", own.config, *words, "--run", "plain")
    assert result.code == 0


def test_a_module_that_brings_its_data_serves(plcli: Command, own: FinishedRun) -> None:
    words = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--run", "whole"]
    plcli("fit", *TRUSTED, "--model", "users_own.Whole", *words)
    assert plcli("test", *TRUSTED, "--run", "whole").code == 0


def test_an_argument_of_a_users_own_module_counts(plcli: Command, own: FinishedRun) -> None:
    words = ["--model.width", "3", "--run", "wide", "--print_config"]
    values = yaml.safe_load(plcli("fit", *TRUSTED, "-c", own.config, *words).out)
    assert values["model"]["init_args"]["width"] == 3


def test_a_missing_argument_of_a_users_own_module_is_told(plcli: Command, own: FinishedRun) -> None:
    result = plcli("fit", *TRUSTED, "-c", own.config, "--model", "users_own.Needy")
    assert (result.code, "model: 'width' is missing." in message(result)) == (2, True)


def test_other_sizes_than_those_of_the_weights_are_refused(
    plcli: Command, own: FinishedRun
) -> None:
    result = plcli("test", *TRUSTED, "--run", own.folder, "--model.width", "3")
    assert (result.code, "does not fit Net" in message(result)) == (4, True)


@pytest.mark.parametrize("words", [("some text",), ("--input", "new.csv")])
def test_data_of_the_users_own_that_takes_no_input_is_told(
    plcli: Command, own: FinishedRun, words: tuple[str, ...]
) -> None:
    Path("new.csv").write_text("x\n1\n")
    assert plcli("predict", *TRUSTED, "--run", own.folder, *words).code == 2


@pytest.mark.parametrize("words", [("some text",), ("--input", "new.csv")])
def test_an_input_is_not_ignored_by_a_module_that_brings_its_data(
    plcli: Command, own: FinishedRun, words: tuple[str, ...]
) -> None:
    Path("new.csv").write_text("x\n1\n")
    trainer = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--run", "whole"]
    plcli("fit", *TRUSTED, "--model", "users_own.Whole", *trainer)
    assert plcli("predict", *TRUSTED, "--run", "whole", *words).code == 2


def test_a_bug_in_a_users_module_is_not_taken_for_a_mistake(
    plcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_own.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        plcli("fit", "--allow-import", "broken_own", "--model", "broken_own.Net")


def test_a_dash_alone_is_standard_input(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("where is my parcel\nthank you\n"))
    rows = printed_rows(plcli("predict", "--run", text_run.folder, "-"))
    assert len(rows) == 2
