"""A user's mistake ends with one message and its exit code; a bug keeps its traceback: 70."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from plcli import __main__
from plcli.errors import DataError, MachineError, ModelError, PlcliError, UsageError
from plcli.tasks.linear_regression import SimpleLinearModel
from tests.conftest import FinishedRun, Result, message, write_config, write_rows

Command = Callable[..., Result]
LINEAR = "plcli.tasks.linear_regression"
TEXT = "plcli.tasks.text_classification"
TABLE_TAKES = (
    "TableData takes features, target, train, validation, test, predict, id, batch_size, "
    "validation_fraction, seed, encoding."
)

# the command line: words after `plcli`, and what is said

COMMAND_LINES = {
    "a misspelt command": (
        ["ft"],
        "unknown command 'ft'. Did you mean 'fit'? `plcli --help` lists them.",
    ),
    "a command that is like no other": (
        ["xyzzy"],
        "unknown command 'xyzzy'. `plcli --help` lists them.",
    ),
    "fit without a model": (
        ["fit"],
        "no model is named. Give a config with --config FILE (such as configs/bert.yaml), "
        "or --model CLASS.",
    ),
    "test without a run": (
        ["test"],
        "which model? Name a run: `plcli test --run runs/...`, or a config with --config.",
    ),
    "predict without a run": (
        ["predict", "where is my parcel"],
        "which model? Name a run: `plcli predict --run runs/...`, or a config with --config.",
    ),
    "a run that is not there": (
        ["test", "--run", "nowhere"],
        "--run nowhere: no such folder.",
    ),
    "a run folder that is another folder": (
        ["test", "--run", "."],
        "--run .: is neither a run folder (config.yaml) nor a model/ folder (plcli.json).",
    ),
    "a misspelt option": (
        ["fit", "--confg", "x.yaml"],
        "unknown option --confg. Did you mean '--config'? `plcli fit --help` lists the options.",
    ),
    "an option of another command": (
        ["fit", "--output", "x.csv"],
        "unknown option --output. `plcli fit --help` lists the options.",
    ),
    "a short option that is not there": (
        ["fit", "-x"],
        "unknown option -x. `plcli fit --help` lists the options.",
    ),
    "an option without its value": (["fit", "--run"], "--run needs a value."),
    "an override without its value": (
        ["fit", "--trainer.max_epochs"],
        "--trainer.max_epochs needs a value.",
    ),
    "a word that stands alone": (
        ["fit", "table.yaml"],
        "'table.yaml' stands alone: `plcli fit` takes options only, such as --config FILE "
        "or --key value.",
    ),
    "a misspelt class name": (
        ["fit", "--model", "TextClasifier"],
        "no task has a class 'TextClasifier'. Did you mean 'TextClassifier'? There are: CausalLM, "
        "CausalLMData, MaskedLM, MaskedLMData, MultipleChoiceData, MultipleChoiceModel, "
        "QuestionAnswerer, QuestionAnsweringData, SentenceData, SentenceEmbedder, Seq2SeqData, "
        "Seq2SeqModel, ... (6 more).",
    ),
}


@pytest.mark.parametrize("mistake", COMMAND_LINES)
def test_a_wrong_command_line_is_told_in_one_message(plcli: Command, mistake: str) -> None:
    words, said = COMMAND_LINES[mistake]
    result = plcli(*words)
    assert (result.code, result.err) == (2, f"plcli: {said}\n")


def test_a_misspelt_section_of_an_override_is_told_with_the_nearest(plcli: Command) -> None:
    said = message(plcli("fit", "--trainr.max_epochs", "1"))
    assert "Did you mean '--trainer" in said


def test_an_empty_command_line_shows_the_commands(plcli: Command) -> None:
    result = plcli()
    assert (result.code, "usage: plcli COMMAND" in result.out) == (2, True)


# overrides: words after `plcli fit --config table.yaml`, the exit code, and what is said

OVERRIDES = {
    "a misspelt key of the trainer": (
        ["--trainer.max_epoch", "1"],
        "unknown key '--trainer.max_epoch'. Did you mean 'max_epochs'?",
    ),
    "a misspelt key of the data": (
        ["--data.featurs", "[a]"],
        "unknown key '--data.featurs'. Did you mean 'features'?",
    ),
    "a misspelt key of the data's init_args": (
        ["--data.init_args.batch_sise", "1"],
        "unknown key '--data.init_args.batch_sise'. Did you mean 'batch_size'?",
    ),
    "a misspelt key of the model": (
        ["--model.optimizr", "SGD"],
        "unknown key '--model.optimizr'. Did you mean 'optimizer'?",
    ),
    "a key that is like no other": (
        ["--data.zzz", "1"],
        f"unknown key '--data.zzz'. {TABLE_TAKES}",
    ),
    "a misspelt key of the optimizer": (
        ["--model.optimizer.lrr", "1"],
        "unknown key 'model.optimizer.lrr'. Did you mean 'lr'?",
    ),
    "a misspelt key of checkpoint": (
        ["--checkpoint.monitr", "val_rmse"],
        "unknown key '--checkpoint.monitr'. Did you mean 'monitor'?",
    ),
    "a word for a number": (
        ["--trainer.max_epochs", "many"],
        "trainer.max_epochs: got 'many', expected int or null.",
    ),
    "a word for a seed": (
        ["--seed_everything", "abc"],
        "seed_everything: got 'abc', expected bool or int.",
    ),
    "a word for a batch size": (
        ["--data.batch_size", "many"],
        "data.batch_size: got 'many', expected int.",
    ),
    "a number for callbacks": (
        ["--trainer.callbacks", "3"],
        "trainer.callbacks: got '3', expected list or null.",
    ),
    "a model of a module that is not there": (
        ["--model", "nowhere.Model"],
        "--model: 'nowhere.Model' is outside the packages that a config may name "
        "(plcli, lightning, torch, torchmetrics, transformers). "
        "If you trust that code, add --allow-import nowhere to the command.",
    ),
    "a trusted model of a module that is not there": (
        ["--model", "nowhere.Model", "--allow-import", "nowhere"],
        "model.class_path: no module 'nowhere' for 'nowhere.Model'.",
    ),
    "a model of a misspelt module": (
        ["--model", "plcli.tasks.linear_regresion.SimpleLinearModel"],
        "model.class_path: no module 'plcli.tasks.linear_regresion' for "
        "'plcli.tasks.linear_regresion.SimpleLinearModel'. "
        "Did you mean 'plcli.tasks.linear_regression'?",
    ),
    "a misspelt class of a module": (
        ["--model", f"{LINEAR}.SimpleLinearModl"],
        f"model.class_path: '{LINEAR}' has no class 'SimpleLinearModl'. "
        "Did you mean 'SimpleLinearModel'?",
    ),
    "data of another task": (
        ["--data", "TextClassificationData"],
        "SimpleLinearModel is for linear-regression, but TextClassificationData gives data for "
        f"text-classification. Use data.class_path {LINEAR}.TableData.",
    ),
    "a classifier with a table": (
        ["--model", "TextClassifier"],
        "TextClassifier is for text-classification, but TableData gives data for "
        f"linear-regression. Use data.class_path {TEXT}.TextClassificationData.",
    ),
    "a fact that contradicts the data": (
        ["--model.input_dim", "5"],
        "model.input_dim: 5 is asked for, but the data say 2. Leave the key away.",
    ),
    "a metric to monitor without a direction": (
        ["--checkpoint.monitor", "val_rmse"],
        "checkpoint: monitor and mode (min or max) go together; give both or neither.",
    ),
    "a direction that is none": (
        ["--checkpoint.monitor", "val_rmse", "--checkpoint.mode", "low"],
        "checkpoint.mode: got 'low', expected 'min', 'max' or null.",
    ),
    "a metric that is not logged": (
        ["--checkpoint.monitor", "val_rmsee", "--checkpoint.mode", "min"],
        "checkpoint.monitor: no metric 'val_rmsee' is logged. Did you mean 'val_rmse'? "
        "There are: val_mae, val_mse, val_r2, val_rmse.",
    ),
    "no rows a batch": (
        ["--data.batch_size", "0"],
        "data.batch_size: got 0, expected 1 or more.",
    ),
    "all rows for validation": (
        ["--data.validation_fraction", "1"],
        "data.validation_fraction: got 1.0, expected 0 or more and below 1.",
    ),
    "no feature": (
        ["--data.features", "[]"],
        "data: features and target have to name a column each, at least.",
    ),
    "an unknown way to resume": (
        ["--resume", "maybe"],
        "--resume: got 'maybe', expected auto, never, must or allow-changes.",
    ),
    "no training data": (
        ["--data.train", "null"],
        "data.train is not given. Name a file: --data.train FILE.",
    ),
}


@pytest.mark.parametrize("mistake", OVERRIDES)
def test_a_wrong_override_is_told_in_one_message(
    plcli: Command, linear_config: Path, mistake: str
) -> None:
    words, said = OVERRIDES[mistake]
    result = plcli("fit", "-c", linear_config, "--run", "here", *words)
    assert (result.code, message(result)) == (2, f"plcli: {said}\n")


UNEXPLAINED = {  # the key and what was got are told; what is expected has to be something of use
    "an optimizer that is not there": (["--model.optimizer", "Adamm"], "model.optimizer: got"),
    "a number for the optimizer": (["--model.optimizer", "5"], "model.optimizer: got"),
    "a callback that is not there": (
        ["--trainer.callbacks+", "EarlyStoppin"],
        "trainer.callbacks: got",
    ),
    "a class that is no LightningModule": (["--model", "torch.nn.Linear"], "model: "),
    "a number for the trainer": (["--trainer", "3"], "trainer: got '3'"),
}


@pytest.mark.parametrize("mistake", UNEXPLAINED)
def test_a_message_does_not_expect_null_where_null_is_no_help(
    plcli: Command, linear_config: Path, mistake: str
) -> None:
    words, said = UNEXPLAINED[mistake]
    result = plcli("fit", "-c", linear_config, "--run", "here", *words)
    assert said in result.err
    assert "expected null" not in result.err


@pytest.mark.parametrize(
    ("key", "example"),
    [("lora", "{rank: 8}"), ("adversarial", "{kind: fgm}"), ("plateau", "{factor: 0.5}")],
)
def test_a_value_in_place_of_a_mapping_is_told_with_an_example(
    plcli: Command, text_config: Path, key: str, example: str
) -> None:
    result = plcli("fit", "-c", text_config, f"--model.{key}", "true")
    expected = f"plcli: model.{key}: got 'True', expected a mapping, such as {example}.\n"
    assert (result.code, message(result)) == (2, expected)


def test_an_error_before_training_leaves_no_run_folder(plcli: Command, linear_config: Path) -> None:
    plcli("fit", "-c", linear_config, "--run", "here", "--data.features", "[a, c]")
    assert not Path("here").exists()


# keys in a file: the lines of an overlay, and what is said

FILES = {
    "a misspelt section": (
        "trainr: {max_epochs: 1}",
        "unknown key 'trainr'. Did you mean 'trainer'?",
    ),
    "a section that is like no other": (
        "zzz: 1",
        "unknown key 'zzz'. Valid are model, data, trainer, checkpoint, numbers, seed_everything, "
        "threads, interop_threads.",
    ),
    "a misspelt key of the trainer": (
        "trainer: {max_epoch: 1}",
        "unknown key 'trainer.max_epoch'. Did you mean 'max_epochs'?",
    ),
    "a misspelt key of the data": (
        "data: {init_args: {featurs: [a]}}",
        "unknown key 'data.init_args.featurs'. Did you mean 'features'?",
    ),
    "a misspelt key of the data without init_args": (
        "data: {featurs: [a]}",
        "unknown key 'data.init_args.featurs'. Did you mean 'features'?",
    ),
    "a misspelt class_path": (
        "data: {class_pth: x, init_args: {}}",
        "unknown key 'data.class_pth'. Did you mean 'class_path'?",
    ),
    "a misspelt key of the optimizer": (
        "model: {init_args: {optimizer: {class_path: torch.optim.AdamW, init_args: {lrr: 1}}}}",
        "unknown key 'model.init_args.optimizer.init_args.lrr'. Did you mean 'lr'?",
    ),
    "a misspelt key of a callback": (
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.EarlyStopping, "
        "init_args: {monitr: x}}]}",
        "unknown key 'trainer.callbacks.init_args.monitr'. Did you mean 'monitor'?",
    ),
    "a misspelt key of checkpoint": (
        "checkpoint: {monitr: val_rmse}",
        "unknown key 'checkpoint.monitr'. Did you mean 'monitor'?",
    ),
    "a key that is like no other": (
        "data: {zzz: 1}",
        f"unknown key 'data.init_args.zzz'. {TABLE_TAKES}",
    ),
}


@pytest.mark.parametrize("mistake", FILES)
def test_a_wrong_key_is_told_with_its_file(
    plcli: Command, linear_config: Path, mistake: str
) -> None:
    text, said = FILES[mistake]
    Path("overlay.yaml").write_text(text)
    result = plcli("fit", "-c", linear_config, "-c", "overlay.yaml")
    assert (result.code, message(result)) == (2, f"plcli: overlay.yaml: {said}\n")


CLASSES = {
    "a misspelt optimizer": (
        "model: {init_args: {optimizer: {class_path: torch.optim.AdmW}}}",
        "model.init_args.optimizer.class_path: 'torch.optim' has no class 'AdmW'. "
        "Did you mean 'AdamW'?",
    ),
    "a misspelt module": (
        "model: {class_path: plcli.tasks.linear_regresion.SimpleLinearModel}",
        "no module 'plcli.tasks.linear_regresion' for "
        "'plcli.tasks.linear_regresion.SimpleLinearModel'. "
        "Did you mean 'plcli.tasks.linear_regression'?",
    ),
    "a misspelt class": (
        f"model: {{class_path: {LINEAR}.SimpleLinearModl}}",
        f"model.class_path: '{LINEAR}' has no class 'SimpleLinearModl'. "
        "Did you mean 'SimpleLinearModel'?",
    ),
    "a word for a number": (
        "trainer: {max_epochs: many}",
        "trainer.max_epochs: got 'many', expected int or null.",
    ),
    "a word for a list": ("data: {features: a}", "data.features: got 'a', expected list."),
    "a number for the trainer": ("trainer: 3", "trainer: got '3'"),
    "a number for the model": ("model: 3", "model: got '3'"),
    "no value for the trainer": ("trainer:", "trainer"),
    "no value for the model": ("model:", "no model is named."),
}


@pytest.mark.parametrize("mistake", CLASSES)
def test_a_wrong_value_in_a_file_is_told(plcli: Command, linear_config: Path, mistake: str) -> None:
    text, said = CLASSES[mistake]
    Path("overlay.yaml").write_text(text)
    result = plcli("fit", "-c", linear_config, "-c", "overlay.yaml")
    assert result.code == 2
    assert said in message(result)


# a model alone


def test_a_model_without_data_is_refused(plcli: Command) -> None:
    assert plcli("fit", "--model", "SimpleLinearModel").code == 2


def test_a_classifier_without_weights_and_architecture_is_refused(
    plcli: Command, text_config: Path
) -> None:
    write_config(Path("child.yaml"), model={"init_args": {"architecture": None}})
    result = plcli("fit", "-c", text_config, "-c", "child.yaml")
    assert (result.code, message(result)) == (
        2,
        "plcli: model: give either pretrained (weights to start from), init_from (a run to go on "
        "from) or architecture (a model_type and sizes).\n",
    )


def test_a_pretrained_folder_that_is_not_there_is_told(plcli: Command, text_config: Path) -> None:
    words = ["--model.architecture", "null", "--model.pretrained", "./nowhere"]
    result = plcli("fit", "-c", text_config, *words)
    assert (result.code, message(result)) == (
        4,
        "plcli: pretrained: no folder ./nowhere. Give a folder with a config.json, a hub id or "
        "package:NAME/FOLDER.\n",
    )


def test_a_pretrained_package_that_is_not_installed_is_told(
    plcli: Command, text_config: Path
) -> None:
    words = ["--model.architecture", "null", "--model.pretrained", "package:nowhere/model"]
    result = plcli("fit", "-c", text_config, *words)
    assert (result.code, message(result)) == (
        4,
        "plcli: pretrained: package:nowhere/model: no package 'nowhere' is installed. "
        "Install it with pip.\n",
    )


def test_a_hub_model_that_is_not_in_the_cache_is_told(plcli: Command, text_config: Path) -> None:
    words = ["--model.architecture", "null", "--model.pretrained", "nobody/nothing"]
    result = plcli("fit", "-c", text_config, *words)
    assert result.code == 5
    assert "pretrained: 'nobody/nothing' is not in the local cache" in message(result)


def test_a_misspelt_size_of_an_architecture_is_told(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--model.architecture.hiden_size", "32")
    assert (result.code, message(result)) == (
        4,
        "plcli: architecture: bert has no 'hiden_size'. Did you mean 'hidden_size'?\n",
    )


def test_an_unknown_model_type_is_told(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--model.architecture.model_type", "brt")
    assert result.code == 4
    assert "brt" in message(result)


# the data

EMPTY = "empty.csv: is empty. A first line with column names is needed, and rows below it."
DATA = {
    "a missing file": (
        ["--data.train", "tabel.csv"],
        "tabel.csv: no such file. Did you mean 'table.csv'?",
    ),
    "a folder": (
        ["--data.train", "folder"],
        "folder: is a folder. Name its files, for instance 'folder/*.csv'.",
    ),
    "an unknown ending": (
        ["--data.train", "table.yaml"],
        "table.yaml: the ending '.yaml' is none of csv, tsv, jsonl, json, parquet, arrow, txt.",
    ),
    "a missing column": (
        ["--data.train", "table.csv", "--data.features", "[a, c]"],
        "table.csv: has no column 'c'. It has a, b, y; name one of these.",
    ),
    "a missing target": (
        ["--data.train", "table.csv", "--data.target", "z"],
        "table.csv: has no column 'z'. It has a, b, y; name one of these.",
    ),
    "a cell that is no number": (
        ["--data.train", "words.csv"],
        "words.csv, row 2: column 'b' holds 'two', which is not a number. "
        "Write one, or remove the row.",
    ),
    "an empty file": (["--data.train", "empty.csv"], EMPTY),
    "a file of a header alone": (
        ["--data.train", "header.csv"],
        "header.csv: has no rows. Add some.",
    ),
    "a feature of one value": (
        ["--data.train", "constant.csv"],
        "constant.csv: the feature 'b' has one value in all training rows. Leave it out.",
    ),
    "a missing test file": (
        ["--data.test", "nowhere.parquet"],
        "nowhere.parquet: no such file. Check the path.",
    ),
    "a missing validation file": (
        ["--data.validation", "nowhere.parquet"],
        "nowhere.parquet: no such file. Check the path.",
    ),
}


@pytest.mark.parametrize("mistake", DATA)
def test_wrong_data_is_told_with_its_place(
    plcli: Command, linear_config: Path, mistake: str
) -> None:
    Path("folder").mkdir()
    Path("empty.csv").touch()
    Path("header.csv").write_text("a,b,y\n")
    write_rows(Path("words.csv"), [{"a": 1, "b": 2, "y": 3}, {"a": 1, "b": "two", "y": 3}])
    write_rows(Path("constant.csv"), [{"a": i, "b": 2, "y": i} for i in range(9)])
    words, said = DATA[mistake]
    result = plcli("fit", "-c", linear_config, *words)
    assert (result.code, message(result)) == (3, f"plcli: {said}\n")


def test_a_label_that_is_not_among_those_given_is_told(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--data.labels", "[billing, delivery, prais]")
    assert (result.code, message(result).replace(str(Path.cwd()), "")) == (
        3,
        "plcli: /train.jsonl, row 9: label 'praise' is not one of billing, delivery, prais. "
        "Did you mean 'prais'?\n",
    )


def test_a_text_for_a_model_of_two_columns_is_told(plcli: Command, linear_run: FinishedRun) -> None:
    result = plcli("predict", "--run", linear_run.folder, "some text")
    assert (result.code, message(result)) == (
        3,
        "plcli: text 1: this model reads 2 columns; give a JSON object such as "
        '{"a": "...", "b": "..."}.\n',
    )


# using a run: the command, words after `--run run`, the exit code and what is said

USES = {
    "a checkpoint that is not there": (
        ("test", "--ckpt_path", "nowhere.ckpt"),
        4,
        "nowhere.ckpt: no such checkpoint. Give best, last or a file with --ckpt_path.",
    ),
    "other labels": (
        ("test", "--data.labels", "[a, b]"),
        2,
        "data.labels: ['a', 'b'] is asked for, but the weights of run say "
        "['billing', 'delivery', 'praise']. Leave the key away.",
    ),
    "other labels of the model": (
        ("predict", "--model.labels", "[a, b]", "where"),
        2,
        "model.labels: ['a', 'b'] is asked for, but the weights of run say "
        "['billing', 'delivery', 'praise']. Leave the key away.",
    ),
    "another model class": (
        ("test", "--model", "SimpleLinearModel"),
        2,
        f"model.class_path: {LINEAR}.SimpleLinearModel is asked for, but the weights of run are of "
        f"{TEXT}.TextClassifier. Leave the key away, or train another run.",
    ),
    "another architecture": (
        ("test", "--model.architecture.hidden_size", "64"),
        2,
        "model.init_args.architecture.hidden_size: 64 is asked for, but the weights of run are of "
        "32. Leave the key away, or train another run.",
    ),
    "data of another task": (
        ("test", "--data", "TableData"),
        2,
        "TextClassifier is for text-classification, but TableData gives data for "
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
        "--output out.txt: the ending '.txt' is none of .csv, .jsonl, .parquet.",
    ),
    "an output that exists": (
        ("predict", "where", "--output", "taken.csv"),
        2,
        "--output taken.csv: exists already. Remove it or name another file.",
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
        "plcli: model.init_args.pretrained: bert-base-uncased is asked for, but the weights of "
        f"tuned are of {start}. Leave the key away, or train another run.\n",
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
    assert "Set PLCLI_CACHE to a folder that can." in message(result)


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
        "plcli: run/model/model.safetensors: is not the file that was written "
        "(its sha256 differs). Copy the folder again.\n",
    )


def test_weights_that_are_gone_are_told(plcli: Command, damaged: Path) -> None:
    (damaged / "model" / "model.safetensors").unlink()
    result = plcli("test", "--run", "run")
    assert (result.code, message(result)) == (
        4,
        "plcli: run/model: holds no model.safetensors. Copy the folder again, whole.\n",
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


# the ways a command ends


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError, 2), (DataError, 3), (ModelError, 4), (MachineError, 5)]
)
def test_an_error_ends_the_command_with_its_code(
    plcli: Command, monkeypatch: pytest.MonkeyPatch, error: type[PlcliError], code: int
) -> None:
    def fail(arguments: list[str]) -> int:
        raise error("what went wrong")

    monkeypatch.setattr(__main__, "_run", fail)
    result = plcli("fit")
    assert (result.code, result.err) == (code, "plcli: what went wrong\n")


@pytest.fixture
def entry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Run the console script in this process."""

    def run(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["plcli", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            __main__.entry()
        captured = capsys.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    return run


def broken_step(self: SimpleLinearModel, batch: Any, batch_idx: int) -> None:
    raise ZeroDivisionError("a bug")


def test_a_bug_ends_with_70(
    entry: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimpleLinearModel, "training_step", broken_step)
    assert entry("fit", "-c", linear_config).code == 70


def test_a_bug_keeps_its_traceback(
    entry: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimpleLinearModel, "training_step", broken_step)
    assert "ZeroDivisionError: a bug" in entry("fit", "-c", linear_config).err


def test_a_mistake_shows_no_traceback(entry: Command) -> None:
    assert "Traceback" not in entry("fit", "--run").err


def test_a_finished_command_ends_with_0(entry: Command) -> None:
    assert entry("--version").code == 0


def test_a_reader_that_has_gone_is_no_error(
    plcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: list[str]) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(__main__, "_run", fail)
    monkeypatch.setattr(sys, "stderr", open("stderr.txt", "w"))  # noqa: SIM115  # main closes it
    assert plcli("predict").code == 0


# what a file holds does not reach the terminal as it is


def test_a_column_name_does_not_colour_the_terminal(plcli: Command, linear_config: Path) -> None:
    Path("red.csv").write_text("\x1b[31ma\x1b[2J,b,y\n1,2,3\n")
    said = message(plcli("fit", "-c", linear_config, "--data.train", "red.csv"))
    assert ("\x1b" in said, "\\x1b[31ma" in said) == (False, True)


def test_a_column_name_of_many_lines_keeps_the_message_on_one(
    plcli: Command, linear_config: Path
) -> None:
    Path("lines.csv").write_text('"a\n\n\n\n\n\n\n",b,y\n1,2,3\n')
    said = message(plcli("fit", "-c", linear_config, "--data.train", "lines.csv"))
    assert said.count("\n") == 1


def test_a_long_column_name_is_cut(plcli: Command, linear_config: Path) -> None:
    Path("long.csv").write_text(f"{'x' * 100_000},b,y\n1,2,3\n")
    said = message(plcli("fit", "-c", linear_config, "--data.train", "long.csv"))
    assert len(said) < 400
