"""Ends a fit, or skips the optimizer step, if a loss or gradient is not finite."""

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


class _PendingNumber:
    """A number that is copied from a GPU without waiting for it.

    Args:
        number: a scalar tensor.
    """

    def __init__(self, number: torch.Tensor) -> None:
        self.number, self.event = number, None
        if number.device.type == "cuda":
            self.number = torch.empty((), dtype=number.dtype, pin_memory=True)
            self.number.copy_(number, non_blocking=True)
            self.event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own
            self.event.record()

    def read(self) -> float:
        """Return the number, waiting for the copy if necessary."""
        if self.event is not None:
            self.event.synchronize()
        return float(self.number)


class FiniteNumbers(Callback):
    """Checks that every loss and gradient is finite.

    Args:
        on_nan: stop ends the fit if a loss or gradient is NaN or infinite; skip skips the
            optimizer step.
        limit: number of steps to skip before the fit is ended after all.
    """

    def __init__(self, on_nan: Literal["stop", "skip"] = "stop", limit: int = 10) -> None:
        if limit < 1:
            raise UsageError(f"numbers.limit: got {limit}, expected 1 or more.")
        self.on_nan, self.limit = on_nan, limit
        self.skipped = 0
        self._losses: list[torch.Tensor] = []
        self._pending: tuple[_PendingNumber, int, int, range] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the number of skipped steps."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of skipped steps."""
        self.skipped = state_dict["skipped"]

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
        """Keep the loss."""
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Check the losses and gradients of a step.

        On a GPU the result is read one step later, so that nothing waits for it; only `skip` waits.
        """
        self._check_pending(trainer)
        sums = self._sums(trainer, optimizer)
        loop = trainer.fit_loop.epoch_loop
        done = loop.batch_progress.current.ready
        batches = range(done - len(self._losses), done)
        self._losses = []
        if sums is None:
            return
        if trainer.world_size > 1:  # a loss may be finite on one rank alone
            torch.distributed.all_reduce(sums)
        self._pending = _PendingNumber(sums), trainer.global_step, trainer.current_epoch, batches
        if sums.device.type == "cpu" or self.on_nan == "skip":
            self._check_pending(trainer, optimizer)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Check the last step, so that no weights are saved that are not finite."""
        if trainer.state.fn == "fit":
            self._check_pending(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Check the last step."""
        self._check_pending(trainer)

    def _sums(self, trainer: Any, optimizer: Any) -> torch.Tensor | None:
        """Return a scalar that is finite only if all losses and gradients are."""
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
                module_contract(module).use_gradient_norm(norm)  # clipping needs it too
        if not parts:
            return None
        return torch.stack([part.detach().float().reshape(()) for part in parts]).sum()

    def _check_pending(self, trainer: Any, optimizer: Any = None) -> None:
        if self._pending is None:
            return
        (number, step, epoch, batches), self._pending = self._pending, None
        if math.isfinite(number.read()):
            return
        where = f"step {step + 1} (epoch {epoch + 1}, batch {batches[-1] + 1})"
        rows = loops.rows_of(trainer.fit_loop, epoch=epoch, batches=batches)
        of_rows = (
            f", rows {listed(map(str, sorted(set(rows))), most=64)} of data.train" if rows else ""
        )
        if self.on_nan == "skip" and self.skipped < self.limit:
            self.skipped += 1
            optimizer.zero_grad(set_to_none=True)  # so that no parameter changes
            logger.warning(
                "%s%s: the loss or its gradient is not finite; the step is skipped (%d of %d)",
                where, of_rows, self.skipped, self.limit,
            )  # fmt: skip
            return
        after = f" after {self.limit} skipped steps" if self.on_nan == "skip" else ""
        raise DataError(
            f"{where}{of_rows}: the loss or its gradient is not finite{after}. The last "
            "checkpoint is kept. Check these rows (counted from 0), lower the learning rate, or "
            "skip such steps with --numbers.on_nan skip."
        )
