"""What a run folder holds: config, environment, metrics, log, checkpoints and model."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.conftest import (
    Command,
    FinishedRun,
    fit_once,
    number,
    write_linear_config,
    write_rows,
    write_text_config,
)
from tests.running import RECORDER, Recorder, fit_messages, read_json, read_metrics, read_rows


@pytest.fixture(scope="module")
def logged_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run of two epochs of two steps that logs every step."""
    config = write_linear_config(tmp_path_factory.mktemp("logged"))
    return fit_once(config, "--trainer.log_every_n_steps", "1")


# names


def test_a_run_is_called_after_its_config(plcli: Command, linear_config: Path) -> None:
    linear_config.rename("concrete.yaml")
    plcli("fit", "-c", "concrete.yaml")
    assert Path("runs/concrete-1/model/plcli.json").exists()


def test_a_run_is_called_after_its_first_config(plcli: Command, linear_config: Path) -> None:
    Path("more.yaml").write_text("trainer: {max_epochs: 1}\n")
    plcli("fit", "-c", linear_config, "-c", "more.yaml")
    assert Path("runs/table-1").exists()


def test_a_number_that_was_taken_once_is_not_given_again(
    plcli: Command, linear_config: Path
) -> None:
    Path("runs/table-7").mkdir(parents=True)
    plcli("fit", "-c", linear_config)
    assert Path("runs/table-8").exists()


def test_fast_dev_run_leaves_nothing(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config, "--trainer.fast_dev_run", "true")
    assert not Path("runs").exists()


