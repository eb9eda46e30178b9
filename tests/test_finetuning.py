"""Parts by depth over many architectures, freezing, and going on from another run's weights."""

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from plcli import artefact, finetuning, pretrained
from plcli.errors import ModelError, UsageError
from plcli.finetuning import Parts
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import message_rows, write_rows
from tests.fitted import fit, run_plcli
from tests.tiny import bert_tokenizer

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
    arguments = {"labels": ["a", "b", "c"], "vocab_size": 40, "pad_token_id": 0, **arguments}
    if "init_from" not in arguments:
        arguments["architecture"] = BERT
    return TextClassifier(**arguments)


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
    with pytest.raises(ModelError, match="Linear: its layers cannot be told apart, so that freeze"):
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


# another run's weights


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a classifier of a, b and c."""
    run = tmp_path_factory.mktemp("other") / "run"
    run.mkdir()
    torch.manual_seed(1)
    card = {"facts": {}, "labels": ["a", "b", "c"]}
    artefact.save(run / "model", model=classifier(), data=None, card=card)
    bert_tokenizer().save_pretrained(run / "model")
    return run


def weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path / "model" / "model.safetensors")


def test_the_weights_of_another_run_are_taken(other: Path) -> None:
    state = classifier(init_from=str(other)).model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in weights(other).items())


def test_the_model_folder_may_be_named(other: Path) -> None:
    state = classifier(init_from=str(other / "model")).model.state_dict()
    assert torch.equal(state["classifier.weight"], weights(other)["classifier.weight"])


def test_the_heads_rows_follow_the_names_of_the_labels(other: Path) -> None:
    state = classifier(init_from=str(other), labels=["c", "new", "a"]).model.state_dict()
    before = weights(other)["classifier.weight"]
    assert torch.equal(state["classifier.weight"][[0, 2]], before[[2, 0]])
    assert not any(torch.equal(state["classifier.weight"][1], row) for row in before)


def test_labels_may_be_fewer(other: Path) -> None:
    state = classifier(init_from=str(other), labels=["b", "c"]).model.state_dict()
    assert torch.equal(state["classifier.weight"], weights(other)["classifier.weight"][1:])


def test_what_becomes_of_the_labels_is_said(other: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        classifier(init_from=str(other), labels=["c", "new", "a"])
    assert f"init_from {other}: known labels c, a, new new, gone b" in caplog.text


@pytest.mark.parametrize(
    "kind", ["AutoModelForTokenClassification", "AutoModelForQuestionAnswering"]
)
def test_of_another_task_the_encoder_alone_is_taken(other: Path, kind: str) -> None:
    settings = {"id2label": dict(enumerate("abc"))} if "Token" in kind else {}
    model, fresh = finetuning.continue_from(getattr(transformers, kind), str(other), **settings)
    before, state = weights(other), model.state_dict()
    assert torch.equal(
        state["bert.encoder.layer.1.output.dense.weight"],
        before["bert.encoder.layer.1.output.dense.weight"],
    )
    assert fresh == {name for name in state if not name.startswith("bert.")}
    assert model.training


def test_numbers_after_classes_have_a_fresh_head(other: Path) -> None:
    module = classifier(init_from=str(other), problem="regression", labels=None)
    assert module.model.classifier.out_features == 1
    assert module.model.config.problem_type == "regression"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.init_from: .* is neither a finished run nor"):
        classifier(init_from=str(tmp_path))


def test_a_damaged_run_is_refused(other: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(other, tmp_path / "run"))
    with open(run / "model" / "model.safetensors", "r+b") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="is not the file that was written"):
        classifier(init_from=str(run))


def test_a_run_that_went_on_from_another_is_used_and_resumed_by_itself(
    other: Path, tmp_path: Path
) -> None:
    first = Path(shutil.copytree(other, tmp_path / "first"))
    rows = str(write_rows(tmp_path / "rows.jsonl", message_rows(1)))
    data = {"train": rows, "validation": rows, "test": rows, "text": "message", "label": "intent"}
    run = fit(tmp_path, model={"init_from": str(first)}, data=data)
    shutil.rmtree(run / "model")  # as if it had been stopped at its very end
    resumed = run_plcli("fit", "--run", run)
    assert resumed.code == 0, resumed.err
    shutil.rmtree(first)
    assert run_plcli("test", "--run", run).code == 0
