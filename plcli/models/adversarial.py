"""Adversarial training with perturbed weights: FGM and AWP.

A step has two passes. The gradient of the first one gives the direction in which the weights are
perturbed to increase the loss. The second pass runs with the perturbed weights, and the step uses
the mean of both losses. The weights are restored before the optimizer step.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from plcli.errors import ModelError, UsageError

SIZES = {"fgm": 1.0, "awp": 0.005}


@dataclass(kw_only=True)
class Adversarial:
    """Settings of adversarial training.

    Args:
        kind: fgm perturbs the embeddings (Miyato et al. 2017, https://arxiv.org/abs/1605.07725);
            awp perturbs all trained matrices (Wu et al. 2020, https://arxiv.org/abs/2004.05884).
        size: the size of the perturbation: for fgm its norm, by default 1; for awp a fraction of
            the norm of each matrix, by default 0.005.
    """

    kind: Literal["fgm", "awp"] = "fgm"
    size: float | None = None

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size is not None and not self.size > 0:
            raise UsageError(f"model.adversarial.size: got {self.size}, expected more than 0.")


class _KnownGradients(torch.autograd.Function):
    """A zero whose gradients have been computed already."""

    @staticmethod
    def forward(ctx: Any, gradients: list[Any], scale: float, *parameters: Any) -> torch.Tensor:
        """Return zero; `gradients` are those of a loss that was multiplied by `scale`."""
        ctx.gradients, ctx.scale = gradients, scale
        zero: torch.Tensor = parameters[0].new_zeros(())
        return zero

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        """Return the gradients."""
        factor = outer[0] / ctx.scale
        return None, None, *(None if each is None else each * factor for each in ctx.gradients)


class Attack:
    """Perturbs the weights of a network between two passes.

    Args:
        model: the network.
        settings: the kind and the size of the perturbation.
    """

    def __init__(self, model: Any, settings: Adversarial) -> None:
        self.model, self.kind = model, settings.kind
        self.size = settings.size or SIZES[settings.kind]
        self._kept: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def loss(self, run_pass: Callable[[], torch.Tensor], *, scale: float = 1.0) -> torch.Tensor:
        """Return the mean loss of a pass and of one with perturbed weights, which stay perturbed.

        The gradient of the first pass is computed at once, so that only one graph is in memory. It
        is added by a term whose value is zero, so that the caller of `backward` need not know.

        Args:
            run_pass: runs a pass and returns its loss.
            scale: the loss is multiplied by this while its gradient is computed, as in half
                precision.
        """
        targets = self._targets()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        frozen = [target for target in targets if not target.requires_grad]
        for target in frozen:
            target.requires_grad_(True)
        try:
            first = run_pass()
            wanted = [*trained, *frozen]
            gradients = dict(
                zip(
                    wanted,
                    torch.autograd.grad(first * scale, wanted, allow_unused=True),
                    strict=True,
                )
            )
        finally:
            for target in frozen:
                target.requires_grad_(False)
        self._move((target, gradients[target]) for target in targets)
        second = run_pass()
        known = [gradients[each] for each in trained]
        zero: torch.Tensor = _KnownGradients.apply(known, scale, *trained)  # type: ignore[no-untyped-call]  # torch's apply
        return (second + first.detach() + zero) / 2

    def _targets(self) -> list[torch.nn.Parameter]:
        if self.kind == "awp":
            return [p for p in self.model.parameters() if p.requires_grad and p.ndim >= 2]
        try:
            table = self.model.get_input_embeddings()
        except NotImplementedError:
            table = None
        if table is None:
            raise ModelError(
                f"model.adversarial: {type(self.model).__name__} has no input embeddings. "
                "Use kind: awp."
            )
        return [table.weight]

    @torch.no_grad()
    def _move(self, gradients: Iterator[tuple[torch.nn.Parameter, torch.Tensor | None]]) -> None:
        for target, gradient in gradients:
            if gradient is None:
                continue
            norm = gradient.norm()
            whole = target.norm() if self.kind == "awp" else 1.0
            self._kept.append((target, target.detach().clone()))
            moved = gradient * (self.size * whole / norm)
            known = (norm > 0) & norm.isfinite()  # otherwise there is no direction to move in
            target.add_(torch.where(known, moved, 0.0))
        torch.clear_autocast_cache()  # it contains half-precision copies of the weights

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the weights exactly."""
        for target, kept in self._kept:
            target.copy_(kept)
        torch.clear_autocast_cache()
        self._kept = []
