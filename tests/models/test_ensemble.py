"""Averaged outputs of several models."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from plcli.models import ensemble, target_scaling
from plcli.models.deciding import Decider, joint
from plcli.models.target_scaling import TargetScaling
from plcli.tasks.multiple_choice import MultipleChoiceModel


def outputs(*logits: torch.Tensor) -> list[Any]:
    return [SimpleNamespace(logits=each, loss=None) for each in logits]


def test_classes_have_the_mean_probability_each_with_its_temperature() -> None:
    first, second = torch.randn(4, 3), torch.randn(4, 3) * 5
    mean = ensemble.with_mean_probabilities(outputs(first, second), temperatures=[None, 2.0])
    wanted = (first.softmax(-1) + (second / 2).softmax(-1)) / 2
    torch.testing.assert_close(mean.logits.softmax(-1), wanted)
    assert not torch.allclose(((first + second / 2) / 2).softmax(-1), wanted)


def test_several_labels_have_the_mean_probability_even_of_sure_models() -> None:
    first, second = torch.tensor([[3.0, -90.0, 90.0]]), torch.tensor([[-1.0, -2.0, 90.0]])
    mean = ensemble.with_mean_chances(outputs(first, second), temperatures=[2.0, None])
    wanted = ((first / 2).sigmoid() + second.sigmoid()) / 2
    torch.testing.assert_close(mean.logits.sigmoid(), wanted)
    assert mean.logits.isfinite().all()


def test_thresholds_are_averaged_and_the_temperature_is_used_up() -> None:
    both: dict[str, Any] = {"names": ["a", "b"], "several": True, "abstain_below": None}
    chosen: list[tuple[Any, dict[str, float]]] = [
        (2.0, {"a": 0.2, "b": 0.4}),
        (None, {"a": 0.4, "b": 0.6}),
    ]
    each = [
        Decider(**both, temperature=temperature, thresholds=thresholds)
        for temperature, thresholds in chosen
    ]
    made = joint(each)
    assert made.temperature is None
    assert made.thresholds == pytest.approx({"a": 0.3, "b": 0.5})


def test_numbers_are_averaged_in_their_unit() -> None:
    scalings = [TargetScaling(10.0, 2.0), TargetScaling(20.0, 4.0)]
    values = [torch.tensor([[1.0], [0.0]]), torch.tensor([[-1.0], [1.0]])]
    mean = target_scaling.mean(scalings, values)
    torch.testing.assert_close(scalings[0].restored(mean), torch.tensor([[14.0], [17.0]]))


def test_choices_have_the_mean_probability_in_rows_of_unlike_length() -> None:
    batch = {
        "row_index": torch.tensor([0, 0, 0, 1, 1]),
        "places": torch.tensor([0, 1, 2, 0, 1]),
    }
    parts = outputs(torch.randn(5, 1), torch.randn(5, 1))
    module: Any = SimpleNamespace(logits=lambda *given: MultipleChoiceModel.logits(module, *given))
    mean = MultipleChoiceModel.averaged(module, parts, batch, [module, module])
    tables = [module.logits(each, batch).softmax(1) for each in parts]
    found = module.logits(mean, batch).softmax(1)
    torch.testing.assert_close(found, (tables[0] + tables[1]) / 2)
    assert found[1, 2] == 0


def test_a_joined_module_has_the_others_as_its_parts() -> None:
    class Module(torch.nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = torch.nn.Parameter(torch.tensor(value))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return self.value * batch

        def averaged(self, outputs: Any, batch: Any, modules: Any) -> torch.Tensor:
            return torch.stack(outputs).mean(0)

    module = Module(1.0)
    ensemble.join(module, [Module(2.0), Module(6.0)])
    assert float(module(torch.tensor(2.0)).detach()) == 6.0
    assert float(module.double()(torch.tensor(2.0).double()).detach()) == 6.0
    assert {each.dtype for each in module.parameters()} == {torch.float64}
