"""Checkpoints as files: sealed, loaded without executing anything, the last good one kept."""

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import CheckpointIO

from plcli.errors import ModelError
from plcli.runs import atomic_files

REMEDY = "Name another with --ckpt_path, or remove it."
ROOM = 1 << 20  # bytes beside the tensors of a checkpoint


class WholeCheckpoints(CheckpointIO):
    """Writes and reads checkpoints for Lightning.

    last.ckpt becomes previous.ckpt once a newer one is whole.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint, whole or not at all.

        Raises:
            MachineError: if the disk has no room or does not take it.
        """
        path = Path(path)
        atomic_files.check_space(path.parent, num_bytes(checkpoint) + ROOM, purpose=path.name)

        def keep() -> None:
            if path.name == "last.ckpt":
                atomic_files.keep_as(path, path.with_name("previous.ckpt"))

        atomic_files.write_sealed(
            path, lambda file: torch.save(checkpoint, file), before_it_is_replaced=keep
        )

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; only tensors and plain values, whatever is asked for."""
        return load(Path(path), map_location=map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint."""
        Path(path).unlink(missing_ok=True)


def load(path: Path, *, map_location: Any = "cpu") -> dict[str, Any]:
    """Load a checkpoint's tensors and plain values; nothing in it is executed.

    Raises:
        ModelError: if the file is not a whole checkpoint.
    """
    said = atomic_files.damage(path)
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        if not all(isinstance(checkpoint.get(key, {}), dict) for key in ("state_dict", "plcli")):
            raise TypeError("its state is no mapping")
        checkpoint["state_dict"]
    except Exception as error:  # torch raises many kinds for a damaged file
        said = said or str(error).splitlines()[0][:120]
        if isinstance(error, pickle.UnpicklingError):
            said = "it holds more than tensors and plain values, or is no checkpoint at all"
        raise ModelError(f"{path}: cannot be loaded as a checkpoint ({said}). {REMEDY}") from error
    if said is not None and "plcli" in checkpoint:  # one of other tools has no seal
        raise ModelError(f"{path}: cannot be loaded as a checkpoint ({said}). {REMEDY}")
    return checkpoint


def num_bytes(values: Any) -> int:
    """Return the bytes of all tensors in nested values."""
    if isinstance(values, torch.Tensor):
        return values.numel() * values.element_size()
    if isinstance(values, dict):
        return sum(num_bytes(value) for value in values.values())
    if isinstance(values, (list, tuple)):
        return sum(num_bytes(value) for value in values)
    return 0
