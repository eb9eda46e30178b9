"""Keeps what a config writes inside the run folder.

Callbacks, loggers and profilers write where their arguments say. A path of a config is taken to be
inside the run folder; one that leads out of it is refused, unless the command line names the
folder with --allow-write or gives the path itself. No existing file is replaced.
"""

import glob
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from plcli.cli.plan import Plan
from plcli.config import yaml_core
from plcli.config.classes import import_class, parameters
from plcli.errors import UsageError

logger = logging.getLogger(__name__)

KEYS = ("callbacks", "logger", "profiler", "plugins", "strategy")  # of the trainer
PATHS = (  # arguments that say where an object writes: folders, files and addresses
    *("dirpath", "save_dir", "root_dir", "offline_directory", "dir", "log_dir", "nvme_path"),
    *("exclude_batches_path", "tracking_uri", "artifact_location"),
)
NAMES = (  # arguments that become a part of a path
    *("name", "version", "sub_dir", "filename", "prefix", "checkpoint_name"),
    *("experiment_name", "run_name", "id", "run_id", "project"),
)
CURRENT_FOLDER = "exclude_batches_path"  # where a missing value is the current folder
OWN = ("checkpoints", "model", "predictions")  # folders of plcli in the run folder
FILES = {  # what a class writes into its folder, besides names that it makes free by itself
    "CSVLogger": "metrics.csv",
    "OnExceptionCheckpoint": "{filename}.ckpt",
    "Profiler": "*{filename}.txt",
    "SpikeDetection": "",
}


@dataclass(frozen=True)
class Places:
    """Where a config may write.

    Attributes:
        run: the run folder; None if there is none.
        writable: the folders and addresses of --allow-write.
        typed: the texts that the command line gives as values.
        resumes: whether the run is resumed, so that its files exist already.
    """

    run: Path | None
    writable: tuple[str, ...]
    typed: frozenset[str]
    resumes: bool


def places(plan: Plan) -> Places:
    """Return where the configs of a plan may write."""
    typed: set[str] = set()
    for _, value in plan.arguments.overrides:
        typed |= {value, *_texts(yaml_core.parse_value(value))}
    run = None if plan.run is None else plan.run.folder
    writable = tuple(plan.arguments.writable)
    return Places(run, writable, frozenset(typed), plan.checkpoint is not None)


def confine(trainer: Namespace, where: Places) -> None:
    """Move the paths of a parsed trainer section into the run folder.

    Args:
        trainer: the trainer section, changed in place.
        where: where it may write.

    Raises:
        UsageError: if a path leads out of the run folder, or to a file that exists.
    """
    for key in KEYS:
        for entry in _objects(trainer.get(key)):
            cls = import_class(entry.class_path, f"trainer.{key}")
            label = f"trainer.{key}: {cls.__name__}"
            _check_target(label, cls, _confined(label, cls, entry, where), where)


def _objects(value: Any) -> Iterator[Namespace]:
    """Yield the objects of a config, at any depth."""
    if isinstance(value, list):
        for item in value:
            yield from _objects(item)
    elif isinstance(value, Namespace):
        if isinstance(value.get("class_path"), str):
            yield value
        for item in vars(value).values():
            yield from _objects(item)


def _confined(label: str, cls: type, entry: Namespace, where: Places) -> dict[str, str]:
    """Correct the paths of an object, and return those that it has."""
    found: dict[str, str] = {}
    writing = _arguments_that_write(cls)
    for part in (entry.get("init_args"), entry.get("dict_kwargs")):
        values = vars(part) if isinstance(part, Namespace) else part
        for name, value in list(values.items()) if isinstance(values, Mapping) else []:
            if name == CURRENT_FOLDER and value is None and where.run is not None:
                part[name] = str(where.run)
            if name not in writing or value is None:
                continue
            found[name] = str(value)
            if name in NAMES:
                _check_name(f"{label}.{name}", str(value), where)
            elif not _is_default(cls, name, value):
                found[name] = placed = _placed(f"{label}.{name}", _beside_ours(str(value)), where)
                if placed != str(value):
                    named = Path(placed).name if _beside_ours(str(value)) != str(value) else value
                    logger.info("%s.%s: %s is in the run folder", label, name, named)
                    part[name] = placed
    return found


