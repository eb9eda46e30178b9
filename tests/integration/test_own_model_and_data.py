"""A user's own LightningModule and LightningDataModule under all commands."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import Command, FinishedRun, fit_once, message, metric, number, write_config
from tests.running import read_rows

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
    assert [row["id"] for row in read_rows(Path("out.csv"))] == [str(i) for i in range(8)]


def test_a_users_own_module_predicts_plain_numbers(plcli: Command, own: FinishedRun) -> None:
    plcli("predict", *TRUSTED, "--run", own.folder, "--output", "out.jsonl")
    rows = read_rows(Path("out.jsonl"))
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


def test_a_package_that_a_users_module_needs_is_named(
    plcli: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_own.py").write_text("import a_package_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = plcli("fit", "--allow-import", "broken_own", "--model", "broken_own.Net")
    assert (result.code, message(result)) == (
        5,
        f"plcli: {tmp_path / 'broken_own.py'}, line 1: needs the package "
        "a_package_that_is_not_there, which is not installed. Install it: pip install "
        "a_package_that_is_not_there\n",
    )
