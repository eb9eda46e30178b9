"""What a key means stands on its field; in classes outside of plcli its name says it."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from lightning.pytorch import LightningModule

from plcli.config.marks import FACT, LOCAL, marked, with_new_names
from plcli.tasks.linear_regression import SimpleLinearModel, TableData
from plcli.tasks.text_classification import TextClassificationData, TextClassifier


class Theirs(LightningModule):
    """A user's module, without marks."""

    def __init__(self, width: int = 8, pretrained: str | None = None, batch_size: int = 4) -> None:
        super().__init__()


@dataclass(kw_only=True, eq=False, repr=False)
class WithMarks(TextClassificationData):
    """A user's data module that adds keys to those of plcli."""

    unit: str | None = field(default=None, metadata=FACT)
    scratch: str | None = field(default=None, metadata=LOCAL)


def test_only_marked_keys_of_a_task_are_facts() -> None:
    assert marked(TextClassificationData, "fact") == {
        *("labels", "problem", "stride", "max_windows", "max_length")
    }
    assert {"labels", "problem", "vocab_size"} <= marked(TextClassifier, "fact")
    assert marked(TableData, "fact") == {"features", "target"}


@pytest.mark.parametrize("name", ["id", "batch_size", "seed", "train", "tokenizer", "encoding"])
@pytest.mark.parametrize("cls", [TextClassificationData, TableData])
def test_what_the_config_says_of_rows_is_no_fact(cls: type, name: str) -> None:
    assert name not in marked(cls, "fact")


@pytest.mark.parametrize("name", ["pretrained", "init_from", "optimizer", "lora", "compile"])
@pytest.mark.parametrize("cls", [TextClassifier, SimpleLinearModel])
def test_what_chooses_weights_or_code_is_no_fact(cls: type, name: str) -> None:
    assert name not in marked(cls, "fact")


def test_arguments_of_a_users_class_are_taken_by_their_names() -> None:
    assert marked(Theirs, "fact") == {"width"}
    assert marked(Theirs, "weights") == {"pretrained"}
    assert marked(Theirs, "use") == {"batch_size"}


def test_a_users_field_is_right_by_its_own_mark() -> None:
    assert "unit" in marked(WithMarks, "fact")
    assert "scratch" in marked(WithMarks, "local") - marked(WithMarks, "fact")


def test_a_place_is_saved_as_an_absolute_one_and_not_in_the_artefact() -> None:
    places = {"train", "validation", "test", "predict", "tokenizer"}
    assert marked(TextClassificationData, "path") == places
    assert places <= marked(TextClassificationData, "local")


def test_no_class_has_no_marks() -> None:
    assert marked(None, "fact") == set()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"window": 50}, {"bucket_batches": 50}),
        ({"window": None}, {"bucket_batches": None}),
        ({"window": None, "bucket_batches": 50}, {"bucket_batches": 50}),
        ({"bucket_batches": 50}, {"bucket_batches": 50}),
        ({"seed": 1}, {"seed": 1}),
    ],
)
def test_an_old_key_is_compared_by_its_new_name(given: Any, expected: Any) -> None:
    data = {"class_path": "plcli.tasks.text_classification.TextClassificationData"}
    renamed = with_new_names({"data": {**data, "init_args": given}, "model": None})
    assert renamed == {"data": {**data, "init_args": expected}, "model": None}
