"""A written network in the place of the original one, and the stand-ins that measure it."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    FNetConfig,
    FNetForSequenceClassification,
)

from plcli.errors import ModelError
from plcli.models import engines, padding
from plcli.models.exporting import Exported, Outputs

SIZES = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 16}
IDS = torch.tensor([[2, 7, 8, 9, 3], [2, 12, 3, 0, 0]])
MASK = (IDS != 0).long()


def in_place_of(network: Any, *names: str) -> Exported:
    """Return a network that calls another one as an engine would: arrays in, arrays out."""

    def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
        inputs = {name: torch.from_numpy(value) for name, value in arrays.items()}
        with torch.inference_mode():
            outputs = network(**inputs)
        return {name: value.numpy() for name, value in outputs.items()}

    return Exported(network.eval(), run, names)


def test_a_network_that_reads_padding_is_given_none() -> None:
    network = FNetForSequenceClassification(FNetConfig(**SIZES, tpu_short_seq_length=8)).eval()
    made = in_place_of(network, "input_ids")
    arguments = set(inspect.signature(made.forward).parameters)
    assert arguments == set(inspect.signature(network.forward).parameters)

    def outputs(model: Any, ids: torch.Tensor) -> Any:
        inputs, mask = {"input_ids": ids}, (ids != 0).long()
        return padding.run(model, inputs, mask=mask, arguments=arguments, count=len)

    together = outputs(made, IDS)
    torch.testing.assert_close(together["logits"][1:], outputs(made, IDS[1:, :3])["logits"])
    with torch.inference_mode():
        torch.testing.assert_close(together.logits, outputs(network, IDS).logits)


def test_the_loss_is_that_of_transformers() -> None:
    config = BertConfig(**SIZES, num_attention_heads=2)
    cases: list[tuple[Any, dict[str, torch.Tensor]]] = [
        (BertForMaskedLM(config), {"labels": torch.where(IDS > 5, IDS, -100)}),
        (
            BertForQuestionAnswering(config),
            {"start_positions": torch.tensor([1, 9]), "end_positions": torch.tensor([3, 0])},
        ),
    ]
    for network, targets in cases:
        made = in_place_of(network, "input_ids", "attention_mask")
        inputs = {"input_ids": IDS, "attention_mask": MASK, **targets}
        with torch.inference_mode():
            torch.testing.assert_close(made(**inputs).loss, network(**inputs).loss)
        assert made(input_ids=IDS, attention_mask=MASK).loss.isnan()


def test_inputs_that_are_not_given_are_those_of_transformers() -> None:
    network = BertForMaskedLM(BertConfig(**SIZES, num_attention_heads=2))
    made = in_place_of(network, "input_ids", "attention_mask", "token_type_ids")
    with torch.inference_mode():
        torch.testing.assert_close(made(input_ids=IDS).logits, network(input_ids=IDS).logits)


def test_outputs_are_items_and_attributes() -> None:
    found = Outputs(logits=torch.ones(1))
    found.logits = found.logits + 1
    assert found["logits"] == 2
    assert getattr(found, "hidden_states", None) is None


def test_stand_ins_have_the_lengths_and_special_tokens_of_batches_but_not_their_words(
    tmp_path: Path,
) -> None:
    widths = [9, 3, 5, 7, 4, 8]
    calls = []
    for width in widths:
        ids = torch.full((40, width), 30)
        ids[:, 0], ids[:, -1], ids[0, 1:-1] = 2, 3, 6
        calls.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    engines.save(engines.stand_ins(calls, special=[0, 2, 3]), tmp_path / "a")
    found = engines.load(tmp_path / "a")
    assert [batch["input_ids"].shape for batch in found] == [(32, 3), (32, 5), (32, 7), (32, 9)]
    for batch in found:
        ids = batch["input_ids"]
        assert (ids[:, 0] == 2).all()
        assert (ids[:, -1] == 3).all()
        assert ids.min() >= 2
        assert ids.max() <= 30
        assert len(ids[:, 1:-1].unique()) > 5
        assert batch["attention_mask"].shape == ids.shape
    (tmp_path / "a").write_bytes(b"x")
    with pytest.raises(ModelError, match="a: is damaged .* Export the run again."):
        engines.load(tmp_path / "a")


def test_networks_are_measured_in_turns_on_the_same_batches(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "SECONDS", 0.0)
    called: list[tuple[str, tuple[int, ...]]] = []

    def network(name: str) -> Any:
        return lambda input_ids: called.append((name, tuple(input_ids.shape)))

    batches = [{"input_ids": torch.ones(2, width, dtype=torch.long)} for width in (3, 4, 5, 6)]
    found = engines.rates({"a": network("a"), "b": network("b")}, batches, rows=3)
    finding_the_rows = [("a", (3, 5))] * 2
    assert called == [*finding_the_rows, *[("a", (3, 5)), ("b", (3, 5))] * 2]  # the first prepares
    assert set(found) == {"a", "b"}
    assert min(found.values()) > 0


def test_a_slow_network_is_measured_on_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SECONDS", 1e-9)
    called: list[int] = []
    batches = [{"input_ids": torch.ones(2, 3, dtype=torch.long)}]
    engines.rates({"a": lambda input_ids: called.append(len(input_ids))}, batches, rows=32)
    assert called == [4, 4, 4, 4]
