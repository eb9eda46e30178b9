"""The user's loggers: they write into the run folder, and a resumed run continues their runs."""

import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from plcli.cli.plan import Plan
from plcli.config.classes import import_class, parameters
from plcli.config.files import Fragment
from plcli.errors import MachineError, PlcliError, UsageError
from plcli.runs import atomic_files
from plcli.training.csv_logger import MetricsCsv

logger = logging.getLogger(__name__)

FILE = "loggers.json"  # in the run folder: the runs of the user's loggers
FOLDERS = ("save_dir", "offline_directory")  # arguments that say where a logger writes
FILE_STORE = "MLFLOW_ALLOW_FILE_STORE"  # without it, MLflow refuses to write into a folder
LIBRARIES = ("mlflow", "wandb", "comet_ml", "neptune")
PACKAGES = {  # of Lightning's loggers
    "WandbLogger": "wandb",
    "MLFlowLogger": "mlflow",
    "CometLogger": "comet_ml",
    "NeptuneLogger": "neptune",
}
RUN_IDS = ("id", "run_id", "experiment_key")  # arguments that continue a run


def write_into_run_folder(plan: Plan) -> None:
    """Set the folder of loggers without one to the run folder, in the plan.

    This happens before the config is parsed, as some loggers require a folder.
    """
    if plan.arguments.command == "fit":
        trainer = plan.merged.get("trainer")
        _check_installed(trainer.get("logger") if isinstance(trainer, dict) else None)
    folder = str(plan.run.folder) if plan.run is not None else "."
    plan.fragments = [
        Fragment(fragment.source, _with_folders(fragment.values, folder))
        for fragment in plan.fragments
    ]
    added: list[tuple[str, str]] = []
    keys = {key for key, _ in plan.arguments.overrides}
    for key, value in plan.arguments.overrides:
        added.append((key, value))
        names_a_class = bool(re.fullmatch(r"[\w.]*[A-Z]\w*", value))  # not true, null or YAML
        if key.rstrip("+") == "trainer.logger" and names_a_class:
            argument = _folder_argument(value)
            names = {f"{key}.{argument}", f"{key}.init_args.{argument}"}
            if argument is not None and not names & keys:
                added.append((f"{key.rstrip('+')}.init_args.{argument}", folder))
    plan.arguments.overrides = added


def _check_installed(section: Any) -> None:
    """Check that the packages of loggers are installed; of a list Lightning's parser says another.

    Raises:
        MachineError: if one is not.
    """
    for entry in section if isinstance(section, list) else [section]:
        named = entry.get("class_path") if isinstance(entry, Mapping) else entry
        package = PACKAGES.get(str(named).rpartition(".")[2])
        if package is not None and package not in sys.modules and find_spec(package) is None:
            pip = package.replace("_", "-")
            raise MachineError(
                f"trainer.logger: {named} needs the package {pip}, which is not installed. Install "
                f"it: pip install {pip}"
            )


def _with_folders(values: Mapping[str, Any], folder: str) -> dict[str, Any]:
    section = values.get("trainer")
    if not isinstance(section, Mapping) or not section.get("logger"):
        return dict(values)
    given = section["logger"]
    filled: Any = (
        [_with_folder(entry, folder) for entry in given]
        if isinstance(given, list)
        else _with_folder(given, folder)
    )
    return {**values, "trainer": {**section, "logger": filled}}


def _with_folder(entry: Any, folder: str) -> Any:
    if isinstance(entry, str):
        entry = {"class_path": entry}
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_path"), str):
        return entry
    argument = _folder_argument(entry["class_path"])
    arguments = entry.get("init_args") or {}
    if not isinstance(arguments, Mapping):
        return entry  # refused when the config is parsed
    inside = {**arguments, **(entry.get("dict_kwargs") or {})}
    if argument is None or inside.get(argument) is not None:
        return entry
    return {**entry, "init_args": {**arguments, argument: folder}}


