"""Writes and reads checkpoint files: checksummed, safe to load, with the previous one kept."""

import logging
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from plcli.config import secrets
from plcli.errors import ModelError
from plcli.runs import atomic_files
from plcli.training.plain_values import plain

logger = logging.getLogger(__name__)

HYPERPARAMETERS = {"hyper_parameters", "datamodule_hyper_parameters"}
REMEDY = "Use another checkpoint with --ckpt_path, or remove this one."
ROOM = 1 << 20  # bytes of a checkpoint in addition to its tensors


class WholeCheckpoints(CheckpointIO):
    """Writes and reads checkpoints for Lightning.

    What cannot be loaded safely is left out, and logged once; secrets are hidden. When a new
    last.ckpt is complete, the old one is kept as previous.ckpt.

    Args:
        folder: the folder of the run's own checkpoints; None if there is none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.left_out: set[str] = set()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint atomically.

        Raises:
            MachineError: if the disk is full or the file cannot be written.
        """
        path = Path(path)
        checkpoint, left_out = plain(checkpoint)
        for key in HYPERPARAMETERS & checkpoint.keys():
            checkpoint[key] = secrets.hide(checkpoint[key])
        for key in set(left_out) - self.left_out:
            logger.info("not in checkpoints, as it is not a tensor or a plain value: %s", key)
        self.left_out |= set(left_out)
        if self.folder is not None and path.is_relative_to(self.folder.parent):
            atomic_files.check_there(self.folder)
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_files.check_space(path.parent, num_bytes(checkpoint) + ROOM, purpose=path.name)

        def keep() -> None:
            if path.name == "last.ckpt" and path.parent == self.folder:
                atomic_files.keep_as(path, path.with_name("previous.ckpt"))

        atomic_files.write_checksummed(
            path, lambda file: torch.save(checkpoint, file), before_replacing=keep
        )

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; always with weights_only=True, whatever the caller passes."""
        return load(Path(path), map_location=map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def load(path: Path, *, map_location: Any = "cpu", in_memory: bool = True) -> dict[str, Any]:
    """Load a checkpoint's tensors and plain values; nothing in it is executed.

    Args:
        path: the file.
        map_location: the device of the tensors.
        in_memory: whether tensors are read now; otherwise when they are used.

    Raises:
        ModelError: if the file is not a whole checkpoint.
    """
    problem = atomic_files.damage(path)
    try:
        checkpoint: dict[str, Any] = torch.load(
            path, map_location=map_location, weights_only=True, mmap=not in_memory
        )
        if not all(isinstance(checkpoint.get(key, {}), dict) for key in ("state_dict", "plcli")):
            raise TypeError("its state is not a mapping")
        checkpoint["state_dict"]
    except Exception as error:  # torch raises many kinds for a damaged file
        problem = problem or str(error).splitlines()[0][:120]
        if isinstance(error, pickle.UnpicklingError):
            problem = "it contains more than tensors and plain values, or is not a checkpoint"
        raise ModelError(
            f"{path}: cannot be loaded as a checkpoint ({problem}). {REMEDY}"
        ) from error
    if problem is not None and "plcli" in checkpoint:  # files of other tools have no checksum
        raise ModelError(f"{path}: cannot be loaded as a checkpoint ({problem}). {REMEDY}")
    return checkpoint


OF_THE_OPTIMIZER = ("optimizer_states", "lr_schedulers")


def strip(path: Path) -> None:
    """Leave out of a checkpoint what only a training that goes on needs.

    Raises:
        ModelError: if it is damaged.
        MachineError: if it cannot be written; the old file is intact.
    """
    checkpoint = load(path, in_memory=False)
    if any(checkpoint.get(key) for key in OF_THE_OPTIMIZER):
        stripped = checkpoint | {key: [] for key in OF_THE_OPTIMIZER if key in checkpoint}
        atomic_files.write_checksummed(
            path, lambda file: torch.save(stripped, file), before_replacing=lambda: None
        )


def check_start(path: Path) -> None:
    """Check that a new run can start from a checkpoint.

    Raises:
        ModelError: if the state of its optimizer was removed when its run was finished.
    """
    checkpoint = load(path, in_memory=False)
    if "plcli" in checkpoint and checkpoint.get("optimizer_states") == []:
        raise ModelError(
            f"{path}: has no optimizer state any more, as its run is finished. Start from "
            "best.ckpt, or train that run with `checkpoint.keep: all`, which keeps it."
        )


def num_bytes(values: Any) -> int:
    """Return the size in bytes of all tensors in nested values."""
    if isinstance(values, torch.Tensor):
        return values.numel() * values.element_size()
    if isinstance(values, dict):
        return sum(num_bytes(value) for value in values.values())
    if isinstance(values, (list, tuple)):
        return sum(num_bytes(value) for value in values)
    return 0
