"""Keeps in a checkpoint only what can be loaded safely: tensors and plain values.

A checkpoint is loaded with `torch.load(weights_only=True)`, which runs no code from the file. Other
objects, such as a module, a function or a Path among a module's hyperparameters, are left out.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

SCALARS = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)


class Left:
    """Stands for a value that is left out."""


LEFT = Left()


def plain(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a checkpoint without what cannot be loaded safely.

    Args:
        values: the checkpoint.

    Returns:
        The checkpoint, and the dotted keys that were left out, each with its type.
    """
    left: list[str] = []
    found = _plain(values, "", left)
    return found, left


def _plain(value: Any, key: str, left: list[str]) -> Any:
    if type(value) in SCALARS or isinstance(value, torch.Tensor):
        return value
    if isinstance(value, np.generic) and isinstance(item := value.item(), SCALARS):
        return item
    if isinstance(value, Mapping):
        kept = {}
        for name, inner in value.items():
            found = _plain(inner, f"{key}.{name}", left)
            if found is not LEFT and _is_key(name):
                kept[name] = found
        return _of_same_kind(value, kept)
    if isinstance(value, (list, tuple, set)):
        return _items(value, key, left)
    left.append(f"{key.lstrip('.')} ({type(value).__name__})")
    return LEFT


def _items(value: Any, key: str, left: list[str]) -> Any:
    """Return a list, tuple or set; it is left out whole if one of its items is."""
    inside: list[str] = []
    found = [_plain(item, key, inside) for item in value]
    if inside:
        left.append(inside[0])
        return LEFT
    if type(value) in (list, set):
        return type(value)(found)
    return tuple(found) if isinstance(value, tuple) else list(found)


def _is_key(name: Any) -> bool:
    return type(name) in SCALARS or isinstance(name, tuple)


def _of_same_kind(value: Any, kept: dict[Any, Any]) -> Any:
    if isinstance(value, OrderedDict):
        ordered: OrderedDict[Any, Any] = OrderedDict(kept)
        if hasattr(value, "_metadata"):  # of a module's state_dict
            ordered._metadata = value._metadata  # type: ignore[attr-defined]  # torch's own
        return ordered
    if isinstance(value, defaultdict):
        return dict(kept)
    return kept
