"""Marks: what each key of a config means for artefacts, checkpoints and resuming.

A class marks its constructor arguments in the metadata of its dataclass fields:

    labels: list[str] | None = field(default=None, metadata=FACT)

The marks are

- fact: the value comes from the data, so an artefact or a checkpoint may set it;
- weights: the weights depend on the value, so a run's weights cannot be used with another one;
- path: the value is a path, which is saved as an absolute path;
- local: the value is specific to this machine or to these rows, so it is not saved in an artefact;
- use: the value does not affect how a model was trained, so it is ignored when a run is looked up;
- free: a run may be resumed with another value;
- learning: the value only matters while a model is trained, so only the help of fit shows it;
- instead_of: the keys, separated by spaces, that this one replaces where it is given later;
- renamed_to: the new name of the key; the old name is still accepted.

Unmarked arguments of classes outside plcli are marked by name (CONVENTIONS); all other unmarked
arguments of such classes may be facts.
"""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from plcli.config.classes import parameters

Marks = Mapping[str, bool | str]

FACT: Marks = {"fact": True}
LOCAL: Marks = {"local": True}
PATH: Marks = {"path": True, "local": True}
WEIGHTS: Marks = {"weights": True, "local": True}
WEIGHTS_PATH: Marks = {**WEIGHTS, "path": True}
USE: Marks = {"use": True}
LEARNING: Marks = {"learning": True}
FREE: Marks = {"use": True, "free": True}
TRAIN: Marks = PATH
VALIDATION: Marks = {**PATH, "use": True}
OTHER_ROWS: Marks = {**PATH, "use": True, "free": True}
CONVENTIONS: dict[str, Marks] = {
    "train": TRAIN,
    "validation": VALIDATION,
    "test": OTHER_ROWS,
    "predict": OTHER_ROWS,
    "tokenizer": PATH,
    "pretrained": WEIGHTS_PATH,
    "init_from": WEIGHTS_PATH,
    "architecture": WEIGHTS,
    "lora": WEIGHTS,
    "freeze": WEIGHTS,
    "optimizer": LOCAL,
    "id": USE,
    "batch_size": USE,
    "num_workers": FREE,
}


def marks(cls: type | None) -> dict[str, Marks]:
    """Return the marks of a class's constructor arguments by name; empty without a class."""
    if cls is None:
        return {}
    own = {field.name: field.metadata for field in fields(cls)} if is_dataclass(cls) else {}
    found: dict[str, Marks] = {}
    for name in parameters(cls):
        if name in own and (own[name] or _is_ours(cls, name)):
            found[name] = own[name]
        elif name in CONVENTIONS:
            found[name] = CONVENTIONS[name]
        else:
            found[name] = FACT
    return found


def marked(cls: type | None, mark: str) -> set[str]:
    """Return the names of a class's constructor arguments that have a mark."""
    return {name for name, each in marks(cls).items() if each.get(mark)}


def renamed_to(name: str) -> Marks:
    """Return the mark of a key that has a new name."""
    return {"renamed_to": name}


def instead_of(*names: str) -> Marks:
    """Return the mark of a key that replaces others of an earlier config."""
    return {"instead_of": " ".join(names)}


def with_new_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config in which renamed keys have their new names, so that configs compare equal."""
    renamed = dict(values)
    for section in ("model", "data"):
        part = values.get(section)
        arguments = part.get("init_args") if isinstance(part, Mapping) else None
        if not isinstance(part, Mapping) or not isinstance(arguments, Mapping):
            continue
        arguments = dict(arguments)
        for old, mark in marks(class_of(part)).items():
            new = mark.get("renamed_to")
            if isinstance(new, str) and old in arguments:
                value = arguments.pop(old)
                arguments[new] = arguments.get(new) if value is None else value
        renamed[section] = {**part, "init_args": arguments}
    return renamed


def _is_ours(cls: type, name: str) -> bool:
    """Whether an argument is declared by a class of plcli, whose unmarked fields have no mark."""
    owners = [base for base in cls.__mro__ if name in vars(base).get("__annotations__", {})]
    return bool(owners) and owners[0].__module__.split(".")[0] == "plcli"


def class_of(section: Any) -> type | None:
    """Return the class that a section of a saved config names; None if it names none."""
    from plcli.config.classes import import_class

    path = section.get("class_path") if isinstance(section, Mapping) else None
    return import_class(path, "class_path") if isinstance(path, str) and "." in path else None
