"""The logits of a long text's windows -> those of its row."""

from typing import Literal

import torch

Pooling = Literal["mean", "max", "first"]


def pooled(logits: torch.Tensor, owners: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Return the logits of rows, [rows, labels], from those of their windows, [windows, labels].

    Args:
        logits: of the windows.
        owners: int64 [windows], the position of each one's row; every row has a window.
        pooling: mean, or max, or the sole window of each row as it is.
    """
    if pooling == "first":
        return logits
    rows = logits.new_zeros(int(owners[-1]) + 1, logits.shape[1])
    index = owners[:, None].expand_as(logits)
    how = "amax" if pooling == "max" else "mean"
    return rows.scatter_reduce(0, index, logits, how, include_self=False)
