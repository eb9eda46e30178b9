"""Completes class names without dots: the classes of tasks, and the optimizers of torch."""

import importlib
import inspect
import pkgutil

from plcli.errors import UsageError, did_you_mean, listed


def task_class_path(name: str) -> str:
    """Return the dotted path of a class; a name without dots is looked up among the tasks.

    Raises:
        UsageError: if no task has a class of that name.
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
    if name not in found:
        raise UsageError(
            f"no task has a class '{name}'.{did_you_mean(name, found)} "
            f"There are: {listed(sorted(found))}."
        )
    return found[name]


def optimizer_class_path(name: str) -> str:
    """Return the dotted path of a torch optimizer; other names are returned unchanged.

    Only torch is searched, as other installed packages have optimizers with the same names.
    """
    import torch

    known = "." not in name and inspect.isclass(getattr(torch.optim, name, None))
    return f"torch.optim.{name}" if known else name
