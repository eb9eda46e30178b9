"""What a LightningCLI user meets beside the numbers: files, names, hints, and use elsewhere."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from tests.conftest import Command, Result, message, write_config
from tests.lightning_cli import reference
from tests.lightning_cli.test_projects import PROJECTS
from tests.running import read_rows

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning says to users' projects
ALLOWED = ("--allow-import", "lab")


@pytest.fixture(autouse=True)
def _in_the_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PROJECTS, tmp_path, dirs_exist_ok=True)
    monkeypatch.syspath_prepend(PROJECTS)


def fit(plcli: Command, *words: object, config: str = "plain.yaml", run: str = "run") -> Result:
    """Fit a project."""
    result = plcli("fit", "-c", config, "--run", run, *ALLOWED, *words)
    assert result.code == 0, result.err
    return result


def own_config(name: str = "own.yaml", **sections: Any) -> str:
    """Write the plain config with other sections."""
    values = yaml.safe_load(Path("plain.yaml").read_text())
    for section, value in sections.items():
        values[section] = {**values.get(section, {}), **value}
    return str(write_config(Path(name), **values))


def saved(run: str, name: str = "last") -> dict[str, Any]:
    """Return a checkpoint of a run."""
    found: dict[str, Any] = torch.load(f"{run}/checkpoints/{name}.ckpt", weights_only=True)
    return found


# loggers and ModelCheckpoint


def test_tensorboard_by_true_writes_into_the_run_folder(plcli: Command) -> None:
    fit(plcli, config="tensorboard_by_true.yaml")
    assert list(Path("run/lightning_logs/version_0").glob("events*"))


@pytest.mark.parametrize("name", ["CSVLogger", "lightning.pytorch.loggers.CSVLogger"])
def test_a_logger_without_a_folder_writes_into_the_run_folder(plcli: Command, name: str) -> None:
    fit(plcli, "--trainer.logger", name)
    assert Path("run/lightning_logs/version_0/metrics.csv").exists()


def test_a_saved_config_does_not_write_into_the_folder_of_its_run(plcli: Command) -> None:
    fit(plcli, "--trainer.logger", "CSVLogger")
    fit(plcli, config="run/config.yaml", run="again")
    assert Path("again/lightning_logs/version_0/metrics.csv").exists()


def test_a_resumed_run_continues_in_tensorboard(
    plcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab.modules import Draws

    def stop(self: Any) -> None:
        if self.trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Draws, "on_train_epoch_start", stop)
        plcli("fit", "-c", "tensorboard_by_true.yaml", "--run", "run", *ALLOWED)
    fit(plcli, config="tensorboard_by_true.yaml")
    assert [path.name for path in Path("run/lightning_logs").iterdir()] == ["version_0"]


def test_model_checkpoints_are_in_the_run_folder_by_default(plcli: Command) -> None:
    fit(plcli, config="model_checkpoints.yaml")
    names = sorted(path.name for path in Path("run/model_checkpoints").iterdir())
    assert (names[-1], len(names)) == ("last.ckpt", 3)


def test_the_folder_of_a_model_checkpoint_is_made(plcli: Command) -> None:
    fit(plcli, config="model_checkpoints.yaml")
    assert len(list(Path("run/steps").glob("*.ckpt"))) == 2


def test_a_callback_finds_the_best_path_of_the_users_model_checkpoint(plcli: Command) -> None:
    fit(plcli, config="model_checkpoints.yaml")
    path = Path(Path("best_path.txt").read_text())
    assert (path.parent.name, path.exists()) == ("model_checkpoints", True)


def test_a_callback_finds_the_best_path_of_plclis_checkpoints(plcli: Command) -> None:
    fit(plcli, config=own_config(trainer={"callbacks": [{"class_path": "lab.callbacks.BestPath"}]}))
    assert Path("best_path.txt").read_text() == str(Path("run/checkpoints/best.ckpt"))


def test_the_profile_is_in_the_run_folder(plcli: Command) -> None:
    fit(plcli, config="profiled.yaml")
    assert "training_step" in Path("run/fit-profile.txt").read_text()


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("enable_checkpointing", False, "trainer.enable_checkpointing: false is not used"),
        (
            "default_root_dir",
            "elsewhere",
            "trainer.default_root_dir: not used; all is saved in run",
        ),
        (
            "plugins",
            [{"class_path": "lightning.pytorch.plugins.io.AsyncCheckpointIO"}],
            "AsyncCheckpointIO: is not used; plcli writes checkpoints itself",
        ),
        (
            "callbacks",
            [{"class_path": "lightning.pytorch.callbacks.RichProgressBar"}],
            "RichProgressBar: left out, as the output is not a terminal",
        ),
        (
            "callbacks",
            [{"class_path": "lightning.pytorch.callbacks.TQDMProgressBar"}],
            "TQDMProgressBar: left out, as the output is not a terminal",
        ),
    ],
)
def test_what_is_replaced_is_said(plcli: Command, flag: str, value: Any, said: str) -> None:
    assert said in fit(plcli, config=own_config(trainer={flag: value})).err


# metrics and the best epoch


def test_a_metric_with_a_slash_chooses_the_best_epoch(plcli: Command) -> None:
    result = fit(plcli, config="names_with_slashes.yaml")
    assert "by val/loss" in result.out


def test_the_metric_of_a_model_checkpoint_chooses_the_best_epoch(plcli: Command) -> None:
    saving = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"monitor": "val_acc", "mode": "max"},
    }
    assert "by val_acc" in fit(plcli, config=own_config(trainer={"callbacks": [saving]})).out


def test_metrics_with_slashes_are_in_metrics_json(plcli: Command) -> None:
    fit(plcli, config="names_with_slashes.yaml")
    metrics = json.loads(Path("run/metrics.json").read_text())
    del metrics["fit"]
    assert {split: sorted(values) for split, values in metrics.items()} == {
        "validation": ["acc", "loss"],
        "test": ["acc", "loss"],
    }


@pytest.mark.parametrize("command", ["validate", "test"])
def test_metrics_with_slashes_are_printed(plcli: Command, command: str) -> None:
    fit(plcli, config="names_with_slashes.yaml")
    assert "│ acc " in plcli(command, "--run", "run", *ALLOWED).out


def test_several_validations_are_told_apart(plcli: Command) -> None:
    fit(plcli, config="several_validations.yaml")
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert sorted(metrics["validation"]) == [
        *("acc/dataloader_idx_0", "acc/dataloader_idx_1"),
        *("loss/dataloader_idx_0", "loss/dataloader_idx_1"),
    ]


def test_several_losses_keep_the_last_epoch_with_a_warning(plcli: Command) -> None:
    result = fit(plcli, config="several_validations.yaml")
    assert (
        "warning: the last epoch is kept, as the validation logs no loss, or several" in result.err
    )


def test_the_default_mode_of_a_callback_is_corrected(plcli: Command) -> None:
    stopping = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "val_acc", "patience": 1},
    }
    result = fit(plcli, config=own_config(trainer={"callbacks": [stopping]}))
    assert "EarlyStopping: mode max instead of the default min" in result.err


def test_a_run_that_stops_early_says_so(plcli: Command) -> None:
    stopping = {
        "class_path": "lightning.pytorch.callbacks.EarlyStopping",
        "init_args": {"monitor": "val_loss", "stopping_threshold": 100.0},
    }
    result = fit(plcli, config=own_config(trainer={"callbacks": [stopping], "max_epochs": 5}))
    assert "stopped early, after step 4 in epoch 1: Stopping threshold reached" in result.err


def test_the_last_steps_are_validated(plcli: Command) -> None:
    result = fit(plcli, config="max_steps.yaml")
    assert "best epoch 2 by val_loss" in result.out


def test_an_epoch_without_validation_shows_no_old_number(plcli: Command) -> None:
    result = fit(plcli, "--trainer.max_epochs", 3, "--trainer.check_val_every_n_epoch", 2)
    lines = [line for line in result.err.splitlines() if "epoch 3 of 3" in line or "1 of 3" in line]
    assert ["val_loss" in line for line in lines] == [False, True]  # the last epoch is validated


def test_a_tie_is_broken_by_the_loss(plcli: Command) -> None:
    result = fit(
        plcli,
        *("--checkpoint.monitor", "val_acc", "--checkpoint.mode", "max"),
        *("--trainer.limit_val_batches", 1, "--trainer.max_epochs", 8),
        *("--model.lr", 0.0005),
    )
    state = saved("run")["callbacks"]["Checkpoints"]
    lines = [line for line in result.err.splitlines() if "val_acc" in line]
    found = [
        tuple(float(line.split(f"{name} ")[1].split(",")[0]) for name in ("val_acc", "val_loss"))
        for line in lines
    ]
    best = max(range(8), key=lambda epoch: (found[epoch][0], -found[epoch][1]))
    assert (len({accuracy for accuracy, _ in found}) < 8, state["best_epoch"]) == (True, best)


# modules and callbacks


def test_layers_that_are_made_in_setup_are_tested_and_predicted(plcli: Command) -> None:
    fit(plcli, config=own_config(model={"class_path": "lab.modules.LateLayers"}))
    found = json.loads(Path("run/metrics.json").read_text())["test"]["acc"]
    assert f"{found:.4f}" in plcli("test", "--run", "run", *ALLOWED).out
    assert plcli("predict", "--run", "run", *ALLOWED).code == 0


def test_a_prediction_writer_of_the_user_writes(plcli: Command) -> None:
    writer = {"class_path": "lab.callbacks.Writer", "init_args": {"write_interval": "batch"}}
    fit(plcli, config=own_config(trainer={"callbacks": [writer]}))
    plcli("predict", "--run", "run", *ALLOWED)
    assert len(list(Path("written").iterdir())) == 2


def test_a_callback_that_may_not_be_imported_is_left_out_with_a_line(plcli: Command) -> None:
    Path("own_callback.py").write_text(
        "import lightning.pytorch as pl\nclass C(pl.Callback): pass\n"
    )
    callback = {"class_path": "own_callback.C"}
    fit(
        plcli,
        "--allow-import",
        "own_callback",
        config=own_config(trainer={"callbacks": [callback]}),
    )
    result = plcli("test", "--run", "run", *ALLOWED)
    assert (result.code, "own_callback.C: left out; add --allow-import" in result.err) == (0, True)


def test_a_callback_may_use_all_loggers(plcli: Command) -> None:
    callback = {"class_path": "lab.callbacks.EveryLogger"}
    fit(plcli, config=own_config(trainer={"callbacks": [callback], "logger": True}))


def test_an_argument_may_have_any_name(plcli: Command) -> None:
    Path("named.py").write_text(
        "from lab.modules import Classifier\n\n\nclass Named(Classifier):\n"
        "    def __init__(self, cls: str = 'a', section: int = 1, values: int = 2):\n"
        "        super().__init__()\n"
    )
    fit(plcli, "--allow-import", "named", "--model", "named.Named", "--model.cls", "b")


@pytest.mark.parametrize("seed", ["null", "true", "false", "7"])
def test_every_kind_of_seed_is_taken(plcli: Command, seed: str) -> None:
    text = Path("plain.yaml").read_text().replace("seed_everything: 7", f"seed_everything: {seed}")
    Path("seeded.yaml").write_text(text)
    fit(plcli, config="seeded.yaml")


def test_an_object_as_default_is_not_in_the_saved_config(plcli: Command) -> None:
    fit(plcli, config=own_config(data={"class_path": "lab.data.Transformed"}))
    assert plcli("test", "--run", "run", *ALLOWED).code == 0


# hyperparameters


def test_hyperparameters_are_saved_as_their_config(plcli: Command) -> None:
    fit(plcli, config="hyperparameters.yaml")
    values = saved("run", "best")["hyper_parameters"]
    assert values["speed"] == "fast"
    assert values["encoder"] == {"class_path": "lab.modules.Encoder", "init_args": {"width": 16}}
    assert values["activation"] == "torch.nn.functional.gelu"
    load = """from lab.modules import Hyperparameters