def test_fast_dev_run_says_that_it_leaves_nothing(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--trainer.fast_dev_run", "true")
    assert "fast_dev_run: nothing is saved" in result.err


def test_a_run_leaves_nothing_beside_its_folder(plcli: Command, linear_config: Path) -> None:
    before = set(Path().iterdir())
    plcli("fit", "-c", linear_config)
    assert {str(path) for path in set(Path().iterdir()) - before} == {"runs", "cache"}


# config.yaml


@pytest.mark.parametrize("key", ["train", "test"])
def test_the_config_names_files_by_absolute_paths(
    plcli: Command, linear_config: Path, key: str
) -> None:
    plcli("fit", "-c", linear_config, "--data.train", "table.csv", "--data.test", "./table.csv")
    values = yaml.safe_load(Path("runs/table-1/config.yaml").read_text())
    assert values["data"]["init_args"][key] == str(Path.cwd() / "table.csv")


def test_the_config_names_a_glob_by_an_absolute_path(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config, "--data.train", "tab*.csv")
    values = yaml.safe_load(Path("runs/table-1/config.yaml").read_text())
    assert values["data"]["init_args"]["train"] == str(Path.cwd() / "tab*.csv")


def test_the_config_names_a_list_of_files_by_absolute_paths(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config, "--data.train", "[table.csv, table.csv]")
    values = yaml.safe_load(Path("runs/table-1/config.yaml").read_text())
    assert values["data"]["init_args"]["train"] == [str(Path.cwd() / "table.csv")] * 2


def test_the_config_leaves_a_source_inside_a_package_as_it_is(
    plcli: Command, linear_config: Path
) -> None:
    source = "package:plcli/examples/concrete/train.csv"
    words = ["--data.train", source, "--data.test", "null", "--data.features", "[cement, water]"]
    plcli("fit", "-c", linear_config, *words, "--data.target", "age")
    values = yaml.safe_load(Path("runs/table-1/config.yaml").read_text())
    assert values["data"]["init_args"]["train"] == source


def test_the_config_holds_what_was_typed(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config, "--data.batch_size", "7")
    values = yaml.safe_load(Path("runs/table-1/config.yaml").read_text())
    assert values["data"]["init_args"]["batch_size"] == 7


def test_the_config_holds_defaults_of_the_optimizer(linear_run: FinishedRun) -> None:
    values = yaml.safe_load((linear_run.folder / "config.yaml").read_text())
    assert values["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 0.01


def test_the_config_repeats_the_run_from_another_folder(
    plcli: Command, linear_run: FinishedRun
) -> None:
    plcli("fit", "-c", linear_run.folder / "config.yaml", "--run", "again")
    assert read_metrics(Path("again")) == read_metrics(linear_run.folder)


# environment.json


def test_the_environment_has_its_keys(linear_run: FinishedRun) -> None:
    assert set(read_json(linear_run.folder / "environment.json")) == {
        "plcli",
        "started",
        "command",
        "python",
        "packages",
        "machine",
        "processes",
        "git",
        "seed",
        "data",
        "rows",
    }


def test_the_environment_tells_the_version_of_torch(linear_run: FinishedRun) -> None:
    packages = read_json(linear_run.folder / "environment.json")["packages"]
    assert packages["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_the_environment_tells_the_seed(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config, "--seed_everything", "7")
    assert read_json(Path("runs/table-1/environment.json"))["seed"] == 7


def test_the_environment_tells_a_fingerprint_of_every_split_that_was_read(
    text_run: FinishedRun,
) -> None:
    data = read_json(text_run.folder / "environment.json")["data"]
    assert set(data) == {"train", "validation", "test"}


def test_the_fingerprint_follows_the_content_of_the_data(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config)
    with open("table.csv", "a") as file:
        file.write("1,2,3\n")
    plcli("fit", "-c", linear_config)
    first, second = (
        read_json(Path(f"runs/table-{n}/environment.json"))["data"]["train"] for n in (1, 2)
    )
    assert first != second


def test_the_fingerprint_does_not_follow_the_name_of_the_data(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config)
    Path("table.csv").rename("other.csv")
    plcli("fit", "-c", linear_config, "--data.train", "other.csv", "--data.test", "other.csv")
    first, second = (
        read_json(Path(f"runs/table-{n}/environment.json"))["data"]["train"] for n in (1, 2)
    )
    assert first == second


def test_the_environment_tells_when_the_run_started(linear_run: FinishedRun) -> None:
    started = read_json(linear_run.folder / "environment.json")["started"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", started)


# metrics


def test_metrics_csv_has_one_line_a_step(logged_run: FinishedRun) -> None:
    lines = read_rows(logged_run.folder / "metrics.csv")
    assert [int(line["step"]) for line in lines] == [0, 1, 2, 3, 4]


def test_metrics_csv_has_the_loss_of_every_training_step(logged_run: FinishedRun) -> None:
    lines = read_rows(logged_run.folder / "metrics.csv")
    assert [line["step"] for line in lines if line["train_loss"]] == ["0", "1", "2", "3"]


def test_metrics_csv_has_the_validation_of_every_epoch(logged_run: FinishedRun) -> None:
    lines = read_rows(logged_run.folder / "metrics.csv")
    assert [line["step"] for line in lines if line["val_rmse"]] == ["1", "3"]


def test_metrics_csv_begins_with_the_step(logged_run: FinishedRun) -> None:
    assert next(iter(read_rows(logged_run.folder / "metrics.csv")[0])) == "step"


def test_metrics_json_has_the_best_epoch_of_the_validation(logged_run: FinishedRun) -> None:
    lines = read_rows(logged_run.folder / "metrics.csv")
    best = min(float(line["val_rmse"]) for line in lines if line["val_rmse"])
    assert read_json(logged_run.folder / "metrics.json")["validation"]["rmse"] == best


def test_metrics_json_has_both_splits(linear_run: FinishedRun) -> None:
    assert set(read_json(linear_run.folder / "metrics.json")) == {"validation", "test", "fit"}


def test_metrics_json_has_the_best_epoch_its_metric_and_the_seconds(
    logged_run: FinishedRun,
) -> None:
    fit = read_json(logged_run.folder / "metrics.json")["fit"]
    lines = [line for line in read_rows(logged_run.folder / "metrics.csv") if line["val_rmse"]]
    best = min(lines, key=lambda line: float(line["val_rmse"]))
    assert fit.pop("seconds") > 0
    assert fit == {
        "best_epoch": float(best["epoch"]),
        "value": float(best["val_rmse"]),
        "lr": None,
        "monitor": "val_rmse",
        "mode": "min",
        "epochs": 2,
        "steps": 4,
    }


def test_metrics_csv_counts_epochs_from_1(logged_run: FinishedRun) -> None:
    lines = read_rows(logged_run.folder / "metrics.csv")
    assert [line["epoch"] for line in lines] == ["1.0", "1.0", "2.0", "2.0", "2.0"]


def test_metrics_csv_has_the_learning_rate_of_every_training_step(tmp_path: Path) -> None:
    Recorder.clear()
    run = fit_messages(
        tmp_path, model={"warmup": 2}, max_epochs=2, log_every_n_steps=1, callbacks=[RECORDER]
    )
    rates = [float(line["lr"]) for line in read_rows(run / "metrics.csv") if line["lr"]]
    assert rates == Recorder.rates


def test_metrics_json_has_no_test_where_there_is_no_test_split(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config, "--data.test", "null")
    assert set(read_json(Path("runs/table-1/metrics.json"))) == {"validation", "fit"}


def test_metrics_json_has_every_class_of_a_classifier(text_run: FinishedRun) -> None:
    classes = read_json(text_run.folder / "metrics.json")["test"]["classes"]
    assert set(classes) == {"billing", "delivery", "praise"}


def test_fit_prints_the_numbers_of_metrics_json(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config)
    rmse = read_json(Path("runs/table-1/metrics.json"))["test"]["rmse"]
    assert number(result, "rmse") == round(rmse, 4)


def test_a_logger_of_the_users_stands_beside_metrics_csv(
    plcli: Command, linear_config: Path
) -> None:
    words = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", "logs"]
    plcli("fit", "-c", linear_config, *words)
    assert (Path("logs").exists(), Path("runs/table-1/metrics.csv").exists()) == (True, True)


# train.log


def test_the_log_has_a_line_an_epoch(linear_run: FinishedRun) -> None:
    log = (linear_run.folder / "train.log").read_text()
    assert re.findall(r"epoch (\d) of 2, ", log) == ["1", "2"]


def test_every_line_of_the_log_has_a_time(linear_run: FinishedRun) -> None:
    lines = (linear_run.folder / "train.log").read_text().splitlines()
    assert [line for line in lines if not re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", line)] == []


def test_the_log_has_the_lines_of_standard_error(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config)
    log = Path("runs/table-1/train.log").read_text()
    said = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in result.err.splitlines()]
    assert [line for line in said if line not in log] == []


def test_nothing_but_timestamped_lines_goes_to_standard_error(
    plcli: Command, linear_config: Path
) -> None:
    lines = plcli("fit", "-c", linear_config).err.splitlines()
    assert [line for line in lines if not re.match(r"\d\d:\d\d:\d\d ", line)] == []


# checkpoints and model


def test_the_model_holds_the_best_weights(plcli: Command, linear_config: Path) -> None:
    worst = ("--checkpoint.monitor", "val_rmse", "--checkpoint.mode", "max")
    plcli("fit", "-c", linear_config, *worst)
    best = torch.load("runs/table-1/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    saved = load_file("runs/table-1/model/model.safetensors")
    assert torch.equal(saved["layer.weight"], best["layer.weight"])


def test_best_and_last_are_of_different_epochs(plcli: Command, linear_config: Path) -> None:
    worst = ("--checkpoint.monitor", "val_rmse", "--checkpoint.mode", "max")
    plcli("fit", "-c", linear_config, *worst)
    epochs = [
        torch.load(f"runs/table-1/checkpoints/{name}.ckpt", weights_only=True)["epoch"]
        for name in ("best", "last")
    ]
    assert epochs == [0, 1]


def test_without_validation_the_last_epoch_is_the_model(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config, "--data.validation_fraction", "0")
    last = torch.load("runs/table-1/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    saved = load_file("runs/table-1/model/model.safetensors")
    assert torch.equal(saved["layer.weight"], last["layer.weight"])


def test_without_validation_no_epoch_is_called_the_best(
    plcli: Command, linear_config: Path
) -> None:
    result = plcli("fit", "-c", linear_config, "--data.validation_fraction", "0")
    assert "best epoch 0" not in result.err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("task", "text-classification"),
        ("labels", ["billing", "delivery", "praise"]),
        ("columns", {"inputs": ["message"], "targets": ["intent"]}),
        ("max_length", 256),
        ("temperature", 1.0),
    ],
)
def test_the_card_tells_what_plcli_knows(text_run: FinishedRun, key: str, value: Any) -> None:
    assert read_json(text_run.folder / "model" / "plcli.json")[key] == value


def test_the_card_names_no_path_of_this_machine(text_run: FinishedRun) -> None:
    assert str(text_run.config.parent) not in (text_run.folder / "model/plcli.json").read_text()


def test_the_card_has_the_metrics_of_the_run(text_run: FinishedRun) -> None:
    card = read_json(text_run.folder / "model" / "plcli.json")
    metrics = read_json(text_run.folder / "metrics.json")
    assert {**card["metrics"], "fit": metrics["fit"]} == metrics


def test_label_names_come_from_the_training_split_alone(plcli: Command, tmp_path: Path) -> None:
    config = write_text_config(tmp_path)
    rows = [{"message": f"text {i}", "intent": "abc"[i % 3]} for i in range(30)]
    write_rows(tmp_path / "train.jsonl", rows)
    write_rows(tmp_path / "test.jsonl", [{"message": "text", "intent": "d"}])
    result = plcli("fit", "-c", config)
    assert (result.code, "label 'd' is not one of a, b, c." in result.err) == (3, True)


def test_transformers_loads_the_model_folder(text_run: FinishedRun) -> None:
    from transformers import pipeline

    classify = pipeline("text-classification", model=str(text_run.folder / "model"))
    assert classify("where is my parcel")[0]["label"] in ("billing", "delivery", "praise")
