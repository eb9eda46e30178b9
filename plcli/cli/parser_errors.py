"""Reduces an error of jsonargparse to one message: the key, the value and what is expected."""

import importlib
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from plcli.cli import resolving
from plcli.config import allowlist
from plcli.config.classes import import_class, nested, parameters
from plcli.config.keys import SECTIONS
from plcli.errors import did_you_mean, suggest

NAMES = {  # of Python's types, as a user of YAML knows them
    "NoneType": "null",
    "str": "text",
    "dict": "mapping",
    "tuple": "list",
    "Iterable": "list",
}
BASES = ("Optimizer", "Callback", "Logger")  # what an error names if a config names no class
INTERNAL = re.compile(r"Namespace\(|<|object at 0x|Does not validate|Subtypes|jsonargparse")


def explain(error: str) -> str:
    """Return one message for an error of the parser: the key, the value and what is expected.

    Args:
        error: the text of the error, which has many lines.

    Raises:
        UsageError: if a class may not be imported.
    """
    blocks = re.split(r'Parser key "([^"]+)"', error)
    keys = list(dict.fromkeys(blocks[1::2]))
    key = ".".join(keys) if keys else "the config"
    if denied := re.search(r"Importing '([\w.]+)' is not allowed", error):
        allowlist.check(denied[1], key)
    if refused := re.search(rf"{resolving.REFUSED}: (.+)", error):
        return f"{key}: {refused[1].strip()}"
    if required := re.search(r'Key "([^"]+)" is required', error):
        name = required[1].split(".", 1)[-1]
        return f"'{name}' is missing. Set it in a config (--config FILE) or with --{name} VALUE."
    if missing := re.search(r"the following arguments are required: (.+)", error):
        name = re.split(r"\. | Got value|Namespace", missing[1])[0].strip(" .")
        linked = (
            " If a LightningCLI of yours links it to the data, return it from the data module: "
            f"`def facts(self): return {{'{name}': ...}}`."
            if key == "model"
            else ""
        )
        return f"{key}: '{name}' is missing. Set it in a config, under {key}.{linked}"
    if unknown := re.search(
        r"Option '([^']+)' is not accepted|unrecognized arguments: --([\w.]+)", error
    ):
        return _unknown_option(unknown[1] or unknown[2], key, error)
    if absent := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", error):
        names = vars(importlib.import_module(absent[1]))
        return f"{key}: '{absent[1]}' has no class '{absent[2]}'.{did_you_mean(absent[2], names)}"
    return _wrong_type(key, blocks[-1], error)


def _unknown_option(name: str, key: str, error: str) -> str:
    if key == "the config":
        if name.startswith("lr_scheduler"):
            return (
                "lr_scheduler: needs a section optimizer, whose learning rate it changes. Add "
                "one, such as `optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.001}}`."
            )
        return f"unknown key '{name}'.{suggest(name, SECTIONS, owner='Valid are')}"
    paths = re.findall(r"class_path='([\w.]+)'|class_path '([\w.]+)'", error)
    cls = import_class("".join(paths[-1]), key) if paths else None
    if cls is None or cls.__name__ in BASES:
        such = " such as torch.optim.AdamW" if "optim" in key else " with the name of the class"
        return f"{key}: has arguments ({name}), but no class_path. Add one,{such}."
    names = parameters(cls)
    first, _, rest = name.partition(".")
    if rest and first in names and nested(names[first]) is None:
        key, name = f"{key}.{first}", rest
    if key.rpartition(".")[2] in names:
        return f"{key}: got a mapping with the key '{name}', expected a single value."
    return f"unknown key '{key}.{name}'.{suggest(first, names, owner='Valid keys are')}"


def _wrong_type(key: str, block: str, error: str) -> str:
    """Explain the innermost value that has a wrong type.

    Args:
        key: the key of the value.
        block: the part of the error about that key.
        error: the whole text of the error.
    """
    given = re.search(r"(?:Given value|Got value|Unable to load config|path but): ?(.+)", error)
    inner = re.search(r"(?s)(.*?)(?:Given value|Got value): (.+?)(?:\. Got value|\n|$)", block)
    if inner is not None:
        given, block = inner, inner[1]
    value = re.sub(
        r"^NestedArg.*val='?|'?\)$|^'|'$", "", given[given.lastindex or 0] if given else ""
    )
    value = value.split(" - Parser key")[0].strip()
    deeper = [
        (name, got)
        for name, got in re.findall(
            r"Expected a <class '(?:[\w.]*\.)?(\w+)'>\. Got value: (.+)", error
        )
        if got != value and value.startswith(("{", "[")) and got in value
    ]
    if deeper:
        name, got = deeper[-1]
        return f"{key}: got '{got}' in {value:.80}, expected {NAMES.get(name, name)}."
    found = re.findall(
        r"Expected (?:a )?(?:<class '(?:[\w.]*\.)?(\w+)'>|typing\.Literal\[(.+)\])", block
    )
    wanted = dict.fromkeys(choices or NAMES.get(name, name) for name, choices in found)
    if not set(wanted) - {"null"} and re.search(r"dot import path|subclass of", block):
        example = ", such as torch.optim.AdamW" if "optim" in key else " of a suitable type"
        wanted = {f"a class{example}": None}
        kinds = re.findall(r"Subtypes: .*?<class '(plcli\.[\w.]+)'>", block)
        if kinds and is_dataclass(cls := import_class(kinds[-1], key)):
            wanted = {f"a mapping, such as {_example(cls)}": None}
    if "Unable to load config" in error:
        wanted = {"a mapping of keys": None}
        value = "".join(re.findall(r"Unable to load config ['\"](.*?)['\"]", error)[:1])
    if set(wanted) == {"null"}:
        wanted = {"a mapping of keys": None}
    if wanted:
        quotes = f' Write it in quotes: "{value}".' if _is_plain(value, wanted) else ""
        return f"{key}: got '{value}', expected {' or '.join(wanted)}.{quotes}"
    lines = [line.strip() for line in error.splitlines()[1:]]
    told = next((line for line in lines if line and not INTERNAL.search(line)), "")
    return f"{key}: {told[:300] or 'is not valid. Check its value.'}"


def _is_plain(value: str, wanted: Mapping[str, Any]) -> bool:
    """Whether text is wanted, and a value would be text if it were not read as YAML."""
    return "text" in wanted and re.fullmatch(r"[-+\w.]+", value) is not None


def _example(cls: type) -> str:
    """Return an example mapping for a dataclass: its first field with the default."""
    name, parameter = next(iter(parameters(cls).items()))
    return f"{{{name}: {parameter.default}}}"
