"""Losses and gradients that are no numbers end a fit, or their step is left out."""

import logging
import math
from typing import Any, Literal

import torch
from lightning.pytorch import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from plcli.config.contracts import module_contract
from plcli.errors import DataError, UsageError, listed
from plcli.training import loops

logger = logging.getLogger(__name__)


class _Answer:
    """A number that comes from a GPU while that goes on working.

    Args:
        number: a scalar.
    """

    def __init__(self, number: torch.Tensor) -> None:
        self.number, self.event = number, None
        if number.device.type == "cuda":
            self.number = torch.empty((), dtype=number.dtype, pin_memory=True)
            self.number.copy_(number, non_blocking=True)
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own
            self.event.record()

    def read(self) -> float:
        """Return the number; wait for it if need be."""
        if self.event is not None:
            self.event.synchronize()
        return float(self.number)


class FiniteNumbers(Callback):
    """Looks at every loss and gradient.

    Args:
        on_nan: stop ends the fit at a loss or gradient that is not finite; skip leaves the
            optimizer step out.
        limit: steps that are left out before the fit ends all the same.
    """

    def __init__(self, on_nan: Literal["stop", "skip"] = "stop", limit: int = 10) -> None:
        if limit < 1:
            raise UsageError(f"numbers.limit: got {limit}, expected 1 or more.")
        self.on_nan, self.limit = on_nan, limit
        self.skipped = 0
        self._losses: list[torch.Tensor] = []
        self._waiting: tuple[_Answer, int, int, range] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return how many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped = state_dict["skipped"]

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        """Keep the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Look at the losses and gradients of a step.

        On a GPU the answer is read a step later, when it has long arrived; only `skip` waits.
        """
        self._answer(trainer)
        sums = self._sums(trainer, optimizer)
        loop = trainer.fit_loop.epoch_loop
        done = loop.batch_progress.current.ready
        batches = range(done - len(self._losses), done)
        self._losses = []
        if sums is None:
            return
        if trainer.world_size > 1:  # a loss may be finite on one rank alone
            torch.distributed.all_reduce(sums)
        self._waiting = _Answer(sums), trainer.global_step, trainer.current_epoch, batches
        if sums.device.type == "cpu" or self.on_nan == "skip":
            self._answer(trainer, optimizer)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Let no weights be saved that are no numbers."""
        if trainer.state.fn == "fit":
            self._answer(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Read the last step's answer."""
        self._answer(trainer)

    def _sums(self, trainer: Any, optimizer: Any) -> torch.Tensor | None:
        """Return one number that is finite only if all losses and gradients are."""
        parts = list(self._losses)
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and not parameter.grad.is_sparse
        ]
        if gradients:
            norm = torch.nn.utils.get_total_norm(gradients)
            if getattr(trainer.precision_plugin, "scaler", None) is None:  # it skips such steps
                parts.append(norm)
            module, whole = trainer.lightning_module, (SingleDeviceStrategy, DDPStrategy)
            if isinstance(trainer.strategy, whole):
                module_contract(module).use_gradient_norm(norm)  # for clipping, which needs it, too
        if not parts:
            return None
        return torch.stack([part.detach().float().reshape(()) for part in parts]).sum()

    def _answer(self, trainer: Any, optimizer: Any = None) -> None:
        if self._waiting is None:
            return
        (answer, step, epoch, batches), self._waiting = self._waiting, None
        if math.isfinite(answer.read()):
            return
        where = f"step {step + 1} (epoch {epoch + 1}, batch {batches[-1] + 1})"
        rows = loops.rows_of(trainer.fit_loop, epoch=epoch, batches=batches)
        of_rows = (
            f", rows {listed(map(str, sorted(set(rows))), most=64)} of data.train" if rows else ""
        )
        if self.on_nan == "skip" and self.skipped < self.limit:
            self.skipped += 1
            optimizer.zero_grad(set_to_none=True)  # so that no parameter is moved
            logger.warning(
                "%s%s: the loss or its gradient is not a finite number; the step is left out "
                "(%d of %d)",
                where, of_rows, self.skipped, self.limit,
            )  # fmt: skip
            return
        after = f" after {self.limit} steps that were left out" if self.on_nan == "skip" else ""
        raise DataError(
            f"{where}{of_rows}: the loss or its gradient is not a finite number{after}. The last "
            "checkpoint is kept. Look at these rows (counted from 0), lower the learning rate, or "
            "leave such steps out with --numbers.on_nan skip."
        )
