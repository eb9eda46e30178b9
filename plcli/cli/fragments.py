"""The entry point for config fragments: class names are completed and checked here, once.

A fragment has the values of a config file, a run, an artefact or the command line. After this step
class paths are complete and inside the packages that a config may name. Keys are checked once all
fragments are known, as a later file may name the class for the keys of an earlier one.
"""

from collections.abc import Mapping
from typing import Any

from plcli.cli import short_names
from plcli.cli.arguments import Arguments
from plcli.config import allowlist, files, yaml_core
from plcli.config.files import Fragment


def of_arguments(arguments: Arguments) -> list[Fragment]:
    """Return the fragments of the config files of a command line, lowest precedence first.

    The overrides of the command line are completed and checked in place.

    Raises:
        UsageError: if a file cannot be read, or a class is unknown or may not be imported.
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
    """Return a fragment with complete class paths that may be imported.

    Args:
        source: the name of the file, for messages.
        values: the values.

    Raises:
        UsageError: if a class is unknown or may not be imported.
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
    """Return the value of an override, with a class name completed to its dotted path."""
    if key in ("model", "data"):
        value = short_names.task_class_path(value)
    elif key.endswith(".optimizer"):
        value = short_names.optimizer_class_path(value)
    if "." in value and (key in ("model", "data") or key.endswith("class_path")):
        allowlist.check(value, f"--{key}")
    else:
        allowlist.check_all(yaml_core.parse_value(value), f"--{key}: ")
    return value
