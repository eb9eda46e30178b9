"""What a config, an artefact or an environment variable may name to be imported, and what not.

A config may come from a stranger, so that its class paths are checked before anything is imported:
they have to stand in a few packages, and outside their parts that load or run code. More packages
are let in by `--allow-import` on the command line alone.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plcli.errors import UsageError, did_you_mean

PACKAGES = ("plcli", "lightning", "torch", "torchmetrics", "transformers")
DENIED = (  # parts of them that run commands, load code or unpickle, and hold nothing to train with
    "lightning.app",
    "lightning.data",
    "lightning.fabric.cli",
    "lightning.pytorch.callbacks.LambdaCallback",
    "lightning.pytorch.callbacks.lambda_function",
    "lightning.pytorch.cli",
    "torch.classes",
    "torch.compile",
    "torch.distributed.elastic",
    "torch.distributed.launch",
    "torch.distributed.run",
    "torch.export",
    "torch.hub",
    "torch.jit",
    "torch.load",
    "torch.multiprocessing",
    "torch.ops",
    "torch.package",
    "torch.save",
    "torch.serialization",
    "torch.testing",
    "torch.utils.bottleneck",
    "torch.utils.cpp_extension",
    "torch.utils.model_zoo",
    "transformers.cli",
    "transformers.commands",
    "transformers.dynamic_module_utils",
    "transformers.pipeline",
    "transformers.pipelines",
    "transformers.testing_utils",
)
_more: tuple[str, ...] = ()


def allow(packages: Iterable[str]) -> None:
    """Let the class paths of more packages in, for this command.

    Raises:
        UsageError: if a name is none that Python could import, or would undo the check.
    """
    global _more
    packages = tuple(packages)
    for package in packages:
        if not all(part.isidentifier() for part in package.split(".")):
            raise UsageError(
                f"--allow-import {package}: is no name of a package. Give it as in `import NAME`."
            )
        if package.split(".")[0] == "jsonargparse":
            raise UsageError(f"--allow-import {package}: would undo this very check. Leave it out.")
    _more = packages


def allowed() -> tuple[str, ...]:
    """Return the packages that a config may name."""
    return (*PACKAGES, *_more)


def check(path: str, key: str) -> None:
    """Check that a dotted path may be imported; `key` says in messages where it stands.

    Raises:
        UsageError: if it may not, with the option that lets it.
    """
    if not is_shipped(path):
        return
    root = path.split(".")[0]
    remedy = f"If you trust that code, add --allow-import {root} to the command."
    if root not in PACKAGES:
        near = did_you_mean(root, PACKAGES)
        raise UsageError(
            f"{key}: '{path}' is outside the packages that a config may name "
            f"({', '.join(allowed())}).{near} {remedy}"
        )
    private = any(part.startswith("_") for part in path.split("."))
    if private or any(_inside(path, part) for part in DENIED):
        raise UsageError(f"{key}: '{path}' is not for a config to name. {remedy}")


def is_shipped(path: str) -> bool:
    """Whether a path is not let in by the command line, so that it is held to every rule."""
    return not any(_inside(path, package) for package in _more)


def check_all(values: Any, where: str) -> None:
    """Check every class path in nested values.

    Raises:
        UsageError: for the first that may not be imported.
    """
    for key, path in class_paths(values):
        if isinstance(path, str) and "." in path:
            check(path, f"{where}{key}")


def class_paths(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, path) of every class_path in nested values."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            inner = f"{key}.{name}" if key else str(name)
            if name == "class_path":
                yield inner, value
            yield from class_paths(value, inner)
    elif isinstance(values, list):
        for value in values:
            yield from class_paths(value, key)


def _inside(path: str, package: str) -> bool:
    return path == package or path.startswith(f"{package}.")


def parsing_settings() -> dict[str, Any]:
    """Return the same rule for jsonargparse, which imports what is named in other ways."""
    return {
        "import_path_denylist": ["*", *DENIED],
        "import_path_allowlist": list(allowed()),
        "instantiate_subclass_spec_in_any": False,  # where anything goes, nothing is made
    }
