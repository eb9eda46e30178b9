"""Optional packages that only some tasks and options need, and files inside of packages."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from plcli.errors import DataError, MachineError

POINTER = b"version https://git-lfs"
POINTER_BYTES = 1024  # a pointer is smaller


def need(module: str, *, extra: str, purpose: str) -> Any:
    """Import an optional package.

    Args:
        module: the name of the module to import.
        extra: the extra of plcli that installs it.
        purpose: what needs it, such as a config key or a task, for the message.

    Raises:
        MachineError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise  # it is installed, but one of its own imports is not
        raise MachineError(
            f"{purpose}: needs the package {error.name}, which is not installed. "
            f"Install it: pip install 'plcli[{extra}]'."
        ) from None


def package_path(name: str) -> Path:
    """Return the path of `package:NAME/PATH` in an installed package, without importing it.

    Raises:
        DataError: if the package or the path does not exist.
    """
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{name}: no package '{package}' is installed. Install it with pip.")
    path = Path(next(iter(spec.submodule_search_locations))) / inside
    if not path.exists():
        raise DataError(f"{name}: the package '{package}' has no '{inside}'. Check the path.")
    return path


def not_fetched(path: Path) -> str | None:
    """Return a message for a file of a Git repository that has not been fetched; None if it has.

    It is a pointer: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
    """
    if not path.is_file() or path.stat().st_size > POINTER_BYTES:
        return None
    with open(path, "rb") as file:
        if file.read(len(POINTER)) != POINTER:
            return None
    return (
        f"{path}: is a pointer of Git LFS, not the file itself. Fetch it with `git lfs pull`, or "
        "download it."
    )
