"""plcli.load: the rows of `plcli predict` and the numbers of `plcli test`, in this process."""

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule

import plcli as package
from plcli.errors import DataError, ModelError, UsageError
from tests.conftest import (
    Command,
    FinishedRun,
    message_rows,
    printed_rows,
    write_config,
    write_rows,
)
from tests.running import read_rows
from tests.tiny import save_bert

TEXT = "where is my parcel"


@pytest.fixture(scope="module")
def model(text_run: FinishedRun) -> package.Model:
    """The classifier, opened once."""
    return package.load(text_run.folder)


# what is predicted


def test_the_rows_are_those_of_the_command(
    plcli: Command, text_run: FinishedRun, model: package.Model
) -> None:
    rows = [{"message": row["message"]} for row in message_rows(3)]
    write_rows(Path("new.jsonl"), rows)
    plcli("predict", "--run", text_run.folder, "--input", "new.jsonl", "--output", "out.jsonl")
    assert model.predict(rows) == read_rows(Path("out.jsonl"))


def test_a_text_is_a_row_of_the_only_column(model: package.Model) -> None:
    assert model.predict(TEXT) == model.predict([TEXT]) == model.predict({"message": TEXT})


def test_rows_of_a_table_are_those_of_the_command(plcli: Command, linear_run: FinishedRun) -> None:
    printed = printed_rows(plcli("predict", "--run", linear_run.folder, '{"a": 3, "b": 4}'))
    assert package.load(linear_run.folder).predict({"a": 3, "b": 4}) == printed