def _folder_argument(class_path: str) -> str | None:
    """Return the argument of a logger that says where it writes; None if it has none."""
    if "." not in class_path:
        class_path = f"lightning.pytorch.loggers.{class_path}"
    names = parameters(import_class(class_path, "trainer.logger"))
    return next((name for name in FOLDERS if name in names), None)


def without_run_folder(section: Any, folder: Path | None) -> Any:
    """Return a logger section without the folders that plcli has set.

    A config that is repeated in another run must not write into this one.
    """
    if isinstance(section, list):
        return [without_run_folder(entry, folder) for entry in section]
    if not isinstance(section, dict) or "init_args" not in section:
        return section
    kept = {
        key: value
        for key, value in section["init_args"].items()
        if key not in FOLDERS or value != str(folder)
    }
    return {**section, "init_args": kept}


def default(folder: Path) -> Logger:
    """Return the logger of `logger: true`: TensorBoard, or a csv file where it is missing."""
    saved = _saved(folder)
    try:
        runs = saved.get("TensorBoardLogger") or [{}]
        return TensorBoardLogger(folder, version=runs[0].get("version"))
    except ModuleNotFoundError:
        return CSVLogger(folder)


def resume(section: Any, folder: Path) -> None:
    """Let loggers continue the runs that they began before the run was interrupted.

    Args:
        section: the parsed logger section, changed in place.
        folder: the run folder.
    """
    saved = _saved(folder)
    for entry in section if isinstance(section, list) else [section]:
        if not isinstance(entry, Namespace) or entry.get("class_path") is None:
            continue
        runs = saved.get(entry.class_path.rpartition(".")[2])
        arguments = entry.get("init_args")
        for name, value in (runs.pop(0) if runs else {}).items():
            if arguments is not None and name in arguments and arguments[name] is None:
                arguments[name] = value


def _saved(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the saved runs by the name of the logger's class, in the order of the config."""
    try:
        found: dict[str, list[dict[str, Any]]] = json.loads((folder / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return found


def start(loggers: Sequence[Logger]) -> None:
    """Begin the runs of the user's loggers, so that what they refuse is said before training.

    Raises:
        UsageError: if a logger cannot begin its run.
    """
    for each in loggers:
        try:
            _ = getattr(each, "experiment", None)
        except Exception as error:  # of any library; PlcliError is none of theirs
            if isinstance(error, PlcliError):
                raise
            raise refused(error, type(each).__name__) from error


def refused(error: Exception, name: str = "a logger") -> UsageError:
    """Return the message for what a library of loggers refuses.

    Args:
        error: its error.
        name: the class of the logger.
    """
    said = " ".join(str(error).split())
    hint = "Check its arguments, or remove it."
    if FILE_STORE in said:
        said = "MLflow does not write into a folder by itself any more."
        hint = (
            f"Set the environment variable {FILE_STORE}=true, or tracking_uri: the address of a "
            "server, or sqlite:///mlflow.db, which needs the whole mlflow package."
        )
    return UsageError(f"trainer.logger: {name} cannot begin its run: {said[:200]} {hint}")


def is_of_a_logger(error: Exception) -> bool:
    """Whether an error is one of a library of loggers."""
    return type(error).__module__.split(".")[0] in LIBRARIES


class LoggerRuns(Callback):
    """Saves the runs of the user's loggers when training starts.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Write loggers.json."""
        found: dict[str, list[dict[str, Any]]] = {}
        for each in trainer.loggers:
            if not isinstance(each, MetricsCsv):
                found.setdefault(type(each).__name__, []).append(_run_of(each))
        if found and trainer.is_global_zero:
            atomic_files.write_text(self.folder / FILE, json.dumps(found, indent=2))


def _run_of(each: Logger) -> dict[str, Any]:
    """Return the arguments with which a logger continues its run; a CSVLogger would delete it."""
    if isinstance(each, CSVLogger):
        return {}
    names = parameters(type(each))
    name = next((name for name in RUN_IDS if name in names), None)
    if name is None:
        name = "version" if "version" in names else None
    if name is None:
        return {}
    value = getattr(each, "run_id", None) or each.version
    return {name: value} if isinstance(value, (str, int)) else {}
