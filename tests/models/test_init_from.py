"""Going on from another run's weights: of the same task, of another, and what is refused."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from plcli.errors import ModelError
from plcli.models.init_from import continue_from
from plcli.pretrained import weights as pretrained
from plcli.runs import artefact
from plcli.tasks.masked_lm import MaskedLM
from plcli.tasks.sentence_embedding import SentenceEmbedder
from plcli.tasks.text_classification import TextClassifier
from plcli.tasks.token_classification import TokenClassifier
from tests.conftest import message_rows, signed, write_rows
from tests.running import fit, run_plcli
from tests.tiny import bert_tokenizer

BERT = {"model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT |= {"intermediate_size": 32}
SIZES: dict[str, dict[str, Any]] = {
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2},
    "bart": {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 32}
    | {"decoder_ffn_dim": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32},
}
LABELS = {"id2label": dict(enumerate("abc")), "label2id": {"a": 0, "b": 1, "c": 2}}


def task(kind: type, **arguments: Any) -> Any:
    """Build a task's module, from scratch unless it goes on from a run."""
    start = {} if "init_from" in arguments else {"architecture": BERT}
    return kind(vocab_size=40, pad_token_id=0, **start, **arguments)


def classifier(**arguments: Any) -> Any:
    return task(TextClassifier, **{"labels": ["a", "b", "c"], **arguments})


