"""The entry point for config fragments: class names are completed and checked here, once.

A fragment has the values of a config file, a run, an artefact or the command line. After this step
class paths are complete and inside the packages that a config may name, files that a section names
are read, and arguments of the Trainer's methods are options of the command. Keys are checked once
all fragments are known, as a later file may name the class for the keys of an earlier one.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plcli.cli import short_names
from plcli.cli.arguments import Arguments
from plcli.config import allowlist, files, interpolation, yaml_core
from plcli.config.files import Fragment
from plcli.config.keys import METHOD_KEYS, PARSER_MODE

logger = logging.getLogger(__name__)

USED = {"weights_only": ("true", "null"), "verbose": ("true",)}  # values that change nothing
INSTEAD = {
    "weights_only": "checkpoints are always loaded with weights_only=True",
    "verbose": "results are printed as a table",
    "return_predictions": "predictions are written to a file or printed",
}
FILE_SECTIONS = ("model", "data", "trainer", "optimizer", "lr_scheduler")


def of_arguments(arguments: Arguments) -> list[Fragment]:
    """Return the fragments of the config files of a command line, lowest precedence first.

    The overrides of the command line are completed and checked in place.

    Raises:
        UsageError: if a file cannot be read, or a class is unknown or may not be imported.
    """
    fragments = [
        fragment for path in arguments.configs for fragment in files.read(path, arguments.command)
    ]
    fragments += _of_files_in_overrides(arguments)
    typed = arguments.options.get(PARSER_MODE)
    on = interpolation.is_on(fragments, typed)
    _take_method_arguments(fragments, arguments)
    fragments, arguments.overrides = interpolation.resolve(
        fragments, arguments.overrides, on=on, trusted=typed is not None
    )
    entered_fragments = [entered(fragment.source, fragment.values) for fragment in fragments]
    arguments.overrides = [
        (name := key.removesuffix(".class_path"), _override(name, value))
        for key, value in arguments.overrides
    ]
    return [*_class_first(entered_fragments, arguments), *entered_fragments]


def entered(source: str, values: Mapping[str, Any]) -> Fragment:
    """Return a fragment with complete class paths that may be imported.

    Args:
        source: the name of the file, for messages.
        values: the values.

    Raises:
        UsageError: if a class is unknown or may not be imported.
    """
    named = {key: _with_class_path(key, value) for key, value in values.items()}
    allowlist.check_all(named, f"{source}: ")
    return Fragment(source, named)


def _with_class_path(section: str, value: Any) -> Any:
    """Complete the class names in a section."""
    complete = {
        "model": short_names.task_class_path,
        "data": short_names.task_class_path,
        "optimizer": short_names.optimizer_class_path,
        "lr_scheduler": short_names.scheduler_class_path,
    }.get(section)
    if complete is None:
        return _with_class_paths_inside(value)
    if isinstance(value, str):
        return {"class_path": complete(value)}
    if not isinstance(value, dict):
        return value
    inside = {key: _with_class_paths_inside(inner) for key, inner in value.items()}
    name = value.get("class_path")
    return {**inside, "class_path": complete(name)} if isinstance(name, str) else inside


def _with_class_paths_inside(value: Any) -> Any:
    """Complete the names of classes in allowed packages, at any depth."""
    if isinstance(value, dict):
        return {
            key: short_names.other_class_path(inner)
            if key == "class_path" and isinstance(inner, str)
            else _with_class_paths_inside(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_with_class_paths_inside(inner) for inner in value]
    return value


def _override(key: str, value: str) -> str:
    """Return the value of an override, with a class name completed to its dotted path."""
    if key in ("model", "data"):
        value = short_names.task_class_path(value)
    elif key == "lr_scheduler":
        value = short_names.scheduler_class_path(value)
    elif key == "optimizer" or key.endswith(".optimizer"):
        value = short_names.optimizer_class_path(value)
    elif key.rstrip("+") in ("trainer.callbacks", "trainer.logger"):
        value = short_names.other_class_path(value)
    if "." in value and (key in ("model", "data") or key.endswith("class_path")):
        allowlist.check(value, f"--{key}")
    else:
        allowlist.check_all(yaml_core.parse_value(value), f"--{key}: ")
    return value


def _of_files_in_overrides(arguments: Arguments) -> list[Fragment]:
    """Take overrides such as `--model model.yaml` out, and return the content of the files."""
    found = []
    for key, value in list(arguments.overrides):
        if key in FILE_SECTIONS and files.is_file_name(value):
            arguments.overrides.remove((key, value))
            values = files.read_section(Path(value), key, f"--{key}: ")
            found.append(Fragment(value, {key: values}))
    return found


def _take_method_arguments(fragments: list[Fragment], arguments: Arguments) -> None:
    """Take the arguments of the Trainer's methods out of fragments, as options of the command."""
    given = [(f"--{key}", key, arguments.options.pop(key, None)) for key in METHOD_KEYS]
    for fragment in reversed(fragments):
        fragment.values.pop(PARSER_MODE, None)
        given += [
            (f"{fragment.source}: {key}", key, fragment.values.pop(key, None))
            for key in METHOD_KEYS
        ]
    for source, key, value in given:
        if value is None:
            continue
        if key == "ckpt_path":
            arguments.options.setdefault("ckpt_path", str(value))
        elif str(value).lower() not in USED.get(key, ()):
            logger.info("%s: is not used; %s", source, INSTEAD[key])


def _class_first(fragments: list[Fragment], arguments: Arguments) -> list[Fragment]:
    """Return a fragment with the class of sections whose arguments come before their class.

    A config of a LightningCLI with a bound class has arguments only; `--model CLASS` names it.
    """
    first: dict[str, Any] = {}
    for section in ("model", "data"):
        parts = [
            fragment.values[section]
            for fragment in fragments
            if isinstance(fragment.values.get(section), dict)
        ]
        if not parts or "class_path" in parts[0]:
            continue
        named = [part["class_path"] for part in parts if "class_path" in part]
        typed = [value for key, value in arguments.overrides if key == section]
        if named or typed:
            first[section] = {"class_path": (named or typed)[0]}
    return [Fragment("", first)] if first else []
