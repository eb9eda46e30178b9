"""Completes class names without dots: classes of tasks, of torch, and of allowed packages."""

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Iterable
from pathlib import Path

from plcli.config import allowlist
from plcli.errors import UsageError, did_you_mean, listed

PLATEAU = "lightning.pytorch.cli.ReduceLROnPlateau"  # torch's own has no metric to monitor


def task_class_path(name: str) -> str:
    """Return the dotted path of a model or data class.

    A name without dots is looked up among the tasks, then in the packages that --allow-import
    names.

    Raises:
        UsageError: if there is no class of that name, or several.
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
    if name in found:
        return found[name]
    users = classes_of(allowlist.added())
    if name in users:
        return _one(name, users[name])
    imported = imported_by(allowlist.added())
    if name in imported:
        return imported[name][0]
    where = "no task has a class" if not users else "no task or allowed package has a class"
    raise UsageError(
        f"{where} '{name}'.{did_you_mean(name, [*found, *users])} "
        f"There are: {listed(sorted([*users, *found]))}."
    )


def other_class_path(name: str) -> str:
    """Return the dotted path of a class in an allowed package; other names are returned unchanged.

    A path in pytorch_lightning becomes that of the same class in lightning.

    Raises:
        UsageError: if several modules have a class of that name.
    """
    if name.startswith("pytorch_lightning."):
        return f"lightning.pytorch.{name.removeprefix('pytorch_lightning.')}"
    if "." in name or not allowlist.added():
        return name
    packages = allowlist.added()
    if name in (defined := classes_of(packages)):
        return _one(name, defined[name])
    return imported_by(packages).get(name, [name])[0]


def optimizer_class_path(name: str) -> str:
    """Return the dotted path of an optimizer of torch, or of an allowed package.

    Other packages are not searched, as they have optimizers with the same names.
    """
    import torch

    known = "." not in name and inspect.isclass(getattr(torch.optim, name, None))
    return f"torch.optim.{name}" if known else other_class_path(name)


def scheduler_class_path(name: str) -> str:
    """Return the dotted path of a learning rate schedule of torch, or of an allowed package."""
    import torch

    if name.rpartition(".")[2] == "ReduceLROnPlateau":
        return PLATEAU
    known = "." not in name and inspect.isclass(getattr(torch.optim.lr_scheduler, name, None))
    return f"torch.optim.lr_scheduler.{name}" if known else other_class_path(name)


def _one(name: str, paths: list[str]) -> str:
    if len(paths) > 1:
        raise UsageError(f"'{name}' is the name of several classes: {', '.join(paths)}. Name one.")
    return paths[0]


@functools.cache
def classes_of(packages: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the paths of the classes in some packages by name; their code is read, not run."""
    return _found(packages, _classes_in)


@functools.cache
def imported_by(packages: tuple[str, ...]) -> dict[str, list[str]]:
    """Return the paths of what some packages import by name from others."""
    return _found(packages, _imports_in)


def _found(
    packages: tuple[str, ...], names: Callable[[ast.Module], list[str]]
) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for package in packages:
        for module, file in _files_of(package):
            try:
                tree = ast.parse(file.read_bytes())
            except (OSError, SyntaxError, ValueError):
                continue
            for name in names(tree):
                found.setdefault(name, []).append(f"{module}.{name}")
    return found


def _files_of(package: str) -> Iterable[tuple[str, Path]]:
    """Yield the modules of a package by dotted name, with their files."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return
    if spec is None:
        return
    if spec.submodule_search_locations is None:
        if spec.origin and spec.origin.endswith(".py"):
            yield package, Path(spec.origin)
        return
    for folder in map(Path, spec.submodule_search_locations):
        for file in sorted(folder.rglob("*.py")):
            parts = file.relative_to(folder).with_suffix("").parts
            named = [part for part in parts if part != "__init__"]
            if all(part.isidentifier() for part in named):
                yield ".".join([package, *named]), file


def _classes_in(tree: ast.Module) -> list[str]:
    """Return the names of the classes that a module defines."""
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def _imports_in(tree: ast.Module) -> list[str]:
    """Return the names that a module imports from others."""
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return [alias.asname or alias.name for node in imports for alias in node.names]
