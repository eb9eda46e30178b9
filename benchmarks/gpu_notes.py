"""A callback of scripts/gpu-check: notes losses and speed of a fit, and kills it once."""

import json
import os
import signal
import time
from pathlib import Path

import torch
from lightning.pytorch import Callback


class Rate:
    """Measures steps after a warm-up, with the GPU waited for at both ends.

    Args:
        warm: the steps before it begins.
        steps: the step after which it ends, at the latest.
        seconds: it ends after these, too.
        batch: rows of a step.
    """

    def __init__(self, *, warm: int, steps: int, seconds: float, batch: int) -> None:
        self.warm, self.steps, self.seconds, self.batch = warm, steps, seconds, batch
        self.began = 0.0
        self.figures: dict[str, float] = {}

    def stepped(self, step: int) -> bool:
        """Note that a step is done; return whether the measurement has ended."""
        if step == self.warm:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self.began = time.perf_counter()
        elif step >= self.steps or (self.began and time.perf_counter() > self.began + self.seconds):
            torch.cuda.synchronize()
            seconds = time.perf_counter() - self.began
            self.figures = {
                "samples_per_second": (step - self.warm) * self.batch / seconds,
                "peak_mb": torch.cuda.max_memory_allocated() / 2**20,
                "steps": step - self.warm,
            }
        return bool(self.figures)


class Notes(Callback):
    """Notes a fit.

    Args:
        path: the file of notes, JSON lines.
        kill_at: the step after which the process is killed with SIGKILL, the first time.
        rate: the arguments of a Rate, instead of the losses.
    """

    def __init__(
        self, path: str, kill_at: int | None = None, rate: dict[str, float] | None = None
    ) -> None:
        self.path, self.kill_at = Path(path), kill_at
        self.rate = None if rate is None else Rate(**rate)  # type: ignore[arg-type]

    def on_train_start(self, trainer, module):  # type: ignore[no-untyped-def]
        self.four_bits = sum(p.dtype == torch.uint8 for p in module.parameters())

    def on_train_batch_end(self, trainer, module, outputs, batch, index):  # type: ignore[no-untyped-def]
        step = trainer.global_step
        if self.rate is not None:
            if not self.rate.figures and self.rate.stepped(step):
                trainer.should_stop = True
                self._note(self.rate.figures)
            return
        self._note({"step": step, "loss": float(outputs["loss"].detach())})
        killed = self.path.with_suffix(".killed")
        if step == self.kill_at and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def on_fit_end(self, trainer, module):  # type: ignore[no-untyped-def]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        layout = getattr(getattr(module.model, "base_model", None), "forward", None)
        kernels = [each for each in getattr(layout, "kernels", {}).values() if each is not None]
        self._note(
            {
                "device": module.device.type,
                "scale": None if scaler is None else scaler.get_scale(),
                "without_padding": hasattr(layout, "kernels"),
                "varlen": bool(kernels) and any(kernels[0].compared.values()),
                "four_bits": self.four_bits,
            }
        )

    def _note(self, values: dict[str, object]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
