"""The allowlist for class paths in configs, artefacts and environment variables.

A config may come from a stranger, so its class paths are checked before anything is imported. They
must be inside a few packages, and outside the parts of these packages that load or run code. Only
`--allow-import` on the command line allows more packages.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plcli.errors import UsageError, did_you_mean

PACKAGES = ("plcli", "lightning", "torch", "torchmetrics", "transformers")
DENIED = (  # parts that run commands, load code or unpickle, and contain nothing to train with
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
PERMITTED = ("lightning.pytorch.cli.ReduceLROnPlateau",)  # inside a denied part
_more: tuple[str, ...] = ()


def allow(packages: Iterable[str]) -> None:
    """Allow class paths of more packages, for this command.

    Raises:
        UsageError: if a name is not a valid package name, or would disable the check.
    """
    global _more
    packages = tuple(packages)
    for package in packages:
        if not all(part.isidentifier() for part in package.split(".")):
            raise UsageError(
                f"--allow-import {package}: is not a package name. Write it as in `import NAME`."
            )
        if package.split(".")[0] == "jsonargparse":
            raise UsageError(f"--allow-import {package}: would disable this check. Remove it.")
    _more = packages


def allowed() -> tuple[str, ...]:
    """Return the packages that a config may name."""
    return (*PACKAGES, *_more)


def added() -> tuple[str, ...]:
    """Return the packages that --allow-import names."""
    return _more


def check(path: str, key: str) -> None:
    """Check that a dotted path may be imported.

    Args:
        path: the dotted path.
        key: the key that contains it, for messages.

    Raises:
        UsageError: if it may not be imported; the message names the option that allows it.
    """
    if not is_restricted(path):
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
    denied = path not in PERMITTED and any(_inside(path, part) for part in DENIED)
    if private or denied:
        raise UsageError(f"{key}: '{path}' may not be named in a config. {remedy}")


def is_restricted(path: str) -> bool:
    """Whether a path is not covered by --allow-import, so that all rules apply to it."""
    return not any(_inside(path, package) for package in _more)


def check_all(values: Any, where: str) -> None:
    """Check every class path in nested values.

    Raises:
        UsageError: for the first one that may not be imported.
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
    """Return the same rules as settings for jsonargparse, which has more ways to import a class."""
    return {
        "import_path_denylist": ["*", *DENIED],
        "import_path_allowlist": [*allowed(), *PERMITTED],
        "instantiate_subclass_spec_in_any": False,  # never instantiate where any type is accepted
    }
