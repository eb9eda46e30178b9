"""What plcli asks of a user's classes: a part of the right form is used, others are left alone."""

from typing import Any

import pytest
from lightning.pytorch import LightningDataModule, LightningModule

from plcli.config import contracts
from plcli.config.contracts import data_contract, module_contract


class Plain(LightningModule):
    """Has none of the parts."""


class Offering(LightningModule):
    """Has parts of the right form."""

    task = "counting"
    monitor = ("val_f1", "max")
    results = {"val": {"f1": 1.0}}

    def artefact_facts(self) -> dict[str, Any]:
        return {"unit": "kg"}


class Innocent(LightningModule):
    """Has attributes of the same names for its own business."""

    def __init__(self) -> None:
        super().__init__()
        self.monitor, self.results, self.task = "val_acc", [0.5], 3

    def save_pretrained(self) -> None:
        """Takes no folder."""


class InnocentData(LightningDataModule):
    """Has methods of the same names for its own business."""

    def describe(self) -> str:
        return "mine"

    def has(self) -> bool:
        return True

    def test_dataloader(self) -> Any:
        return []


def test_what_a_module_lacks_has_a_default() -> None:
    module = module_contract(Plain())
    assert (module.task, module.monitor, module.results) == (None, None, {})
    assert (dict(module.artefact_facts()), module.offers("save_pretrained")) == ({}, False)


def test_what_a_module_offers_is_used() -> None:
    module = module_contract(Offering())
    assert (module.task, module.monitor) == ("counting", ("val_f1", "max"))
    assert (module.results["val"], module.artefact_facts()) == ({"f1": 1.0}, {"unit": "kg"})


def test_attributes_of_another_form_are_left_alone() -> None:
    module = module_contract(Innocent())
    assert (module.task, module.monitor, module.results) == (None, None, {})
    assert not module.offers("save_pretrained")


def test_it_is_said_once_that_an_attribute_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Another(Innocent):
        pass

    said: list[str] = []
    monkeypatch.setattr(contracts.logger, "info", lambda form, *values: said.append(form % values))
    for _ in range(2):
        assert module_contract(Another()).monitor is None
    assert len(said) == 1
    assert "Another.monitor does not have the form that plcli expects" in said[0]


def test_a_data_module_has_the_splits_whose_loaders_it_defines() -> None:
    data = data_contract(InnocentData())
    assert [data.has(split) for split in ("validation", "test")] == [False, True]


def test_methods_that_take_other_arguments_are_left_alone() -> None:
    data = data_contract(InnocentData())
    assert data.describe("test") == ""
    assert not data.offers("describe")
    assert not data.offers("has")


def test_a_model_that_brings_its_data_is_asked_for_its_loaders() -> None:
    class WithData(Plain):
        def test_dataloader(self) -> Any:
            return []

    data = data_contract(None, WithData())
    assert [data.has(split) for split in ("validation", "test")] == [False, True]
