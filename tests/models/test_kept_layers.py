"""model.keep_layers: which layers are kept, in which networks, and that transformers loads them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from plcli.errors import ModelError, UsageError
from plcli.models.kept_layers import cut, evenly
from plcli.models.lora import Lora
from plcli.pretrained import weights
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import TINY_BERT, message, message_rows, write_rows
from tests.running import card, fit, run_plcli, try_fit
from tests.tiny import bert_tokenizer

SIX = {**TINY_BERT, "num_hidden_layers": 6}
LABELS = ["billing", "delivery", "praise"]
SIZES: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 6, "n_heads": 2, "hidden_dim": 64},
    "roberta": {**SIX, "model_type": "roberta"},
    "gpt2": {"n_embd": 32, "n_layer": 6, "n_head": 2, "n_positions": 32},
    "modernbert": {"hidden_size": 32, "num_hidden_layers": 6, "num_attention_heads": 2}
    | {"intermediate_size": 64, "pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1}
    | {"eos_token_id": 2, "sep_token_id": 2},
}


def save_base(folder: Path) -> str:
    """Save an encoder of six layers of random weights, without a head, and its tokenizer."""
    torch.manual_seed(0)
    tokenizer = bert_tokenizer(model_max_length=32)
    sizes = {**SIX, "vocab_size": len(tokenizer)}
    weights.build_model(transformers.AutoModel, sizes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An encoder of six layers."""
    return save_base(tmp_path_factory.mktemp("base") / "model")


@pytest.mark.parametrize(
    ("count", "of", "expected"),
    [
        (1, 6, [4]),
        (2, 6, [2, 5]),
        (3, 6, [2, 4, 6]),
        (4, 6, [1, 3, 4, 6]),
        (6, 6, [1, 2, 3, 4, 5, 6]),
        (4, 12, [2, 5, 8, 11]),
    ],
)
def test_layers_are_evenly_spaced(count: int, of: int, expected: list[int]) -> None:
    assert evenly(count, of=of) == expected


@pytest.mark.parametrize(("kept", "chosen"), [(2, [1, 4]), ([6, 1], [0, 5])])
def test_the_kept_layers_have_their_weights(base: str, kept: Any, chosen: list[int]) -> None:
    whole = TextClassifier(pretrained=base, labels=LABELS).model
    module = TextClassifier(pretrained=base, labels=LABELS, keep_layers=kept)
    assert module.model.config.num_hidden_layers == 2
    assert module.model.config.id2label == dict(enumerate(LABELS))
    assert module.fresh_names == {"classifier.weight", "classifier.bias"}
    before, after = whole.state_dict(), module.model.state_dict()
    for new, old in enumerate(chosen):
        name = "bert.encoder.layer.{}.attention.self.query.weight"
        assert torch.equal(after[name.format(new)], before[name.format(old)])
    word = "bert.embeddings.word_embeddings.weight"
    assert torch.equal(after[word], before[word])


@pytest.mark.parametrize("model_type", SIZES)
def test_a_cut_network_is_what_its_config_says(model_type: str, tmp_path: Path) -> None:
    sizes = {"model_type": model_type, "vocab_size": 40, **SIZES[model_type]}
    auto_class = transformers.AutoModelForSequenceClassification
    whole = weights.build_model(auto_class, sizes, num_labels=3)
    new, fresh = cut(whole, [1, 4], frozenset())
    assert fresh == frozenset()
    types = getattr(whole.config, "layer_types", None)
    if types is not None:
        assert new.config.layer_types == [types[0], types[3]]
    new.save_pretrained(tmp_path)
    loaded = auto_class.from_pretrained(tmp_path)
    assert loaded.config.num_hidden_layers == 2
    ids = {"input_ids": torch.tensor([[5, 6, 7, 8]]), "attention_mask": torch.ones(1, 4).long()}
    for model in (loaded, new):
        model.config.pad_token_id = 0
        model.eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**ids).logits, new(**ids).logits)


def test_the_saved_model_has_the_kept_layers_alone(base: str, tmp_path: Path) -> None:
    rows = str(write_rows(tmp_path / "rows.jsonl", message_rows(1)))
    model = {"pretrained": base, "keep_layers": 2}
    data = {"train": rows, "validation": rows, "text": "message", "label": "intent"}
    run = fit(tmp_path, model=model, data=data)
    config = json.loads((run / "model" / "config.json").read_text())
    assert config["num_hidden_layers"] == 2
    assert "keep_layers" not in card(run)["model"]["init_args"]
    loaded = transformers.pipeline("text-classification", model=str(run / "model"))
    (expected,) = loaded("the parcel is late")
    for words in ([], ["--ckpt_path", "last"]):
        result = run_plcli("predict", "--run", run, "the parcel is late", *words)
        assert result.code == 0, result.err
        assert json.loads(result.out)["score"] == pytest.approx(expected["score"], abs=1e-5)
    restored = TextClassifier.load_from_checkpoint(run / "checkpoints" / "last.ckpt")
    assert restored.model.config.num_hidden_layers == 2


def test_low_rank_updates_are_of_the_kept_layers(base: str) -> None:
    module = TextClassifier(pretrained=base, labels=LABELS, keep_layers=2, lora=Lora())
    named = {name.split(".")[3] for name, _ in module.model.named_parameters() if "lora_" in name}
    assert named == {"0", "1"}


@pytest.mark.parametrize("kept", [0, 7, -1, [0, 2], [1, 7], [2, 2], []])
def test_layers_that_there_are_not_are_refused(base: str, kept: Any) -> None:
    expected = r"model\.keep_layers: got .*, but the network has 6 layers\. Give a number from 1 to"
    with pytest.raises(UsageError, match=expected):
        TextClassifier(pretrained=base, labels=LABELS, keep_layers=kept)


def test_random_weights_have_no_layers_to_keep(tmp_path: Path) -> None:
    rows = str(write_rows(tmp_path / "rows.jsonl", message_rows(1)))
    data = {"train": rows, "text": "message", "label": "intent"}
    result = try_fit(tmp_path, model={"architecture": SIX, "keep_layers": 2}, data=data)
    assert result.code == 2
    assert "model.keep_layers: needs pretrained weights, but architecture starts" in message(result)


def test_an_adapter_has_no_kept_layers(base: str) -> None:
    with pytest.raises(UsageError, match="an adapter needs the pretrained weights with all their"):
        TextClassifier(pretrained=base, labels=LABELS, keep_layers=2, lora=Lora(save="adapter"))


@pytest.mark.parametrize(
    ("auto_class", "sizes"),
    [
        (
            "AutoModelForSeq2SeqLM",
            {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2}
            | {"num_heads": 2},
        ),
        (
            "AutoModelForSequenceClassification",
            {**SIX, "model_type": "albert", "embedding_size": 16},
        ),
    ],
)
def test_a_network_without_a_single_stack_is_refused(auto_class: str, sizes: Any) -> None:
    model = weights.build_model(getattr(transformers, auto_class), {**sizes, "vocab_size": 40})
    with pytest.raises(ModelError, match=r"model\.keep_layers: .* is no single stack of layers"):
        cut(model, 1, frozenset())


def test_layers_that_differ_by_their_place_are_refused(tmp_path: Path) -> None:
    model = weights.build_model(
        transformers.AutoModel,
        {**SIZES["modernbert"], "model_type": "modernbert", "vocab_size": 50},
    )
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="layers 2, 4 of this modernbert are of other kinds"):
        TextClassifier(pretrained=str(tmp_path), labels=["a", "b"], keep_layers=[2, 4])
