"""Generating tasks with a user's own data module, and facts that only data may tell."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from tests.conftest import Command, FinishedRun, Result, message, signed, write_config
from tests.tiny import bert_tokenizer

TINY = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 15}


class OwnPairs(LightningDataModule):
    """Batches of a user's own making, without a tokenizer."""

    batch: dict[str, Any] = {
        "input_ids": torch.tensor([[2, 5, 6, 3], [2, 7, 8, 3]]),
        "attention_mask": torch.ones(2, 4, dtype=torch.int64),
        "labels": torch.tensor([[5, 6, 3], [7, 8, 3]]),
        "references": ["the invoice", "is wrong"],
        "id": [0, 1],
        "index": [0, 1],
    }

    def _loader(self, batch: Any) -> Any:
        return DataLoader([batch], batch_size=None)

    def train_dataloader(self) -> Any:
        return self._loader({"pieces": [self.batch]})

    def val_dataloader(self) -> Any:
        return self._loader(self.batch)

    def predict_dataloader(self) -> Any:
        return self._loader({key: self.batch[key] for key in self.batch if key != "labels"})


class OwnPairsWithTokenizer(OwnPairs):
    """The same, with a tokenizer that the model is given."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded_tokenizer = bert_tokenizer()


def fit(plcli: Command, folder: Path, data: str) -> Result:
    config = write_config(
        folder / "own.yaml",
        model={
            "class_path": "plcli.tasks.seq2seq.Seq2SeqModel",
            "init_args": {
                "architecture": {"model_type": "t5", **TINY},
                "pad_token_id": 0,
                "eos_token_id": 3,
                "target_max_length": 4,
            },
        },
        data={"class_path": f"{__name__}.{data}"},
        trainer={"max_epochs": 1, "accelerator": "cpu"},
    )
    return plcli("fit", "-c", config, "--run", folder / "run", "--allow-import", "tests")


def test_a_generating_model_without_a_tokenizer_is_told(plcli: Command, tmp_path: Path) -> None:
    result = fit(plcli, tmp_path, "OwnPairs")
    assert result.code == 2
    assert "model: Seq2SeqModel decodes tokens to text, but has no tokenizer" in message(result)
    assert "loaded_tokenizer" in message(result)


def test_a_generating_model_takes_the_tokenizer_of_a_users_data(
    plcli: Command, tmp_path: Path
) -> None:
    result = fit(plcli, tmp_path, "OwnPairsWithTokenizer")
    assert result.code == 0, result.err
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text(encoding="utf-8"))
    assert "chrf" in metrics["validation"]


@pytest.mark.parametrize("name", ["id", "batch_size", "encoding", "train"])
def test_facts_that_no_data_tell_are_refused(
    plcli: Command, linear_run: FinishedRun, name: str
) -> None:
    folder = linear_run.copy("copy")
    card = folder / "model" / "plcli.json"
    values = json.loads(card.read_text(encoding="utf-8"))
    values["facts"][name] = 3 if name == "batch_size" else "y"
    card.write_text(json.dumps(values), encoding="utf-8")
    signed(folder / "model")
    result = plcli("predict", "--run", folder)
    assert (
        result.code,
        f"its facts contain '{name}', which cannot come from data" in result.err,
    ) == (
        4,
        True,
    )
    assert str(card) in result.err


def test_facts_of_a_users_data_have_to_be_a_mapping(plcli: Command, tmp_path: Path) -> None:
    result = fit(plcli, tmp_path, "OwnPairsWithWrongFacts")
    assert result.code == 2
    assert "OwnPairsWithWrongFacts.facts: returns ['labels'], expected a mapping" in message(result)


class OwnPairsWithWrongFacts(OwnPairs):
    """Tells names without values."""

    def facts(self) -> Any:
        return ["labels"]
