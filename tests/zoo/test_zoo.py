"""Every model type of the zoo on a task that suits it; scripts/zoo tries all of them on every task.

A trial fits, predicts at batch sizes 1 and 8, and compares the predictions with each other and with
those that transformers makes of the artefact.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from plcli.models import padding
from plcli.pretrained import tasks
from tests.conftest import message
from tests.zoo import models, trials
from tests.zoo.tasks import TASKS

TRIED = {
    "bart": "causal_lm",
    "bert": "multiple_choice",
    "convbert": "masked_lm",
    "deberta-v2": "regression",
    "distilbert": "token_classification",
    "fnet": "question_answering",
    "funnel": "token_classification",
    "gemma": "text_classification",
    "gpt2": "token_classification",
    "gpt_neox": "text_classification",
    "llama": "regression",
    "marian": "seq2seq",
    "modernbert": "text_classification",
    "mpnet": "sentence_embedding",
    "mt5": "seq2seq",
    "opt": "text_classification",
    "qwen2": "text_classification",
    "roberta": "token_classification",
    "roformer": "multiple_choice",
    "t5": "sentence_embedding",
    "xlnet": "text_classification",
}


@pytest.mark.parametrize("name", TRIED)
def test_a_model_type_gives_the_predictions_of_transformers_at_every_batch_size(
    name: str, tmp_path: Path
) -> None:
    assert trials.try_out(name, TRIED[name], tmp_path, quick=True) == trials.Outcome("works")


@pytest.mark.parametrize(
    ("name", "task"), [("gpt2", "text_classification"), ("roberta", "text_classification")]
)
def test_a_tokenizer_that_pads_prompts_on_the_left_changes_no_prediction(
    name: str, task: str, tmp_path: Path
) -> None:
    base = models.save(name, tmp_path / "left")
    settings = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**settings, "padding_side": "left"}))
    found = trials.try_out(name, task, tmp_path, base=base, quick=True)
    assert found == trials.Outcome("works")


def test_a_model_type_that_cannot_do_a_task_is_refused(tmp_path: Path) -> None:
    found = trials.try_out("xlnet", "causal_lm", tmp_path)
    assert found == trials.Outcome(
        "refused",
        f"plcli: pretrained: {tmp_path / 'base'}: a xlnet is bidirectional, so it would see the "
        "tokens that it has to predict. A xlnet can do: text_classification, token_classification, "
        "question_answering, multiple_choice, sentence_embedding. Choose one of these tasks, or a "
        "model of another type.",
    )


@pytest.mark.parametrize("name", ["albert", "mpnet", "xlnet"])
def test_gradient_checkpointing_is_refused_where_a_type_has_none(name: str, tmp_path: Path) -> None:
    trials.prepare(name, "text_classification", tmp_path)
    result = trials.fit(tmp_path, "--model.gradient_checkpointing", "true")
    assert (result.code, message(result)) == (
        2,
        "plcli: model.gradient_checkpointing: transformers does not support it for a "
        f"{name}. Remove the key; a smaller data.batch_size with trainer.accumulate_grad_batches "
        "needs less memory as well.\n",
    )


def test_the_padding_token_of_a_model_without_one_stays_with_the_artefact(tmp_path: Path) -> None:
    trials.prepare("gpt2", "text_classification", tmp_path)
    assert trials.fit(tmp_path).code == 0
    config = json.loads((tmp_path / "run/model/config.json").read_text())
    assert config["pad_token_id"] == 0


def test_every_task_of_transformers_is_in_the_zoo() -> None:
    assert set(tasks.NAMES.values()) == TASKS.keys() - {"regression"}


# rows of one length at a time


class Counted(torch.nn.Module):
    """Gives the number of tokens of each row, padding included, and the mean of the labels."""

    config = SimpleNamespace(model_type="fnet")

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> Any:
        sizes = torch.full((len(input_ids), 1), float(input_ids.shape[1]))
        return {"loss": labels.float().mean(), "logits": sizes, "states": input_ids[..., None] + 1}


@pytest.mark.parametrize("left", [False, True])
def test_rows_of_one_length_are_run_without_padding_and_put_back(left: bool) -> None:
    ids = torch.tensor([[5, 6, 7], [8, 0, 0], [9, 3, 2]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 1]])
    if left:
        ids, mask = ids.flip(1), mask.flip(1)
    inputs = {"input_ids": ids, "labels": torch.tensor([1, 4, 1])}
    network: Any = Counted().eval()
    found = padding.run(
        network, inputs, mask=mask, arguments=inputs, count=lambda part: len(part["labels"])
    )
    assert found["logits"].tolist() == [[3], [1], [3]]
    assert torch.equal(found["states"][..., 0], (ids + 1) * mask)
    assert float(found["loss"]) == 2
