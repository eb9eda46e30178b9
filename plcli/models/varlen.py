"""Attention within rows of different lengths in one kernel, without padding, where a GPU has it.

It is `torch.nn.attention.varlen.varlen_attn`, FlashAttention: in float16 and bfloat16, from compute
capability 8.0 on, and without dropout of the attention weights. Where it cannot be used, attention
is padded in a few groups of rows (unpadded.py).
"""

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

logger = logging.getLogger(__name__)

CAPABILITY = (8, 0)  # of Ampere: the kernel refuses older cards
DTYPES = (torch.float16, torch.bfloat16)
SIZES = range(8, 193, 8)  # of a head; beyond, some cards have no backward pass
NEEDED = {"scale", "window_size"}  # arguments that older versions of torch lack
TOLERANCE = 0.03  # of outputs in 16 bits, relative to their largest value


def is_suitable(
    capability: tuple[int, int], dtype: torch.dtype, *, dropout: float, size: int, same_heads: bool
) -> bool:
    """Whether the kernel computes an attention layer exactly as it is meant.

    Args:
        capability: the compute capability of the GPU.
        dtype: that attention is computed in.
        dropout: the dropout of the attention weights in this pass. The kernel has none.
        size: the size of a head.
        same_heads: whether there are as many heads of keys as of queries.
    """
    able = capability >= CAPABILITY and dtype in DTYPES
    return able and dropout == 0.0 and size in SIZES and same_heads


@dataclass
class Kernel:
    """The kernel, and for which layers it was compared with the padded groups.

    Attributes:
        function: takes what varlen_attn takes.
        capability: the compute capability of the GPU.
        compared: by the width of the window (None without one), whether the outputs were the same.
    """

    function: Callable[..., torch.Tensor]
    capability: tuple[int, int]
    compared: dict[int | None, bool] = field(default_factory=dict)

    def accepts(self, tokens: Sequence[torch.Tensor], dropout: float, window: int | None) -> bool:
        """Whether a layer may be given to the kernel.

        Args:
            tokens: queries, keys and values, float [tokens, heads, size].
            dropout: the dropout of the attention weights in this pass.
            window: the width of the window of local attention.
        """
        if not self.compared.get(window, True):
            return False
        return is_suitable(
            self.capability,
            computed_in(tokens[0]),
            dropout=dropout,
            size=tokens[0].shape[2],
            same_heads=tokens[0].shape[1] == tokens[1].shape[1],
        )

    def attend(
        self,
        tokens: Sequence[torch.Tensor],
        ends: torch.Tensor,
        longest: int,
        *,
        scaling: float | None,
        window: int | None,
    ) -> torch.Tensor:
        """Return the attention of each token to its row, float [tokens, heads, size].

        Args:
            tokens: queries, keys and values, float [tokens, heads, size], row after row.
            ends: 0 and the end of each row, int32 [rows + 1].
            longest: number of tokens of the longest row.
            scaling: the factor of the scores.
            window: a token sees those that are nearer than this; None for all.
        """
        dtype = computed_in(tokens[0])  # autocast knows no varlen_attn
        queries, keys, values = (each.to(dtype) for each in tokens)
        near = (-1, -1) if window is None else (window - 1, window - 1)
        return self.function(
            *(queries, keys, values, ends, ends, longest, longest),
            scale=scaling,
            window_size=near,
        )

    def compare(self, found: torch.Tensor, wanted: torch.Tensor, window: int | None) -> None:
        """Note whether the outputs of a layer are those of the groups, and say if they are not."""
        scale = max(float(wanted.abs().max()), 1e-3)
        difference = float((found - wanted).abs().max()) / scale
        self.compared[window] = difference <= TOLERANCE
        if not self.compared[window]:
            logger.warning(
                "the GPU's attention without padding differs from the padded one, by %.2g; it is "
                "not used",
                difference,
            )


def computed_in(tokens: torch.Tensor) -> torch.dtype:
    """Return what attention is computed in: the dtype of autocast where that is on."""
    kind = tokens.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tokens.dtype


def kernel(device: torch.device) -> Kernel | None:
    """Return the kernel of a device; None if it, or this version of torch, has none."""
    if device.type != "cuda" or not torch.backends.cuda.is_flash_attention_available():
        return None
    from torch.nn.attention.varlen import varlen_attn

    if not set(inspect.signature(varlen_attn).parameters) >= NEEDED:
        return None
    function: Any = varlen_attn  # it returns a pair only if it is asked to
    return Kernel(function, torch.cuda.get_device_capability(device))
