"""The state of a training that neither Lightning's checkpoint nor a state_dict contains.

It is what callbacks and modules change while they train: plain attributes of the user's classes,
numbers of torch's layers (such as the probability of a dropout), which parameters are frozen, which
modules are in eval mode, and masks of pruning. All of it is saved as tensors and plain values.

Other objects that `on_train_epoch_start` makes cannot be saved, so it is run again where an epoch
is resumed, from the attributes before it; what else it changes is restored afterwards.
"""

import copy
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelPruning
from lightning.pytorch.trainer import call
from torch.nn.utils import prune

from plcli.config import secrets
from plcli.errors import ModelError
from plcli.training.plain_values import plain

logger = logging.getLogger(__name__)

MOST_VALUES = 10_000  # of one attribute; larger ones are not saved
LIBRARIES = ("plcli", "lightning", "torch", "torchmetrics", "transformers", "peft")
OF_TRAINER = ("gradient_clip_val", "gradient_clip_algorithm")  # what hooks may change
HPARAMS = "_hparams"  # what save_hyperparameters() sets
Attributes = dict[str, dict[str, Any]]  # by object and name


class EpochStart(TypedDict):
    """What the hooks at the start of the current epoch have done.

    Attributes:
        made: the names of what they have made that no checkpoint can hold.
        attributes: the attributes before them, if they have made something.
    """

    made: list[str]
    attributes: Attributes


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
        self._first = {key: copy.deepcopy(_attributes(each)) for key, each in self._objects()}
        self._large = {key: _large(each) for key, each in self._objects()}
        self._logged: set[str] = set()
        self.epoch_start = EpochStart(made=[], attributes={})

    def attributes(self) -> Attributes:
        """Return the attributes that have changed on this process, by object and name."""
        changed = {}
        for key, each in self._objects():
            first = self._first.get(key, {})
            new = {
                name: {"value": value, "on_device": _on_device(value)}
                for name, value in _attributes(each).items()
                if name not in first or not _same(value, first[name])
            }
            if new:
                changed[key] = new
            self._log_large(key, each)
        return changed

    def unsaved(self) -> dict[str, Any]:
        """Return what no checkpoint can hold: other attributes of the objects, and their parts."""
        found: dict[str, Any] = {}
        for key, each in filter(lambda pair: _is_users(pair[1]), self._objects()):
            kept = _attributes(each)
            others = {name: value for name, value in _candidates(each) if name not in kept}
            others |= vars(each).get("_modules") or {}
            found |= {f"{key}.{name}": value for name, value in others.items()}
        return found

    def note_epoch_start(self, before: Mapping[str, Any], attributes: Attributes) -> None:
        """Note what the start of an epoch has made that no checkpoint can hold.

        Args:
            before: what `unsaved` returned before it.
            attributes: what `attributes` returned before it.
        """
        now = self.unsaved()
        made = [
            name for name, value in now.items() if name not in before or before[name] is not value
        ]
        self.epoch_start = EpochStart(made=sorted(made), attributes=attributes if made else {})

    def repeat_epoch_start(self) -> None:
        """Run the user's `on_train_epoch_start` again, without its effects on what is restored."""
        self.set_attributes(self.epoch_start["attributes"], reset=True)
        weights = {name: value.clone() for name, value in self.model.state_dict().items()}
        groups = [
            [{key: value for key, value in group.items() if key != "params"} for group in each]
            for each in (optimizer.param_groups for optimizer in self.trainer.optimizers)
        ]
        schedules = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        states = [copy.deepcopy(schedule.state_dict()) for schedule in schedules]
        for callback in filter(_is_users, self.trainer.callbacks):
            callback.on_train_epoch_start(self.trainer, self.model)
        call._call_lightning_module_hook(self.trainer, "on_train_epoch_start")
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if name in weights and value.shape == weights[name].shape:
                    value.copy_(weights[name])
        for optimizer, saved in zip(self.trainer.optimizers, groups, strict=True):
            for group, values in zip(optimizer.param_groups, saved, strict=False):
                group.update(values)
        for schedule, state in zip(schedules, states, strict=True):
            schedule.load_state_dict(state)

    def _log_large(self, key: str, each: Any) -> None:
        for name, size in _large(each).items():
            if self._large.get(key, {}).get(name) != size and f"{key}.{name}" not in self._logged:
                self._logged.add(f"{key}.{name}")
                logger.info("not in checkpoints, as it is large: %s.%s", key, name)

    def set_attributes(self, saved: Mapping[str, Any], *, reset: bool = False) -> None:
        """Set attributes to saved values; names that no attribute can have are ignored.

        Args:
            saved: the values, as `attributes` returned them.
            reset: whether the other attributes get the values with which the objects were made.

        Raises:
            ModelError: if they have another form.
        """
        device = self.trainer.strategy.root_device
        for key, each in self._objects():
            values = saved.get(key, {})
            _check(isinstance(values, Mapping))
            for name, first in self._first.get(key, {}).items() if reset else ():
                if name not in values:
                    _set(each, name, copy.deepcopy(first))
            for name, entry in values.items():
                _check(isinstance(entry, Mapping) and {"value", "on_device"} <= entry.keys())
                value = entry["value"]
                if entry["on_device"]:
                    value = move_data_to_device(value, device)
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
            "eval": [name for name, training in modes.items() if not training],
            "lottery": [number for number, first, now in self._lottery() if _shares(first, now)],
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
        """Set the state of the parameters and modules.

        Raises:
            ModelError: if it has another form, or is of another module.
        """
        _check(all(isinstance(saved.get(key), list) for key in ("frozen", "eval", "lottery")))
        _check(isinstance(saved.get("masks"), Mapping))
        for name, state in saved["masks"].items():
            path, _, parameter = name.rpartition(".")
            try:
                _mask(self.model.get_submodule(path), parameter, state)
            except (AttributeError, KeyError, TypeError, RuntimeError):
                _check(False)
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
        """Yield the user's objects, torch's layers and the trainer, with keys."""
        yield "trainer", self.trainer
        for name, each in self.model.named_modules():
            if _is_users(each) or _is_layer(each):
                yield f"model.{name}", each
        if self.datamodule is not None and _is_users(self.datamodule):
            yield "data", self.datamodule
        count: Counter[str] = Counter()
        for each in filter(_is_users, self.trainer.callbacks):
            name = type(each).__qualname__
            yield f"callbacks.{name}.{count[name]}", each
            count[name] += 1


