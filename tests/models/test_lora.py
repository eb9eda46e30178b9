"""LoRA: what is trained, how it is saved and loaded, merged or as an adapter."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from plcli.errors import MachineError, UsageError
from plcli.models import lora as adapters
from plcli.models.layers import Parts
from plcli.models.lora import Lora
from plcli.pretrained import weights as pretrained
from plcli.runs import artefact
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import message_rows, write_rows
from tests.running import adamw, fit, predicted, read_json, run_plcli, try_fit
from tests.tiny import bert_tokenizer

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
BERT = {"model_type": "bert", **SIZES, "intermediate_size": 64}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
TASKS = {
    "AutoModelForSequenceClassification": BERT,
    "AutoModelForTokenClassification": BERT,
    "AutoModelForQuestionAnswering": BERT,
    "AutoModelForMaskedLM": BERT,
    "AutoModelForCausalLM": GPT2,
}


def save_base(folder: Path, sizes: Any) -> Path:
    """Save a pretrained network of random weights, without a head, and its tokenizer."""
    torch.manual_seed(0)
    tokenizer = bert_tokenizer(model_max_length=32)
    auto_class = transformers.AutoModel if sizes is BERT else transformers.AutoModelForCausalLM
    model = pretrained.build_model(auto_class, {**sizes, "vocab_size": len(tokenizer)})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained encoder of two layers."""
    return save_base(tmp_path_factory.mktemp("base") / "model", BERT)


def classifier(base: Path, **lora: Any) -> TextClassifier:
    return TextClassifier(pretrained=str(base), labels=["a", "b", "c"], lora=Lora(**lora))


