"""Pools the logits of the windows of a long text into those of its row."""

from collections.abc import Mapping
from typing import Any, Literal

import torch

Pooling = Literal["mean", "max", "first"]


def pooled(logits: torch.Tensor, row_index: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Return the logits of rows, [rows, labels], from those of their windows, [windows, labels].

    Args:
        logits: the logits of the windows.
        row_index: the row index of each window, int64 [windows]; every row has a window.
        pooling: mean, max, or first, for which there is one window per row already.
    """
    if pooling == "first":
        return logits
    rows = logits.new_zeros(int(row_index[-1]) + 1, logits.shape[1])
    index = row_index[:, None].expand_as(logits)
    how = "amax" if pooling == "max" else "mean"
    return rows.scatter_reduce(0, index, logits, how, include_self=False)


def first_windows(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a batch of windows with only the first one of each row.

    Args:
        batch: tensors [windows, ...], with row_index, int64 [windows], ascending.
    """
    row_index = batch["row_index"]
    first = row_index.diff(prepend=row_index.new_tensor([-1])) > 0
    return {key: v[first] for key, v in batch.items() if isinstance(v, torch.Tensor)}
