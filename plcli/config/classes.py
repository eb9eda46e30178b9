"""Classes that a config names: found, imported, and every key checked against their constructors.

It stands here because jsonargparse explains misspelt names and wrong classes in fifty lines.
"""

import difflib
import importlib
import inspect
import pkgutil
import re
import typing
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from plcli.config import allowlist
from plcli.config import files as config
from plcli.config.keys import SECTIONS
from plcli.errors import UsageError, did_you_mean, listed, suggest

CLASS_KEYS = ("class_path", "init_args")


def task_class_path(name: str) -> str:
    """Return the dotted path of a class; a name without dots is looked up among the tasks.

    Raises:
        UsageError: if no task has a class of that name.
    """
    if "." in name:
        return name
    tasks = importlib.import_module("plcli.tasks")
    found: dict[str, str] = {}
    for module in pkgutil.iter_modules(tasks.__path__, "plcli.tasks."):
        for key, value in vars(importlib.import_module(module.name)).items():
            own = inspect.isclass(value) and value.__module__ == module.name
            if own and not key.startswith("_"):
                found[key] = f"{module.name}.{key}"
    if name not in found:
        raise UsageError(
            f"no task has a class '{name}'.{did_you_mean(name, found)} "
            f"There are: {listed(sorted(found))}."
        )
    return found[name]


def optimizer_class_path(name: str) -> str:
    """Return the dotted path of an optimizer of torch; other names are left as they are.

    Other packages that are installed have optimizers of the same names.
    """
    import torch

    known = "." not in name and inspect.isclass(getattr(torch.optim, name, None))
    return f"torch.optim.{name}" if known else name


def import_class(class_path: str, key: str) -> type:
    """Import a class by its dotted path; `key` says in messages where the path stands.

    Raises:
        UsageError: if it may not be imported, or there is no such module or class.
    """
    allowlist.check(class_path, key)
    module_name, _, class_name = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name) if module_name else None
    except ModuleNotFoundError as error:
        if error.name and not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there; something that it imports is not
        parent = module_name.rpartition(".")[0]
        near = _modules_below(parent) if parent else []
        raise UsageError(
            f"{key}: no module '{error.name}' for '{class_path}'.{did_you_mean(module_name, near)}"
        ) from None
    value = getattr(module, class_name, None)
    if not callable(value):
        names = (
            [name for name, member in vars(module).items() if inspect.isclass(member)]
            if module
            else []
        )
        raise UsageError(
            f"{key}: '{module_name}' has no class '{class_name}'.{did_you_mean(class_name, names)}"
        )
    if not inspect.isclass(value) and allowlist.is_shipped(class_path):
        raise UsageError(f"{key}: '{class_path}' is a function. Name a class.")
    return value  # type: ignore[no-any-return]  # a class, or a function that makes one


def _modules_below(package: str) -> list[str]:
    try:
        path = getattr(importlib.import_module(package), "__path__", [])
    except ModuleNotFoundError:
        return []
    return [module.name for module in pkgutil.iter_modules(path, f"{package}.")]


def parameters(cls: type) -> dict[str, inspect.Parameter]:
    """Return the constructor's named parameters."""
    signature = inspect.signature(cls)
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if parameter.kind not in kinds
    }


def nested(parameter: inspect.Parameter) -> type | None:
    """Return the dataclass whose fields a parameter's value has; None where it has none."""
    annotation = parameter.annotation
    choices = (annotation, *typing.get_args(annotation))
    return next((each for each in choices if inspect.isclass(each) and is_dataclass(each)), None)


def takes_any(cls: type) -> bool:
    """Whether a constructor takes **kwargs, so that its names cannot be checked here."""
    return any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(cls).parameters.values()
    )


def check_keys(
    values: Mapping[str, Any],
    *,
    merged: Mapping[str, Any],
    source: str,
    classes: Mapping[str, type],
) -> None:
    """Check every key of a config file.

    Args:
        values: the file's values.
        merged: the values of all files, where class paths are found that this file leaves out.
        source: the file's name for messages.
        classes: the fixed classes of sections such as trainer.

    Raises:
        UsageError: for the first unknown key or class, with the nearest valid name.
    """
    where = f"{source}: " if source else ""
    config.check_sections(values, where)
    for section, value in values.items():
        if section in classes and not isinstance(value, Mapping):
            raise UsageError(f"{where}{section}: got '{value}', expected a mapping of keys.")
        if section in classes:
            _check_names(classes[section], value, where, section, {})
        elif section in ("model", "data"):
            _check_class(value, merged.get(section), where, section)