def trained(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def learn(model: Any) -> None:
    """Change everything that is trained."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))


def outputs(model: Any) -> torch.Tensor:
    ids = torch.arange(1, 13).reshape(2, 6)
    with torch.inference_mode():
        answer: torch.Tensor = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))[0]
    return answer


def keep_as_adapter(model: Any, base: Path, folder: Path) -> Path:
    """Save an adapter as a run's model/ folder is saved."""
    folder.mkdir()
    described = adapters.describe_base(str(base))
    adapters.save(model, folder, base=described["name"])
    (folder / "plcli.json").write_text(json.dumps({"base": described}))
    return folder


# what is trained


def test_updates_and_the_head_are_trained(base: Path) -> None:
    names = trained(classifier(base).model)
    updates = {name for name in names if ".lora_" in name}
    assert names - updates == {"classifier.weight", "classifier.bias"}
    assert len(updates) == 2 * 2 * 2  # A and B of query and value in two layers


def test_targets_may_be_named(base: Path) -> None:
    names = trained(classifier(base, targets=["key"]).model)
    assert {name.split(".")[-4] for name in names if ".lora_" in name} == {"key"}


def test_all_linear_layers_but_the_heads_may_be_updated(base: Path) -> None:
    names = trained(classifier(base, targets="all-linear").model)
    assert any("intermediate.dense.lora_A" in name for name in names)
    assert not any("classifier.lora" in name for name in names)


def test_the_rank_is_that_of_the_updates(base: Path) -> None:
    model = classifier(base, rank=3).model
    shapes = {tuple(p.shape) for name, p in model.named_parameters() if ".lora_A" in name}
    assert shapes == {(3, 32)}


def test_alpha_is_twice_the_rank_by_default(base: Path) -> None:
    layer = classifier(base, rank=4).model.bert.encoder.layer[0].attention.self.query
    assert layer.scaling == {"default": 2.0}


def test_dora_learns_sizes_as_well(base: Path) -> None:
    assert any("magnitude" in name for name in trained(classifier(base, dora=True).model))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"rank": 0}, r"model\.lora\.rank: got 0, expected 1 or more"),
        ({"dropout": 1.0}, r"model\.lora\.dropout: got 1\.0, expected 0 to below 1"),
        ({"alpha": 0.0}, r"model\.lora\.alpha: got 0\.0, expected more than 0"),
        ({"targets": ["qery"]}, r"model\.lora\.targets: .* has no layer 'qery'\. There are: query"),
        (
            {"quantize": "4bit"},
            r"cannot be merged into 4-bit weights\. Set model\.lora\.save: adapter",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(base: Path, arguments: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        classifier(base, **arguments)


def test_beside_random_weights_nothing_is_learnt() -> None:
    with pytest.raises(UsageError, match=r"model\.lora: needs pretrained weights, but architec"):
        TextClassifier(architecture=BERT, labels=["a", "b"], lora=Lora())


def test_lora_and_freeze_are_not_given_together(base: Path) -> None:
    with pytest.raises(UsageError, match="lora already freezes everything except the head"):
        TextClassifier(pretrained=str(base), labels=["a", "b"], lora=Lora(), freeze=1)


def test_four_bits_need_a_gpu(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(MachineError, match=r"model\.lora\.quantize: 4bit needs a CUDA GPU"):
        classifier(base, quantize="4bit", save="adapter")


def test_without_peft_it_says_how_to_install_it(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises((MachineError, ModuleNotFoundError), match="peft"):
        classifier(base)


def test_of_an_architecture_that_peft_does_not_know_all_linear_layers_are_updated() -> None:
    sizes = {"model_type": "distilbert", "dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    model = pretrained.build_model(transformers.AutoModelForMaskedLM, sizes)
    adapters.add(model, Lora(), set())
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trained(model)} == {
        *("q_lin", "k_lin", "v_lin", "out_lin", "lin1", "lin2", "vocab_transform")
    }


def test_a_head_that_shares_the_table_of_embeddings_is_no_target(tmp_path: Path) -> None:
    source = save_base(tmp_path / "base", TASKS["AutoModelForCausalLM"])
    model = pretrained.load_model(transformers.AutoModelForCausalLM, str(source))
    with pytest.raises(UsageError, match=r"has no layer 'lm_head'"):
        adapters.add(model, Lora(targets=["lm_head"]), set())


# saved and loaded, for every kind of task


@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("kind", TASKS)
def test_an_adapter_and_the_merged_network_answer_as_the_trained_one(
    tmp_path: Path, kind: str, dora: bool
) -> None:
    source = save_base(tmp_path / "base", TASKS[kind])
    auto_class = getattr(transformers, kind)
    model = pretrained.load_model(auto_class, str(source))
    adapters.add(model, Lora(rank=4, dora=dora), Parts(model, model.fresh_names).trained_whole())
    learn(model)
    expected = outputs(model)
    adapters.merged(model).save_pretrained(tmp_path / "merged")
    again = adapters.load_model(
        auto_class, str(keep_as_adapter(model, source, tmp_path / "adapter"))
    )
    torch.testing.assert_close(outputs(again), expected, atol=1e-5, rtol=1e-4)
    plain = auto_class.from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(outputs(plain), expected, atol=1e-5, rtol=1e-4)


def test_a_language_models_pretrained_head_stays_as_it_is(tmp_path: Path) -> None:
    source = save_base(tmp_path / "base", GPT2)
    model = pretrained.load_model(transformers.AutoModelForCausalLM, str(source))
    adapters.add(model, Lora(), Parts(model, model.fresh_names).trained_whole())
    assert all(".lora_" in name for name in trained(model))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_peft_itself_loads_an_adapter(base: Path, tmp_path: Path) -> None:
    import peft

    model = classifier(base).model
    learn(model)
    folder = keep_as_adapter(model, base, tmp_path / "adapter")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(base, num_labels=3)
    loaded = peft.PeftModel.from_pretrained(network, folder)
    torch.testing.assert_close(outputs(loaded), outputs(model), atol=1e-5, rtol=1e-4)


def test_saving_merged_leaves_the_trained_network_as_it_was(base: Path) -> None:
    model = classifier(base).model
    learn(model)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    adapters.merged(model)
    after = model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


# through the command


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that left an adapter."""
    folder = tmp_path_factory.mktemp("adapter")
    own = Path(shutil.copytree(base, folder / "base"))
    rows = str(write_rows(folder / "rows.jsonl", message_rows(2)))
    return fit(
        folder,
        *("--model.lora.rank", 4),
        model={"pretrained": str(own), "lora": {"save": "adapter"}, "optimizer": adamw(5e-2)},
        data={"train": rows, "validation": rows, "test": rows}
        | {"text": "message", "label": "intent", "batch_size": 8},
        trainer={"max_epochs": 2},
    )


def test_an_override_at_the_prompt_joins_the_files_values(run: Path) -> None:
    assert read_json(run / "model" / "adapter_config.json")["r"] == 4


def test_an_adapter_holds_no_pretrained_weights(run: Path) -> None:
    names = {path.name for path in (run / "model").iterdir()}
    assert {"adapter_model.safetensors", "adapter_config.json", "config.json"} <= names
    assert "model.safetensors" not in names


def test_an_adapter_scores_as_the_run_did(run: Path) -> None:
    artefact.load(run / "model")
    result = run_plcli("test", "--run", run / "model")
    expected = read_json(run / "metrics.json")["test"]["loss"]
    assert f" {expected:.4f} " in result.out, result.err


def test_the_last_checkpoint_of_an_adapter_is_scored(run: Path) -> None:
    result = run_plcli("validate", "--run", run, "--ckpt_path", "last")
    assert result.code == 0, result.err


def test_merged_and_adapter_predict_alike_and_the_run_goes_on(run: Path, tmp_path: Path) -> None:
    merged = Path(shutil.copytree(run.parent, tmp_path / "merged")) / "run"
    shutil.rmtree(merged / "model")  # as if it had been stopped at its very end
    words = ("--model.lora.save", "merged", "--resume", "allow-changes")
    resumed = run_plcli("fit", "--run", merged, *words)
    assert resumed.code == 0, resumed.err
    assert (merged / "model" / "model.safetensors").exists()
    rows = run.parent / "rows.jsonl"
    pairs = zip(predicted(run, rows), predicted(merged, rows), strict=True)
    for one, other in pairs:
        assert one["probability"] == pytest.approx(other["probability"], abs=1e-4)


def test_the_merged_folder_is_an_ordinary_model_of_a_pipeline(base: Path, tmp_path: Path) -> None:
    module = classifier(base)
    learn(module.model)
    module.save_pretrained(tmp_path / "model")
    bert_tokenizer().save_pretrained(tmp_path / "model")
    pipe = transformers.pipeline("text-classification", model=str(tmp_path / "model"), device="cpu")
    assert pipe("the invoice")[0]["label"] in "abc"


@pytest.mark.parametrize("change", ["gone", "changed", "another config"])
def test_an_adapter_beside_other_weights_is_refused(run: Path, tmp_path: Path, change: str) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    card = read_json(copy / "model" / "plcli.json")
    own = Path(shutil.copytree(run.parent / "base", tmp_path / "base"))
    (copy / "model" / "plcli.json").write_text(
        json.dumps(card | {"base": card["base"] | {"name": str(own)}})
    )
    if change == "gone":
        shutil.rmtree(own)
    elif change == "another config":
        config = read_json(own / "config.json")
        (own / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    else:
        with open(own / "model.safetensors", "r+b") as file:
            file.seek(-1, 2)
            file.write(b"\x01")
    result = run_plcli("test", "--run", copy)
    said = "which were not found. Restore them" if change == "gone" else "have changed since"
    assert (result.code, said in result.err) == (4, True), result.err


def test_an_adapter_beside_itself_is_refused(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    card = read_json(copy / "model" / "plcli.json")
    itself = {"base": {"name": str(copy / "model")}}
    (copy / "model" / "plcli.json").write_text(json.dumps(card | itself))
    result = run_plcli("test", "--run", copy)
    assert (result.code, "is an adapter that names itself" in result.err) == (4, True), result.err


def test_other_updates_than_those_of_the_weights_are_refused(run: Path) -> None:
    result = run_plcli("test", "--run", run, "--model.lora.rank", 64)
    said = "model.init_args.lora.rank: got 64, but the weights of"
    assert (result.code, said in result.err) == (2, True), result.err


def test_an_adapter_is_gone_on_from(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        module = TextClassifier(init_from=str(run), labels=["delivery", "praise"])
    assert "kept labels: delivery, praise; dropped labels: billing" in caplog.text
    assert not adapters.is_adapted(module.model)


@pytest.mark.parametrize("where", ["prompt", "file"])
def test_a_misspelt_nested_key_is_refused_with_the_nearest(
    base: Path, tmp_path: Path, where: str
) -> None:
    words = ("--model.lora.rnk", "4") if where == "prompt" else ()
    more: dict[str, Any] = {} if words else {"lora": {"rnk": 4}}
    result = try_fit(tmp_path, *words, model={"pretrained": str(base), **more}, data={})
    assert (result.code, "lora.rnk'. Did you mean 'rank'?" in result.err) == (2, True), result.err
