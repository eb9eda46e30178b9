"""Config files: read as YAML 1.2 core values, inheritance and `fit:` blocks opened, keys checked.

The parser proper is jsonargparse's. What stands here is what it lets pass or explains badly:
duplicate keys, words such as `no` and `12:30` that YAML 1.1 takes for something else, and misspelt
names: every key is checked against its class.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from plcli.arguments import COMMANDS
from plcli.errors import UsageError, did_you_mean

MOST_NODES = 100_000  # of a config: far more than anybody writes, far less than an alias bomb


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
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise UsageError(
                    f"{self.name}, line {key_node.start_mark.line + 1}: "
                    f"the key '{key_node.value}' stands twice. Keep one of them."
                )
            seen.add(key_node.value)
        self.flatten_mapping(node)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            name = key if isinstance(key, str) else str(key_node.value)
            mapping[name] = self.construct_object(value_node, deep=deep)
        return mapping


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what _Loader would take for something else than text."""


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
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
        )


def parse_value(text: str) -> Any:
    """Parse a value of the command line as a config file's value is."""
    return yaml.load(text, Loader=_Loader)  # a SafeLoader


def resolvers() -> dict[str, Any]:
    """Return PyYAML's table of patterns that stand for something else than text."""
    return _Loader.yaml_implicit_resolvers


def dump(values: Mapping[str, Any]) -> str:
    """Write values as YAML that `load_yaml` reads back equal."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


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
        if not isinstance(block, dict):
            raise UsageError(f"{path}: '{command}' holds {block!r}, not a mapping of keys.")
        flat = {key: value for key, value in values.items() if key not in COMMANDS}
        values = merge([flat, block])
    fragments = []
    if not isinstance(bases, (str, list)) or not all(isinstance(base, str) for base in bases):
        raise UsageError(f"{path}: 'config' holds {bases!r}, not the name of a config file.")
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
    if _nodes(values, most=MOST_NODES) >= MOST_NODES:
        raise UsageError(f"{path}: holds {MOST_NODES:,} values or more, aliases counted out.")
    if not isinstance(values, dict):
        raise UsageError(
            f"{path}: holds a {type(values).__name__}, "
            "not a mapping with keys such as model and data."
        )
    return values


def _nodes(value: Any, *, most: int) -> int:
    """Count the values in a tree, up to a number; shared parts count every time."""
    count = 1
    children = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    )
    for child in children:
        if count >= most:
            break
        count += _nodes(child, most=most - count)
    return count


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
