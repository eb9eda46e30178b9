"""predict: a file of rows in, a file of predictions out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from tests.conftest import Command, FinishedRun, message, printed_rows, write_rows
from tests.running import read_rows

ROW = '{"a": 1, "b": 2}'


@pytest.fixture
def new_rows() -> Path:
    """Rows to predict, of many lengths, without labels, with an id of their own."""
    rows = [{"message": " ".join(["parcel"] * (1 + i * 7 % 13)), "key": f"k{i}"} for i in range(30)]
    return write_rows(Path("new.jsonl"), rows)


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    "csv": read_rows,
    "jsonl": read_rows,
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
    assert [row["key"] for row in READERS[ending](output)] == [f"k{i}" for i in range(30)]


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
    assert len(read_rows(Path("out.jsonl"))) == 2


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
    assert len(read_rows(Path("run/predictions/test.csv"))) == 12


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
        "It has mesage. Name one of these.\n",
    )


def test_another_text_column_may_be_named(plcli: Command, text_run: FinishedRun) -> None:
    write_rows(Path("new.csv"), [{"body": "where is it"}])
    words = ["--input", "new.csv", "--data.text", "body", "--output", "out.csv"]
    assert plcli("predict", "--run", text_run.folder, *words).code == 0
