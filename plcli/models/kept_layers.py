"""`keep_layers`: a smaller network that starts with some of the layers of pretrained weights.

The network is built anew from a config with fewer layers, so that transformers alone loads what is
saved.
"""

import copy
import logging
from collections.abc import Sequence
from typing import Any

from plcli.errors import ModelError, UsageError, listed
from plcli.models.layers import Parts

logger = logging.getLogger(__name__)

Kept = int | list[int]  # how many, or their numbers from 1
BY_LAYER = "layer_types"  # of a config, a list with an entry for each layer


def evenly(count: int, *, of: int) -> list[int]:
    """Return the numbers of evenly spaced layers, from 1: the middle one of equal parts.

    So 4 of 12 are 2, 5, 8 and 11, as in the examples of sentence-transformers
    (https://sbert.net/examples/sentence_transformer/training/distillation/README.html).
    """
    return [(2 * part + 1) * of // (2 * count) + 1 for part in range(count)]


def cut(model: Any, kept: Kept, fresh: frozenset[str]) -> tuple[Any, frozenset[str]]:
    """Return a network with some of the layers of another one.

    Args:
        model: the network.
        kept: the number of layers to keep, or their numbers from 1.
        fresh: the names of its newly initialized parameters.

    Returns:
        The network, in training mode, and the names of its newly initialized parameters.

    Raises:
        UsageError: if it has no such layers.
        ModelError: if its layers cannot be told apart.
    """
    config = copy.deepcopy(model.config)
    layers = Parts(model).layers
    total = getattr(config, "num_hidden_layers", None)
    if total != len(layers) or getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"model.keep_layers: a {config.model_type} is no single stack of layers, so that some "
            "of them cannot be kept. Remove the key, or use another model."
        )
    chosen = _checked(kept, total)
    config.num_hidden_layers = len(chosen)
    if isinstance(types := getattr(config, BY_LAYER, None), list) and len(types) == total:
        setattr(config, BY_LAYER, [types[number - 1] for number in chosen])
    new = type(model)(config)
    names = dict(zip(Parts(new).layers, (layers[number - 1] for number in chosen), strict=True))
    before = model.state_dict()
    sources = {key: _renamed(key, names) for key in new.state_dict()}
    gone = tuple(name for name in layers if name not in names.values())
    if {key for key in before if not key.startswith(gone)} != set(sources.values()):
        raise ModelError(
            f"model.keep_layers: layers {listed(map(str, chosen))} of this {config.model_type} are "
            "of other kinds than layers at their new places. Give other layers, or remove the key."
        )
    new.load_state_dict({key: before[source] for key, source in sources.items()})
    if new.can_generate():
        new.generation_config = copy.deepcopy(model.generation_config)
    logger.info("keep_layers: layers %s of %d", ", ".join(map(str, chosen)), total)
    return new.train(), frozenset(key for key, source in sources.items() if source in fresh)


def _checked(kept: Kept, total: int) -> list[int]:
    """Return the numbers of the layers to keep, from 1 and ascending."""
    chosen: Sequence[int] = evenly(kept, of=total) if isinstance(kept, int) and kept > 0 else []
    chosen = sorted(set(kept)) if isinstance(kept, list) else chosen
    repeated = isinstance(kept, list) and len(chosen) < len(kept)
    if not chosen or repeated or chosen[0] < 1 or max(len(chosen), chosen[-1]) > total:
        raise UsageError(
            f"model.keep_layers: got {kept}, but the network has {total} layers. Give a number "
            f"from 1 to {total}, or a list of different ones, such as [1, {total}]."
        )
    return list(chosen)


def _renamed(key: str, names: dict[str, str]) -> str:
    """Return a parameter's name in the larger network, given the names of layers in it."""
    own = next((name for name in names if key.startswith(name)), None)
    return key if own is None else names[own] + key.removeprefix(own)
