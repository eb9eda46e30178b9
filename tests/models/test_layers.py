"""Parts by depth over many architectures, and freezing."""

from typing import Any

import pytest
import torch
import transformers

from plcli.errors import ModelError, UsageError
from plcli.models.layers import Parts
from plcli.pretrained import weights as pretrained
from plcli.tasks.text_classification import TextClassifier

TWO_LAYERS: dict[str, dict[str, Any]] = {
    name: {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"intermediate_size": 32}
    for name in ("bert", "roberta", "electra", "deberta-v2", "modernbert")
} | {
    "distilbert": {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
    "llama": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"intermediate_size": 32, "num_key_value_heads": 2},
}
STACKS: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
    "bart": {"d_model": 16, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 32}
    | {"decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
}
BERT = {"model_type": "bert", **TWO_LAYERS["bert"]}


def build(model_type: str, sizes: Any, kind: str = "AutoModelForSequenceClassification") -> Any:
    auto_class = getattr(transformers, kind)
    more = {"vocab_size": 40, "pad_token_id": 0, "eos_token_id": 2}
    return pretrained.build_model(auto_class, {"model_type": model_type, **sizes, **more})


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def classifier(**arguments: Any) -> TextClassifier:
    known = {"labels": ["a", "b", "c"], "vocab_size": 40, "pad_token_id": 0}
    return TextClassifier(architecture=BERT, **known, **arguments)


# parts


@pytest.mark.parametrize("model_type", TWO_LAYERS)
def test_the_layers_of_an_architecture_are_found(model_type: str) -> None:
    assert len(Parts(build(model_type, TWO_LAYERS[model_type])).layers) == 2


@pytest.mark.parametrize("model_type", TWO_LAYERS)
def test_the_table_of_words_is_at_the_bottom_and_the_head_at_the_top(model_type: str) -> None:
    model = build(model_type, TWO_LAYERS[model_type])
    parts = Parts(model)
    table = model.get_input_embeddings().weight
    name = next(name for name, parameter in model.named_parameters() if parameter is table)
    heads = [name for name in parts.depths if name.startswith(("classifier", "score"))]
    assert parts.depths[name] == 0
    assert {parts.place(name) for name in heads} == {"head"}


@pytest.mark.parametrize(("model_type", "count"), [("t5", 4), ("bart", 5)])
def test_a_decoders_layers_stand_above_its_encoders(model_type: str, count: int) -> None:
    layers = Parts(build(model_type, STACKS[model_type], "AutoModelForSeq2SeqLM")).layers
    assert len(layers) == count
    assert ["encoder" in layer for layer in layers] == [True] * 2 + [False] * (count - 2)


def test_what_is_fresh_belongs_to_the_head() -> None:
    parts = Parts(build("bert", TWO_LAYERS["bert"]), frozenset({"bert.pooler.dense.weight"}))
    places = [parts.place(f"bert.pooler.dense.{name}") for name in ("weight", "bias")]
    assert places == ["head", "layer 2"]


def test_a_network_without_layers_says_so() -> None:
    with pytest.raises(ModelError, match="Linear: has no list of layers, so freeze, layer_decay"):
        Parts(torch.nn.Linear(2, 2)).layers  # noqa: B018


# freezing


def test_so_many_of_the_lowest_layers_are_frozen() -> None:
    names = trained(classifier(freeze=1).model)
    assert not any("embeddings" in name or "layer.0." in name for name in names)
    assert any("layer.1." in name for name in names)


def test_the_embeddings_alone_are_frozen() -> None:
    every, names = trained(classifier().model), trained(classifier(freeze="embeddings").model)
    assert {name for name in every if "embeddings" not in name} == names


def test_all_but_the_head_is_frozen() -> None:
    names = trained(classifier(freeze="all").model)
    assert names == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("number", [0, 3])
def test_layers_that_are_not_there_cannot_be_frozen(number: int) -> None:
    with pytest.raises(UsageError, match=rf"model\.freeze: got {number}, but .* has 2 layers\. Gi"):
        classifier(freeze=number)


def test_a_network_is_not_frozen_whole() -> None:
    model = build("gpt2", TWO_LAYERS["gpt2"], "AutoModelForCausalLM")
    with pytest.raises(UsageError, match=r"model\.freeze: all leaves nothing to train"):
        Parts(model).freeze("all")
