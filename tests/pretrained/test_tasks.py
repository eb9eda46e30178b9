"""Which tasks a model type can do, and what is said where it cannot do one."""

import importlib
import inspect
from pathlib import Path
from typing import Any

import pytest
import transformers

from plcli.models.transformer_module import TransformerModule
from plcli.pretrained import tasks
from tests.conftest import Command, message, write_rows
from tests.pretrained.conftest import refused


def test_the_classes_are_those_of_the_tasks() -> None:
    for auto_class, task in tasks.NAMES.items():
        module = importlib.import_module(f"plcli.tasks.{task}")
        models: list[Any] = [
            found
            for _, found in inspect.getmembers(module, inspect.isclass)
            if issubclass(found, TransformerModule) and found is not TransformerModule
        ]
        assert [model.auto_class for model in models] == [auto_class]


@pytest.mark.parametrize(
    ("model_type", "lacking"),
    [
        ("bert", {"causal_lm", "seq2seq"}),
        ("xlnet", {"causal_lm", "seq2seq", "masked_lm"}),
        ("gpt2", {"masked_lm", "seq2seq", "multiple_choice"}),
        ("t5", {"masked_lm", "causal_lm", "multiple_choice"}),
        ("bart", {"token_classification", "multiple_choice", "sentence_embedding"}),
    ],
)
def test_a_model_type_can_do_the_tasks_that_transformers_has_classes_for(
    model_type: str, lacking: set[str]
) -> None:
    config = transformers.CONFIG_MAPPING[model_type]()
    can_do = {name for auto_class, name in tasks.NAMES.items() if tasks.builds(auto_class, config)}
    assert can_do == set(tasks.NAMES.values()) - lacking


def test_a_task_that_a_model_cannot_do_is_refused_before_data_are_read(
    plcli: Command, folder: str
) -> None:
    rows = write_rows(Path("rows.jsonl"), [{"a": 1}])
    result = plcli(
        *("fit", "--model", "plcli.tasks.seq2seq.Seq2SeqModel", "--model.pretrained", folder),
        *("--data", "plcli.tasks.seq2seq.Seq2SeqData", "--data.train", rows),
    )
    assert result.code == 4
    assert message(result) == (
        "plcli: pretrained: bert is a bert model, for which transformers has no "
        "AutoModelForSeq2SeqLM. A bert can do: text_classification, token_classification, "
        "question_answering, multiple_choice, masked_lm, sentence_embedding. Choose one of these "
        "tasks, or a model of another type.\n"
    )


@pytest.mark.parametrize(
    ("auto_class", "said"),
    [
        ("AutoModelForCausalLM", "pretrained: bert: a bert is bidirectional, so it would see the"),
        ("AutoModelForSeq2SeqLM", "pretrained: bert is a bert model, for which transformers has"),
    ],
)
def test_a_task_that_a_model_cannot_do_is_refused(folder: str, auto_class: str, said: str) -> None:
    with refused(said):
        tasks.check(auto_class, folder)
