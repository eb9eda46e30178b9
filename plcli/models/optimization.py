"""Parameter groups and learning rate schedules."""

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from plcli.errors import UsageError
from plcli.models import rates
from plcli.models.layers import Parts

logger = logging.getLogger(__name__)

Schedule = Literal["linear", "cosine", "constant", "inverse_sqrt", "plateau"]


class AdamW(dict[str, Any]):
    """The default optimizer, AdamW with a learning rate that is chosen, in the form of a config.

    This form lets a config override a single key. Otherwise jsonargparse would read the default
    from the source of the constructor, which a dataclass does not have.
    """

    def __init__(self) -> None:
        super().__init__(class_path="torch.optim.AdamW", init_args={"lr": rates.CHOSEN})

    def __call__(self, parameters: Any, **arguments: Any) -> torch.optim.Optimizer:
        """Make the optimizer; where no learning rate is given, with the usual one of BERT."""
        usual = {"lr": rates.USUAL} if rates.is_chosen(self) else {}
        return torch.optim.AdamW(parameters, **{**self["init_args"], **usual, **arguments})


@dataclass(kw_only=True)
class Plateau:
    """Settings of `schedule: plateau`, which reduces the learning rate when validation stalls.

    Args:
        factor: the learning rate is multiplied by this.
        patience: number of validations without improvement before the learning rate is reduced.
        least: lower bound of the learning rate, as a fraction of the full one.
    """

    factor: float = 0.5
    patience: int = 1
    least: float = 0.01

    def __post_init__(self) -> None:
        """Check the values."""
        for name, right, wanted in (
            ("factor", 0 < self.factor < 1, "between 0 and 1"),
            ("patience", self.patience >= 0, "0 or more"),
            ("least", 0 <= self.least < 1, "from 0 to below 1"),
        ):
            if not right:
                got = getattr(self, name)
                raise UsageError(f"model.plateau.{name}: got {got}, expected {wanted}.")


