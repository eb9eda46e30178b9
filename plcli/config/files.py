"""Reads config files: YAML, `config:` inheritance, `fit:` blocks and the names of the sections.

jsonargparse parses the merged config. The keys inside the sections are checked in config.checks.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from plcli.config.keys import BLOCKS, INHERITANCE, METHOD_KEYS, PARSER_MODE, SECTIONS
from plcli.config.yaml_core import Loader
from plcli.errors import UsageError, did_you_mean, listed

OWN_CLI = "Keys that a LightningCLI class of your own adds are not known to plcli."
ONLY_TYPED = {  # options that open what a config may do, so that no config can give them
    "allow-import": "--allow-import PACKAGE",
    "allow-write": "--allow-write DIR",
}
MOST_BYTES = 1_000_000  # of a config file
MOST_FILES = 100  # that one config inherits from: files that each inherit twice would never end
MOST_NODES = 100_000  # of a config: far above any real config, far below an alias bomb
DEEPEST = 50  # levels of nesting in a config


@dataclass(frozen=True)
class Fragment:
    """The values of one config file, and its name for messages."""

    source: str
    values: dict[str, Any]


def read(path: str, command: str) -> list[Fragment]:
    """Read a config file and those it inherits from, lowest precedence first.

    Args:
        path: the file.
        command: fit, validate, test or predict; selects the block in a file with such blocks.

    Raises:
        UsageError: if it cannot be read, is not a mapping, or inherits from itself.
    """
    return _read(Path(path), command, seen=(), read=[])


def _read(path: Path, command: str, seen: tuple[Path, ...], read: list[Path]) -> list[Fragment]:
    if path.resolve() in seen:
        raise UsageError(f"{path}: inherits from itself through 'config:'. Remove that line.")
    read.append(path)
    if len(read) > MOST_FILES:
        raise UsageError(
            f"{read[0]}: inherits from more than {MOST_FILES} files, counting a file each time "
            "that it is inherited. Inherit from fewer."
        )
    values = load_yaml(path)
    bases = values.pop("config", None) or []
    if any(name in values for name in BLOCKS):
        block = values.get(command) or {}
        if not isinstance(block, dict):
            raise UsageError(f"{path}: '{command}' is {block!r}, not a mapping of keys.")
        flat = {key: value for key, value in values.items() if key not in BLOCKS}
        values = merge([flat, block])
    check_sections(values, f"{path}: ")
    fragments = []
    if not isinstance(bases, (str, list)) or not all(isinstance(base, str) for base in bases):
        raise UsageError(
            f"{path}: 'config' is {bases!r}, not the name of a config file, or a list of names."
        )
    for base in [bases] if isinstance(bases, str) else bases:
        file = path.parent / base
        _check_exists(file, f"{path}: inherits from {base}: ")
        fragments += _read(file, command, (*seen, path.resolve()), read)
    values = {key: _with_files(key, value, path) for key, value in values.items()}
    values = {key: _with_init_args(key, value) for key, value in values.items()}
    return [*fragments, Fragment(str(path), values)]


def check_sections(values: Mapping[str, Any], where: str) -> None:
    """Check the top-level keys of a config.

    Raises:
        UsageError: for the first unknown one, with the nearest valid name.
    """
    for section in values:
        option = ONLY_TYPED.get(section.replace("_", "-"))
        if option is not None:
            raise UsageError(
                f"{where}{section} is not allowed in a config. "
                f"Give it on the command line: {option}."
            )
        if section in INHERITANCE:
            raise UsageError(
                f"{where}unknown key '{section}'. To inherit from another config, "
                "write `config: FILE`."
            )
        if section not in (*SECTIONS, *METHOD_KEYS, PARSER_MODE):
            near = did_you_mean(section, (*SECTIONS, "config", PARSER_MODE, *BLOCKS))
            raise UsageError(
                f"{where}unknown key '{section}'."
                + (near or f" Valid are {listed(SECTIONS)}. {OWN_CLI}")
            )


# files that are named inside a config

NESTED_FILES = {  # keys whose value may be the name of a file, below each section
    "trainer": ("callbacks", "logger", "plugins", "profiler", "strategy"),
    "model": ("init_args",),
    "data": ("init_args",),
}


def is_file_name(value: Any) -> bool:
    """Whether a value is the name of a config file, by its extension."""
    return isinstance(value, str) and value.endswith((".yaml", ".yml", ".json"))


def read_section(path: Path, key: str, where: str) -> Any:
    """Read the file of a section, such as `trainer: trainer.yaml`.

    Args:
        path: the file.
        key: the section.
        where: the file that names it, for messages.

    Raises:
        UsageError: if it cannot be read.
    """
    _check_exists(path, where)
    section, _, inner = key.partition(".")
    if inner in ("callbacks", "plugins"):  # may be a list
        return _load_any(path)
    return _with_init_args(key, _with_files(section, load_yaml(path), path))


def _with_files(section: str, value: Any, path: Path) -> Any:
    """Replace the names of files in a section with their content."""
    if section in ("model", "data", "trainer", "optimizer", "lr_scheduler") and is_file_name(value):
        return read_section(path.parent / value, section, f"{path}: {section}: ")
    if isinstance(value, dict):
        return {
            key: read_section(path.parent / inner, f"{section}.{key}", f"{path}: {section}.{key}: ")
            if key in NESTED_FILES.get(section, ()) and is_file_name(inner)
            else inner
            for key, inner in value.items()
        }
    return value


def _check_exists(path: Path, where: str) -> None:
    if not path.exists():
        raise UsageError(f"{where}{_no_such_file(path)}")


def load_yaml(path: Path) -> dict[str, Any]:
    """Load one YAML mapping.

    Raises:
        UsageError: if there is no such file, or it is not UTF-8, not YAML or not a mapping.
    """
    values = _load_any(path)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(
            f"{path}: contains a {type(values).__name__}, "
            "not a mapping with keys such as model and data. Write them as `key: value`."
        )
    return values


def _load_any(path: Path) -> Any:
    text = _read_text(path)
    loader = None
    try:
        loader = Loader(text)
        loader.name = str(path)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_NODES:
            raise UsageError(
                f"{path}: contains more than {MOST_NODES:,} values after its aliases are expanded. "
                "Remove its aliases (*name)."
            )
        values = loader.construct_document(node)
    except RecursionError:
        raise UsageError(
            f"{path}: is nested more than {DEEPEST} levels deep. Make it flatter."
        ) from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UsageError(
            f"{path}{line}: is not YAML: {error.problem}.{_remedy(str(error.problem))}"
        ) from None
    except yaml.YAMLError as error:
        problem = str(error).splitlines()[0]
        raise UsageError(f"{path}: is not YAML: {problem}. Remove that character.") from None
    finally:
        if loader is not None:
            loader.dispose()
    return values


def _read_text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(_no_such_file(path)) from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder, not a config file. Name a file.") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}). Name another file.") from None
    if len(content) > MOST_BYTES:
        raise UsageError(
            f"{path}: is larger than {MOST_BYTES:,} bytes, too large for a config. "
            "Is it a data file?"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not UTF-8 (byte {error.start}). Save it as UTF-8.") from None


def _no_such_file(path: Path) -> str:
    folder = path.parent
    near = [str(other) for other in sorted(folder.glob("*.y*ml"))] if folder.is_dir() else []
    return f"{path}: no such config file.{did_you_mean(str(path), near)}"


def _remedy(problem: str) -> str:
    """Return the advice for a problem that PyYAML reports."""
    if "'\\t'" in problem:
        return " Indent with spaces."
    if re.search("constructor for the tag '!?(include|inc|import|extends?|base|config)'", problem):
        return " To inherit from another config, write `config: FILE`."
    if "constructor for the tag" in problem:
        return " Remove the tag; a config contains plain values only."
    return " Correct that line."


def _size(node: yaml.Node, known: dict[int, int], depth: int = 0) -> int:
    """Count the values below a node after alias expansion, without expanding them."""
    if depth > DEEPEST:
        raise RecursionError  # also for an alias that contains itself
    if id(node) not in known:
        children = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        known[id(node)] = 1 + sum(_size(child, known, depth + 1) for child in children)
    return known[id(node)]


def _with_init_args(section: str, value: Any) -> Any:
    """Read `data: {train: x}` in an overlay as `data: {init_args: {train: x}}`."""
    if (
        section in ("model", "data")
        and isinstance(value, dict)
        and not {"class_path", "init_args"} & set(value)
    ):
        return {"init_args": value}
    return value


def merge(fragments: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge mappings; later ones take precedence.

    If a class is replaced, the arguments of the old class are dropped.
    """
    merged: dict[str, Any] = {}
    for values in fragments:
        _merge_into(merged, values)
    return merged


def _merge_into(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    # without a class in the target, its arguments are for the class that is named now
    if {"class_path"} <= values.keys() & target.keys() and (
        values["class_path"] != target["class_path"]
    ):
        target.pop("init_args", None)
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _merge_into(target[key], value)
        elif isinstance(value, Mapping):
            target[key] = {}
            _merge_into(target[key], value)
        else:
            target[key] = value