def test_rows_in_memory_write_nothing_to_the_cache(
    model: package.Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PLCLI_CACHE", str(tmp_path / "cache"))
    model.predict(TEXT)
    assert not (tmp_path / "cache").exists()


def test_a_model_folder_alone_is_enough(text_model: Path, model: package.Model) -> None:
    assert package.load(text_model).predict(TEXT) == model.predict(TEXT)


def test_a_public_model_is_used_as_it_is(plcli: Command) -> None:
    folder = save_bert(Path("public"))
    printed = printed_rows(plcli("predict", "--model.pretrained", folder, "the invoice"))
    assert package.load(folder).predict("the invoice") == printed


def test_decisions_follow_the_thresholds_of_the_run(plcli: Command, text_run: FinishedRun) -> None:
    config = write_config(
        Path("multi.yaml"),
        model={
            "class_path": "plcli.tasks.text_classification.TextClassifier",
            "init_args": {"pretrained": str(text_run.folder / "model"), "threshold": 0.32},
        },
        data={
            "class_path": "plcli.tasks.text_classification.TextClassificationData",
            "init_args": {
                "train": str(text_run.config.parent / "train.jsonl"),
                "text": "message",
                "label": "intent",
                "problem": "multi_label",
            },
        },
        trainer={"max_epochs": 1, "accelerator": "cpu"},
    )
    assert plcli("fit", "-c", config, "--run", "multi").code == 0
    printed = printed_rows(plcli("predict", "--run", "multi", TEXT))
    assert package.load("multi").predict(TEXT) == printed


def test_no_rows_give_no_rows(model: package.Model) -> None:
    assert model.predict([]) == []


def test_rows_are_numbered(model: package.Model) -> None:
    assert [row["id"] for row in model.predict(["a much longer text", "b"])] == [0, 1]


def test_rows_with_the_id_column_keep_their_ids(text_run: FinishedRun) -> None:
    opened = package.load(text_run.folder, options={"data.id": "name"})
    rows = [{"name": "x", "message": "a"}, {"name": "y", "message": "a longer text"}]
    assert [row["name"] for row in opened.predict(rows)] == ["x", "y"]


def test_rows_without_the_id_column_are_numbered(text_run: FinishedRun) -> None:
    opened = package.load(text_run.folder, options={"data.id": "name"})
    assert [row["id"] for row in opened.predict(["a"])] == [0]


def test_a_later_prediction_takes_milliseconds(model: package.Model) -> None:
    model.predict(TEXT)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        model.predict(TEXT)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02


def test_threads_get_the_rows_that_they_would_get_alone(model: package.Model) -> None:
    texts = [[f"{TEXT} {number}", "late again"] for number in range(8)]
    alone, together = [model.predict(each) for each in texts], dict[int, Any]()

    def run(number: int) -> None:
        for _ in range(5):
            together[number] = model.predict(texts[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[number] for number in range(8)] == alone


def test_a_score_waits_for_predictions_and_they_for_it(model: package.Model) -> None:
    scores: list[Any] = []
    rows = message_rows(1)
    alone = (model.predict([TEXT] * 40), model.evaluate(rows))
    thread = threading.Thread(target=lambda: scores.append(model.evaluate(rows)))
    thread.start()
    while thread.is_alive():
        assert model.predict([TEXT] * 40) == alone[0]
    assert scores == [alone[1]]


# files and scores


def test_a_file_is_predicted_as_by_the_command(
    plcli: Command, text_run: FinishedRun, model: package.Model
) -> None:
    write_rows(Path("new.jsonl"), message_rows(2))
    plcli("predict", "--run", text_run.folder, "--input", "new.jsonl", "--output", "out.csv")
    count = model.predict_file("new.jsonl", output="own.csv")
    assert (count, Path("own.csv").read_text()) == (24, Path("out.csv").read_text())


def test_predictions_go_on_after_a_file_and_a_score(model: package.Model) -> None:
    before = model.predict(TEXT)
    write_rows(Path("new.jsonl"), message_rows(1))
    model.predict_file("new.jsonl", output="out.jsonl")
    model.evaluate("new.jsonl")
    assert model.predict(TEXT) == before


def test_an_output_that_exists_is_refused(model: package.Model) -> None:
    write_rows(Path("new.jsonl"), message_rows(1))
    with pytest.raises(UsageError, match=r"new.jsonl: already exists"):
        model.predict_file("new.jsonl", output="new.jsonl")


def test_the_score_of_rows_is_that_of_the_test_command(
    text_run: FinishedRun, model: package.Model
) -> None:
    fitted = json.loads((text_run.folder / "metrics.json").read_text())["test"]
    del fitted["fingerprint"]  # of a file's rows
    assert model.evaluate(message_rows(1)) == fitted


def test_without_rows_the_test_split_is_scored(text_run: FinishedRun, model: package.Model) -> None:
    fitted = json.loads((text_run.folder / "metrics.json").read_text())["test"]
    del fitted["fingerprint"]  # of a file's rows
    assert model.evaluate() == fitted


def test_a_file_can_be_scored(text_run: FinishedRun, model: package.Model) -> None:
    fitted = json.loads((text_run.folder / "metrics.json").read_text())["test"]
    del fitted["fingerprint"]  # of a file's rows
    assert model.evaluate(text_run.config.parent / "test.jsonl") == fitted


def test_a_label_that_the_model_does_not_know_is_told(model: package.Model) -> None:
    with pytest.raises(DataError, match="row 1: label 'refund' is not one of billing"):
        model.evaluate([{"message": TEXT, "intent": "refund"}])


# what an opened model says


def test_a_model_says_what_it_reads_and_predicts(model: package.Model) -> None:
    labels = ["billing", "delivery", "praise"]
    assert (model.task, model.inputs, model.labels) == ("text-classification", ["message"], labels)


def test_a_missing_column_is_told_with_its_row(model: package.Model) -> None:
    with pytest.raises(DataError, match="rows, row 2: has no column 'message'. It has text."):
        model.predict([{"message": "a"}, {"text": "b"}])


def test_a_text_for_a_model_of_several_columns_is_told(linear_run: FinishedRun) -> None:
    with pytest.raises(DataError, match="row 1: got 'three', but this model reads the columns a, "):
        package.load(linear_run.folder).predict("three")


@pytest.mark.parametrize("name", ["./absent", "/absent"])
def test_a_path_that_does_not_exist_is_told(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: no such folder"):
        package.load(name)


def test_damaged_weights_are_told(text_model: Path) -> None:
    with open(text_model / "model.safetensors", "ab") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="has changed since it was written"):
        package.load(text_model)


def test_an_option_that_is_not_known_is_told(text_run: FinishedRun) -> None:
    with pytest.raises(UsageError, match=r"batch_sise.*Did you mean 'batch_size'"):
        package.load(text_run.folder, options={"data.batch_sise": 4})


def test_opening_leaves_the_random_state_alone(text_run: FinishedRun) -> None:
    def state() -> list[Any]:
        return [random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].sum()]

    before = state()
    package.load(text_run.folder)
    assert state() == before


# own classes


class OwnModule(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def setup(self, stage: str) -> None:
        self.offset = 1.0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch["features"].float()).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        return batch["features"].sum(-1) + self.offset

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class OwnData(LightningDataModule):
    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader([{"features": torch.zeros(1)}] * 2)

    def val_dataloader(self) -> Any:
        return self.train_dataloader()


def fit_own(plcli: Command, data: dict[str, Any]) -> str:
    own = {"class_path": "tests.cli.test_loaded.OwnModule"}
    trainer = {"max_epochs": 1, "accelerator": "cpu"}
    config = write_config(Path("own.yaml"), model=own, data=data, trainer=trainer)
    result = plcli("fit", "-c", config, "--run", "own", "--allow-import", "tests")
    assert result.code == 0, result.err
    return "own"


def test_a_module_with_hooks_is_predicted_by_the_trainer(plcli: Command) -> None:
    table = str(write_rows(Path("table.csv"), [{"a": number, "y": 0} for number in range(9)]))
    path = "plcli.tasks.linear_regression.TableData"
    arguments = {"train": table, "features": ["a"], "target": "y"}
    run = fit_own(plcli, {"class_path": path, "init_args": arguments})
    opened = package.load(run, allow_import=["tests"])
    rows = opened.predict([{"a": 3}, {"a": 4}])
    assert rows == [{"id": 0, "prediction": 4.0}, {"id": 1, "prediction": 5.0}]


def test_data_that_read_only_their_files_are_told(plcli: Command) -> None:
    run = fit_own(plcli, {"class_path": "tests.cli.test_loaded.OwnData"})
    opened = package.load(run, allow_import=["tests"])
    with pytest.raises(UsageError, match="OwnData reads only the files of its config"):
        opened.predict([{"a": 1}])
