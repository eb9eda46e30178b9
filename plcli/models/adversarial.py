"""Training on weights that were moved to where the loss is worse: FGM and AWP.

A step has two passes. The first one's gradient says where to move; the second runs there, and the
step learns from the mean of both. Weights are put back before the optimizer's step.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from plcli.errors import ModelError, UsageError

SIZES = {"fgm": 1.0, "awp": 0.005}


@dataclass(kw_only=True)
class Adversarial:
    """How weights are moved against the loss.

    Args:
        kind: fgm moves the embeddings (Miyato et al. 2017, https://arxiv.org/abs/1605.07725); awp
            all trained matrices (Wu et al. 2020, https://arxiv.org/abs/2004.05884).
        size: of the move: for fgm its norm, by default 1; for awp a part of a matrix's own norm,
            by default 0.005.
    """

    kind: Literal["fgm", "awp"] = "fgm"
    size: float | None = None

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size is not None and not self.size > 0:
            raise UsageError(f"model.adversarial.size: got {self.size}, expected more than 0.")


class _Again(torch.autograd.Function):
    """Nothing, with a gradient that is known already."""

    @staticmethod
    def forward(ctx: Any, gradients: list[Any], scale: float, *parameters: Any) -> torch.Tensor:
        """Return zero; the gradients are of a loss that was multiplied with a scale."""
        ctx.gradients, ctx.scale = gradients, scale
        nothing: torch.Tensor = parameters[0].new_zeros(())
        return nothing

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> Any:
        """Return the gradients."""
        factor = outer[0] / ctx.scale
        return None, None, *(None if each is None else each * factor for each in ctx.gradients)


class Attack:
    """Moves the weights of a network between two passes.

    Args:
        model: the network.
        settings: how.
    """

    def __init__(self, model: Any, settings: Adversarial) -> None:
        self.model, self.kind = model, settings.kind
        self.size = settings.size or SIZES[settings.kind]
        self._kept: list[tuple[torch.nn.Parameter, torch.Tensor]] = []

    def loss(self, passed: Callable[[], torch.Tensor], *, scale: float = 1.0) -> torch.Tensor:
        """Return the mean loss of a pass and of one with moved weights, which stay moved.

        The first pass's gradient is taken at once, so that there is one network in memory, and
        comes back as that of a term that adds nothing: whoever calls `backward` need not know.

        Args:
            passed: runs a pass and returns its loss.
            scale: of the loss while its gradient is taken, as for half precision.
        """
        targets = self._targets()
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        frozen = [target for target in targets if not target.requires_grad]
        for target in frozen:
            target.requires_grad_(True)
        try:
            first = passed()
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
        second = passed()
        known = [gradients[each] for each in trained]
        again: torch.Tensor = _Again.apply(known, scale, *trained)  # type: ignore[no-untyped-call]  # torch's apply
        return (second + first.detach() + again) / 2

    def _targets(self) -> list[torch.nn.Parameter]:
        if self.kind == "awp":
            return [p for p in self.model.parameters() if p.requires_grad and p.ndim >= 2]
        try:
            table = self.model.get_input_embeddings()
        except NotImplementedError:
            table = None
        if table is None:
            raise ModelError(
                f"model.adversarial: {type(self.model).__name__} has no table of embeddings. "
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
            known = (norm > 0) & norm.isfinite()  # else there is no direction to move in
            target.add_(torch.where(known, moved, 0.0))
        torch.clear_autocast_cache()  # of the weights in half precision, as they were before

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back, to the bit."""
        for target, kept in self._kept:
            target.copy_(kept)
        torch.clear_autocast_cache()
        self._kept = []