def _check_class(value: Any, merged: Any, where: str, key: str) -> None:
    merged = merged if isinstance(merged, Mapping) else {}
    if not isinstance(value, Mapping):
        return
    for name in value:
        if name not in (*CLASS_KEYS, "dict_kwargs"):
            near = suggest(name, CLASS_KEYS, owner="Valid are")
            raise UsageError(f"{where}unknown key '{key}.{name}'.{near}")
    class_path = value.get("class_path", merged.get("class_path"))
    if class_path is None and isinstance(value.get("init_args"), Mapping):
        for name in value["init_args"]:
            if near := did_you_mean(name, ["class_path"]):
                raise UsageError(f"{where}unknown key '{key}.{name}'.{near}")
    if isinstance(class_path, str) and "." in class_path:
        cls = import_class(class_path, f"{where}{key}.class_path")
        _check_names(
            cls, value.get("init_args"), where, f"{key}.init_args", merged.get("init_args")
        )


def _check_names(cls: type, values: Any, where: str, key: str, merged: Any) -> None:
    if not isinstance(values, Mapping):
        return
    merged = merged if isinstance(merged, Mapping) else {}
    names = parameters(cls)
    for name, value in values.items():
        if name.rstrip("+") not in names and not takes_any(cls):
            around = CLASS_KEYS if key in ("model.init_args", "data.init_args") else ()
            near = did_you_mean(name, (*names, *around))
            raise UsageError(
                f"{where}unknown key '{key}.{name}'."
                f"{near or suggest(name, names, owner=f'{cls.__name__} takes')}"
            )
        inner = nested(names[name]) if name in names else None
        if inner is not None:
            _check_names(inner, value, where, f"{key}.{name}", merged.get(name))
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping) and any(_names_class(name) for name in item):
                _check_class(
                    item, merged.get(name, item) if item is value else item, where, f"{key}.{name}"
                )


def _names_class(key: str) -> bool:
    """Whether a key is `class_path` or `init_args`, or nearly so."""
    return bool(difflib.get_close_matches(key, CLASS_KEYS, cutoff=0.8))


def check_all(values: Any) -> None:
    """Check every class of a parsed config, as deep as it stands, before one is made.

    Raises:
        UsageError: if one is none, or may not be imported.
    """
    for key, path in allowlist.class_paths(values):
        if isinstance(path, str) and "." in path:
            import_class(path, key)


def check_pair(merged: Mapping[str, Any]) -> None:
    """Check that model and data are for one task, as far as their classes say which.

    Raises:
        UsageError: if they are not, with the data class that fits the model.
    """
    classes = {
        section: import_class(value["class_path"], f"{section}.class_path")
        for section, value in merged.items()
        if section in ("model", "data")
        and isinstance(value, Mapping)
        and "." in str(value.get("class_path"))
    }
    asked, given = (getattr(classes.get(section), "task", None) for section in ("model", "data"))
    if asked is None or given is None or asked == given:
        return
    model, data = classes["model"], classes["data"]
    fitting = [
        name
        for name, value in vars(importlib.import_module(model.__module__)).items()
        if inspect.isclass(value) and value.__module__ == model.__module__ and value is not model
        if getattr(value, "task", None) == asked
    ]
    use = f" Use data.class_path {model.__module__}.{fitting[0]}." if fitting else ""
    raise UsageError(
        f"{model.__name__} is for {asked}, but {data.__name__} gives data for {given}.{use}"
    )


def check_override(key: str, *, merged: Mapping[str, Any], classes: Mapping[str, type]) -> None:
    """Check a dotted key from the command line or the environment.

    Raises:
        UsageError: for an unknown name, with the nearest valid one.
    """
    section, *path = key.rstrip("+").split(".")
    if section not in SECTIONS:
        raise UsageError(f"unknown key '{key}'.{did_you_mean(section, SECTIONS)}")
    node: Any = merged.get(section)
    cls = classes.get(section)
    done = section
    for name in path:
        if cls is None and isinstance(node, Mapping) and isinstance(node.get("class_path"), str):
            if name in ("class_path", "init_args", "dict_kwargs"):
                done += f".{name}"
                continue
            cls = (
                import_class(node["class_path"], f"{section}.class_path")
                if "." in node["class_path"]
                else None
            )
            node = node.get("init_args")
        if cls is None or takes_any(cls):
            return
        names = parameters(cls)
        if name not in names:
            raise UsageError(
                f"unknown key '--{done}.{name}'."
                f"{suggest(name, names, owner=f'{cls.__name__} takes')}"
            )
        node = node.get(name) if isinstance(node, Mapping) else None
        cls = nested(names[name])
        done += f".{name}"


