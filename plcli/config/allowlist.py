"""The allowlist for class paths in configs, artefacts and environment variables.

A config may come from a stranger, so its class paths are checked before anything is imported. They
must be inside a few packages, and outside the parts of these packages that load or run code, start
processes, write files of their own choice or open connections. Of torch only a few parts may be
named. A path must name a class, or one of a few functions that compute with tensors. Only
`--allow-import` on the command line allows more.

tests/config/test_admitted_classes.py finds the admitted classes that open files, start processes or
use sockets.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from plcli.errors import UsageError, did_you_mean

PACKAGES = ("plcli", "lightning", "torch", "torchmetrics", "transformers")
PARTS = (  # of torch: what networks, optimizers, loaders and strategies are made of
    "torch.Generator",
    "torch.Tensor",
    "torch.amp",
    "torch.ao",
    "torch.cuda.amp",
    "torch.device",
    "torch.distributed.algorithms",
    "torch.distributed.fsdp",
    "torch.distributed.optim",
    "torch.distributions",
    "torch.dtype",
    "torch.nn",
    "torch.optim",
    "torch.utils.data",
)
DENIED = (  # parts that run commands, load code, unpickle, write or connect
    "lightning.app",
    "lightning.data",
    "lightning.fabric.cli",
    "lightning.fabric.fabric",
    "lightning.fabric.loggers",
    "lightning.fabric.plugins.collectives",
    "lightning.fabric.strategies.deepspeed",
    "lightning.fabric.utilities",
    "lightning.pytorch.callbacks.LambdaCallback",
    "lightning.pytorch.callbacks.lambda_function",
    "lightning.pytorch.cli",
    "lightning.pytorch.demos.lstm",
    "lightning.pytorch.demos.mnist_datamodule",
    "lightning.pytorch.demos.transformer",
    "lightning.pytorch.loggers.csv_logs.ExperimentWriter",
    "lightning.pytorch.serve",
    "lightning.pytorch.strategies.deepspeed",
    "lightning.pytorch.trainer",
    "lightning.pytorch.tuner",
    "lightning.pytorch.utilities",
    "plcli.callbacks.late_weights",
    "plcli.callbacks.predictions",
    "plcli.cli",
    "plcli.config",
    "plcli.packages",
    "plcli.pretrained",
    "plcli.runs",
    "plcli.training",
    "torch.distributed.algorithms.model_averaging",
    "torch.utils.data.datapipes",
    "torchmetrics.audio",
    "torchmetrics.detection.helpers",
    "torchmetrics.functional.image",
    "torchmetrics.image.arniqa",
    "torchmetrics.image.dists",
    "torchmetrics.image.lpip",
    "torchmetrics.image.perceptual_path_length",
    "torchmetrics.multimodal",
    "torchmetrics.text.bert",
    "torchmetrics.text.infolm",
    "torchmetrics.text.sacre_bleu",
    "torchmetrics.utilities",
    "transformers.cli",
    "transformers.commands",
    "transformers.dynamic_module_utils",
    "transformers.integrations",
    "transformers.pipeline",
    "transformers.pipelines",
    "transformers.testing_utils",
    "transformers.trainer",
    "transformers.utils",
)
PERMITTED = ("lightning.pytorch.cli.ReduceLROnPlateau",)  # inside a denied part
FUNCTIONS = (  # that a config may name where a callable is expected, with those inside a module
    "lightning.pytorch.callbacks.finetuning",
    *(f"torch.{name}" for name in ("abs", "celu", "clamp", "cos", "erf", "exp", "log", "log1p")),
    *(f"torch.{name}" for name in ("log_softmax", "logit", "relu", "selu", "sigmoid", "sin")),
    *(f"torch.{name}" for name in ("softmax", "sqrt", "square", "tanh", "mean", "sum", "max")),
    "torch.distributed.algorithms.ddp_comm_hooks.debugging_hooks",
    "torch.distributed.algorithms.ddp_comm_hooks.default_hooks",
    "torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook",
    "torch.distributed.fsdp.wrap",
    "torch.nn.functional",
    "torch.nn.init",
    "torch.optim.swa_utils",
    "torch.utils.data.default_collate",
    "torch.utils.data.default_convert",
    "torchmetrics.functional.classification",
    "torchmetrics.functional.pairwise",
    "torchmetrics.functional.regression",
    "transformers.activations",
    "transformers.optimization",
)
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
    if private or _is_denied(path) or not _is_a_part(path):
        raise UsageError(f"{key}: '{path}' may not be named in a config. {remedy}")


def check_found(path: str, found: Any, key: str) -> None:
    """Check what a dotted path names: a class that may be named, or a function of the list.

    A name may lead elsewhere, as modules import others: `lightning.pytorch.trainer.os.system`.

    Args:
        path: the dotted path, which may be imported.
        found: the object.
        key: the key that contains the path, for messages.

    Raises:
        UsageError: if it may not be used.
    """
    if not is_restricted(path):
        return
    own = f"{getattr(found, '__module__', None)}.{getattr(found, '__qualname__', '')}"
    if inspect.isclass(found):
        if own.split(".")[0] not in PACKAGES and is_restricted(own):
            raise UsageError(
                f"{key}: '{path}' is {own}, which may not be named in a config. Name another class."
            )
        if _is_denied(own) and is_restricted(own):
            check(own, key)
        return
    if type(found).__name__ == "dtype" and path.startswith("torch."):
        return
    if not _is_a_function_to_name(path) or own.split(".")[0] not in PACKAGES:
        root = path.split(".")[0]
        raise UsageError(
            f"{key}: '{path}' is a function. Name a class, or a function of torch.nn.functional. "
            f"If you trust that code, add --allow-import {root} to the command."
        )


def _is_a_function_to_name(path: str) -> bool:
    return path in FUNCTIONS or path.rpartition(".")[0] in FUNCTIONS


def _is_denied(path: str) -> bool:
    return path not in PERMITTED and any(_inside(path, part) for part in DENIED)


def _is_a_part(path: str) -> bool:
    """Whether a path is in a part of its package that may be named."""
    if path.split(".")[0] != "torch":
        return True
    return any(_inside(path, part) for part in PARTS) or path in FUNCTIONS or _is_dtype(path)


def _is_dtype(path: str) -> bool:
    return (
        re.fullmatch(r"torch\.(b?float|u?int|complex)\d+|torch\.(bool|half|double)", path)
        is not None
    )


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
