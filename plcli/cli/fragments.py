"""The door for config fragments: each is named and its imports are checked where it enters, once.

A fragment is what a config file, a run, an artefact or the command line says. Behind the door class
paths are whole and inside the packages that a config may name; keys are checked when all fragments
are known, as a later file may name the class whose keys an earlier one has.
"""

from collections.abc import Mapping
from typing import Any

from plcli.cli import short_names
from plcli.cli.arguments import Arguments
from plcli.config import allowlist, files, yaml_core
from plcli.config.files import Fragment


def of_arguments(arguments: Arguments) -> list[Fragment]:
    """Return the fragments of a command line's config files, lowest precedence first.

    Its overrides are named and checked in place.

    Raises:
        UsageError: if a file cannot be read, or a class may not be imported or is not known.
    """
    fragments = [
        entered(each.source, each.values)
        for path in arguments.configs
        for each in files.read(path, arguments.command)
    ]
    arguments.overrides = [
        (name := key.removesuffix(".class_path"), _override(name, value))
        for key, value in arguments.overrides
    ]
    return fragments


def entered(source: str, values: Mapping[str, Any]) -> Fragment:
    """Return a fragment whose classes have their whole paths and may be imported.

    Args:
        source: the file's name, for messages.
        values: what it holds.

    Raises:
        UsageError: if a class may not be imported, or is not known.
    """
    named = dict(values)
    for section in ("model", "data"):
        value = named.get(section)
        if isinstance(value, str):
            named[section] = {"class_path": short_names.task_class_path(value)}
        elif isinstance(value, dict) and isinstance(value.get("class_path"), str):
            path = short_names.task_class_path(value["class_path"])
            named[section] = {**value, "class_path": path}
    allowlist.check_all(named, f"{source}: ")
    return Fragment(source, named)


def _override(key: str, value: str) -> str:
    """Return the value of a key of the command line, a class by its whole path."""
    if key in ("model", "data"):
        value = short_names.task_class_path(value)
    elif key.endswith(".optimizer"):
        value = short_names.optimizer_class_path(value)
    if "." in value and (key in ("model", "data") or key.endswith("class_path")):
        allowlist.check(value, f"--{key}")
    else:
        allowlist.check_all(yaml_core.parse_value(value), f"--{key}: ")
    return value
