"""Imports the classes that a config names, and reads the parameters of their constructors."""

import importlib
import inspect
import pkgutil
import sys
import typing
from dataclasses import is_dataclass

from plcli.config import allowlist
from plcli.errors import UsageError, did_you_mean

OTHER_PACKAGES = ("pytorch_lightning", "lightning_fabric")  # the same code in other packages


def import_class(class_path: str, key: str) -> type:
    """Import a class by its dotted path.

    Args:
        class_path: the dotted path.
        key: the key that contains it, for messages.

    Raises:
        UsageError: if it may not be imported, or there is no such module or class.
    """
    allowlist.check(class_path, key)
    module_name, _, class_name = class_path.rpartition(".")
    try:
        module = importlib.import_module(module_name) if module_name else None
    except ModuleNotFoundError as error:
        if error.name and not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists, but something that it imports does not
        parent = module_name.rpartition(".")[0]
        near = _modules_below(parent) if parent else []
        raise UsageError(
            f"{key}: no module '{error.name}' for '{class_path}'."
            f"{did_you_mean(module_name, near) or ' Check its name, or install its package.'}"
        ) from None
    value = getattr(module, class_name, None)
    if not callable(value):
        names = (
            [name for name, member in vars(module).items() if inspect.isclass(member)]
            if module
            else []
        )
        raise UsageError(
            f"{key}: '{module_name}' has no class '{class_name}'."
            f"{did_you_mean(class_name, names) or ' Check its name.'}"
        )
    root = (getattr(value, "__module__", None) or "").split(".")[0]
    if root in sys.stdlib_module_names and root != class_path.split(".")[0]:
        raise UsageError(
            f"{key}: '{class_path}' is {value.__module__}.{class_name} of Python itself, which may "
            "not be named in a config. Name another class."
        )
    bases = value.__mro__ if inspect.isclass(value) else ()
    if any(base.__module__.split(".")[0] in OTHER_PACKAGES for base in bases):
        raise UsageError(
            f"{key}: '{class_path}' is written on {OTHER_PACKAGES[0]}, whose classes are not those "
            "of the package lightning. Use `import lightning.pytorch as pl` in its module."
        )
    if not inspect.isclass(value) and allowlist.is_restricted(class_path):
        raise UsageError(f"{key}: '{class_path}' is a function. Name a class.")
    allowlist.check_found(class_path, value, key)
    return value  # type: ignore[no-any-return]  # a class, or a function that returns one


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


def nested(parameter: inspect.Parameter) -> type | None:
    """Return the dataclass in a parameter's annotation; None if there is none."""
    annotation = parameter.annotation
    choices = (annotation, *typing.get_args(annotation))
    return next((each for each in choices if inspect.isclass(each) and is_dataclass(each)), None)


def takes_any(cls: type) -> bool:
    """Whether a constructor takes **kwargs, so that names cannot be checked here."""
    return any(
        p.kind is inspect.Parameter.VAR_KEYWORD for p in inspect.signature(cls).parameters.values()
    )
