"""Checks that the machine supports a trainer's config, before any data is read."""

import math
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from plcli.errors import MachineError, UsageError, did_you_mean, listed

WORKER_BYTES = 8 * 10**6  # shared memory per worker: some batches of 32 rows with 512 tokens
HALF = ("16", "16-mixed", "16-true")
HOPELESS = 5.0  # times that bf16 takes for few rows, above which more rows are not tried


def check(trainer: Mapping[str, Any]) -> None:
    """Check accelerator, devices and precision.

    Args:
        trainer: the arguments of a Trainer.

    Raises:
        UsageError: if there is no such accelerator.
        MachineError: if the machine does not have it, or does not support the precision.
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
    devices_of = {"auto": True, "gpu": cuda or mps, "cuda": cuda, "mps": mps}
    if wanted in devices_of:
        there = devices_of[wanted]
    else:  # the class, as an instance of a device that is not there cannot be made
        there = AcceleratorRegistry[wanted]["accelerator"].is_available()
    if not there:
        raise MachineError(
            f"trainer.accelerator: got {wanted}, but this machine has no such device. "
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
            f"trainer.devices: got {count}, but this machine only has {torch.cuda.device_count()}. "
            "Use that number or fewer, or auto."
        )


def has_gpu() -> bool:
    """Whether there is a GPU that Lightning would use."""
    return bool(torch.cuda.is_available() or torch.backends.mps.is_available())


def gpu_has_bf16() -> bool:
    """Whether the GPU computes in bf16 by itself: CUDA from compute capability 8.0 on."""
    return bool(torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8)


def time_of_bf16() -> float:
    """Return the time of a matrix product in bf16 on the CPU, relative to one in fp32.

    The sizes are those of a small encoder's feed-forward layer. Below 1, bf16 is faster: CPUs with
    AMX or AVX512-BF16. It takes some hundredths of a second, also where the CPU has no support for
    bf16: a product of few rows then shows that it is several times slower.
    """
    ratio = math.inf
    for rows in (16, 512):
        ratio = _time_of_product(rows, torch.bfloat16) / _time_of_product(rows, torch.float32)
        if ratio > HOPELESS:
            break
    return ratio


def _time_of_product(rows: int, dtype: torch.dtype) -> float:
    """Return the seconds of a matrix product, the best of five."""
    values, weights = torch.ones(rows, 384, dtype=dtype), torch.ones(384, 1536, dtype=dtype)
    values @ weights  # the first product also chooses the kernel
    times = []
    for _ in range(5):
        start = time.perf_counter()
        values @ weights
        times.append(time.perf_counter() - start)
    return min(times)


def check_shared_memory(workers: Any) -> None:
    """Check that there is enough shared memory for data loader workers to pass on batches.

    If /dev/shm is full, workers die with a bus error and no message.

    Raises:
        MachineError: if there is too little shared memory.
    """
    if not isinstance(workers, int) or workers < 1 or not os.path.isdir("/dev/shm"):
        return
    free = shutil.disk_usage("/dev/shm").free
    if free < workers * WORKER_BYTES:
        raise MachineError(
            f"data.num_workers: {workers} processes pass batches through /dev/shm, which has "
            f"{free // 10**6} MB left. Use 0, or increase it (docker run --shm-size 1g)."
        )


def cores() -> int:
    """Return the number of cores that this process may use, by CPU affinity and cgroup quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:  # in a container, https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        quota, period = "max", "1"
    limit = math.ceil(int(quota) / int(period)) if quota != "max" else allowed
    return max(1, min(allowed or 1, limit or 1))


def set_threads(threads: int | None, *, interop: int | None) -> None:
    """Set the number of threads that torch uses.

    By default, torch chooses, up to the number of cores of this process, which torch does not
    detect in a container. One inter-op thread is used, as a model's operations run one after
    another.

    Args:
        threads: number of threads within an operation; None uses the default.
        interop: number of inter-op threads; None uses the default.

    Raises:
        UsageError: if a number is below 1, or the number of inter-op threads was already set to
            another value in this process.
    """
    for name, value in (("threads", threads), ("interop_threads", interop)):
        if value is not None and value < 1:
            raise UsageError(f"{name}: got {value}, expected 1 or more.")
    torch.set_num_threads(threads or min(torch.get_num_threads(), cores()))
    wanted = interop or 1
    if wanted == torch.get_num_interop_threads():
        return
    try:
        torch.set_num_interop_threads(wanted)
    except RuntimeError:  # can only be set once per process, before the first such operation
        if interop is not None:
            raise UsageError(
                f"interop_threads: got {wanted}, but this process has already started with "
                f"{torch.get_num_interop_threads()}. Start a new process."
            ) from None
