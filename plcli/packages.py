"""Installed packages: those that only some tasks and options need, and files inside of them."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from plcli.errors import DataError, MachineError


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


def package_path(name: str) -> Path:
    """Return the path of `package:NAME/PATH` inside an installed package, which is not imported.

    Raises:
        DataError: if the package or the path is not there.
    """
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{name}: no package '{package}' is installed. Install it with pip.")
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.exists():
        raise DataError(f"{name}: the package '{package}' holds no '{inside}'. Check the path.")
    return path
