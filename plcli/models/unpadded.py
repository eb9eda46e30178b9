"""Training batches without padding: all tokens in one row, padded inside attention alone.

Linear layers, norms and dropout see the tokens [1, tokens, hidden]. Attention gets the rows back,
in a few groups of rows of similar length, each padded by itself; a GPU may have a kernel that needs
no padding at all (varlen.py). The gradient is that of the padded batch. The layout travels as an
argument of the forward pass, so that gradient checkpointing recomputes with the layout of its own
batch.

Encoders that mix tokens outside of attention, or compute positions from padding, would be silently
wrong: `install` compares the outputs of a small batch with and without padding, and leaves the
network as it is where they differ.
"""

import inspect
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention

from plcli.errors import UsageError
from plcli.models import varlen
from plcli.models.dropout import dropped

logger = logging.getLogger(__name__)

NAME = "plcli_unpadded"  # of the attention function, among those of transformers
LAYOUT = "unpadded_layout"  # the argument that carries the layout
POSITIONS = "embed_positions"  # of encoders that count positions themselves, as in BART
SHORT = 256  # tokens; up to here, plain matrix products may be faster than torch's attention
GROUPS = 4  # of rows; each costs kernels, but pads only to its own longest row
LENGTHS = (3, 11, 6, 14, 9, 4, 12, 7)  # tokens of the rows that are compared
TOLERANCE = 1e-4  # of outputs, relative to their largest value


@dataclass(frozen=True)
class Group:
    """Rows of similar length, whose tokens are consecutive in the batch.

    Attributes:
        start: the first token.
        end: the token after the last one.
        rows: number of rows.
        longest: number of tokens of the longest row.
        places: int64 [end - start], the padded place of each token.
        mask: bool [rows, 1, 1, longest], which places are tokens; None if all are.
    """

    start: int
    end: int
    rows: int
    longest: int
    places: torch.Tensor
    mask: torch.Tensor | None


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a padded batch are in one row: shorter rows first.

    Attributes:
        source: int64 [tokens], the place of each token in the padded batch, row after row.
        positions: int64 [tokens], the position of each token in its row.
        back: int64 [rows * longest], the token at each place of the padded batch.
        lengths: int64 [rows], number of tokens of each row, in ascending order.
        kernel: computes attention without padding; None if the device has no such kernel.
    """

    source: torch.Tensor
    positions: torch.Tensor
    back: torch.Tensor
    lengths: torch.Tensor
    kernel: varlen.Kernel | None = None

    @cached_property
    def ends(self) -> torch.Tensor:
        """0 and the end of each row in the batch, int32 [rows + 1]."""
        return torch.nn.functional.pad(self.lengths.cumsum(0), (1, 0)).int()

    @cached_property
    def longest(self) -> int:
        """Number of tokens of the longest row."""
        return int(self.lengths[-1])

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The rows by length."""
        device, rows = self.lengths.device, len(self.lengths)
        ascending = self.lengths.tolist()
        groups, at = [], 0
        for part in torch.arange(rows).tensor_split(min(GROUPS, rows)):
            first, last = int(part[0]), int(part[-1]) + 1
            most, count = ascending[last - 1], sum(ascending[first:last])
            inside = torch.arange(most, device=device) < self.lengths[first:last, None]
            flat = inside.reshape(-1).nonzero()[:, 0]
            full = ascending[first] == most
            groups.append(
                Group(
                    *(at, at + count, last - first, most, flat),
                    None if full else inside[:, None, None, :],
                )
            )
            at += count
        return tuple(groups)


