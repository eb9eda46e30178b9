"""validate, test and predict: which run is meant, and which of its weights are taken."""

import os
import shutil
from pathlib import Path

import pytest
import yaml

from tests.conftest import (
    Command,
    FinishedRun,
    fit_once,
    message,
    metric,
    number,
    write_config,
    write_linear_config,
    write_rows,
)

ROW = '{"a": 1, "b": 2}'


@pytest.fixture(scope="module")
def worst_run(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run whose best epoch is its first, as the largest error is called the best."""
    config = write_linear_config(tmp_path_factory.mktemp("worst"))
    return fit_once(config, "--checkpoint.monitor", "val_rmse", "--checkpoint.mode", "max")


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
        "plcli: no finished run of this config in runs/, and random weights are not evaluated. "
        "Train it with `plcli fit`, name a run with --run, or pretrained weights to use as they "
        "are with --model.pretrained.\n",
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
