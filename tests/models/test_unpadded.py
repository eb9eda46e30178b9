"""Training batches without padding: the same gradient, where a network allows it."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from plcli.models import lora, unpadded, varlen
from plcli.models.layers import Parts
from plcli.models.lora import Lora
from tests.conftest import TINY_BERT, message_rows, write_rows
from tests.running import TWO_LAYERS, adamw, fit, saved_state, try_fit

pytestmark = pytest.mark.filterwarnings("ignore")  # of transformers, for configs so small
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 200,
}
AFTER_PADDING = {"max_position_embeddings": 66}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": AFTER_PADDING,
    "xlm-roberta": AFTER_PADDING,
    "camembert": AFTER_PADDING,
    "data2vec-text": AFTER_PADDING,
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "electra": {},
    "albert": {"embedding_size": 16},
    "ernie": {},
    "nomic_bert": {},
    "jina_embeddings_v3": {},
    "eurobert": {"num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0},
    "modernbert": {
        **{f"{name}_token_id": number for number, name in enumerate(("pad", "cls", "sep"))},
        "bos_token_id": 1,
        "eos_token_id": 2,
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
    },
}
OTHERS = {
    "mpnet": "its attention cannot be replaced",
    "deberta-v2": "its attention cannot be replaced",
    "mobilebert": "its outputs differ without padding",
}


def network(model_type: str, task: str = "SequenceClassification", **sizes: Any) -> Any:
    """Make a network without dropout whose weights are not near 0."""
    config = transformers.AutoConfig.for_model(model_type, **{**SIZES, "num_labels": 3, **sizes})
    torch.manual_seed(0)
    made = getattr(transformers, f"AutoModelFor{task}").from_config(config).train()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.2)
    for part in made.modules():
        for name in ("p", "dropout_prob", "attention_dropout", "dropout"):
            if isinstance(getattr(part, name, None), float):
                setattr(part, name, 0.0)
    return made


def batch(made: Any, *, left: bool = False, labels: tuple[int, ...] = (12,)) -> dict[str, Any]:
    """Return twelve rows of 3 to 25 tokens."""
    generator = torch.Generator().manual_seed(1)
    lengths = torch.randint(3, 26, (12,), generator=generator)
    mask = (torch.arange(25) < lengths[:, None]).long()
    mask = mask.flip(1) if left else mask
    ids = torch.randint(5, 200, (12, 25), generator=generator)
    pad = made.config.pad_token_id or 0
    found = {"input_ids": torch.where(mask.bool(), ids, pad), "attention_mask": mask}
    targets = torch.randint(0, 3, labels, generator=generator)
    if len(labels) == 2:
        targets = torch.where(mask.bool(), targets, -100)
    return {**found, "labels": targets}


def gradient(made: Any, given: dict[str, Any]) -> torch.Tensor:
    """Return the gradient of the loss of a batch."""
    made.zero_grad()
    made(**given).loss.backward()
    return torch.cat([p.grad.reshape(-1) for p in made.parameters() if p.grad is not None])


def assert_same(made: Any, given: dict[str, Any]) -> None:
    """Compare the gradients of a batch with and without padding."""
    padded = gradient(made, given)
    assert unpadded.install(made) is None
    difference = (gradient(made, given) - padded).norm() / padded.norm()
    assert float(difference) < 1e-5


@pytest.mark.parametrize("model_type", ENCODERS)
def test_the_gradient_is_that_of_the_padded_batch(model_type: str) -> None:
    made = network(model_type, **ENCODERS[model_type])
    assert_same(made, batch(made))


@pytest.mark.parametrize("task", ["TokenClassification", "MaskedLM"])
def test_labels_of_tokens_have_the_gradient_of_the_padded_batch(task: str) -> None:
    made = network("bert", task)
    assert_same(made, batch(made, labels=(12, 25)))


SEQ2SEQ = {
    "d_model": 32,
    **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")},
    "max_position_embeddings": 64,
    "decoder_start_token_id": 2,
    "pad_token_id": 1,
}


@pytest.mark.parametrize("model_type", ["bart", "mbart", "marian", "pegasus", "blenderbot"])
def test_the_encoder_of_a_seq2seq_model_has_the_gradient_of_the_padded_batch(
    model_type: str,
) -> None:
    made = network(model_type, "Seq2SeqLM", **SEQ2SEQ)
    given = batch(made, labels=(12, 25))
    given["labels"] = torch.where(given["labels"] >= 0, given["labels"] + 5, -100)
    assert_same(made, given)


def test_the_encoder_of_t5_keeps_its_padding() -> None:
    made = network("t5", "Seq2SeqLM", d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2)
    assert str(unpadded.install(made)).startswith("its outputs differ without padding")


def test_second_texts_keep_their_token_types() -> None:
    made = network("bert")
    given = batch(made)
    given["token_type_ids"] = (torch.arange(25) > 5).long().expand(12, -1) * given["attention_mask"]
    assert_same(made, given)


def test_padding_on_the_left_is_kept() -> None:
    made = network("bert")
    given = batch(made, left=True)
    padded = gradient(made, given)
    assert unpadded.install(made) is None
    assert torch.equal(gradient(made, given), padded)


def test_gradient_checkpointing_recomputes_with_the_batchs_own_layout() -> None:
    made = network("bert")
    made.gradient_checkpointing_enable()
    given = batch(made)
    padded = gradient(made, given)
    assert unpadded.install(made) is None
    made.zero_grad()
    loss = made(**given).loss
    other = {name: value[:5] for name, value in given.items()}
    made(**other)  # another layout before the backward pass
    loss.backward()
    found = torch.cat([p.grad.reshape(-1) for p in made.parameters() if p.grad is not None])
    assert float((found - padded).norm() / padded.norm()) < 1e-5


def test_low_rank_updates_have_the_gradient_of_the_padded_batch() -> None:
    made = network("bert")
    lora.add(made, Lora(rank=4), Parts(made).trained_whole())
    assert_same(made, batch(made))


def test_frozen_layers_stay_frozen() -> None:
    made = network("bert")
    Parts(made).freeze(1)
    assert_same(made, batch(made))


def test_plain_attention_of_bfloat16_is_that_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = network("bert")
    given = batch(made)
    calls, plain = [], unpadded._plain

    def counted(*tensors: torch.Tensor, **settings: Any) -> torch.Tensor:
        calls.append(tensors[0].dtype)
        return plain(*tensors, **settings)

    monkeypatch.setattr(unpadded, "_plain", counted)
    assert unpadded.install(made) is None
    wanted = gradient(made, given)
    with torch.autocast("cpu", torch.bfloat16):
        found = gradient(made, given)
    assert calls == [torch.bfloat16] * 2 * unpadded.GROUPS  # layers and groups
    assert float((found - wanted).norm() / wanted.norm()) < 0.05


def test_outputs_of_all_layers_keep_the_padding() -> None:
    made = network("bert", output_hidden_states=True)
    given = batch(made)
    padded = gradient(made, given)
    assert unpadded.install(made) is None
    assert torch.equal(gradient(made, given), padded)


def test_evaluation_is_padded_as_before() -> None:
    made = network("bert")
    given = batch(made)
    wanted = made.eval()(**given).logits
    unpadded.install(made)
    assert torch.equal(made.eval()(**given).logits, wanted)


@pytest.mark.parametrize("model_type", OTHERS)
def test_a_network_that_would_give_other_outputs_keeps_its_padding(model_type: str) -> None:
    made = network(model_type)
    given = batch(made)
    padded = gradient(made, given)
    reason = unpadded.install(made)
    assert reason is not None
    assert reason.startswith(OTHERS[model_type])
    assert torch.equal(gradient(made, given), padded)


def test_a_network_of_several_layers_of_relative_positions_is_caught() -> None:
    made = network("bert")
    original = made.bert.embeddings.forward
    made.bert.embeddings.forward = lambda **given: original(**{**given, "position_ids": None})
    assert str(unpadded.install(made)).startswith("its outputs differ without padding")


# with the kernel of a GPU


def by_rows(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    ends: torch.Tensor,
    ends_of_keys: torch.Tensor,
    longest: int,
    longest_of_keys: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
) -> torch.Tensor:
    """Stand in for varlen_attn, of which there is none without a GPU."""
    out = []
    for start, end in itertools.pairwise(ends.tolist()):
        row = [each[start:end].transpose(0, 1) for each in (queries, keys, values)]
        at = torch.arange(end - start)
        near = at[None] - at[:, None]
        seen = torch.ones_like(near, dtype=torch.bool)
        if window_size != (-1, -1):
            seen = (near >= -window_size[0]) & (near <= window_size[1])
        attended = nn.functional.scaled_dot_product_attention(*row, attn_mask=seen, scale=scale)
        out.append(attended.transpose(0, 1))
    assert longest == longest_of_keys == int(ends.diff().max())
    return torch.cat(out)


SUITABLE: dict[str, Any] = {
    "capability": (8, 0),
    "dtype": torch.bfloat16,
    "dropout": 0.0,
    "size": 64,
    "same_heads": True,
}


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({}, True),
        ({"capability": (9, 0), "dtype": torch.float16, "size": 32}, True),
        ({"capability": (7, 5)}, False),
        ({"dtype": torch.float32}, False),
        ({"dropout": 0.1}, False),
        ({"size": 20}, False),
        ({"size": 256}, False),
        ({"same_heads": False}, False),
    ],
)
def test_the_kernel_is_for_what_it_computes_exactly(change: dict[str, Any], wanted: bool) -> None:
    assert varlen.is_suitable(**{**SUITABLE, **change}) is wanted


def test_a_cpu_has_no_kernel() -> None:
    assert varlen.kernel(torch.device("cpu")) is None


@pytest.mark.parametrize("window", [None, 4])
def test_the_kernel_gets_the_rows_of_the_layout(window: int | None) -> None:
    mask = batch(network("bert"))["attention_mask"]
    found = unpadded.layout(mask)
    assert found.ends.tolist() == [0, *itertools.accumulate(sorted(mask.sum(1).tolist()))]
    assert found.ends.dtype == torch.int32
    assert all(group.end in found.ends for group in found.groups)
    tokens = [torch.randn(len(found.source), 2, 16) for _ in range(3)]
    kernel = varlen.Kernel(by_rows, (8, 0))
    ours = kernel.attend(tokens, found.ends, found.longest, scaling=0.3, window=window)
    wanted = unpadded._in_groups(tokens, found, 0.0, 0.3, window)
    assert torch.allclose(ours, wanted, atol=1e-5)


@pytest.mark.parametrize(("dropout", "count"), [(0.0, 5), (0.1, 0)])
def test_dropout_of_attention_goes_without_the_kernel(dropout: float, count: int) -> None:
    made = network("bert")
    made.gradient_checkpointing_enable()
    for layer in made.bert.encoder.layer:
        layer.attention.self.dropout.p = dropout
    given = batch(made)
    padded = gradient(made, given)
    assert unpadded.install(made) is None
    calls: list[torch.Size] = []

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(args[0].shape)
        assert args[0].dtype == torch.bfloat16
        return by_rows(*args, **kwargs)

    made.bert.forward.kernels[torch.device("cpu")] = varlen.Kernel(counted, (8, 0))
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradient(made, given)
    assert len(calls) == count  # 2 layers, and again in the backward pass; 1 is compared
    if not dropout:
        assert float((ours - padded).norm() / padded.norm()) < 0.05


def test_a_kernel_with_other_outputs_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    made = network("bert")
    given = batch(made)
    assert unpadded.install(made) is None
    with torch.autocast("cpu", torch.bfloat16):
        groups = gradient(made, given)
        wrong = varlen.Kernel(
            lambda *tokens, **_: by_rows(*tokens, scale=3.0, window_size=(0, 0)), (8, 0)
        )
        made.bert.forward.kernels[torch.device("cpu")] = wrong
        with caplog.at_level("WARNING"):
            assert torch.equal(gradient(made, given), groups)
    assert wrong.compared == {None: False}
    assert "attention without padding differs from the padded one, by" in caplog.text


# in a fit


def messages(folder: Path, **model: Any) -> dict[str, Any]:
    """Return the sections of a config that trains on messages."""
    rows = str(write_rows(folder / "rows.jsonl", message_rows(2)))
    return {
        "model": {"architecture": TWO_LAYERS, "optimizer": adamw(5e-3), **model},
        "data": {"train": rows, "validation": rows, "text": "message", "label": "intent"}
        | {"batch_size": 8},
    }


def test_a_fit_has_the_weights_of_one_with_padding(tmp_path: Path) -> None:
    no_dropout = {f"{name}_dropout_prob": 0.0 for name in ("hidden", "attention_probs")}
    states = []
    for name, choice in (("without", True), ("with", False)):
        folder = tmp_path / name
        folder.mkdir()
        architecture = {**TWO_LAYERS, **no_dropout}
        run = fit(folder, **messages(folder, architecture=architecture, unpadded=choice))
        states.append(saved_state(run))
    for name, value in states[0].items():
        assert torch.allclose(value, states[1][name], atol=1e-5), name


def test_it_is_told_that_batches_are_without_padding(tmp_path: Path) -> None:
    result = try_fit(tmp_path, **messages(tmp_path))
    assert "training batches are run without padding (model.unpadded)" in result.err


def test_where_it_is_demanded_and_not_possible_it_is_refused(tmp_path: Path) -> None:
    parts = messages(tmp_path, unpadded=True, architecture={**TINY_BERT, "model_type": "mpnet"})
    result = try_fit(tmp_path, **parts)
    assert result.code == 2
    assert (
        "model.unpadded: MPNetForSequenceClassification cannot be run without padding: its "
        "attention cannot be replaced. Remove the key."
    ) in result.err


def test_the_artefact_names_no_attention_of_plcli(tmp_path: Path) -> None:
    run = fit(tmp_path, **messages(tmp_path))
    assert unpadded.NAME not in (run / "model" / "config.json").read_text()
