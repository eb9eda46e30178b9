"""Parameter groups, learning rates by depth, and schedules."""

from typing import Any

import pytest
import torch

from plcli.errors import UsageError
from plcli.models import optimization
from plcli.models.optimization import Plateau, WarmupPlateau
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import TINY_BERT

THREE_LAYERS = {**TINY_BERT, "num_hidden_layers": 3}


class Trainer:
    """What configure_optimizers asks a trainer for."""

    estimated_stepping_batches = 100
    enable_validation = True


def optimizer(**options: Any) -> torch.optim.Optimizer:
    module = TextClassifier(
        architecture=THREE_LAYERS,
        labels=["a", "b"],
        vocab_size=40,
        pad_token_id=0,
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=2e-5),
        **options,
    )
    module._trainer = Trainer()  # type: ignore[assignment]
    made: torch.optim.Optimizer = module.configure_optimizers()["optimizer"]
    return made


def rates(made: torch.optim.Optimizer) -> dict[str, float]:
    return {group["part"]: group["initial_lr"] for group in made.param_groups}


def one_weight(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def curve(name: Any, *, warmup: float, total: int) -> list[float]:
    made = one_weight()
    schedule = optimization.schedule(name, made, warmup=warmup, total=total)
    found = []
    for _ in range(total):
        found.append(float(made.param_groups[0]["lr"]))
        made.step()
        schedule.step()
    return found


def test_plain_training_has_a_group_with_decay_and_one_without() -> None:
    made = optimizer()
    assert [group["weight_decay"] for group in made.param_groups] == [0.01, 0.0]


def test_a_layer_learns_more_slowly_than_the_one_above_it() -> None:
    assert rates(optimizer(layer_decay=0.5)) == pytest.approx(
        {"head": 2e-5, "layer 3": 1e-5, "layer 2": 5e-6, "layer 1": 2.5e-6, "embeddings": 1.25e-6}
    )


def test_the_head_has_a_rate_of_its_own() -> None:
    found = rates(optimizer(head_lr=1e-3))
    assert (found["head"], found["layer 3"], found["embeddings"]) == (1e-3, 2e-5, 2e-5)


def test_every_parameter_is_in_one_group() -> None:
    made = optimizer(layer_decay=0.9, head_lr=1e-3)
    sizes = [parameter.numel() for group in made.param_groups for parameter in group["params"]]
    plain = optimizer()
    assert sum(sizes) == sum(p.numel() for group in plain.param_groups for p in group["params"])


def test_biases_of_every_part_are_spared_from_decay() -> None:
    for group in optimizer(layer_decay=0.9).param_groups:
        assert bool(group["weight_decay"]) == (group["params"][0].ndim >= 2)


def test_groups_of_one_rate_are_told_in_one_line() -> None:
    lines = optimization.describe_groups(optimizer(head_lr=1e-3))
    assert [line.split(":")[0] for line in lines] == ["embeddings, layers 1-3", "head"]


def test_a_line_tells_parameters_rate_and_decay() -> None:
    (line,) = optimization.describe_groups(optimizer(freeze="all"))
    assert line == "all: 66 parameters, lr 2e-05, weight decay 0.01 on 64"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer_decay": 1.5}, r"model\.layer_decay: got 1\.5, expected above 0, to 1"),
        ({"head_lr": -1.0}, r"model\.head_lr: got -1\.0, expected more than 0"),
        ({"head_lr": 0.0}, r"model\.head_lr: got 0\.0, expected more than 0"),
        ({"layer_decay": 0.0}, r"model\.layer_decay: got 0\.0, expected above 0, to 1"),
        ({"warmup": -1.0}, r"model\.warmup: got -1\.0, expected 0 or more"),
        ({"huber": 0.0}, r"model\.huber: got 0\.0, expected more than 0"),
        ({"plateau": Plateau()}, r"model\.plateau: needs schedule: plateau, but .* linear"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        optimizer(**options)


def test_an_optimizer_without_a_rate_cannot_have_it_decay() -> None:
    made = one_weight(lr=0.0)
    made.param_groups[0]["part"] = "layer 1"
    with pytest.raises(UsageError, match=r"SGD has no learning rate \(lr\) that could be scaled"):
        optimization.set_rates(made, {"layer 1": 0.5}, {})


@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "inverse_sqrt", "plateau"])
@pytest.mark.parametrize("warmup", [4, 0.4])
def test_every_schedule_rises_first(name: str, warmup: float) -> None:
    found = curve(name, warmup=warmup, total=10)
    assert found[:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", ["linear", "cosine", "constant", "inverse_sqrt"])
def test_a_schedule_has_the_rates_of_transformers(name: Any, warmup: int) -> None:
    from transformers import get_inverse_sqrt_schedule, get_scheduler

    ours, theirs = (torch.optim.SGD([torch.zeros(1)], lr=1.0) for _ in range(2))
    made = optimization.schedule(name, ours, warmup=warmup, total=10)
    if name == "inverse_sqrt":
        other = get_inverse_sqrt_schedule(theirs, warmup, timescale=max(1, warmup))
    else:
        other = get_scheduler(
            {"constant": "constant_with_warmup"}.get(name, name), theirs, warmup, 10
        )
    rates = []
    for _ in range(12):
        rates.append((made.get_last_lr()[0], other.get_last_lr()[0]))
        for each, schedule in ((ours, made), (theirs, other)):
            each.step()
            schedule.step()
    assert [a for a, _ in rates] == pytest.approx([b for _, b in rates], abs=1e-12)


def test_inverse_sqrt_falls_with_the_root_of_the_steps() -> None:
    found = curve("inverse_sqrt", warmup=4, total=20)
    assert found[16] == pytest.approx((4 / 16) ** 0.5)


def test_inverse_sqrt_without_a_warmup_begins_at_the_full_rate() -> None:
    assert curve("inverse_sqrt", warmup=0, total=4)[0] == 1.0


def observed(values: list[float], **options: Any) -> list[float]:
    made = one_weight()
    schedule = WarmupPlateau(made, warmup=0, plateau=Plateau(**options), mode="max")
    found = []
    for value in values:
        schedule.observe(value)
        found.append(float(made.param_groups[0]["lr"]))
    return found


def test_a_plateau_lowers_the_rate_when_its_patience_is_over() -> None:
    assert observed([0.1, 0.2, 0.2, 0.1, 0.1], patience=1) == [1, 1, 1, 0.5, 0.5]


def test_a_better_validation_makes_a_plateau_wait_anew() -> None:
    assert observed([0.1, 0.1, 0.2, 0.2, 0.2], patience=1) == [1, 1, 1, 1, 0.5]


def test_a_validation_that_is_no_number_is_not_the_best() -> None:
    assert observed([float("nan"), 0.1, 0.5, 0.8], patience=1) == [1, 1, 1, 1]


def test_a_schedule_that_ends_needs_a_last_step() -> None:
    with pytest.raises(UsageError, match=r"linear with a warmup of 0 needs the total number of st"):
        optimization.schedule("linear", one_weight(), warmup=0, total=float("inf"))


def test_a_schedule_without_an_end_needs_no_last_step() -> None:
    made = optimization.schedule("constant", one_weight(), warmup=0, total=float("inf"))
    assert made.get_last_lr() == [1.0]


def test_a_plateau_has_a_least_rate() -> None:
    assert observed([0.1] * 6, patience=0, factor=0.1, least=0.05)[-1] == 0.05


def test_what_a_plateau_has_seen_is_kept() -> None:
    made = one_weight()
    first = WarmupPlateau(made, warmup=2, plateau=Plateau(patience=1), mode="min")
    for value in (1.0, 2.0):
        first.observe(value)
    again = WarmupPlateau(one_weight(), warmup=2, plateau=Plateau(patience=1), mode="min")
    again.load_state_dict(first.state_dict())
    assert again.observe(2.0)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [("factor", 1.0, "between 0 and 1"), ("patience", -1, "0 or more"), ("least", 1.0, "from 0")],
)
def test_a_plateau_of_wrong_numbers_is_refused(name: str, value: Any, wanted: str) -> None:
    with pytest.raises(
        UsageError, match=rf"model\.plateau\.{name}: got {value}, expected {wanted}"
    ):
        Plateau(**{name: value})