def _beside_ours(text: str) -> str:
    """Return another name for a relative folder that plcli has in the run folder itself."""
    first, slash, rest = text.removeprefix("./").partition("/")
    return f"model_{first}{slash}{rest}" if first in OWN else text


def _arguments_that_write(cls: type) -> set[str]:
    """Return the arguments of a class that name a path, if they are those of Lightning's classes.

    A user's own class may take them from a base class of Lightning.
    """
    bases = [base for base in cls.__mro__ if base.__module__.split(".")[0] == "lightning"]
    names = {name for base in bases if "__init__" in vars(base) for name in parameters(base)}
    return names & {*PATHS, *NAMES}


def _is_default(cls: type, name: str, value: Any) -> bool:
    names = parameters(cls)
    return name in names and value == names[name].default


def _check_name(label: str, text: str, where: Places) -> None:
    if text in where.typed:
        return
    if text.startswith(("/", "~")) or "$" in text or ".." in Path(text).parts:
        raise UsageError(
            f"{label}: got '{text}', which leads out of its folder. Write a name without '..', "
            "'~', '$' and a '/' at its start."
        )


def _placed(label: str, text: str, where: Places) -> str:
    """Return a path inside the run folder, or one that the command line allows.

    Raises:
        UsageError: if it is neither.
    """
    if text in where.typed:
        return text
    path = os.path.expandvars(os.path.expanduser(text))
    if "://" in text or text.startswith(("file:", "sqlite:", "databricks")):
        allowed = [each.rstrip("/") for each in where.writable]
        if any(text == each or text.startswith(f"{each}/") for each in allowed):
            return text
    else:
        allowed = [each for each in where.writable if "://" not in each]
        if any(_is_within(path, each) for each in allowed):
            return text
        if where.run is not None:
            inside = path if _is_within(path, where.run) else os.path.join(where.run, path)
            if _is_within(inside, where.run):
                return inside
    folder = "a run folder" if where.run is None else f"the run folder {where.run}"
    raise UsageError(
        f"{label}: {text} is outside of {folder}. If you trust this config, add --allow-write "
        f"{text} to the command."
    )


def _check_target(label: str, cls: type, found: Mapping[str, str], where: Places) -> None:
    """Refuse to write over files.

    Raises:
        UsageError: if the object would replace a file of the run, or another one.
    """
    folder = next((found[name] for name in PATHS if name in found), None)
    if folder is None or "://" in folder:
        return
    kinds = [base.__name__ for base in cls.__mro__ if base.__name__ in FILES]
    names = [found[name] for name in ("name", "version", "sub_dir") if name in found]
    target = os.path.join(folder, *names)
    if where.run is not None:
        is_root = os.path.realpath(target) == os.path.realpath(where.run)
        if any(_is_within(target, where.run / own) for own in OWN) or (
            is_root and "CSVLogger" in kinds
        ):
            raise UsageError(
                f"{label}: writes into {target}, where plcli has files of its own. Name another "
                "folder."
            )
    if where.resumes or not kinds or ("{filename}" in FILES[kinds[0]] and "filename" not in found):
        return
    pattern = FILES[kinds[0]].format(filename=glob.escape(found.get("filename", "")))
    for path in glob.glob(os.path.join(glob.escape(target), pattern).rstrip("/")):
        if os.path.isfile(path):
            raise UsageError(
                f"{label}: would replace {path}. Remove the file, or name another folder."
            )


def _is_within(path: str | Path, folder: str | Path) -> bool:
    """Whether a path is in a folder, or is the folder, once links are followed."""
    real, outer = os.path.realpath(path), os.path.realpath(os.path.expanduser(folder))
    return os.path.commonpath([real, outer]) == outer


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
