"""Config files: read as YAML 1.2 core values, inheritance and `fit:` blocks opened, keys checked.

The parser proper is jsonargparse's. What stands here is what it lets pass or explains badly:
duplicate keys, words such as `no` and `12:30` that YAML 1.1 takes for something else, and misspelt
names: every key is checked against its class.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from plcli.arguments import COMMANDS, SECTIONS
from plcli.errors import UsageError, did_you_mean, listed, suggest


@dataclass(frozen=True)
class Fragment:
    """The values of one config file, and its name for messages."""

    source: str
    values: dict[str, Any]


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2, unique keys only.

    https://yaml.org/spec/1.2.2/#103-core-schema
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping; a key that stands twice is an error."""
        self.flatten_mapping(node)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                key = str(key_node.value)
            if key in mapping:
                raise UsageError(
                    f"{self.name}, line {key_node.start_mark.line + 1}: "
                    f"the key '{key}' stands twice. Keep one of them."
                )
            mapping[key] = self.construct_object(value_node, deep=deep)
        return mapping


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
    )


def read(path: str, command: str) -> list[Fragment]:
    """Read a config file and those it inherits from, lowest precedence first.

    Args:
        path: the file.
        command: fit, validate, test or predict: whose block to open in a file with such blocks.

    Raises:
        UsageError: if it cannot be read, is no mapping, or inherits from itself.
    """
    return _read(Path(path), command, seen=())


def _read(path: Path, command: str, seen: tuple[Path, ...]) -> list[Fragment]:
    if path.resolve() in seen:
        raise UsageError(f"{path}: inherits from itself through 'config:'.")
    values = load_yaml(path)
    bases = values.pop("config", [])
    if any(name in values for name in COMMANDS):
        block = values.get(command) or {}
        values = {key: value for key, value in values.items() if key not in COMMANDS} | dict(block)
    fragments = []
    for base in [bases] if isinstance(bases, str) else bases:
        fragments += _read(path.parent / base, command, (*seen, path.resolve()))
    return [
        *fragments,
        Fragment(str(path), {key: _with_init_args(key, value) for key, value in values.items()}),
    ]


def load_yaml(path: Path) -> dict[str, Any]:
    """Load one YAML mapping.

    Raises:
        UsageError: if there is no such file, or it is not UTF-8, not YAML or not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = (
            [str(other) for other in sorted(path.parent.glob("*.y*ml"))]
            if path.parent.is_dir()
            else []
        )
        raise UsageError(f"{path}: no such config file.{did_you_mean(str(path), near)}") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder, not a config file.") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None
    loader = _Loader(text)
    loader.name = str(path)
    try:
        values = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(f"{path}{line}: is not YAML: {error.problem}.") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: is not YAML: {str(error).splitlines()[0]}.") from None
    finally:
        loader.dispose()
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(
            f"{path}: holds a {type(values).__name__}, "
            "not a mapping with keys such as model and data."
        )
    return values


def _with_init_args(section: str, value: Any) -> Any:
    """Let `data: {train: x}` in an overlay stand for `data: {init_args: {train: x}}`."""
    if (
        section in ("model", "data")
        and isinstance(value, dict)
        and not {"class_path", "init_args"} & set(value)
    ):
        return {"init_args": value}
    return value


def merge(fragments: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge mappings, the later over the earlier.

    Arguments of a class that is replaced are dropped.
    """
    merged: dict[str, Any] = {}
    for values in fragments:
        _merge_into(merged, values)
    return merged


def _merge_into(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    if "class_path" in values and values["class_path"] != target.get("class_path"):
        target.pop("init_args", None)
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge_into(target[key], value)
        elif isinstance(value, Mapping):
            target[key] = {}
            _merge_into(target[key], value)
        else:
            target[key] = value


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
            if inspect.isclass(value) and value.__module__ == module.name:
                found[key] = f"{module.name}.{key}"
    if name not in found:
        raise UsageError(
            f"no task has a class '{name}'.{did_you_mean(name, found)} "
            f"There are: {listed(sorted(found))}."
        )
    return found[name]


def import_class(class_path: str, key: str) -> type:
    """Import a class by its dotted path; `key` says in messages where the path stands.

    Raises:
        UsageError: if there is no such module or class.
    """
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
    for section, value in values.items():
        if section not in SECTIONS:
            raise UsageError(
                f"{where}unknown key '{section}'.{suggest(section, SECTIONS, owner='Valid are')}"
            )
        if section in classes:
            _check_names(classes[section], value, where, section, {})
        elif section in ("model", "data"):
            _check_class(value, merged.get(section), where, section)


def _check_class(value: Any, merged: Any, where: str, key: str) -> None:
    merged = merged if isinstance(merged, Mapping) else {}
    if not isinstance(value, Mapping):
        return
    for name in value:
        if name not in ("class_path", "init_args", "dict_kwargs"):
            raise UsageError(
                f"{where}unknown key '{key}.{name}'."
                f"{did_you_mean(name, ['class_path', 'init_args'])}"
            )
    class_path = value.get("class_path", merged.get("class_path"))
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
            raise UsageError(
                f"{where}unknown key '{key}.{name}'."
                f"{suggest(name, names, owner=f'{cls.__name__} takes')}"
            )
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping) and "class_path" in item:
                _check_class(
                    item, merged.get(name, item) if item is value else item, where, f"{key}.{name}"
                )


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
        cls = None
        done += f".{name}"


def explain(error: str) -> str:
    """Make one message of a parser's error of many lines.

    It says which key, what was got, what is expected.
    """
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', error)))
    key = ".".join(keys) if keys else "the config"
    if missing := re.search(r"the following arguments are required: (.+)", error):
        return (
            f"{key}: '{missing[1].strip()}' is missing. Give it in a config or as "
            f"--{keys[0] if keys else '...'}.{missing[1].strip()}."
        )
    if required := re.search(r'Key "([^"]+)" is required', error):
        return (
            f"'{required[1]}' is missing. "
            f"Give it in a config (--config FILE) or as --{required[1]} VALUE."
        )
    if unknown := re.search(
        r"Option '([^']+)' is not accepted|unrecognized arguments: --([\w.]+)", error
    ):
        name = unknown[1] or unknown[2]
        paths = re.findall(r"class_path='([\w.]+)'|class_path '([\w.]+)'", error)
        names = parameters(import_class("".join(paths[-1]), key)) if paths else {}
        return f"unknown key '{key}.{name}'.{suggest(name.split('.')[0], names, owner='Valid are')}"
    if absent := re.search(r"module '([\w.]+)' has no attribute '(\w+)'", error):
        names = vars(importlib.import_module(absent[1]))
        return f"{key}: '{absent[1]}' has no class '{absent[2]}'.{did_you_mean(absent[2], names)}"
    given = re.findall(r"(?:Given value|Got value): (.+)", error)
    expected = dict.fromkeys(
        re.findall(r"Expected a (?:<class '([\w.]+)'>|typing\.Literal\[(.+)\])", error)
    )
    wanted = " or ".join(
        choices or {"NoneType": "null"}.get(name, name) for name, choices in expected
    )
    if given and wanted:
        first = re.sub(r"\.$|^NestedArg.*val=|\)$", "", given[0])
        return f"{key}: got {first!r}, expected {wanted}."
    return f"{key}: " + " ".join(line.strip() for line in error.splitlines()[:4])[:400]