module = Hyperparameters.load_from_checkpoint('run/checkpoints/best.ckpt')
print(module.speed, len(module.extra), module.backbone.net[0].out_features)"""
    result = subprocess.run(
        [sys.executable, "-c", load], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "Speed.fast 1 16", result.stderr


def test_an_object_in_hyperparameters_is_named_once(
    plcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab.modules import Classifier

    def add(self: Any, stage: str) -> None:
        self.hparams["activation"] = torch.relu

    monkeypatch.setattr(Classifier, "setup", add)
    result = fit(plcli)
    said = "not in checkpoints, as it is not a tensor or a plain value: hyper_parameters.activation"
    assert result.err.count(said) == 1


# use elsewhere


def test_lightning_loads_a_checkpoint_of_a_users_module(plcli: Command) -> None:
    from lab.modules import Classifier

    fit(plcli, "--model.width", 8)
    module = Classifier.load_from_checkpoint("run/checkpoints/best.ckpt")
    assert module.hparams.width == 8


def test_lightning_goes_on_from_a_checkpoint(plcli: Command) -> None:
    from lab.data import Points
    from lab.modules import Classifier

    fit(plcli)
    trainer = Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False
    )
    trainer.fit(Classifier(), Points(), ckpt_path="run/checkpoints/last.ckpt", weights_only=True)
    assert trainer.global_step == 12


@pytest.fixture
def lightning_checkpoint(tmp_path: Path) -> Path:
    """A checkpoint that LightningCLI has saved after two epochs."""
    saving = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"dirpath": "plain", "filename": "two"},
    }
    config = own_config("saving.yaml", trainer={"callbacks": [saving]})
    reference.run(tmp_path, ["fit", "-c", config])
    return Path("plain/two.ckpt")


def test_a_run_starts_from_a_checkpoint_of_lightning(
    plcli: Command, lightning_checkpoint: Path, tmp_path: Path
) -> None:
    config = own_config(trainer={"max_epochs": 3})
    words = ["fit", "-c", config, "--ckpt_path", str(lightning_checkpoint)]
    expected = reference.run(tmp_path, words)
    fit(plcli, "--ckpt_path", lightning_checkpoint, config=config)
    with open("run/metrics.csv", encoding="utf-8") as file:
        steps = [line.split(",")[0] for line in file.read().splitlines()[1:]]
    assert steps[: len(expected)] == [str(step) for step in expected]


def test_the_checkpoint_to_start_from_may_be_in_the_config(
    plcli: Command, lightning_checkpoint: Path
) -> None:
    config = own_config(trainer={"max_epochs": 3})
    Path(config).write_text(Path(config).read_text() + f"ckpt_path: {lightning_checkpoint}\n")
    assert f"starting from {lightning_checkpoint}" in fit(plcli, config=config).err


def test_a_checkpoint_of_lightning_is_tested_without_a_run(
    plcli: Command, lightning_checkpoint: Path
) -> None:
    result = plcli("test", "-c", "plain.yaml", "--ckpt_path", lightning_checkpoint, *ALLOWED)
    assert (result.code, "│ acc " in result.out) == (0, True)


def test_a_checkpoint_of_lightning_predicts_without_a_run(
    plcli: Command, lightning_checkpoint: Path
) -> None:
    words = ("--ckpt_path", lightning_checkpoint, "--output", "out.csv", *ALLOWED)
    assert plcli("predict", "-c", "plain.yaml", *words).code == 0
    assert len(read_rows(Path("out.csv"))) == 16


# what predict_step returns


@pytest.mark.parametrize(
    ("returned", "columns"),
    [
        (lambda x: x.sum(1), ["id", "prediction"]),
        (lambda x: {"label": x.argmax(1), "scores": x}, ["id", "label", "scores"]),
        (lambda x: (x.argmax(1), x), ["id", "prediction_0", "prediction_1"]),
        (lambda x: [f"row {index}" for index in range(len(x))], ["id", "prediction"]),
        (lambda x: [{"text": "a"} for _ in x], ["id", "text"]),
        (lambda x: x.numpy(), ["id", "prediction"]),
        (lambda x: x.bfloat16().sum(1), ["id", "prediction"]),
    ],
    ids=["tensor", "mapping", "tuple", "texts", "rows", "array", "bfloat16"],
)
def test_predictions_are_written(
    plcli: Command, monkeypatch: pytest.MonkeyPatch, returned: Any, columns: list[str]
) -> None:
    from lab.modules import Classifier

    fit(plcli)
    step = lambda self, batch, batch_idx: returned(self(batch[0]))  # noqa: E731
    monkeypatch.setattr(Classifier, "predict_step", step)
    assert plcli("predict", "--run", "run", "--output", "out.csv", *ALLOWED).code == 0
    rows = read_rows(Path("out.csv"))
    assert (len(rows), list(rows[0])) == (16, columns)


def test_a_number_for_each_batch_is_a_row(plcli: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from lab.modules import Classifier

    fit(plcli)
    step = lambda self, batch, batch_idx: self(batch[0]).mean()  # noqa: E731
    monkeypatch.setattr(Classifier, "predict_step", step)
    plcli("predict", "--run", "run", "--output", "out.csv", *ALLOWED)
    assert len(read_rows(Path("out.csv"))) == 2


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda x: None, "returns None, so there is nothing to write. Return predictions."),
        (lambda x: object(), "returns a object, which cannot be written."),
        (lambda x: {"a": [1], "b": [1, 2]}, "columns have different lengths (a 1, b 2)."),
        (lambda x: [{"a": object()}], "row 0 cannot be written"),
    ],
    ids=["nothing", "an object", "unequal columns", "an object in a row"],
)
def test_predictions_that_cannot_be_written_are_told(
    plcli: Command, monkeypatch: pytest.MonkeyPatch, returned: Any, said: str
) -> None:
    from lab.modules import Classifier

    fit(plcli)
    step = lambda self, batch, batch_idx: returned(self(batch[0]))  # noqa: E731
    monkeypatch.setattr(Classifier, "predict_step", step)
    result = plcli("predict", "--run", "run", "--output", "out.jsonl", *ALLOWED)
    assert (result.code, said in message(result)) == (2, True)


# configs


def test_a_missing_base_is_named_with_the_file_that_inherits(plcli: Command) -> None:
    write_config(Path("child.yaml"), config="nowhere.yaml")
    result = plcli("fit", "-c", "child.yaml", *ALLOWED)
    said = "plcli: child.yaml: inherits from nowhere.yaml: nowhere.yaml: no such config file."
    assert message(result).startswith(said)


@pytest.mark.parametrize(
    "text",
    ["base: plain.yaml", "_base_: plain.yaml", "defaults: [plain]", "model: !include m.yaml"],
)
def test_inheritance_of_other_tools_is_hinted_at(plcli: Command, text: str) -> None:
    Path("other.yaml").write_text(text)
    assert "write `config: FILE`" in plcli("fit", "-c", "other.yaml").err


def test_a_reference_is_told_where_interpolation_is_off(plcli: Command) -> None:
    data = {"class_path": "lab.data.Points", "init_args": {"root": "${oc.env:HOME}/x"}}
    result = fit(plcli, config=own_config(data=data))
    assert "'${oc.env:HOME}/x' is kept as text; add `parser_mode: omegaconf`" in result.err


def test_interpolation_is_switched_on_by_a_key(
    plcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHERE", "/data")
    data = {"class_path": "lab.data.Points", "init_args": {"root": "${oc.env:WHERE}/x"}}
    config = own_config(data=data)
    Path(config).write_text(Path(config).read_text() + "parser_mode: omegaconf\n")
    fit(plcli, config=config)
    resolved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert resolved["data"]["init_args"]["root"] == "/data/x"


def test_a_reference_follows_an_override(plcli: Command) -> None:
    words = ("--parser_mode", "omegaconf", "--data.num_classes", "3")
    fit(plcli, *words, config="interpolation.yaml")
    resolved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert resolved["model"]["init_args"]["num_classes"] == 3


def test_a_secret_of_the_environment_needs_the_option(
    plcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "x")
    data = {"class_path": "lab.data.Points", "init_args": {"root": "${oc.env:MY_TOKEN}"}}
    config = own_config(data=data)
    Path(config).write_text(Path(config).read_text() + "parser_mode: omegaconf\n")
    assert "may be a secret" in message(plcli("fit", "-c", config, *ALLOWED))
    fit(plcli, "--parser_mode", "omegaconf", config=config)


def test_references_that_multiply_are_refused(plcli: Command) -> None:
    names = [f"x{number}" for number in range(9)]
    pairs = zip(names, names[1:], strict=False)
    texts = [f"  {one}: '" + f"${{data.init_args.{other}}}" * 10 + "'" for one, other in pairs]
    Path("many.yaml").write_text(
        "parser_mode: omegaconf\ndata:\n" + "\n".join(texts) + f"\n  {names[-1]}: text\n"
    )
    result = plcli("fit", "-c", "many.yaml")
    assert "its references are too long together" in message(result)


def test_a_class_path_by_reference_keeps_its_arguments(
    plcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHICH", "lab.modules.Classifier")
    model = {"class_path": "${oc.env:WHICH}", "init_args": {"lr": 0.5}}
    fit(plcli, "--parser_mode", "omegaconf", config=own_config(model=model))
    resolved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert resolved["model"]["init_args"]["lr"] == 0.5


def test_a_class_of_python_is_refused_through_an_allowed_package(plcli: Command) -> None:
    Path("reexport.py").write_text("from subprocess import Popen\n")
    config = own_config(trainer={"callbacks": [{"class_path": "reexport.Popen"}]})
    result = plcli("fit", "-c", config, *ALLOWED, "--allow-import", "reexport")
    assert "is subprocess.Popen of Python itself" in message(result)


def test_a_reference_to_nothing_is_told(plcli: Command) -> None:
    Path("nothing.yaml").write_text("parser_mode: omegaconf\nmodel: {lr: '${no.where}'}\n")
    result = plcli("fit", "-c", "nothing.yaml")
    assert (result.code, "cannot be resolved" in message(result)) == (2, True)


def test_a_bound_class_is_asked_for(plcli: Command) -> None:
    result = plcli("fit", "-c", "bound_classes.yaml", *ALLOWED)
    assert message(result) == (
        "plcli: model: has arguments (lr), but no class_path. If your LightningCLI fixes the "
        "class, name it: --model CLASS.\n"
    )


def test_classes_of_an_allowed_package_have_short_names(plcli: Command) -> None:
    result = plcli("fit", "--model", "Slashes", "--data", "TwoHeldOut", *ALLOWED, "--print_config")
    assert "class_path: lab.modules.Slashes" in result.out


def test_a_class_of_pytorch_lightning_is_that_of_lightning(plcli: Command) -> None:
    path = "pytorch_lightning.callbacks.LearningRateMonitor"
    fit(plcli, config=own_config(trainer={"callbacks": [{"class_path": path}]}))
    resolved = yaml.safe_load(Path("run/config.yaml").read_text())
    assert resolved["trainer"]["callbacks"][0]["class_path"].startswith("lightning.pytorch.")


@pytest.mark.parametrize("section", ["model", "callback"])
def test_a_class_on_pytorch_lightning_is_told(plcli: Command, section: str) -> None:
    Path("older.py").write_text(
        "import pytorch_lightning as pl\n\n\nclass Module(pl.LightningModule): pass\n"
        "class Monitor(pl.Callback): pass\n"
    )
    config = (
        own_config(model={"class_path": "older.Module"})
        if section == "model"
        else own_config(trainer={"callbacks": [{"class_path": "older.Monitor"}]})
    )
    result = plcli("fit", "-c", config, *ALLOWED, "--allow-import", "older")
    assert (result.code, "Use `import lightning.pytorch as pl`" in message(result)) == (2, True)


def test_facts_fill_a_required_argument(plcli: Command) -> None:
    fit(plcli, config="linked_argument.yaml")
    assert plcli("test", "--run", "run/model", *ALLOWED).code == 0


def test_a_linked_argument_is_hinted_at(plcli: Command) -> None:
    config = own_config(model={"class_path": "lab.modules.NeedsClasses"})
    result = plcli("fit", "-c", config, *ALLOWED)
    assert message(result) == (
        "plcli: model: 'num_classes' is missing. Set it in a config, under model. If a "
        "LightningCLI of yours links it to the data, return it from the data module: "
        "`def facts(self): return {'num_classes': ...}`.\n"
    )


# hints


def test_a_suggested_command_is_quoted_and_complete(plcli: Command) -> None:
    result = fit(plcli, run="my runs/a")
    assert "next: plcli test --run 'my runs/a' --allow-import lab" in result.out.splitlines()


def test_a_key_that_is_no_secret_survives(plcli: Command) -> None:
    Path("keyed.py").write_text(
        "from lab.data import Points\n\n\nclass Keyed(Points):\n"
        "    def __init__(self, primary_key: str, api_key: str = '', num_classes: int = 3,\n"
        "                 batch_size: int = 8):\n        super().__init__()\n"
    )
    data = {"class_path": "keyed.Keyed", "init_args": {"primary_key": "id", "api_key": "x"}}
    fit(plcli, "--allow-import", "keyed", config=own_config(data=data))
    resolved = yaml.safe_load(Path("run/config.yaml").read_text())
    arguments = resolved["data"]["init_args"]
    assert (arguments["primary_key"], arguments["api_key"]) == ("id", "***")