def explain(error: str) -> str:
    """Make one message of a parser's many lines: which key, what was got, what is wanted.

    Raises:
        UsageError: for what may not be imported; its message stands elsewhere.
    """
    blocks = re.split(r'Parser key "([^"]+)"', error)
    keys = list(dict.fromkeys(blocks[1::2]))
    key = ".".join(keys) if keys else "the config"
    if denied := re.search(r"Importing '([\w.]+)' is not allowed", error):
        allowlist.check(denied[1], key)
    if required := re.search(r'Key "([^"]+)" is required', error):
        name = required[1].split(".", 1)[-1]
        return f"'{name}' is missing. Give it in a config (--config FILE) or as --{name} VALUE."
    if missing := re.search(r"the following arguments are required: (.+)", error):
        return f"{key}: '{missing[1].strip()}' is missing. Give it in a config, below {key}."
    if unknown := re.search(
        r"Option '([^']+)' is not accepted|unrecognized arguments: --([\w.]+)", error
    ):
        return _unknown_option(unknown[1] or unknown[2], key, error)
    if absent := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", error):
        names = vars(importlib.import_module(absent[1]))
        return f"{key}: '{absent[1]}' has no class '{absent[2]}'.{did_you_mean(absent[2], names)}"
    return _wrong_type(key, blocks[-1], error)


def _unknown_option(name: str, key: str, error: str) -> str:
    paths = re.findall(r"class_path='([\w.]+)'|class_path '([\w.]+)'", error)
    names = parameters(import_class("".join(paths[-1]), key)) if paths else {}
    return f"unknown key '{key}.{name}'.{suggest(name.split('.')[0], names, owner='Valid are')}"


def _wrong_type(key: str, block: str, error: str) -> str:
    """Explain the innermost value that is of a wrong type; block is what is said of it."""
    given = re.search(r"(?:Given value|Got value|Unable to load config|path but): ?(.+)", error)
    inner = re.search(r"(?s)(.*?)(?:Given value|Got value): (.+?)(?:\. Got value|\n|$)", block)
    if inner is not None:
        given, block = inner, inner[1]
    value = re.sub(
        r"^NestedArg.*val='?|'?\)$|^'|'$", "", given[given.lastindex or 0] if given else ""
    )
    value = value.split(" - Parser key")[0].strip()
    names = {"NoneType": "null", "str": "text"}
    found = re.findall(
        r"Expected (?:a )?(?:<class '(?:[\w.]*\.)?(\w+)'>|typing\.Literal\[(.+)\])", block
    )
    wanted = dict.fromkeys(choices or names.get(name, name) for name, choices in found)
    if not set(wanted) - {"null"} and re.search(r"dot import path|subclass of", block):
        example = (
            ", such as torch.optim.AdamW" if "optim" in key else " of the kind that belongs here"
        )
        wanted = {f"a class{example}": None}
        kinds = re.findall(r"Subtypes: .*?<class '(plcli\.[\w.]+)'>", block)
        if kinds and is_dataclass(cls := import_class(kinds[-1], key)):
            wanted = {f"a mapping, such as {_example(cls)}": None}
    if "Unable to load config" in error:
        wanted = {"a mapping of keys": None}
        value = "".join(re.findall(r"Unable to load config ['\"](.*?)['\"]", error)[:1])
    if wanted:
        return f"{key}: got '{value}', expected {' or '.join(wanted)}."
    return f"{key}: " + " ".join(line.strip() for line in error.splitlines()[1:4])[:300]


def _example(cls: type) -> str:
    """Return a mapping that gives a dataclass, with the default of its first field."""
    name, parameter = next(iter(parameters(cls).items()))
    return f"{{{name}: {parameter.default}}}"
