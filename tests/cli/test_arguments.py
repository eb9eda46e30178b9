"""The command line: what is an option, a config, an override or a text, and which of them wins."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import Command, FinishedRun, Resolved, message, write_config


def test_a_later_config_wins_over_an_earlier_one(resolved: Resolved, linear_config: Path) -> None:
    later = write_config(Path("later.yaml"), trainer={"max_epochs": 9})
    assert resolved("-c", linear_config, "-c", later)["trainer"]["max_epochs"] == 9


def test_a_later_config_keeps_what_it_does_not_name(
    resolved: Resolved, linear_config: Path
) -> None:
    later = write_config(Path("later.yaml"), trainer={"max_epochs": 9})
    assert resolved("-c", linear_config, "-c", later)["trainer"]["accelerator"] == "cpu"


@pytest.mark.parametrize("spelling", [("-c", "{}"), ("--config", "{}"), ("--config={}",)])
def test_a_config_is_named_in_three_spellings(
    resolved: Resolved, linear_config: Path, spelling: tuple[str, ...]
) -> None:
    words = [word.format(linear_config) for word in spelling]
    assert resolved(*words)["trainer"]["max_epochs"] == 2


@pytest.mark.parametrize("words", [("--trainer.max_epochs", "5"), ("--trainer.max_epochs=5",)])
def test_an_override_wins_over_the_config(
    resolved: Resolved, linear_config: Path, words: tuple[str, ...]
) -> None:
    assert resolved("-c", linear_config, *words)["trainer"]["max_epochs"] == 5


def test_an_override_wins_over_a_config_that_stands_after_it(
    resolved: Resolved, linear_config: Path
) -> None:
    values = resolved("--trainer.max_epochs", "5", "-c", linear_config)
    assert values["trainer"]["max_epochs"] == 5


def test_of_two_overrides_of_a_key_the_later_wins(resolved: Resolved, linear_config: Path) -> None:
    values = resolved("-c", linear_config, "--data.target", "a", "--data.target", "b")
    assert values["data"]["init_args"]["target"] == "b"


def test_an_override_needs_no_init_args(resolved: Resolved, linear_config: Path) -> None:
    values = resolved("-c", linear_config, "--data.batch_size", "7")
    assert values["data"]["init_args"]["batch_size"] == 7


def test_an_override_may_name_init_args(resolved: Resolved, linear_config: Path) -> None:
    values = resolved("-c", linear_config, "--data.init_args.batch_size", "7")
    assert values["data"]["init_args"]["batch_size"] == 7


def test_an_override_reaches_into_the_optimizer(resolved: Resolved, linear_config: Path) -> None:
    values = resolved("-c", linear_config, "--model.optimizer.lr", "1e-4")
    assert values["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 1e-4


def test_an_optimizer_is_chosen_by_its_short_name(resolved: Resolved, linear_config: Path) -> None:
    values = resolved("-c", linear_config, "--model.optimizer", "SGD", "--model.optimizer.lr", "1")
    assert values["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.SGD"


def test_an_optimizer_of_the_same_name_in_another_package_is_no_hindrance(
    resolved: Resolved, linear_config: Path
) -> None:
    other = type("SGD", (torch.optim.SGD,), {"__module__": "other"})
    values = resolved("-c", linear_config, "--model.optimizer", "SGD", "--model.optimizer.lr", "1")
    assert values["model"]["init_args"]["optimizer"]["class_path"] == "torch.optim.SGD"
    del other


def test_a_list_is_given_in_brackets(resolved: Resolved, linear_config: Path) -> None:
    values = resolved("-c", linear_config, "--data.features", "[b]")
    assert values["data"]["init_args"]["features"] == ["b"]


def test_a_key_with_a_plus_appends_to_a_list(resolved: Resolved, linear_config: Path) -> None:
    values = resolved(
        "-c",
        linear_config,
        "--trainer.callbacks+",
        "EarlyStopping",
        "--trainer.callbacks.monitor=val_rmse",
        "--trainer.callbacks+",
        "LearningRateMonitor",
    )
    assert len(values["trainer"]["callbacks"]) == 2


def test_a_key_that_is_null_at_the_prompt_is_null(resolved: Resolved, linear_config: Path) -> None:
    values = resolved("-c", linear_config, "--data.test", "null")
    assert values["data"]["init_args"]["test"] is None


@pytest.mark.parametrize(
    ("section", "name", "path"),
    [
        ("model", "SimpleLinearModel", "plcli.tasks.linear_regression.SimpleLinearModel"),
        ("model", "TextClassifier", "plcli.tasks.text_classification.TextClassifier"),
        ("data", "TableData", "plcli.tasks.linear_regression.TableData"),
    ],
)
def test_a_short_class_name_stands_for_its_path(
    resolved: Resolved, section: str, name: str, path: str
) -> None:
    other = {"model": [], "data": ["--model", "SimpleLinearModel"]}[section]
    needed = ["--data.features", "[a]", "--data.target", "y"] if section == "data" else []
    values = resolved(*other, f"--{section}", name, *needed)
    assert values[section]["class_path"] == path


def test_a_short_class_name_stands_for_its_path_in_a_config(resolved: Resolved) -> None:
    config = write_config(Path("short.yaml"), model="SimpleLinearModel")
    path = "plcli.tasks.linear_regression.SimpleLinearModel"
    assert resolved("-c", config)["model"]["class_path"] == path


def test_the_prompt_alone_trains(plcli: Command, linear_config: Path) -> None:
    words = "--model SimpleLinearModel --data TableData --data.features [a,b] --data.target y"
    own = ["--data.train", "table.csv", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu"]
    assert plcli("fit", *words.split(), *own).code == 0


def test_without_a_config_the_run_is_called_run_1(plcli: Command, linear_config: Path) -> None:
    words = "--model SimpleLinearModel --data TableData --data.features [a,b] --data.target y"
    plcli("fit", *words.split(), "--data.train", "table.csv", "--trainer.max_epochs", "1")
    assert Path("runs/run-1/model/plcli.json").exists()


# the environment


def test_the_environment_wins_over_the_config(
    resolved: Resolved, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_EPOCHS", "7")
    assert resolved("-c", linear_config)["trainer"]["max_epochs"] == 7


def test_the_command_line_wins_over_the_environment(
    resolved: Resolved, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_EPOCHS", "7")
    values = resolved("-c", linear_config, "--trainer.max_epochs", "5")
    assert values["trainer"]["max_epochs"] == 5


def test_the_environment_of_another_command_does_not_count(
    resolved: Resolved, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_TEST__TRAINER__MAX_EPOCHS", "7")
    assert resolved("-c", linear_config)["trainer"]["max_epochs"] == 2


def test_the_environment_reaches_an_argument_of_the_data(
    resolved: Resolved, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_FIT__DATA__INIT_ARGS__BATCH_SIZE", "7")
    assert resolved("-c", linear_config)["data"]["init_args"]["batch_size"] == 7


def test_a_misspelt_key_in_the_environment_is_refused(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_FIT__TRAINER__MAX_EPOCH", "7")
    result = plcli("fit", "-c", linear_config)
    assert result.code == 2
    assert "Did you mean 'max_epochs'?" in result.err


# --print_config


def test_print_config_trains_nothing(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config, "--print_config")
    assert not Path("runs").exists()


def test_print_config_prints_the_sections_of_a_config(
    resolved: Resolved, linear_config: Path
) -> None:
    sections = {"trainer", "model", "data", "checkpoint", "numbers"}
    sections |= {"seed_everything", "threads", "interop_threads"}
    assert set(resolved("-c", linear_config)) == sections


def test_what_print_config_prints_is_a_config(plcli: Command, linear_config: Path) -> None:
    Path("printed.yaml").write_text(plcli("fit", "-c", linear_config, "--print_config").out)
    assert plcli("fit", "-c", "printed.yaml").code == 0


def test_print_config_can_leave_out_values_that_are_not_set(
    plcli: Command, linear_config: Path
) -> None:
    result = plcli("fit", "-c", linear_config, "--print_config=skip_unset")
    assert "predict: null" not in result.out


# texts


def test_a_text_stands_alone_for_predict_only(plcli: Command, linear_config: Path) -> None:
    assert plcli("fit", "-c", linear_config, "some text").code == 2


def test_what_follows_two_dashes_is_text(plcli: Command, text_run: FinishedRun) -> None:
    result = plcli("predict", "--run", text_run.folder, "--", "--where", "-c")
    assert len(result.out.splitlines()) == 2


def test_a_dash_and_a_space_start_a_text(plcli: Command, text_run: FinishedRun) -> None:
    assert plcli("predict", "--run", text_run.folder, "- where is my parcel").code == 0


def test_options_may_stand_after_a_text(plcli: Command, text_run: FinishedRun) -> None:
    assert plcli("predict", "where is it", "--run", text_run.folder).code == 0


def test_a_text_that_looks_like_an_option_is_refused(plcli: Command, text_run: FinishedRun) -> None:
    result = plcli("predict", "--run", text_run.folder, "-where")
    assert message(result).startswith("plcli: unknown option -where.")


@pytest.mark.parametrize(
    ("words", "section", "key", "value"),
    [
        (["--epochs", "7"], "trainer", "max_epochs", 7),
        (["--batch_size=3"], "data", "batch_size", 3),
        (["--lr", "0.25"], "model", "lr", 0.25),
    ],
)
def test_a_short_form_stands_for_a_key(
    resolved: Resolved, linear_config: Path, words: list[str], section: str, key: str, value: Any
) -> None:
    found = resolved("-c", linear_config, *words)[section]
    found = found.get("init_args", found)
    assert (found["optimizer"]["init_args"] if key == "lr" else found)[key] == value


def test_the_seed_has_a_short_form(resolved: Resolved, linear_config: Path) -> None:
    assert resolved("-c", linear_config, "--seed", "5")["seed_everything"] == 5
