"""Fits that are killed: a server that has imported everything once and forks for each command.

A fit in a fork takes a second or two, one in a new process ten. The model and the data here have
everything random that a resumed run has to repeat: shuffled rows, dropout, noise in the data, and
everything that a checkpoint must hold: accumulation, schedules, early stopping, mean weights,
means over an epoch and running metrics.
"""

import hashlib
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MeanMetric

ROWS, BATCH, EPOCHS = 48, 4, 3


class NoisyRows(Dataset[Any]):
    """Rows that three libraries put noise on."""

    def __init__(self, slow: float) -> None:
        self.slow = slow
        generator = torch.Generator().manual_seed(0)
        self.features = torch.randn(ROWS, 8, generator=generator)
        self.targets = self.features.sum(1, keepdim=True)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(self.slow)
        noise = torch.randn(8) + random.random() + float(np.random.rand())
        return self.features[index] + 0.1 * noise, self.targets[index]


class NoisyData(LightningDataModule):
    """A user's own loaders: shuffled, with workers.

    Args:
        num_workers: processes that prepare batches.
        slow: seconds that a row takes.
        poison: a training row whose target is no number.
    """

    def __init__(self, num_workers: int = 0, slow: float = 0.0, poison: int | None = None) -> None:
        super().__init__()
        self.num_workers, self.rows = num_workers, NoisyRows(slow)
        self.validated = self.rows
        if poison is not None:
            self.validated = NoisyRows(slow)
            self.rows.targets[poison] = float("nan")

    def _loader(self, rows: NoisyRows, *, shuffle: bool) -> Any:
        return DataLoader(
            rows,
            batch_size=BATCH,
            shuffle=shuffle,
            num_workers=self.num_workers,
            multiprocessing_context="fork" if self.num_workers else None,
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> Any:
        """Shuffled rows."""
        return self._loader(self.rows, shuffle=True)

    def val_dataloader(self) -> Any:
        """All rows."""
        return self._loader(self.validated, shuffle=False)


class NoisyModel(LightningModule):
    """A small network with dropout, a schedule, means over the epoch and a running metric.

    Args:
        slow: seconds that a batch takes.
        width: of the hidden layer.
    """

    monitor = ("val_loss", "min")

    def __init__(self, slow: float = 0.0, width: int = 16) -> None:
        super().__init__()
        self.slow = slow
        self.net = torch.nn.Sequential(
            torch.nn.Linear(8, width),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(width, 1),
        )
        self.mean = MeanMetric(
            nan_strategy="ignore"
        )  # a warning otherwise, which tests turn to errors

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """Return the mean squared error."""
        self._say("training")
        time.sleep(self.slow)
        loss = torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.mean.update(loss)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("running", self.mean, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the mean squared error."""
        self._say("validation")
        time.sleep(self.slow)
        loss = torch.nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("val_loss", loss)

    def _say(self, what: str) -> None:
        """Say where the fit is, to those who wait for it to send a signal."""
        if self.slow and not self.trainer.sanity_checking:
            print(f"<{what} after {self.trainer.global_step}>", flush=True)

    def configure_optimizers(self) -> Any:
        """Return AdamW and a learning rate that falls where the loss does not."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss", "interval": "epoch"},
        }


def write_config(
    path: Path, *, model: Mapping[str, Any] = {}, data: Mapping[str, Any] = {}, **sections: Any
) -> Path:
    """Write a config of the noisy model."""
    callbacks = [
        {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging"},
        {
            "class_path": "lightning.pytorch.callbacks.EarlyStopping",
            "init_args": {"monitor": "val_loss", "patience": 1, "mode": "min"},
        },
    ]
    trainer = {
        "max_epochs": EPOCHS,
        "accelerator": "cpu",
        "accumulate_grad_batches": 2,
        "val_check_interval": 0.5,
        "log_every_n_steps": 1,
        "enable_progress_bar": False,
        "callbacks": callbacks,
    } | sections.pop("trainer", {})
    sections["checkpoint"] = {"keep": "all", **sections.get("checkpoint", {"every_n_steps": 2})}
    values = {
        "model": {"class_path": "tests.killed_fits.NoisyModel", "init_args": dict(model)},
        "data": {"class_path": "tests.killed_fits.NoisyData", "init_args": dict(data)},
        "trainer": trainer,
        **sections,
    }
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


@dataclass
class Ended:
    """How a command ended: its exit code, minus the signal's number where one killed it."""

    code: int
    said: str
    seconds: float


def fork(
    *words: object,
    folder: Path,
    environment: Mapping[str, str] = {},
    meddle: Callable[[int, Path], None] | None = None,
    file_size: int | None = None,
) -> Ended:
    """Run a command in a fork of this process.

    Args:
        words: the command line.
        folder: where it runs.
        environment: variables beside those of this process.
        meddle: called with its process id and the file of what it says, while it runs.
        file_size: bytes that its files may have at most.
    """
    log = folder / f"said-{time.monotonic_ns()}.txt"
    began = time.monotonic()
    process = start(*words, folder=folder, environment=environment, log=log, file_size=file_size)
    if meddle is not None:
        meddle(process, log)
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            break
        if time.monotonic() - began > 120:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
    said = log.read_text(encoding="utf-8")
    log.unlink()
    return Ended(os.waitstatus_to_exitcode(status), said, time.monotonic() - began)


def start(
    *words: object,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    file_size: int | None = None,
) -> int:
    """Start a command in a fork of this process; return the process id."""
    log.touch()
    process = os.fork()
    if process == 0:
        _become_plcli([str(word) for word in words], folder, environment, log, file_size)
    return process


def _become_plcli(
    words: list[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    file_size: int | None,
) -> None:
    from plcli.__main__ import entry

    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    code = 70
    try:
        sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
        os.environ.update({"PLCLI_CACHE": str(folder / "cache"), **environment})
        os.chdir(folder)
        sys.argv = ["plcli", *words]
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
        entry()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


def send(number: int, *, after: float) -> Callable[[int, Path], None]:
    """Return a meddler that sends a signal after some seconds."""

    def meddle(process: int, log: Path) -> None:
        time.sleep(after)
        os.kill(process, number)  # one that has ended is still there until it is waited for

    return meddle


def send_once(number: int, word: str, *, after: float = 0.0) -> Callable[[int, Path], None]:
    """Return a meddler that sends a signal once the process has said a word."""

    def meddle(process: int, log: Path) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if log.exists() and word in log.read_text(encoding="utf-8"):
                break
            time.sleep(0.002)
        time.sleep(after)
        os.kill(process, number)

    return meddle


def result_of(run: Path) -> tuple[str, str, str]:
    """Return what must be the same: the hash of the last weights, of the model, and metrics.csv."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    digest = hashlib.sha256()
    for name in ("state_dict", "current_model_state"):
        for key, value in sorted(state.get(name, {}).items()):
            digest.update(key.encode() + value.numpy().tobytes())
    digest.update(repr(state["lr_schedulers"]).encode())
    for optimizer in state["optimizer_states"]:
        for values in optimizer["state"].values():
            digest.update(b"".join(value.numpy().tobytes() for value in values.values()))
    model = (run / "model" / "model.safetensors").read_bytes()
    metrics = (run / "metrics.csv").read_text(encoding="utf-8")
    return digest.hexdigest(), hashlib.sha256(model).hexdigest(), metrics