class WarmupPlateau(LRScheduler):
    """Linear warm-up, then a learning rate that is reduced whenever validation stops improving.

    It is stepped every optimizer step, and gets the value of every validation. torch's
    ReduceLROnPlateau has no warm-up, and a separate warm-up schedule would undo its reductions.

    Args:
        optimizer: the optimizer whose learning rates are set.
        warmup: number of warm-up steps.
        plateau: when and by how much the learning rate is reduced.
        mode: whether the smallest or the largest value is the best.
    """

    def __init__(
        self, optimizer: Optimizer, *, warmup: int, plateau: Plateau, mode: Literal["min", "max"]
    ) -> None:
        self.warmup, self.sign = warmup, 1.0 if mode == "max" else -1.0
        self.factor, self.patience, self.least = plateau.factor, plateau.patience, plateau.least
        self.best: float | None = None
        self.scale, self.waited = 1.0, 0
        super().__init__(optimizer)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the learning rate of each group."""
        risen = min(1.0, self.last_epoch / self.warmup) if self.warmup else 1.0
        return [rate * risen * self.scale for rate in self.base_lrs]

    def observe(self, value: float) -> bool:
        """Record the value of a validation, and return whether the learning rate was reduced."""
        if not math.isnan(value) and (self.best is None or self.sign * (value - self.best) > 0):
            self.best, self.waited = value, 0
            return False
        self.waited += 1
        if self.waited <= self.patience or self.scale <= self.least:
            return False
        self.scale, self.waited = max(self.least, self.scale * self.factor), 0
        for group, rate in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = rate
        return True


def schedule(
    name: Schedule,
    optimizer: Optimizer,
    *,
    warmup: float,
    total: float,
    plateau: Plateau | None = None,
    mode: Literal["min", "max"] = "min",
) -> LRScheduler:
    """Return a schedule that is stepped every optimizer step.

    Args:
        name: the schedule after the warm-up.
        optimizer: the optimizer whose learning rates are set.
        warmup: number of warm-up steps; below 1, a fraction of all steps.
        total: number of all steps; infinite if only a time limit ends the training.
        plateau: settings of `plateau`.
        mode: whether `plateau` treats the smallest or the largest value as the best.

    Raises:
        UsageError: if the schedule needs the number of steps and it is infinite.
    """
    if math.isinf(total) and (name in ("linear", "cosine") or 0 < warmup < 1):
        raise UsageError(
            f"model.schedule: {name} with a warmup of {warmup:g} needs the total number of steps. "
            "Set trainer.max_epochs or max_steps, or schedule: constant and warmup: 0."
        )
    steps = int(warmup if warmup >= 1 or not warmup else total * warmup)
    if name == "plateau":
        return WarmupPlateau(optimizer, warmup=steps, plateau=plateau or Plateau(), mode=mode)
    last = total if math.isinf(total) else int(total)
    return LambdaLR(optimizer, partial(_factor, name, warmup=steps, total=last))


def _factor(name: Schedule, step: int, *, warmup: int, total: float) -> float:
    """Return the factor of the learning rate at a step, as transformers has it.

    Importing transformers' own schedules takes a second, because it imports its Trainer.

    Args:
        name: linear, cosine, inverse_sqrt or constant.
        step: the number of steps done.
        warmup: number of warm-up steps.
        total: number of all steps.
    """
    if step < warmup:
        return step / max(1, warmup)
    if name == "inverse_sqrt":  # of the steps since the start, 1 at the end of the warm-up
        timescale = max(1, warmup)
        return 1.0 / math.sqrt((step + timescale - warmup) / timescale)
    if name == "linear":
        return max(0.0, (total - step) / max(1, total - warmup))
    if name == "cosine":
        done = (step - warmup) / max(1, total - warmup)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
    return 1.0


def configure(module: Any) -> dict[str, Any]:
    """Return the optimizer and the schedule of a TransformerModule, as Lightning wants them.

    Raises:
        UsageError: if the schedule follows a validation that there is not.
    """
    steps = module.trainer.estimated_stepping_batches
    steps = math.inf if steps < 0 else steps  # as Lightning says it
    make = module.optimizer
    if rates.is_chosen(make):
        make = partial(make, lr=rates.choose(module, steps=steps))
    optimizer = make_optimizer(
        make,
        module.model,
        parts=module.parts if module.head_lr or module.layer_decay else None,
        head_lr=module.head_lr,
        layer_decay=module.layer_decay,
    )
    if module.schedule == "plateau" and not module.trainer.enable_validation:
        raise UsageError(
            "model.schedule: plateau follows the validation metric, but there is no "
            "validation. Choose another schedule."
        )
    scheduler = schedule(
        module.schedule,
        optimizer,
        warmup=module.warmup,
        total=steps,
        plateau=module.plateau,
        mode=module.monitor[1],
    )
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"},
    }


def make_optimizer(
    make: Callable[[Any], Optimizer],
    model: torch.nn.Module,
    *,
    parts: Parts | None,
    head_lr: float | None,
    layer_decay: float | None,
) -> Optimizer:
    """Make the optimizer of a network's trainable parameters.

    Biases and norms have no weight decay. With layer-wise decay, the learning rate is multiplied by
    `layer_decay` from the head to the highest layer, and from each layer to the one below it (Bao
    et al. 2022, https://arxiv.org/abs/2106.08254).

    Args:
        make: makes the optimizer from parameter groups.
        model: the network.
        parts: the parts of the network by depth; None treats the network as one part.
        head_lr: the learning rate of the head; None uses that of the optimizer.
        layer_decay: the factor of the learning rate from each layer to the one below it.

    Raises:
        UsageError: if the optimizer refuses its arguments, there is no trainable head, or the
            optimizer has no learning rate.
    """
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    try:
        optimizer = make(parameter_groups(trained, place=parts.place if parts else None))
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"model.optimizer: {error}. Change its arguments, or use another."
        ) from error
    if parts is not None:
        if head_lr and all(group["part"] != "head" for group in optimizer.param_groups):
            raise UsageError(
                f"model.head_lr: {type(model).__name__} has no trainable head of its own. "
                "Remove the key."
            )
        above = len(parts.layers) + 1
        factors = {
            part: (layer_decay or 1.0) ** (above - depth) for depth, part in enumerate(parts.names)
        }
        set_rates(optimizer, factors, {"head": head_lr} if head_lr else {})
    for group in optimizer.param_groups:
        if group.get("fused", False) is None and group.get("foreach") is None:
            # one fused kernel for all parameters, if the optimizer has one and nothing was chosen
            group["fused"] = True
    return optimizer


def parameter_groups(
    parameters: Iterable[tuple[str, torch.nn.Parameter]],
    *,
    place: Callable[[str], str] | None = None,
) -> list[dict[str, Any]]:
    """Return parameter groups: matrices with weight decay, biases and norms without it.

    Args:
        parameters: the trainable parameters with their names.
        place: returns the part of the network that a parameter belongs to, given its name; each
            part has groups of its own. None treats the network as one part.
    """
    groups: dict[tuple[str, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in parameters:
        part = "" if place is None else place(name)
        groups.setdefault((part, parameter.ndim >= 2), []).append(parameter)
    # matrices first, as in checkpoints of runs from before there were parts
    return [
        {"params": members, "part": part} | ({} if decays else {"weight_decay": 0.0})
        for (part, decays), members in sorted(groups.items(), key=lambda item: not item[0][1])
    ]


def set_rates(
    optimizer: Optimizer, factors: Mapping[str, float], rates: Mapping[str, float]
) -> None:
    """Set the learning rate of each group by its part.

    Args:
        optimizer: an optimizer with the groups of `parameter_groups`.
        factors: the factor of the optimizer's own learning rate, by part.
        rates: the learning rate by part, which replaces the optimizer's own.

    Raises:
        UsageError: if the optimizer has no learning rate of its own.
    """
    for group in optimizer.param_groups:
        part = group["part"]
        if part in rates:
            group["lr"] = rates[part]
        elif factors.get(part, 1.0) != 1.0:
            if not group.get("lr"):
                raise UsageError(
                    f"model.layer_decay: {type(optimizer).__name__} has no learning rate (lr) that "
                    "could be scaled. Set its lr, or remove layer_decay."
                )
            group["lr"] = group["lr"] * factors[part]


def describe_groups(optimizer: Optimizer) -> list[str]:
    """Return a line for each learning rate: parts, number of parameters, rate, weight decay."""
    lines: dict[float, list[dict[str, Any]]] = {}
    for group in optimizer.param_groups:
        rate = float(group.get("initial_lr", group.get("lr")) or 0.0)
        lines.setdefault(rate, []).append(group)
    described = []
    for rate, groups in lines.items():
        decayed = [group for group in groups if group.get("weight_decay")]
        total, num_decayed = (sum(map(_size, some)) for some in (groups, decayed))
        parts = _joined(list(dict.fromkeys(str(group.get("part", "")) for group in groups)))
        decay = f"weight decay {decayed[0]['weight_decay']:g} on {num_decayed:,}" if decayed else ""
        described.append(
            f"{parts or 'all'}: {total:,} parameters, lr {rate:.3g}, {decay or 'no weight decay'}"
        )
    return described


def _size(group: Mapping[str, Any]) -> int:
    return sum(parameter.numel() for parameter in group["params"])


def _joined(parts: list[str]) -> str:
    """Join names of parts; consecutive layers are written as `layers 1-4`."""
    numbers = [int(part.removeprefix("layer ")) for part in parts if part.startswith("layer ")]
    if len(numbers) < 2 or sorted(numbers) != list(range(min(numbers), max(numbers) + 1)):
        return ", ".join(filter(None, parts))
    layers = f"layers {min(numbers)}-{max(numbers)}"
    kept = ["" if part.startswith("layer ") else part for part in parts]
    first = next(index for index, part in enumerate(parts) if part.startswith("layer "))
    kept[first] = layers
    return ", ".join(filter(None, kept))


def observe(module: Any, value: float) -> None:
    """Pass the monitored metric of a validation to a module's WarmupPlateau."""
    if module.trainer.state.fn != "fit" or module.trainer.sanity_checking:
        return
    schedule = module.lr_schedulers()
    assert isinstance(schedule, WarmupPlateau)
    if schedule.observe(value):
        logger.info(
            "validation has not improved: the learning rate is reduced to %.3g of its full value",
            schedule.scale,
        )
