"""The run folder: its layout, its name, and whether the run is finished."""

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plcli.config.files import load_yaml
from plcli.config.marks import class_of, marked, with_new_names
from plcli.errors import ModelError, UsageError
from plcli.runs import artefact

ROOT = Path("runs")
ENSEMBLE = "ensemble"  # the folder in that of a campaign of what is said of all its models
CAMPAIGN = "campaign.json"  # of a folder with several runs of one config: plcli.runs.campaign
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}")  # not C:/ of Windows
# keys that may differ when a run is resumed, as they change neither weights nor results; classes
# mark such arguments of their own (plcli.config.marks)
NO_MATTER = {
    "trainer.callbacks",
    "trainer.enable_checkpointing",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.logger",
    "trainer.profiler",
    "threads",
    "interop_threads",
    "checkpoint.every_minutes",
    "checkpoint.every_n_steps",
    "checkpoint.keep",
    "numbers",
}


@dataclass(frozen=True)
class Run:
    """A run folder."""

    folder: Path

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.folder / "config.yaml"

    @property
    def checkpoints(self) -> Path:
        """The folder of best.ckpt and last.ckpt."""
        return self.folder / "checkpoints"

    @property
    def model(self) -> Path:
        """The artefact. It is written last, so it exists only if the run is finished.

        It may be the run folder itself.
        """
        return self.folder if artefact.exists(self.folder) else self.folder / "model"

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return artefact.exists(self.model)

    def checkpoint(self, name: str) -> Path:
        """Return a checkpoint by `best` or `last`, or by its path.

        Raises:
            ModelError: if there is no such file.
        """
        path = self.checkpoints / f"{name}.ckpt" if name in ("best", "last") else Path(name)
        if not path.is_file():
            raise ModelError(
                f"{path}: no such checkpoint. Use --ckpt_path with best, last or a file."
            )
        return path


def check_local(option: str, path: str) -> None:
    """Check that a path is not an address, such as s3://bucket/x, of which a folder would be made.

    Args:
        option: the option that names it, for messages.
        path: the path; a Path has a single slash left.

    Raises:
        UsageError: if it is one.
    """
    if found := ADDRESS.match(path):
        shown = f"{found[1]}://{path[found.end() :]}"
        raise UsageError(
            f"{option} {shown}: is not a path on this machine. Use a local one, and copy it there "
            "or back with the tool of that storage."
        )


def open_run(folder: str) -> Run:
    """Return the run of a run folder or of its model/ folder.

    Raises:
        UsageError: if the folder is neither.
    """
    check_local("--run", folder)
    path = Path(folder)
    if artefact.exists(path):
        inside_a_run = path.name == "model" and (path.parent / "config.yaml").exists()
        return Run(path.parent) if inside_a_run else Run(path)
    if not path.is_dir():
        raise UsageError(f"--run {folder}: no such folder.{_known_runs()}")
    if path.name == ENSEMBLE and (path.parent / CAMPAIGN).is_file():
        raise UsageError(
            f"--run {folder}: has what was found of all models of the campaign {path.parent}. Name "
            f"{path.parent} instead."
        )
    if (path / CAMPAIGN).is_file() and not (path / "config.yaml").exists():
        inner = sorted(each.parents[1] for each in path.glob("*/model/plcli.json"))
        finished = f"; finished are {', '.join(map(str, inner))}" if inner else ""
        raise UsageError(
            f"--run {folder}: is a campaign that is not finished. Run its command again, or name "
            f"one of its runs{finished}."
        )
    if not (path / "config.yaml").exists() and not artefact.exists(path / "model"):
        raise UsageError(
            f"--run {folder}: is neither a run folder (config.yaml) nor a model/ folder "
            f"(plcli.json).{_known_runs()}"
        )
    return Run(path)


def _known_runs() -> str:
    names = [str(run.folder) for run in all_runs()]
    return f" There are: {', '.join(names[-5:])}." if names else ""


def all_runs() -> Iterator[Run]:
    """Yield the runs below ./runs, oldest first."""
    configs = sorted(ROOT.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    yield from (Run(path.parent) for path in configs)


def newest_finished(values: Mapping[str, Any]) -> Run | None:
    """Return the newest finished run with the model and data of a config; None if there is none."""
    for run in reversed(list(all_runs())):
        if run.finished and not _contradictions(load_yaml(run.config), values):
            return run
    return None


def _contradictions(saved: Any, values: Any) -> bool:
    """Whether model or training data of a config differ from those of a saved config."""
    saved, values = with_new_names(saved), with_new_names(values)
    for section in ("model", "data"):
        wanted, stored = values.get(section) or {}, saved.get(section) or {}
        arguments = wanted.get("init_args") or {}
        if wanted.get("class_path", stored.get("class_path")) != stored.get("class_path"):
            return True
        use = marked(class_of(stored), "use") if arguments else set()
        chosen = {key: value for key, value in arguments.items() if key not in use}
        if not _within(chosen, stored.get("init_args") or {}):
            return True
    return False


def _within(part: Any, whole: Any) -> bool:
    """Whether a mapping contains every value of another one."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(
            key in whole and _within(value, whole[key]) for key, value in part.items()
        )
    return bool(part == whole or absolute(part) == absolute(whole))


def absolute(source: Any) -> Any:
    """Make the local paths and globs in a source absolute; of a mapping, that of its run."""
    if isinstance(source, Mapping):
        return {key: absolute(value) if key == "run" else value for key, value in source.items()}
    if isinstance(source, list):
        return [absolute(item) for item in source]
    if isinstance(source, str) and (os.path.exists(source) or glob.glob(source)):
        return os.path.abspath(source)
    return source


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return `key: old -> new` for every relevant key that differs."""
    old, new = dict(flat(with_new_names(saved))), dict(flat(with_new_names(wanted)))
    free = {
        f"{section}.init_args.{name}"
        for section in ("model", "data")
        for name in marked(class_of(wanted.get(section)), "free")
    }
    return [
        f"{key}: {old.get(key)} -> {new.get(key)}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
        and not any(key == name or key.startswith(f"{name}.") for name in NO_MATTER | free)
    ]


def flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested mappings."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flat(value, f"{prefix}{key}.")
    else:
        yield prefix[:-1], values
