"""Which tokens moved a decision: integrated gradients.

Sundararajan et al. 2017 (https://arxiv.org/abs/1703.01365): the gradient of an output is integrated
along the straight line from a baseline to the input, here between the embeddings of padding and of
the tokens. The sum of the scores is the output for the input less that for the baseline
(completeness). The integral is a Gauss-Legendre sum, as in captum.

A module that can be explained has `explained(outputs, batch)`, which returns what was decided from
the outputs of one row: a function of the outputs of several copies of the row, float [copies], that
is larger the more they speak for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from plcli.errors import UsageError

Support = Callable[[Any], torch.Tensor]
STEPS = 32  # of the sum; captum has 50
MOST_STEPS = 96
CLOSE = 0.03  # of the difference of the outputs: a larger gap is integrated with most steps
MOST_TOKENS = 16_384  # in a pass


@dataclass(frozen=True, eq=False)
class Attribution:
    """The scores of the tokens of a row.

    Attributes:
        scores: float64 [windows, tokens]; 0 of special tokens and of padding.
        output: how much the outputs speak for the decision.
        baseline: how much they do for padding instead of the tokens.
    """

    scores: torch.Tensor
    output: float
    baseline: float

    @property
    def gap(self) -> float:
        """How far the sum of the scores is from the difference of the outputs."""
        return float(self.scores.sum()) - (self.output - self.baseline)


def check(module: Any) -> None:
    """Check that a module says what it decides.

    Raises:
        UsageError: if it does not.
    """
    if not callable(getattr(module, "explained", None)):
        raise UsageError(
            f"--explain: {type(module).__name__} has no single decision on a text that tokens "
            "could have moved. It is for text classification, token classification and question "
            "answering. Remove the option."
        )


def attribute(
    module: Any, batch: Mapping[str, Any], *, fixed: torch.Tensor, pad_id: int
) -> Attribution:
    """Return the scores of the tokens of a row.

    Args:
        module: the module, in evaluation mode.
        batch: the batch of one row, on the module's device; tensors are [windows, ...].
        fixed: bool [windows, tokens], tokens that the baseline keeps, such as special ones.
        pad_id: the token of the baseline.

    Raises:
        UsageError: if the module cannot be explained.
    """
    with torch.inference_mode(False), torch.enable_grad():
        plain = {
            name: value.clone() if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
            if name != "labels"
        }
        device = plain["input_ids"].device.type
        with torch.autocast(device, enabled=False):
            return _attribute(module, plain, fixed=fixed, pad_id=pad_id)


def _attribute(
    module: Any, batch: Mapping[str, Any], *, fixed: torch.Tensor, pad_id: int
) -> Attribution:
    embedding = _embedding(module)
    ids = batch["input_ids"]
    with torch.no_grad():
        whole = module(batch)
        support: Support = module.explained(whole, batch)
        output = float(support(whole)[0])
        # the tokens stay those of the row, as some networks number them by what is padding
        others = torch.where(fixed.to(ids.device), ids, torch.full_like(ids, pad_id))
        start, end = embedding(others).detach(), embedding(ids).detach()
        baseline = float(support(_replaced(module, batch, embedding, start))[0])
    for steps in (STEPS, MOST_STEPS):
        scores = _integrated(module, batch, support, embedding, start, end, steps)
        found = Attribution(scores, output, baseline)
        if abs(found.gap) <= CLOSE * abs(output - baseline) + 1e-3:
            break
    return found


def _replaced(
    module: Any, batch: Mapping[str, Any], embedding: torch.nn.Module, vectors: torch.Tensor
) -> Any:
    """Return the outputs for a batch with vectors [entries, tokens, width] as its embeddings."""
    calls, types = 0, batch.get("token_type_ids")

    def replace(_module: Any, inputs: Any, made: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        if types is not None and inputs and torch.equal(inputs[0].flatten(), types.flatten()):
            return made  # GPT-2 looks them up there, too
        calls += 1
        if calls > 1 or made.shape != vectors.shape:
            raise _unreadable(module)
        return vectors

    handle = embedding.register_forward_hook(replace)
    try:
        outputs = module(batch)
    finally:
        handle.remove()
    if calls != 1:
        raise _unreadable(module)
    return outputs


def _embedding(module: Any) -> torch.nn.Module:
    network = getattr(module, "model", None)
    get = getattr(network, "get_input_embeddings", None)
    try:
        found = get() if callable(get) else None
    except NotImplementedError:
        found = None
    if not isinstance(found, torch.nn.Module):
        raise _unreadable(module)
    return found


def _unreadable(module: Any) -> UsageError:
    kind = getattr(getattr(getattr(module, "model", None), "config", None), "model_type", "network")
    return UsageError(
        f"--explain: this {kind} does not read its tokens once through an embedding, between which "
        "and a baseline one could integrate. Remove the option."
    )


def _integrated(
    module: Any,
    batch: Mapping[str, Any],
    support: Support,
    embedding: torch.nn.Module,
    start: torch.Tensor,
    end: torch.Tensor,
    steps: int,
) -> torch.Tensor:
    """Return the scores, float64 [windows, tokens], with so many points on the line."""
    points, weights = np.polynomial.legendre.leggauss(steps)
    points, weights = (points + 1) / 2, weights / 2
    at_once = max(1, MOST_TOKENS // batch["input_ids"].numel())
    total = torch.zeros(start.shape[:2], dtype=torch.float64, device=start.device)
    for first in range(0, steps, at_once):
        part = torch.tensor(points[first : first + at_once], device=start.device)
        gradients = _gradients(module, batch, support, embedding, start, end, part)
        moved = (gradients * (end - start)).double().sum(-1)  # [points, windows, tokens]
        share = torch.tensor(weights[first : first + at_once], device=start.device)
        total += (moved * share[:, None, None]).sum(0)
    return total.cpu()


def _gradients(
    module: Any,
    batch: Mapping[str, Any],
    support: Support,
    embedding: torch.nn.Module,
    start: torch.Tensor,
    end: torch.Tensor,
    points: torch.Tensor,
) -> torch.Tensor:
    """Return the gradients at some points of the line, [points, windows, tokens, width]."""
    shape = (len(points), *start.shape)
    between = start + points.to(start.dtype).view(-1, 1, 1, 1) * (end - start)
    flat = between.flatten(0, 1).detach().requires_grad_()
    outputs = _replaced(module, _copies(batch, len(points)), embedding, flat)
    (gradient,) = torch.autograd.grad(support(outputs).sum(), flat)
    return gradient.detach().view(shape)


def _copies(batch: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Return the batch of several copies of a row, one after the other."""
    windows = len(batch["input_ids"])
    found = {
        name: value.repeat(count, *[1] * (value.ndim - 1))
        for name, value in batch.items()
        if isinstance(value, torch.Tensor) and value.ndim and len(value) == windows
    }
    if "row_index" in found:
        found["row_index"] = torch.arange(count, device=found["row_index"].device)
        found["row_index"] = found["row_index"].repeat_interleave(windows)
    return found


def log_odds(logits: torch.Tensor, chosen: torch.Tensor | Sequence[int]) -> torch.Tensor:
    """Return the log odds of classes, float [...]: of the chosen one against all others.

    Args:
        logits: float [..., classes].
        chosen: int64 [...], the classes.
    """
    chosen = torch.as_tensor(chosen, device=logits.device)
    place = chosen.expand(logits.shape[:-1]).unsqueeze(-1)
    own = logits.gather(-1, place).squeeze(-1)
    others = logits.scatter(-1, place, float("-inf")).logsumexp(-1)
    return own - others