def layout(attention_mask: torch.Tensor, kernel: varlen.Kernel | None = None) -> Layout:
    """Return the layout of a batch.

    Args:
        attention_mask: 1 for tokens and 0 for padding after them, int64 [rows, longest].
        kernel: computes attention without padding.
    """
    rows, longest = attention_mask.shape
    device = attention_mask.device
    lengths = attention_mask.sum(1)
    order = torch.argsort(lengths, stable=True)
    places = order[:, None] * longest + torch.arange(longest, device=device)
    source = places[attention_mask[order].bool()]
    back = torch.zeros(rows * longest, dtype=torch.long, device=device)
    back[source] = torch.arange(len(source), device=device)
    positions = (attention_mask.cumsum(1) - 1).reshape(-1)[source]
    return Layout(source, positions, back, lengths[order], kernel)


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention within rows, or that of `sdpa` for a batch with padding.

    Args:
        module: the layer.
        query: float [1, heads, tokens, size]; key and value likewise.
        key: see query.
        value: see query.
        attention_mask: not used without padding.
        dropout: the dropout of the attention weights.
        scaling: the factor of the scores.
        kwargs: the layout, and the width of a window for local attention.

    Returns:
        Float [1, tokens, heads, size], and None for the weights.
    """
    found: Layout | None = kwargs.pop(LAYOUT, None)
    if found is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        result: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
        return result
    tokens = [each[0].transpose(0, 1) for each in (query, key, value)]
    window = kwargs.get("sliding_window")
    if _suits(found, tokens, dropout, scaling, window):
        assert found.kernel is not None
        out = found.kernel.attend(tokens, found.ends, found.longest, scaling=scaling, window=window)
    else:
        out = _in_groups(tokens, found, dropout, scaling, window)
    return out[None], None


def _suits(
    found: Layout,
    tokens: list[torch.Tensor],
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> bool:
    """Whether the device has a kernel for a layer, whose first outputs were those of the groups."""
    kernel = found.kernel
    if kernel is None or not kernel.accepts(tokens, dropout, window):
        return False
    if window not in kernel.compared:
        with torch.no_grad():  # gradient checkpointing counts what is saved for the backward pass
            ours = kernel.attend(tokens, found.ends, found.longest, scaling=scaling, window=window)
            kernel.compare(ours, _in_groups(tokens, found, dropout, scaling, window), window)
    return kernel.compared[window]


def _in_groups(
    tokens: list[torch.Tensor],
    found: Layout,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    sizes = [group.end - group.start for group in found.groups]
    parts = zip(*(torch.split(each, sizes) for each in tokens), found.groups, strict=True)
    return torch.cat([_grouped(each, group, dropout, scaling, window) for *each, group in parts])


def _grouped(
    tokens: list[torch.Tensor],
    group: Group,
    dropout: float,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    heads, size = tokens[0].shape[1:]
    shape = (group.rows * group.longest, heads, size)
    queries, keys, values = (
        each.new_zeros(shape)
        .index_copy(0, group.places, each)
        .view(group.rows, group.longest, heads, size)
        .transpose(1, 2)
        for each in tokens
    )
    mask = group.mask
    if window is not None and window < group.longest:
        at = torch.arange(group.longest, device=group.places.device)
        near = ((at[:, None] - at).abs() < window)[None, None]
        mask = near if mask is None else near & mask
    slow = dropout > 0 or queries.dtype == torch.bfloat16  # in torch's own attention
    plain = slow and queries.is_cpu and group.longest <= SHORT
    attend = _plain if plain else scaled_dot_product_attention
    out = attend(queries, keys, values, attn_mask=mask, dropout_p=dropout, scale=scaling)
    return out.transpose(1, 2).reshape(shape).index_select(0, group.places)


def _plain(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    attn_mask: torch.Tensor | None,
    dropout_p: float,
    scale: float | None,
) -> torch.Tensor:
    """Attention by matrix products: torch's own is slow backwards in bfloat16 and with dropout."""
    scores = (queries * (queries.shape[-1] ** -0.5 if scale is None else scale)) @ keys.mT
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    weights = scores.softmax(-1)
    return (dropped(weights, dropout_p) if dropout_p else weights) @ values


