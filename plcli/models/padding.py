"""Runs networks so that their outputs for a row do not depend on its padding.

Most networks ignore padding, by the attention mask. Some mix neighbouring tokens regardless of it:
FNet by a Fourier transform, ConvBERT and CANINE by convolutions, Funnel by pooling, Nystromformer
and YOSO by approximations of attention, Reformer by hashing. What they predict for a row would
depend on the other rows of its batch, so that they are run on the rows of each length separately.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

MIXING = ("canine", "convbert", "fnet", "funnel", "nystromformer", "reformer", "yoso")


def run(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    mask: torch.Tensor | None,
    arguments: Collection[str],
    count: Callable[[Mapping[str, torch.Tensor]], float],
) -> Any:
    """Return the outputs of a network for a padded batch.

    In training, networks that mix tokens with padding do so, as transformers trains them. Those
    that would classify the padding are never given any.

    Args:
        model: the network.
        inputs: its inputs.
        mask: the attention mask, int64 [rows, ..., tokens]; None if nothing is padded.
        arguments: the names of the arguments of its forward method.
        count: returns the number of terms that the loss of some inputs is a mean over.
    """
    if mask is None:
        return model(**inputs)
    mixes = matters(model, arguments) and not model.training
    if mixes or (_reads_the_end(model) and not bool(mask[..., -1].all())):
        return by_length(model, inputs, mask=mask, count=count)
    return model(**inputs)


def _reads_the_end(model: Any) -> bool:
    """Whether the head of a network reads the last token of a batch, as RoFormer's for choices."""
    summary = getattr(model, "sequence_summary", None)
    return getattr(summary, "summary_type", None) == "last"


def matters(model: Any, arguments: Collection[str]) -> bool:
    """Whether the outputs of a network depend on the padding of its inputs.

    Args:
        model: the network.
        arguments: the names of the arguments of its forward method.
    """
    return model.config.model_type in MIXING or "attention_mask" not in arguments


def by_length(
    model: Any,
    inputs: Mapping[str, torch.Tensor],
    *,
    mask: torch.Tensor,
    count: Callable[[Mapping[str, torch.Tensor]], float],
) -> Any:
    """Run a network on the rows of each length, without padding, and join its outputs.

    Args:
        model: the network.
        inputs: its inputs; those of the shape of the mask are cut to the tokens of the rows.
        mask: the attention mask, int64 [rows, ..., tokens].
        count: returns the number of terms that the loss of some inputs is a mean over.

    Returns:
        The outputs for all rows; those of padding are 0.
    """
    width = mask.shape[-1]
    of_row = mask.reshape(len(mask), -1, width)[:, 0].bool()
    lengths = of_row.sum(-1)
    sizes: list[int] = sorted({int(length) for length in lengths})
    losses, terms, joined, first = [], [], dict[str, torch.Tensor](), None
    for size in sizes:
        rows = (lengths == size).nonzero()[:, 0]
        start = int(of_row[rows[0]].long().argmax())  # padding may be on the left
        inside = slice(start, start + size)
        part = {
            name: value[rows][..., inside].contiguous()
            if value.shape == mask.shape
            else value[rows]
            for name, value in inputs.items()
        }
        if "start_positions" in part and start:
            part |= {
                name: (part[name] - start).clamp(min=0)
                for name in ("start_positions", "end_positions")
            }
        outputs = model(**part)
        first = outputs if first is None else first
        if outputs.get("loss") is not None:
            losses.append(outputs["loss"])
            terms.append(count(part))
        for name, value in outputs.items():
            if isinstance(value, torch.Tensor) and value.ndim and len(value) == len(rows):
                per_token = value.ndim > 1 and value.shape[1] == size and _has_tokens(name, value)
                if name not in joined:
                    shape = (len(mask), width if per_token else value.shape[1], *value.shape[2:])
                    joined[name] = value.new_zeros(shape if value.ndim > 1 else (len(mask),))
                if per_token:
                    joined[name][rows, inside] = value
                else:
                    joined[name][rows] = value
    assert first is not None
    for name, value in joined.items():
        first[name] = value
    if losses:
        total = sum(terms)
        parts = [loss * (n / total) for loss, n in zip(losses, terms, strict=True) if n]
        first["loss"] = torch.stack(parts).sum() if parts else losses[0] * 0.0
    return first


def _has_tokens(name: str, value: torch.Tensor) -> bool:
    """Whether the second dimension of an output is that of the tokens."""
    return value.ndim == 3 or name in ("start_logits", "end_logits")
