"""Mistakes in a user's modules, data, callbacks, loggers and Trainer flags.

None ends in a traceback of plcli. What the user's own code raises is shown as theirs, from their
first line on, with exit code 1; the rest is one message.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import plcli as package
from tests.conftest import Command, write_config
from tests.lightning_cli.test_projects import PROJECTS

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning says to users' projects
LIGHTNING = "lightning.pytorch"


class Mistake(NamedTuple):
    """A mistake in a config, and how the command ends.

    Attributes:
        code: the exit code.
        said: a part of the message.
        model: the class of the model, in lab.mistakes, and its arguments.
        data: the class of the data, in lab.mistakes, and its arguments.
        callback: a callback, and its arguments.
        trainer: other keys of the trainer.
        sections: other sections.
    """

    code: int
    said: str
    model: tuple[str, Mapping[str, Any]] = ("lab.modules.Classifier", {})
    data: tuple[str, Mapping[str, Any]] = ("lab.data.Points", {})
    callback: tuple[str, Mapping[str, Any]] | None = None
    trainer: Mapping[str, Any] = {}
    sections: Mapping[str, Any] = {}


def model(name: str, code: int, said: str, **arguments: Any) -> Mistake:
    """A mistake in a model."""
    return Mistake(code, said, model=(f"lab.mistakes.{name}", arguments))


def data(code: int, said: str, raises: str, **arguments: Any) -> Mistake:
    """A mistake in a data module."""
    return Mistake(code, said, data=("lab.mistakes.BadData", {"raises": raises, **arguments}))


def callback(name: str, code: int, said: str, **arguments: Any) -> Mistake:
    """A mistake in a callback of Lightning, or in a config of one."""
    path = name if "." in name else f"{LIGHTNING}.callbacks.{name}"
    return Mistake(code, said, callback=(path, arguments))


def trainer(code: int, said: str, **flags: Any) -> Mistake:
    """A mistake in a key of the trainer."""
    return Mistake(code, said, trainer=flags)


def logger(name: str, code: int, said: str, **arguments: Any) -> Mistake:
    """A mistake in a logger."""
    path = name if "." in name else f"{LIGHTNING}.loggers.{name}"
    return trainer(code, said, logger={"class_path": path, "init_args": arguments})


HOOKS = (
    *("training_step", "validation_step", "test_step", "configure_optimizers", "setup"),
    *("on_fit_start", "on_train_start", "on_train_epoch_start", "on_before_zero_grad"),
    *("on_train_epoch_end", "on_validation_epoch_end", "on_fit_end", "on_save_checkpoint"),
)
CALLBACK_HOOKS = (
    *("__init__", "setup", "on_train_start", "on_train_batch_end", "on_validation_end"),
    *("on_fit_end", "state_dict"),
)
MISTAKES = {
    **{
        f"a module raises in {hook}": model(
            "Steps", 1, "your own code raised this RuntimeError: {lab}/mistakes.py", raises=hook
        )
        for hook in HOOKS
    },
    "a constructor raises": model("Constructor", 1, "ValueError: the width has to be even"),
    "an argument is missing": model("Required", 2, "model: 'depth' is missing."),
    "an argument has the wrong type": model(
        "Required", 2, "model.depth: got 'deep', expected int.", depth="deep"
    ),
    "an argument is unknown": model(
        "Required", 2, "unknown key 'model.init_args.dept'. Did you mean 'depth'?", dept=1
    ),
    "a shape does not fit": model("WrongShape", 1, "your own code raised this RuntimeError"),
    "a step returns a text": model("ReturnsText", 2, "In automatic optimization"),
    "a step returns a mapping without a loss": model("NoLoss", 2, "'loss'"),
    "a loss has no gradient": model("NoGradient", 1, "does not require grad"),
    "a module logs several numbers at once": model("LogsMany", 1, "{lab}/mistakes.py, line"),
    "a module logs where it cannot": model("LogsInWrongHook", 2, "trainer: You can't `self.log()`"),
    "an optimizer is a text": model("OptimizerIsText", 2, "Unknown configuration"),
    "a learning rate is negative": model("NegativeRate", 1, "Invalid learning rate: -1.0"),
    "a plateau has no metric": model("PlateauWithoutMonitor", 2, "must include a monitor"),
    "a plateau has an unknown metric": model(
        "PlateauOfNothing",
        2,
        "metric 'val_los' is not logged. Did you mean 'val_loss'?",
    ),
    "a plateau has the wrong direction": model(
        "PlateauOfAccuracy", 2, "larger values of 'val_acc' are better. Create it with mode='max'."
    ),
    "several optimizers without manual optimization": model(
        "SeveralWithoutManual", 2, "multiple optimizers"
    ),
    "an exception has no message": model("WithoutMessage", 1, "this AssertionError"),
    "a method calls itself": model("Recursion", 1, "this RecursionError"),
    "a class is no module": model("NotAModule", 2, "model: got '"),
    "a module has no optimizer": model(
        "NoOptimizer", 2, "model: NoOptimizer does not define configure_optimizers"
    ),
    "a class does not exist": model(
        "NoGradients", 2, "'lab.mistakes' has no class 'NoGradients'. Did you mean 'NoGradient'?"
    ),
    "a module does not exist": Mistake(
        2, "no module 'lab.mistake' for", model=("lab.mistake.NoGradient", {})
    ),
    "a data module raises in its constructor": data(1, "/no/such/folder", "__init__"),
    "a data module raises in setup": data(1, "/no/such/file.h5", "setup"),
    "a data module raises in prepare_data": data(1, "my server is down", "prepare_data"),
    "a data module raises for its loader": data(1, "KeyError: 'train.csv'", "train_dataloader"),
    "a data module raises for its validation": data(1, "KeyError: 'val.csv'", "val_dataloader"),
    "a row cannot be read": data(1, "of my own file is broken", "rows"),
    "a row cannot be read by a worker": data(
        1, "in worker 0 of a DataLoader", "rows", num_workers=1
    ),
    "rows cannot be collated": data(1, "this TypeError", "collate"),
    "there is no loader": data(2, "An invalid dataloader was returned", "no loader"),
    "facts are a list": data(2, "BadData.facts: returns ['lr'], expected a mapping", "facts"),
    **{
        f"a callback raises in {hook}": callback(
            "lab.mistakes.BadCallback", 1, f"my own mistake in {hook}", raises=hook
        )
        for hook in CALLBACK_HOOKS
    },
    "a callback needs a package": callback(
        "lab.mistakes.NeedsPackage", 5, "Install it: pip install a_package_that_is_not_there"
    ),
    "a callback is none": callback("lab.mistakes.NotAModule", 2, "trainer.callbacks: got '"),
    "a callback does not exist": callback(
        "EarlyStoping", 2, "has no class 'EarlyStoping'. Did you mean 'EarlyStopping'?"
    ),
    "EarlyStopping has no metric": callback("EarlyStopping", 2, "'monitor' is missing"),
    "EarlyStopping has an unknown mode": callback(
        "EarlyStopping", 2, "`mode` can be min, max, got big", monitor="val_loss", mode="big"
    ),
    "EarlyStopping has the wrong direction": callback(
        "EarlyStopping",
        2,
        "larger values are better. Use mode: max.",
        monitor="val_acc",
        mode="min",
    ),
    "EarlyStopping has an unknown metric": callback(
        "EarlyStopping", 2, "'val_los' is not logged. Did you mean", monitor="val_los"
    ),
    "ModelCheckpoint has an unknown metric": callback(
        "ModelCheckpoint", 2, "'val_los' is not logged. Did you mean", monitor="val_los"
    ),
    "ModelCheckpoint keeps too few": callback("ModelCheckpoint", 2, "save_top_k", save_top_k=-3),
    "ModelCheckpoint has two intervals": callback(
        "ModelCheckpoint", 2, "mutually exclusive", every_n_train_steps=1, every_n_epochs=1
    ),
    "Timer has no duration": callback("Timer", 2, "trainer", duration="soon"),
    "LearningRateMonitor has an unknown interval": callback(
        "LearningRateMonitor", 2, "logging_interval", logging_interval="hour"
    ),
    "BackboneFinetuning has no backbone": Mistake(
        2,
        "trainer.callbacks: finetuning: 'Adversaries' object has no attribute 'backbone'",
        model=("lab.modules.Adversaries", {}),
        callback=(f"{LIGHTNING}.callbacks.BackboneFinetuning", {}),
    ),
    "batches are accumulated twice": Mistake(
        2,
        "GradientAccumulationScheduler",
        callback=(
            f"{LIGHTNING}.callbacks.GradientAccumulationScheduler",
            {"scheduling": {0: 2}},
        ),
        trainer={"accumulate_grad_batches": 2},
    ),
    "LearningRateMonitor has no logger": Mistake(
        2,
        "Cannot use `LearningRateMonitor` callback with `Trainer` that has no logger.",
        callback=(f"{LIGHTNING}.callbacks.LearningRateMonitor", {}),
        trainer={"logger": False},
    ),
    "W&B is not installed": logger("WandbLogger", 5, "pip install wandb", project="mine"),
    "MLflow is not installed": logger("MLFlowLogger", 5, "pip install mlflow"),
    "Comet is not installed": logger("CometLogger", 5, "pip install comet"),
    "a logger has an unknown key": logger(
        "CSVLogger", 2, "Did you mean 'save_dir'?", save_dirr="logs"
    ),
    "a logger raises": logger("lab.mistakes.BadLogger", 1, "my own logger is full"),
    "there is no GPU": trainer(5, "this machine has no such device", accelerator="gpu"),
    "there is no TPU": trainer(5, "this machine has no such device", accelerator="tpu"),
    "an accelerator is unknown": trainer(2, "accelerator", accelerator="quantum"),
    "there are no devices": trainer(2, "devices", devices=0),
    "a precision is unknown": trainer(2, "trainer.precision", precision="32.5"),
    "a strategy is unknown": trainer(2, "strategy", strategy="alone"),
    "a strategy forks": trainer(2, "Use ddp, which starts them", strategy="ddp_fork", devices=2),
    "epochs are negative": trainer(2, "max_epochs", max_epochs=-5),
    "steps are negative": trainer(2, "max_steps", max_steps=-5),
    "a limit is above all": trainer(2, "limit_train_batches", limit_train_batches=2.5),
    "a limit is below one batch": trainer(2, "limit_train_batches", limit_train_batches=0.01),
    "validation comes too late": trainer(2, "val_check_interval", val_check_interval=100),
    "validation has no interval": trainer(
        2, "check_val_every_n_epoch", check_val_every_n_epoch=None, val_check_interval=0.5
    ),
    "a profiler is unknown": trainer(2, "profiler", profiler="slow"),
    "a way to clip is unknown": trainer(
        2, "gradient_clip", gradient_clip_val=1.0, gradient_clip_algorithm="scissors"
    ),
    "a time has the wrong form": trainer(2, "max_time", max_time="an hour"),
    "barebones": trainer(2, "trainer.barebones: turns off the checkpoints", barebones=True),
    "a plugin is unknown": trainer(2, "plugin", plugins="extra"),
    "a flag is misspelt": trainer(2, "Did you mean 'max_epochs'?", max_epoch=1),
    "a flag is of Lightning 1": trainer(2, "use accelerator: gpu and devices", gpus=1),
    "a flag of Lightning 1 resumes": trainer(2, "--ckpt_path", resume_from_checkpoint="x.ckpt"),
    "a seed is negative": Mistake(2, "seed_everything", sections={"seed_everything": -1}),
    "an optimizer has a wrong value": Mistake(
        2,
        "optimizer: Invalid learning rate: -1.0",
        model=("lab.modules.WithoutOptimizer", {}),
        sections={"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": -1.0}}},
    ),
    "an optimizer has an unknown key": Mistake(
        2,
        "Did you mean 'lr'?",
        model=("lab.modules.WithoutOptimizer", {}),
        sections={"optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lrr": 1}}},
    ),
    "an optimizer is unknown": Mistake(
        2,
        "has no class 'Adan'. Did you mean",
        model=("lab.modules.WithoutOptimizer", {}),
        sections={"optimizer": {"class_path": "torch.optim.Adan"}},
    ),
    "a schedule lacks an argument": Mistake(
        2,
        "'step_size' is missing",
        model=("lab.modules.WithoutOptimizer", {}),
        sections={
            "optimizer": {"class_path": "torch.optim.Adam"},
            "lr_scheduler": {"class_path": "torch.optim.lr_scheduler.StepLR"},
        },
    ),
    "a checkpoint to start from does not exist": Mistake(
        4, "--ckpt_path nowhere.ckpt: no such file.", sections={"ckpt_path": "nowhere.ckpt"}
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_as_the_users(
    plcli: Command, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.syspath_prepend(PROJECTS)
    mistake = MISTAKES[name]
    chosen = {"max_epochs": 1, "accelerator": "cpu", "log_every_n_steps": 1, **mistake.trainer}
    if mistake.callback is not None:
        path, arguments = mistake.callback
        chosen["callbacks"] = [{"class_path": path, "init_args": dict(arguments)}]
    config = write_config(
        Path("own.yaml"),
        model={"class_path": mistake.model[0], "init_args": dict(mistake.model[1])},
        data={"class_path": mistake.data[0], "init_args": dict(mistake.data[1])},
        trainer=chosen,
        **mistake.sections,
    )
    result = plcli("fit", "-c", config, "--allow-import", "lab")
    assert result.code == mistake.code, result.err
    assert mistake.said.format(lab=PROJECTS / "lab") in result.err
    own = re.escape(str(Path(package.__file__).parent))
    assert not re.search(f'File "{own}', result.err)