class Unpadded:
    """The forward pass of an encoder, which runs training batches without padding.

    Args:
        base: the encoder.
        offset: what is added to positions; RoBERTa and its kind begin after the padding id.
    """

    def __init__(self, base: Any, *, offset: int) -> None:
        self.base, self.offset, self.original = base, offset, base.forward
        self.kernels: dict[torch.device, varlen.Kernel | None] = {}
        self.__signature__ = inspect.signature(base.forward)

    def _shows(self, kwargs: dict[str, Any]) -> bool:
        """Whether the outputs of all layers, or the attention weights, are asked for."""
        names = ("output_hidden_states", "output_attentions")
        return any(kwargs.get(name) or getattr(self.base.config, name, False) for name in names)

    def __call__(self, input_ids: Any = None, attention_mask: Any = None, **kwargs: Any) -> Any:
        """Run a batch; evaluation, embedded inputs and batches of equal lengths stay padded."""
        usable = (
            self.base.training
            and input_ids is not None
            and attention_mask is not None
            and attention_mask.dim() == 2
            and kwargs.get("inputs_embeds") is None
            and kwargs.get("position_ids") is None
            and not self._shows(kwargs)  # whose shapes would be those without padding
            and not bool(attention_mask.all())
            and bool(attention_mask[:, 0].all())  # heads read the first place, also of padding
        )
        if not usable:
            return self.original(input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        rows, longest = attention_mask.shape
        device = attention_mask.device
        if device not in self.kernels:
            self.kernels[device] = varlen.kernel(device)
        found = layout(attention_mask, self.kernels[device])
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        if "token_type_ids" in kwargs:
            kwargs["token_type_ids"] = kwargs["token_type_ids"].reshape(-1)[found.source][None]
        pooler = getattr(self.base, "pooler", None)
        if pooler is not None:
            self.base.pooler = None
        counts = getattr(self.base, POSITIONS, None)
        if counts is None:
            kwargs["position_ids"] = (found.positions + self.offset)[None]
        else:
            counts.forward = _Positions(counts.forward, found.positions, longest)
        try:
            out = self.original(
                input_ids=input_ids.reshape(-1)[found.source][None],
                attention_mask=None,
                **kwargs,
                **{LAYOUT: found},
            )
        finally:
            if pooler is not None:
                self.base.pooler = pooler
            if counts is not None:
                del counts.forward
        out.last_hidden_state = out.last_hidden_state[0][found.back].view(rows, longest, -1)
        if pooler is not None:
            out["pooler_output"] = _pooled(self.base, pooler, out.last_hidden_state)
        return out


class _Positions:
    """The position embeddings of an encoder that counts positions itself, such as BART's.

    Args:
        original: returns the embeddings of all places of rows, given the rows or their shape.
        positions: int64 [tokens], the position of each token in its row.
        longest: number of tokens of the longest row.
    """

    def __init__(self, original: Any, positions: torch.Tensor, longest: int) -> None:
        self.original, self.positions, self.longest = original, positions, longest

    def __call__(self, rows: Any) -> torch.Tensor:
        """Return the embeddings of the tokens of a batch without padding, [1, tokens, hidden]."""
        if isinstance(rows, torch.Tensor):
            found = self.original(rows[:1, :1].expand(1, self.longest))
        else:
            found = self.original(torch.Size((1, self.longest)))
        embeddings: torch.Tensor = found.reshape(self.longest, -1)[self.positions][None]
        return embeddings


def _pooled(base: Any, pooler: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Return the pooled output of each row; ALBERT's pooler is a bare linear layer."""
    if not isinstance(pooler, torch.nn.Linear):
        pooled: torch.Tensor = pooler(hidden)
        return pooled
    activated: torch.Tensor = base.pooler_activation(pooler(hidden[:, 0]))
    return activated


def prepare(module: Any, kind: str) -> bool:
    """Let the network of a module run training batches without padding, if that is of use.

    Args:
        module: a TransformerModule; `unpadded` demands or forbids it.
        kind: the kind of device, such as cpu or cuda.

    Returns:
        Whether it does, so that batches need no micro-batches.

    Raises:
        UsageError: if it is demanded and not possible.
    """
    demanded = module.unpadded
    if demanded is False or (demanded is None and (kind != "cpu" or module.compile)):
        return False
    reason = "model.compile is set" if module.compile else install(module.model)
    if reason is not None and demanded:
        raise UsageError(
            f"model.unpadded: {type(module.model).__name__} cannot be run without padding: "
            f"{reason}. Remove the key."
        )
    if reason is None:
        logger.info("training batches are run without padding (model.unpadded)")
    return reason is None


def install(model: Any) -> str | None:
    """Let a network run training batches without padding, if its outputs stay the same.

    Args:
        model: a network of transformers, which is changed in place.

    Returns:
        Why it keeps its padding; None if it runs without.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    base = getattr(model, getattr(model, "base_model_prefix", ""), model)
    if getattr(model.config, "is_encoder_decoder", False):
        base = model.get_encoder()
    if getattr(model.config, "_attn_implementation", None) != "sdpa":
        return "its attention cannot be replaced"
    if any(getattr(part, "is_causal", False) for part in base.modules()):
        return "its attention is causal"
    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    configs = {
        id(config): config
        for part in model.modules()
        if (config := getattr(part, "config", None)) is not None
        and hasattr(config, "_attn_implementation_internal")
    }
    training = model.training
    batch = _batch(base)
    with torch.no_grad():
        try:
            wanted = _outputs(base.eval(), batch)
        except Exception as error:  # a network that needs other inputs than tokens
            model.train(training)
            return f"it does not run on tokens alone ({type(error).__name__})"
        for config in configs.values():
            config._attn_implementation_internal = NAME
        unpadded = Unpadded(base, offset=_offset(base))
        base.forward = unpadded
        reason = _difference(base, batch, wanted)
    model.train(training)
    if reason is not None:
        del base.forward
        for config in configs.values():
            config._attn_implementation_internal = "sdpa"
    return reason


def _batch(base: Any) -> dict[str, torch.Tensor]:
    """Return a batch of different lengths; no random numbers are drawn."""
    device = next(base.parameters()).device
    rows, longest = len(LENGTHS), max(LENGTHS)
    pad = base.config.pad_token_id or 0
    size = base.get_input_embeddings().num_embeddings
    ids = torch.arange(rows * longest, device=device).reshape(rows, longest) * 7 % (size - 1)
    ids = torch.where(ids >= pad, ids + 1, ids) % size
    lengths = torch.tensor(LENGTHS, device=device)
    mask = (torch.arange(longest, device=device) < lengths[:, None]).long()
    return {"input_ids": torch.where(mask.bool(), ids, pad), "attention_mask": mask}


def _outputs(base: Any, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    out = base(**batch)
    hidden = out.last_hidden_state[batch["attention_mask"].bool()]
    pooled = getattr(out, "pooler_output", None)
    return [hidden] if pooled is None else [hidden, pooled]


def _difference(
    base: Any, batch: dict[str, torch.Tensor], wanted: list[torch.Tensor]
) -> str | None:
    """Return why outputs without padding are not those with it; None if they are."""
    parts = {part: part.training for part in base.modules()}
    base.training = True  # the encoder alone, so that dropout stays off
    try:
        found = _outputs(base, batch)
    except Exception as error:  # encoders fail in many ways with another layout
        return f"it failed without padding ({type(error).__name__})"
    finally:
        for part, mode in parts.items():
            part.training = mode
    for ours, theirs in zip(found, wanted, strict=True):
        scale = float(theirs.abs().max())
        if ours.shape != theirs.shape:
            return "its outputs have another shape without padding"
        difference = float((ours - theirs).abs().max())
        if not difference <= TOLERANCE * max(scale, 1e-3):
            return f"its outputs differ without padding, by {difference / max(scale, 1e-3):.2g}"
    return None


def _offset(base: Any) -> int:
    """Return what is added to positions; those of RoBERTa and its kind begin after the padding."""
    for name, part in base.named_modules():
        padding = getattr(part, "padding_idx", None)
        if name.endswith("position_embeddings") and padding is not None:
            return int(padding) + 1
    return 0
