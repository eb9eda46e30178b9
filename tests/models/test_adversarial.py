"""FGM and AWP: where weights are moved, what the step learns from, and that they are put back."""

from typing import Any

import pytest
import torch

from plcli.errors import ModelError, UsageError
from plcli.models.adversarial import Adversarial, Attack
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import TINY_BERT

IDS = torch.arange(1, 19).reshape(3, 6)
ROWS = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)} | {
    "labels": torch.tensor([0, 1, 1])
}


@pytest.fixture
def module() -> TextClassifier:
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "pad_token_id": 0}
    return TextClassifier(architecture=TINY_BERT, labels=["a", "b"], **sizes).eval()


def passed(module: TextClassifier) -> torch.Tensor:
    return module.loss(module(ROWS), ROWS)


def gradients(module: TextClassifier, loss: torch.Tensor) -> list[torch.Tensor]:
    module.zero_grad()
    loss.backward()
    return [p.grad.clone() for p in module.parameters() if p.grad is not None]


def table(module: TextClassifier) -> Any:
    return module.model.get_input_embeddings().weight


@pytest.mark.parametrize("scale", [1.0, 1024.0])
def test_a_step_learns_from_the_mean_of_both_passes(module: TextClassifier, scale: float) -> None:
    first = gradients(module, passed(module))
    start = table(module).detach().clone()
    gradient = table(module).grad
    with torch.no_grad():
        table(module).add_(0.5 * gradient / gradient.norm())
    second = gradients(module, passed(module))
    with torch.no_grad():
        table(module).copy_(start)
    attack = Attack(module.model, Adversarial(size=0.5))
    ours = gradients(module, attack.loss(lambda: passed(module), scale=scale))
    for one, other, mean in zip(first, second, ours, strict=True):
        torch.testing.assert_close((one + other) / 2, mean, atol=1e-6, rtol=1e-4)


def test_the_loss_is_the_mean_of_both(module: TextClassifier) -> None:
    found: list[torch.Tensor] = []

    def noted() -> torch.Tensor:
        found.append(passed(module))
        return found[-1]

    loss = Attack(module.model, Adversarial(size=5.0)).loss(noted)
    torch.testing.assert_close(loss, (found[0] + found[1]) / 2)
    assert float(found[1].detach()) > float(found[0].detach())


def test_fgm_moves_the_embeddings_alone_by_its_size(module: TextClassifier) -> None:
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    Attack(module.model, Adversarial(size=0.5)).loss(lambda: passed(module))
    moved = [name for name, tensor in module.state_dict().items() if (tensor != before[name]).any()]
    assert moved == ["model.bert.embeddings.word_embeddings.weight"]
    assert float((table(module).detach() - before[moved[0]]).norm()) == pytest.approx(0.5, rel=1e-4)


def test_awp_moves_every_matrix_by_a_part_of_its_norm(module: TextClassifier) -> None:
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    Attack(module.model, Adversarial(kind="awp", size=0.01)).loss(lambda: passed(module))
    for name, parameter in module.named_parameters():
        part = float((parameter.detach() - start[name]).norm() / start[name].norm().clamp(min=1e-9))
        assert part == pytest.approx(0.01 if parameter.ndim >= 2 else 0.0, rel=1e-2), name


def test_awp_moves_what_is_computed_in_half_precision_too(module: TextClassifier) -> None:
    found = []

    def noted() -> torch.Tensor:
        found.append(passed(module))
        return found[-1]

    table(module).requires_grad_(False)  # whose copy in half precision would be made anew
    with torch.autocast("cpu", torch.bfloat16):
        Attack(module.model, Adversarial(kind="awp", size=0.3)).loss(noted)
    assert float(found[1].detach()) != float(found[0].detach())


def test_a_gradient_that_is_not_finite_moves_nothing(module: TextClassifier) -> None:
    start = table(module).detach().clone()
    Attack(module.model, Adversarial()).loss(lambda: passed(module) * float("inf"))
    assert torch.equal(table(module), start)


@pytest.mark.parametrize("kind", ["fgm", "awp"])
def test_weights_are_put_back_to_the_bit(module: TextClassifier, kind: Any) -> None:
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    attack = Attack(module.model, Adversarial(kind=kind))
    attack.loss(lambda: passed(module)).backward()
    attack.restore()
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())


def test_embeddings_that_are_frozen_are_moved_and_do_not_learn(module: TextClassifier) -> None:
    table(module).requires_grad_(False)
    start = table(module).detach().clone()
    Attack(module.model, Adversarial()).loss(lambda: passed(module)).backward()
    assert not torch.equal(table(module), start)
    assert table(module).grad is None
    assert not table(module).requires_grad


def test_a_network_without_embeddings_says_so() -> None:
    class Plain(torch.nn.Linear):
        def get_input_embeddings(self) -> None:
            return None

    attack = Attack(Plain(2, 2), Adversarial())
    with pytest.raises(ModelError, match="Plain has no input embeddings. Use kind: awp"):
        attack.loss(lambda: torch.zeros(()))


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.adversarial\.size: got 0, expected more than 0"):
        Adversarial(size=0)
