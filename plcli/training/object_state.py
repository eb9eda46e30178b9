"""The state of a training that neither Lightning's checkpoint nor a state_dict contains.

It is what callbacks and modules change while they train: plain attributes of the user's classes,
which parameters are frozen, which modules are in eval mode, and masks of pruning. All of it is
saved as tensors and plain values.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelPruning
from torch.nn.utils import prune

from plcli.training.plain_values import plain

MOST_VALUES = 10_000  # of one attribute; larger ones are not saved
LIBRARIES = ("plcli", "lightning", "torch", "torchmetrics", "transformers", "peft")
HPARAMS = "_hparams"  # what save_hyperparameters() sets


class ObjectState:
    """Saves and restores the state of the objects that a trainer works with.

    Attributes are saved if they have changed since the objects were made, so that a resumed run
    takes all others from its config.

    Args:
        trainer: the trainer.
        model: its LightningModule.
        datamodule: its LightningDataModule; None if the module has its own data.
    """

    def __init__(self, trainer: Any, model: Any, datamodule: Any) -> None:
        self.trainer, self.model, self.datamodule = trainer, model, datamodule
        self._first = {name: copy.deepcopy(_attributes(each)) for name, each in self._objects()}

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Return the attributes that have changed, by object and name."""
        changed = {}
        for key, each in self._objects():
            first = self._first.get(key, {})
            now = _attributes(each)
            new = {
                name: value
                for name, value in now.items()
                if name not in first or not _same(value, first[name])
            }
            if new:
                changed[key] = new
        return changed

    def set_attributes(self, saved: Mapping[str, Mapping[str, Any]]) -> None:
        """Set attributes to saved values."""
        for key, each in self._objects():
            for name, value in saved.get(key, {}).items():
                _set(each, name, value)

    def modules(self, modes: Mapping[str, bool] | None = None) -> dict[str, Any]:
        """Return the state of the parameters and modules.

        Args:
            modes: whether each module is in training mode; by default as it is now.
        """
        names = dict(self.model.named_modules())
        modes = modes or {name: each.training for name, each in names.items()}
        return {
            "frozen": [
                name for name, each in self.model.named_parameters() if not each.requires_grad
            ],
            "lottery": [number for number, first, now in self._lottery() if _shares(first, now)],
            "eval": [name for name, training in modes.items() if not training],
            "masks": {
                f"{name}.{buffer.removesuffix('_mask')}": {
                    "mask": mask.detach().clone(),
                    "original": getattr(each, f"{buffer.removesuffix('_mask')}_orig").detach(),
                }
                for name, each in names.items()
                for buffer, mask in each.named_buffers(recurse=False)
                if buffer.endswith("_mask")
                and hasattr(each, f"{buffer.removesuffix('_mask')}_orig")
            },
        }

    def set_modules(self, saved: Mapping[str, Any]) -> None:
        """Set the state of the parameters and modules."""
        for name, state in saved["masks"].items():
            path, _, parameter = name.rpartition(".")
            _mask(self.model.get_submodule(path), parameter, state)
        for number, first, now in self._lottery():
            if number in saved["lottery"]:
                first.data = now.data
        frozen, evaluated = set(saved["frozen"]), set(saved["eval"])
        for name, each in self.model.named_parameters():
            each.requires_grad_(name not in frozen)
        for name, each in self.model.named_modules():
            each.training = name not in evaluated

    def _lottery(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Yield a number, the first and the present values of every pruned parameter.

        When ModelPruning resets parameters to their first values, both share their memory from then
        on (lightning 2.6), so that the first values change with the present ones.
        """
        number = 0
        for callback in self.trainer.callbacks:
            if not isinstance(callback, ModelPruning):
                continue
            for layer in (callback._original_layers or {}).values():
                for index, name in layer["names"]:
                    module, _ = callback._parameters_to_prune[index]
                    first, now = getattr(layer["data"], name), getattr(module, f"{name}_orig", None)
                    if isinstance(first, torch.Tensor) and isinstance(now, torch.Tensor):
                        yield number, first, now
                    number += 1

    def _objects(self) -> Iterator[tuple[str, Any]]:
        """Yield the user's objects with the keys of their attributes."""
        for name, each in self.model.named_modules():
            if _is_users(each):
                yield f"model.{name}", each
        if self.datamodule is not None and _is_users(self.datamodule):
            yield "data", self.datamodule
        for number, each in enumerate(filter(_is_users, self.trainer.callbacks)):
            yield f"callbacks.{number}.{type(each).__qualname__}", each


def _shares(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.data_ptr() == other.data_ptr()


def _is_users(each: Any) -> bool:
    return type(each).__module__.split(".")[0] not in LIBRARIES


def _attributes(each: Any) -> dict[str, Any]:
    """Return the plain attributes of an object that its class has defined."""
    found = {}
    for name, value in vars(each).items():
        if name != HPARAMS and name in _names_of_base(each):
            continue
        kept, left = plain({name: value})
        if (not left or name == HPARAMS) and name in kept and _size(kept[name]) <= MOST_VALUES:
            found[name] = kept[name]
    return found


def _names_of_base(each: Any) -> set[str]:
    """Return the attributes that the bases of an object from torch or Lightning use themselves."""
    for base in (LightningModule, LightningDataModule, torch.nn.Module):
        if isinstance(each, base):
            return {*vars(base()), "trainer"}
    return set()


def _size(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel()
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    if isinstance(value, (list, tuple, set)):
        return sum(map(_size, value))
    return 1


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _set(each: Any, name: str, value: Any) -> None:
    """Set an attribute; a list or mapping is changed in place, as others may refer to it."""
    now = getattr(each, name, None)
    if isinstance(now, dict) and isinstance(value, Mapping):
        now.update(value)
        if name != HPARAMS:  # which also has values that are not plain
            for key in now.keys() - value.keys():
                del now[key]
    elif isinstance(now, list) and isinstance(value, list):
        now[:] = value
    else:
        setattr(each, name, value)


def _mask(module: Any, name: str, state: Mapping[str, torch.Tensor]) -> None:
    """Prune a parameter with a saved mask."""
    device = next(module.parameters()).device
    if not hasattr(module, f"{name}_mask"):
        prune.custom_from_mask(module, name, state["mask"].to(device))  # type: ignore[no-untyped-call]  # torch's own
    with torch.no_grad():
        getattr(module, f"{name}_mask").copy_(state["mask"])
        getattr(module, f"{name}_orig").copy_(state["original"])
