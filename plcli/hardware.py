"""What the machine lacks for a trainer's config, told before any data is read."""

import os
import shutil
from collections.abc import Mapping
from typing import Any

import torch

from plcli.errors import MachineError, UsageError, did_you_mean, listed

HALF = ("16", "16-mixed", "16-true")


def check(trainer: Mapping[str, Any]) -> None:
    """Check accelerator, devices and precision.

    Args:
        trainer: the arguments of a Trainer.

    Raises:
        UsageError: if there is no such accelerator.
        MachineError: if the machine has not got it, or it cannot compute in that precision.
    """
    from lightning.pytorch.accelerators import AcceleratorRegistry

    wanted = trainer.get("accelerator", "auto")
    if not isinstance(wanted, str):
        return
    known = ["auto", "gpu", *AcceleratorRegistry.available_accelerators()]
    if wanted not in known:
        raise UsageError(
            f"trainer.accelerator: '{wanted}' is not known.{did_you_mean(wanted, known)} "
            f"There are: {listed(known)}."
        )
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if (
        (wanted == "cuda" and not cuda)
        or (wanted == "gpu" and not (cuda or mps))
        or (wanted == "mps" and not mps)
    ):
        raise MachineError(
            f"trainer.accelerator: {wanted} is asked for, but this machine has no such device. "
            "Use auto or cpu."
        )
    on_gpu = wanted != "cpu" and (cuda or mps)
    precision = str(trainer.get("precision") or "32-true")
    if precision in HALF and not on_gpu:
        raise MachineError(
            f"trainer.precision: {precision} needs a GPU; on a CPU use bf16-mixed or 32-true."
        )
    devices: Any = trainer.get("devices")
    count = (
        len(devices)
        if isinstance(devices, list)
        else int(devices)
        if str(devices).lstrip("-").isdigit()
        else 0
    )
    if on_gpu and cuda and count > torch.cuda.device_count():
        raise MachineError(
            f"trainer.devices: {count} are asked for, this machine has {torch.cuda.device_count()}."
        )


def check_compiler() -> None:
    """Check that torch.compile finds a compiler for its kernels' host code.

    Raises:
        MachineError: if it does not.
    """
    names = (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")
    if not any(shutil.which(name) for name in names):
        raise MachineError(
            "model.compile: needs a C++ compiler, and there is none. Install g++, or leave it off."
        )
