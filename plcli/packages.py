"""Packages that only some tasks and options need."""

import importlib
from typing import Any

from plcli.errors import MachineError


def need(module: str, *, extra: str, purpose: str) -> Any:
    """Import a package that is not always installed.

    Args:
        module: its name, as it is imported.
        extra: the extra of plcli that brings it.
        purpose: what needs it: a key of a config, or a task.

    Raises:
        MachineError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise  # it is installed; something that it imports is not
        raise MachineError(
            f"{purpose}: needs the package {error.name}, which is not installed. "
            f"Install it: pip install 'plcli[{extra}]'."
        ) from None
