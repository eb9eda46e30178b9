"""A wrong command line, override or config file is told in one message, with what would do."""

from pathlib import Path

import pytest

from tests.conftest import Command, message

LINEAR = "plcli.tasks.linear_regression"
TEXT = "plcli.tasks.text_classification"
TABLE_TAKES = (
    "TableData takes features, target, train, validation, test, predict, id, group, "
    "batch_size, validation_fraction, folds, fold, split_seed, seed, encoding, quoting, delimiter, "
    "decimal, format."
)


# the command line: words after `plcli`, and what is said


COMMAND_LINES = {
    "a misspelt command": (
        ["ft"],
        "unknown command 'ft'. Did you mean 'fit'? `plcli --help` lists the commands.",
    ),
    "a command that is like no other": (
        ["xyzzy"],
        "unknown command 'xyzzy'. `plcli --help` lists the commands.",
    ),
    "fit without a model": (
        ["fit"],
        "no model given. Use --config FILE (such as configs/bert.yaml) or --model CLASS.",
    ),
    "test without a run": (
        ["test"],
        "no model given. Name a run with `plcli test --run runs/...`, or a config with --config.",
    ),
    "predict without a run": (
        ["predict", "where is my parcel"],
        "no model given. Name a run with `plcli predict --run runs/...`, or a config with "
        "--config.",
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
        "--output: is an option of plcli predict, not of fit. Remove it.",
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
    "an unexpected argument": (
        ["fit", "table.yaml"],
        "unexpected argument 'table.yaml'. `plcli fit` only takes options, such as --config FILE "
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
    "arguments of no callback": (
        ["--trainer.callbacks", "[{init_args: {a: 1}}]"],
        "trainer.callbacks: has arguments (a), but no class_path. Add one, with the name of the "
        "class.",
    ),
    "arguments of no optimizer": (
        ["--optimizer", "{lr: 3}"],
        "optimizer: has arguments (lr), but no class_path. Add one, such as torch.optim.AdamW.",
    ),
    "a schedule of no optimizer": (
        ["--lr_scheduler", "torch.optim.lr_scheduler.StepLR"],
        "lr_scheduler: needs a section optimizer, whose learning rate it changes. Add one, such "
        "as `optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.001}}`.",
    ),
    "a mapping for a number": (
        ["--model.optimizer", "{class_path: torch.optim.AdamW, init_args: {lr: {a: 1}}}"],
        "model.optimizer.lr: got a mapping with the key 'a', expected a single value.",
    ),
    "an option of another command": (
        ["--keep", "a"],
        "--keep: is an option of plcli predict, not of fit. Remove it.",
    ),
    "a base class": (
        ["--model.optimizer", "torch.optim.Optimizer"],
        "model.optimizer: 'defaults' is missing. Set it in a config, under model.optimizer.",
    ),
    "a target among the features": (
        ["--data.features", "[a, y]"],
        "data.features: the column 'y' is the target. Remove it from the features.",
    ),
    "a feature that is named twice": (
        ["--data.features", "[a, a]"],
        "data.features: the column 'a' is named twice. Remove it from the features.",
    ),
    "a number for arguments": (
        ["--data.init_args", "3"],
        "data: got '3', expected a mapping of keys.",
    ),
    "a number for a name": (
        ["--data.features", "[1, 2]"],
        "data.features: got '1', expected text. Write it in quotes: \"1\".",
    ),
    "null for columns": (
        ["--data.features", "null"],
        "data.features: got null, which it cannot be. Give a value, or remove the key.",
    ),
    "null for a size": (
        ["--data.batch_size", "null"],
        "data.batch_size: got null, which it cannot be. Give a value, or remove the key. Its "
        "default is 32.",
    ),
    "a mode that a callback does not know": (
        [
            "--trainer.callbacks",
            "[{class_path: lightning.pytorch.callbacks.EarlyStopping, "
            "init_args: {monitor: val_loss, mode: bad}}]",
        ],
        "trainer: early_stopping: `mode` can be min, max, got bad",
    ),
    "no accumulated batch": (
        ["--trainer.accumulate_grad_batches", "0"],
        "trainer.accumulate_grad_batches: got 0, expected 1 or more.",
    ),
    "no epoch between validations": (
        ["--trainer.check_val_every_n_epoch", "0"],
        "trainer.check_val_every_n_epoch: got 0, expected 1 or more.",
    ),
    "no batch between validations": (
        ["--trainer.val_check_interval", "0"],
        "trainer.val_check_interval: got 0, expected a number of batches, or a fraction of the "
        "epoch above 0.0. To leave out validations, set limit_val_batches: 0.",
    ),
    "gradients that are clipped to less than nothing": (
        ["--trainer.gradient_clip_val", "-1"],
        "trainer.gradient_clip_val: got -1, expected 0 or more.",
    ),
    "no epoch": (
        ["--trainer.max_epochs", "0"],
        "trainer.max_epochs: got 0, with which nothing is trained. To score weights as they are, "
        "use `plcli validate` or `plcli test` with --model.pretrained.",
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
        "model.class_path: no module 'nowhere' for 'nowhere.Model'. Check its name, or install its "
        "package.",
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
        "SimpleLinearModel is for linear-regression, but TextClassificationData provides data for "
        f"text-classification. Use data.class_path {LINEAR}.TableData.",
    ),
    "a classifier with a table": (
        ["--model", "TextClassifier"],
        "TextClassifier is for text-classification, but TableData provides data for "
        f"linear-regression. Use data.class_path {TEXT}.TextClassificationData.",
    ),
    "a fact that contradicts the data": (
        ["--model.input_dim", "5"],
        "model.input_dim: got 5, but the data require 2. Remove the key.",
    ),
    "a metric to monitor without a direction": (
        ["--checkpoint.monitor", "val_rmse"],
        "checkpoint: monitor requires mode (min or max), and mode requires monitor; "
        "give both or neither.",
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
        "data: features and target must each name at least one column.",
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
        "unknown key 'zzz'. Valid are model, data, trainer, checkpoint, numbers, optimizer, "
        "lr_scheduler, seed_everything, threads, interop_threads. Keys that a LightningCLI class "
        "of your own adds are not known to plcli.",
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
    "no value for the model": ("model:", "no model given."),
}


@pytest.mark.parametrize("mistake", CLASSES)
def test_a_wrong_value_in_a_file_is_told(plcli: Command, linear_config: Path, mistake: str) -> None:
    text, said = CLASSES[mistake]
    Path("overlay.yaml").write_text(text)
    result = plcli("fit", "-c", linear_config, "-c", "overlay.yaml")
    assert result.code == 2
    assert said in message(result)