def language_model(model_type: str, kind: str) -> Any:
    auto_class = getattr(transformers, kind)
    ids = {"vocab_size": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sizes = {"model_type": model_type, **SIZES[model_type]}
    return pretrained.build_model(auto_class, sizes, **ids)


def save(run: Path, model: Any) -> Path:
    """Leave a model as a finished run would, with a tokenizer."""
    run.mkdir(parents=True)
    card = {"facts": {}, "labels": ["a", "b", "c"]}
    artefact.save(run / "model", model=model, data=None, card=card)
    bert_tokenizer().save_pretrained(run / "model")
    signed(run / "model")
    return run


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a classifier of a, b and c."""
    torch.manual_seed(1)
    return save(tmp_path_factory.mktemp("other") / "run", classifier())


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of an embedding model that is of none of the defaults."""
    model = task(SentenceEmbedder, pooling="cls", normalize=True, max_length=16)
    return save(tmp_path_factory.mktemp("embedder") / "run", model)


@pytest.fixture
def changed_config(other: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy the classifier's run with other values in its config.json; None takes a key away."""

    def change(**values: Any) -> Path:
        run = Path(shutil.copytree(other, tmp_path / "changed"))
        path = run / "model" / "config.json"
        config = json.loads(path.read_text()) | values
        path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
        signed(run / "model")
        return run

    return change


# of the same task


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
    logged = "kept labels: c, a; new labels: new; dropped labels: b"
    assert f"init_from {other}: {logged}" in caplog.text


def test_numbers_after_classes_have_a_fresh_head(other: Path) -> None:
    module = classifier(init_from=str(other), problem="regression", labels=None)
    assert module.model.classifier.out_features == 1
    assert module.model.config.problem_type == "regression"


# of another task


def without(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors below a prefix by their names without it."""
    return {
        key.removeprefix(prefix): tensor
        for key, tensor in tensors.items()
        if key.startswith(prefix)
    }


def assert_taken(now: dict[str, torch.Tensor], before: dict[str, torch.Tensor]) -> None:
    """Check that an encoder is another one; only a pooling may be of one of them alone."""
    assert {key for key in now.keys() ^ before.keys() if not key.startswith("pooler.")} == set()
    assert [
        key for key in now.keys() & before.keys() if not torch.equal(now[key], before[key])
    ] == []


def test_a_classifier_takes_the_encoder_of_an_embedding_model(embedder: Path) -> None:
    module = classifier(init_from=str(embedder))
    assert_taken(without("bert.", module.model.state_dict()), weights(embedder))
    assert module.fresh_names == {"classifier.weight", "classifier.bias"}


def test_an_embedding_model_takes_the_encoder_of_a_classifier(other: Path) -> None:
    module = task(SentenceEmbedder, init_from=str(other))
    assert_taken(module.model.state_dict(), without("bert.", weights(other)))
    assert module.fresh_names == set()


def test_a_classifier_takes_the_encoder_of_a_masked_language_model(tmp_path: Path) -> None:
    run = save(tmp_path / "run", task(MaskedLM, max_length=16))
    module = classifier(init_from=str(run))
    assert_taken(without("bert.", module.model.state_dict()), without("bert.", weights(run)))
    pooler = {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
    }  # masked language models lack it
    assert module.fresh_names == {"classifier.weight", "classifier.bias"} | pooler


def test_a_tagger_takes_the_encoder_of_a_classifier_of_as_many_classes(other: Path) -> None:
    module = task(TokenClassifier, init_from=str(other), labels=["O", "B-a", "I-a"])
    assert module.model.classifier.weight.shape == weights(other)["classifier.weight"].shape
    assert_taken(without("bert.", module.model.state_dict()), without("bert.", weights(other)))
    assert module.fresh_names == {"classifier.weight", "classifier.bias"}
    assert module.model.training


def test_a_model_that_answers_questions_takes_the_encoder_of_a_classifier(other: Path) -> None:
    new, fresh = continue_from(transformers.AutoModelForQuestionAnswering, str(other))
    assert_taken(without("bert.", new.state_dict()), without("bert.", weights(other)))
    assert fresh == {"qa_outputs.weight", "qa_outputs.bias"}


@pytest.mark.parametrize(("model_type", "prefix"), [("t5", "transformer."), ("bart", "model.")])
def test_a_classifier_takes_encoder_and_decoder(
    model_type: str, prefix: str, tmp_path: Path
) -> None:
    old = language_model(model_type, "AutoModelForSeq2SeqLM")
    run = save(tmp_path / "run", old)
    new, fresh = continue_from(transformers.AutoModelForSequenceClassification, str(run), **LABELS)
    now, before = without(prefix, new.state_dict()), old.state_dict()
    before = without(prefix, before) or before
    assert [key for key in now if not torch.equal(now[key], before[key])] == []
    assert {key.split(".")[0] for key in fresh} == {"classification_head"}


def test_an_embedding_model_pools_and_normalizes_as_the_run(embedder: Path) -> None:
    facts = task(SentenceEmbedder, init_from=str(embedder)).artefact_facts()
    assert (facts["pooling"], facts["normalize"]) == ("cls", True)


def test_an_embedding_models_own_choice_stands_before_the_runs(embedder: Path) -> None:
    module = task(SentenceEmbedder, init_from=str(embedder), pooling="max", normalize=False)
    facts = module.artefact_facts()
    assert (facts["pooling"], facts["normalize"]) == ("max", False)


def test_weights_that_are_saved_without_a_class_are_an_encoder(
    changed_config: Callable[..., Path],
) -> None:
    run = changed_config(architectures=None)
    module = classifier(init_from=str(run))
    assert_taken(without("bert.", module.model.state_dict()), without("bert.", weights(run)))
    assert module.fresh_names == {"classifier.weight", "classifier.bias"}


def test_what_the_file_lacks_is_fresh(tmp_path: Path) -> None:
    run = save(tmp_path / "run", task(MaskedLM, max_length=16))
    path = run / "model" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in config.items() if k != "architectures"}))
    signed(run / "model")
    assert "bert.pooler.dense.weight" in classifier(init_from=str(run)).fresh_names


# generation


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("t5", "AutoModelForSeq2SeqLM"), ("gpt2", "AutoModelForCausalLM")],
)
def test_of_the_same_task_what_was_said_of_generation_is_kept(
    model_type: str, kind: str, tmp_path: Path
) -> None:
    old = language_model(model_type, kind)
    old.generation_config.num_beams, old.generation_config.max_new_tokens = 3, 7
    run = save(tmp_path / "run", old)
    kept = continue_from(getattr(transformers, kind), str(run))[0].generation_config
    assert (kept.num_beams, kept.max_new_tokens) == (3, 7)


# what is refused


def test_a_run_whose_encoder_does_not_fit_is_refused(other: Path) -> None:
    sizes = {"hidden_size": 24, "intermediate_size": 48}
    with pytest.raises(
        ModelError,
        match=r"model\.init_from: .*run contains a BertForSequenceClassification\. None of its "
        r"encoder's weights fit a BertForTokenClassification, .*\. Name another run, or use pretra",
    ):
        continue_from(transformers.AutoModelForTokenClassification, str(other), **sizes)


def test_code_beside_a_run_is_refused_before_anything_asks_for_it(
    changed_config: Callable[..., Path], capfd: pytest.CaptureFixture[str]
) -> None:
    run = changed_config(model_type="own", auto_map={"AutoConfig": "own.Config"})
    with pytest.raises(
        ModelError, match=r"^model\.init_from: .*config\.json: contains the key 'auto_ma"
    ):
        classifier(init_from=str(run))
    assert "custom code" not in "".join(capfd.readouterr())


def test_a_run_of_an_unknown_kind_is_refused(changed_config: Callable[..., Path]) -> None:
    run = changed_config(model_type="own")
    with pytest.raises(ModelError, match=r"^model\.init_from: .* cannot be loaded: .*`?own`?"):
        classifier(init_from=str(run))


@pytest.mark.parametrize(
    "architecture",
    ["Trainer", "BertPreTrainedModel", "GPT2LMHeadModel", "BertTokenizer", "nothing"],
)
def test_a_class_that_is_no_network_of_the_runs_kind_is_refused(
    architecture: str, changed_config: Callable[..., Path]
) -> None:
    run = changed_config(architectures=[architecture])
    said = (
        rf"config\.json names the architecture '{architecture}', which transformers does not have "
    )
    with pytest.raises(ModelError, match=rf"^model\.init_from: .*{said}"):
        classifier(init_from=str(run))


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model\.init_from: .* is neither a finished run nor"):
        classifier(init_from=str(tmp_path))


def test_a_damaged_run_is_refused(other: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(other, tmp_path / "run"))
    with open(run / "model" / "model.safetensors", "r+b") as file:
        file.write(b"x")
    with pytest.raises(ModelError, match="has changed since it was written"):
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


# the head of pretrained weights


def head_of(folder: Path, labels: list[str]) -> torch.Tensor:
    model = TextClassifier(pretrained=str(folder), labels=labels).model
    weight: torch.Tensor = model.classifier.weight
    return weight


def test_a_pretrained_head_follows_the_names_of_the_labels(text_model: Path) -> None:
    names = ["billing", "delivery", "praise"]
    before, after = head_of(text_model, names), head_of(text_model, names[::-1])
    assert torch.equal(after, before.flip(0))


def test_a_pretrained_head_keeps_the_rows_of_known_labels(text_model: Path) -> None:
    before = head_of(text_model, ["billing", "delivery", "praise"])
    after = head_of(text_model, ["praise", "spam", "billing", "delivery"])
    assert torch.equal(after[[0, 2, 3]], before[[2, 0, 1]])


def test_a_pretrained_head_of_another_kind_is_new(text_model: Path) -> None:
    module = TextClassifier(pretrained=str(text_model), problem="regression", labels=[])
    assert sorted(module.fresh_names) == ["classifier.bias", "classifier.weight"]