def _check(is_right: bool) -> None:
    if not is_right:
        raise ModelError(
            "the checkpoint: the state of callbacks and modules in it does not fit them. Use "
            "another checkpoint, or start a new run."
        )


def _shares(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.data_ptr() == other.data_ptr()


def _is_users(each: Any) -> bool:
    return type(each).__module__.split(".")[0] not in LIBRARIES


def _is_layer(each: Any) -> bool:
    return type(each).__module__.startswith("torch.nn.")


def _attributes(each: Any) -> dict[str, Any]:
    """Return the plain attributes of an object that its class has defined, without secrets.

    A hyperparameter has the name `_hparams.NAME`.
    """
    found = {}
    for name, value in _candidates(each):
        kept, left = plain({name: value})
        is_device = isinstance(value, torch.device)  # of this process, which another may not have
        if not (left or is_device or secrets.is_secret(name)) and _size(kept[name]) <= MOST_VALUES:
            found[name] = _detached(kept[name])
    return found


def _candidates(each: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(each, Trainer):
        yield from ((name, getattr(each, name)) for name in OF_TRAINER)
        return
    own = _names_of_base(each)
    numbers_alone = _is_layer(each)
    for name, value in vars(each).items():
        if name in own or (numbers_alone and not isinstance(value, (bool, int, float))):
            continue
        yield name, value
    for name, value in (vars(each).get(HPARAMS) or {}).items():
        yield f"{HPARAMS}.{name}", value


def _large(each: Any) -> dict[str, int]:
    """Return the number of values of attributes that are too large, by name."""
    sizes = {name: _size(value) for name, value in _candidates(each)}
    return {name: size for name, size in sizes.items() if size > MOST_VALUES}


def _names_of_base(each: Any) -> set[str]:
    """Return the attributes that the bases of an object from torch or Lightning use themselves."""
    for base in (LightningModule, LightningDataModule, torch.nn.Module):
        if isinstance(each, base):
            return {*vars(base()), "trainer", HPARAMS}
    return {HPARAMS}


def _size(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return value.numel()
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    if isinstance(value, (list, tuple, set)):
        return sum(map(_size, value))
    return 1


def _detached(value: Any) -> Any:
    """Return plain values whose tensors belong to no graph."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {key: _detached(inner) for key, inner in value.items()}
    return type(value)(map(_detached, value)) if isinstance(value, (list, tuple)) else value


def _on_device(value: Any) -> bool:
    """Whether plain values have a tensor that is not on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.device.type != "cpu"
    inside = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, (Mapping, list, tuple)) and any(map(_on_device, inside))


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
    hyperparameters, _, key = name.partition(f"{HPARAMS}.")
    if key and not hyperparameters:
        if isinstance(known := vars(each).get(HPARAMS), dict):
            known[key] = value
        return
    if name not in _attributes(each) and not _is_free(each, name):
        return
    now = vars(each).get(name)
    if isinstance(now, dict) and isinstance(value, dict):
        now.clear()
        now.update(value)
    elif isinstance(now, list) and isinstance(value, list):
        now[:] = value
    else:
        setattr(each, name, value)


def _is_free(each: Any, name: str) -> bool:
    """Whether an object has no such attribute yet, nor has its class."""
    usable = name.isidentifier() and not name.startswith("__") and name not in _names_of_base(each)
    return usable and not hasattr(each, name)


def _mask(module: Any, name: str, state: Mapping[str, torch.Tensor]) -> None:
    """Prune a parameter with a saved mask."""
    device = next(module.parameters()).device
    if not hasattr(module, f"{name}_mask"):
        prune.custom_from_mask(module, name, state["mask"].to(device))  # type: ignore[no-untyped-call]  # torch's own
    with torch.no_grad():
        getattr(module, f"{name}_mask").copy_(state["mask"])
        getattr(module, f"{name}_orig").copy_(state["original"])
