"""The loaders of splits, and how processes share the rows."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from plcli.data.split import Batch, Split
from plcli.errors import DataError


def _identity(batch: Batch) -> Batch:
    return batch


def loader(split: Split, batches: Any, *, num_workers: int) -> Any:
    """Return a loader of whole batches.

    Args:
        split: the split.
        batches: the sampler, which returns the positions of whole batches.
        num_workers: the number of processes that prepare batches; 0 uses the main process.
    """
    return DataLoader(
        split,
        sampler=batches,
        batch_size=None,  # the sampler returns whole batches
        collate_fn=_identity,  # type: ignore[arg-type]  # typed for lists of items
        num_workers=num_workers,
        # fork shares the memory map without pickling
        multiprocessing_context="fork" if num_workers else None,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
    )


def share(split: Split, name: str, trainer: Any) -> tuple[int, int]:
    """Return the rank of this process and the number of processes, each of which needs a row.

    Args:
        split: the split.
        name: its name, for messages.
        trainer: the trainer; None outside of one.

    Raises:
        DataError: if there are fewer rows than processes.
    """
    if trainer is None:
        return 0, 1
    world_size = trainer.world_size
    if len(split) < world_size:
        raise DataError(
            f"data.{name}: {len(split)} rows cannot be distributed among {world_size} "
            "processes. Use fewer devices, or add rows."
        )
    return trainer.global_rank, world_size
