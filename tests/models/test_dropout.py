"""Dropout that is quick on a CPU is dropout."""

import pytest
import torch

from plcli.models.dropout import QuickDropout, quicken


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_part_of_the_values_is_dropped_and_the_mean_is_kept(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.ones(401, 503, dtype=dtype)

    found = QuickDropout(p)(values)

    assert found.dtype == dtype
    dropped = float((found == 0).double().mean())
    assert dropped == pytest.approx(p, abs=4 * (p * (1 - p) / values.numel()) ** 0.5)
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-4
    assert found.double().unique().tolist() == pytest.approx([0, 1 / (1 - p)], rel=tolerance)


def test_elements_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (QuickDropout(0.3)(torch.ones(400, 400)) != 0).double() - 0.7
    error = 4 * 0.21 / 400

    for shift in (1, 2, 3, 4):  # four elements come from one number
        assert abs(float((kept[:, shift:] * kept[:, :-shift]).mean())) < error
    assert abs(float((kept[1:] * kept[:-1]).mean())) < error


def test_the_gradient_is_dropped_and_scaled_alike() -> None:
    values = torch.ones(7, 5, requires_grad=True)
    found = QuickDropout(0.4)(values)

    found.sum().backward()

    assert values.grad is not None
    assert torch.equal(values.grad, found.detach())


def test_the_generator_of_torch_decides() -> None:
    values, dropout = torch.ones(9, 3), QuickDropout(0.5)
    torch.manual_seed(3)
    first, second = dropout(values), dropout(values)
    torch.manual_seed(3)

    assert torch.equal(dropout(values), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [0.0, 1.0, 0.999999])
def test_extreme_probabilities(p: float) -> None:
    found = QuickDropout(p)(torch.ones(50))

    assert bool(found.isfinite().all())
    assert float((found == 0).double().mean()) == round(p)


def test_the_dropout_of_a_network_is_replaced_and_evaluation_is_not_changed() -> None:
    network = torch.nn.Sequential(
        torch.nn.Linear(4, 4), torch.nn.Sequential(torch.nn.Dropout(0.2)), torch.nn.Dropout1d(0.2)
    ).eval()
    values = torch.rand(3, 4)
    before = network(values)

    quicken(network)

    assert [type(part).__name__ for part in network.modules() if "Dropout" in str(type(part))] == [
        "QuickDropout",
        "Dropout1d",
    ]
    assert torch.equal(network(values), before)
