"""Makes the trainer from a config: its loggers, callbacks, progress bar and what plcli replaces.

The config may be one of plain Lightning. What plcli does in another way is logged once; what it
cannot do is refused before any data is read.
"""

import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    LearningRateFinder,
    ModelCheckpoint,
    ProgressBar,
)
from lightning.pytorch.plugins.io import TorchCheckpointIO

from plcli.callbacks.chosen import ChosenNumbers
from plcli.callbacks.progress import LiveBar, ProgressLines
from plcli.callbacks.sanity import Rehearsal
from plcli.callbacks.step_columns import StepColumns
from plcli.cli import loggers, processes
from plcli.cli.plan import Plan
from plcli.cli.processes import Launched
from plcli.config.classes import import_class, parameters
from plcli.config.contracts import data_contract, module_contract
from plcli.config.files import load_yaml
from plcli.config.marks import class_of
from plcli.errors import UsageError
from plcli.runs import metric_names
from plcli.training.csv_logger import MetricsCsv

logger = logging.getLogger(__name__)

MODEL_CHECKPOINTS = "model_checkpoints"  # of a user's ModelCheckpoint, in the run folder
PROFILERS = {
    "simple": "SimpleProfiler",
    "advanced": "AdvancedProfiler",
    "pytorch": "PyTorchProfiler",
}
LEAST = {  # of what Lightning does not check: it would divide by zero, or climb instead of descend
    "accumulate_grad_batches": 1,
    "check_val_every_n_epoch": 1,
    "gradient_clip_val": 0,
    "log_every_n_steps": 0,
}
MOST_EPOCHS = 1000  # as Lightning has it for a training without an end
LENGTHS = ("max_epochs", "max_steps", "limit_train_batches")  # with 0, nothing is trained
Settings = Mapping[str, Any]


def check(plan: Plan, trainer: Namespace) -> None:
    """Refuse what would turn plcli off, and correct the direction of callbacks.

    Args:
        plan: the plan, which knows what the user gave.
        trainer: the parsed trainer section, changed in place.

    Raises:
        UsageError: for `barebones`, a strategy that forks, a number that makes no sense, or a
            callback with the wrong direction.
    """
    if trainer.get("barebones"):
        raise UsageError(
            "trainer.barebones: turns off the checkpoints and the log of a run, which plcli "
            "needs. Remove the key."
        )
    if plan.member is not None and trainer.get("fast_dev_run"):
        raise UsageError(
            "--seeds, --folds: trainer.fast_dev_run saves nothing that could be compared. Remove "
            "one of them."
        )
    strategy = trainer.get("strategy")
    if isinstance(strategy, str) and strategy.endswith(("_fork", "_spawn", "_notebook")):
        kind = strategy.rpartition("_")[0]
        raise UsageError(
            f"trainer.strategy: {strategy} starts processes that cannot report back to plcli. "
            f"Use {kind}, which starts them as commands."
        )
    if trainer.get("enable_checkpointing") is False:
        logger.info(
            "trainer.enable_checkpointing: false is not used; checkpoints are needed to resume, "
            "and for the best weights"
        )
        trainer.enable_checkpointing = None
    _check_numbers(trainer, fits=plan.arguments.command == "fit")
    _check_direction(plan)
    for entry in _listed(trainer.get("callbacks")):
        if isinstance(entry, Namespace) and entry.get("class_path") is not None:
            _correct_mode(plan, entry)


def _check_numbers(trainer: Namespace, *, fits: bool) -> None:
    """Refuse numbers that Lightning takes, and with which a fit fails or learns nothing."""
    for key, least in LEAST.items():
        value = trainer.get(key)
        if isinstance(value, (int, float)) and value < least:
            raise UsageError(f"trainer.{key}: got {value}, expected {least} or more.")
    interval = trainer.get("val_check_interval")
    if isinstance(interval, (int, float)) and interval <= 0:
        raise UsageError(
            f"trainer.val_check_interval: got {interval}, expected a number of batches, or a "
            "fraction of the epoch above 0.0. To leave out validations, set limit_val_batches: 0."
        )
    for key in LENGTHS if fits else ():
        value = trainer.get(key)
        if isinstance(value, (int, float)) and value == 0:
            raise UsageError(
                f"trainer.{key}: got 0, with which nothing is trained. To score weights as they "
                "are, use `plcli validate` or `plcli test` with --model.pretrained."
            )


def follow_launcher(plan: Plan, trainer: Namespace, *, data: type | None) -> Launched | None:
    """Let a launcher decide devices and num_nodes, and return its processes.

    The first process works alone in predict, which writes one file, and in validate and test with
    data that cannot share rows exactly.

    Args:
        plan: the plan.
        trainer: the parsed trainer section, changed in place.
        data: the class of the data; it can share rows if it says that it distributes them.

    Returns:
        The processes; None if this process works alone.

    Raises:
        UsageError: if the config says other numbers.
        SystemExit: in the other processes, if the first one does the work.
    """
    found = processes.launched()
    if found is None:
        return None
    processes.prepare_slurm(found)
    command = plan.arguments.command
    if command == "predict" or (command != "fit" and not data_contract(data).distributes_rows):
        if found.rank:
            raise SystemExit(0)
        trainer.devices, trainer.num_nodes, trainer.strategy = 1, 1, "auto"
        if found.world_size > 1:
            logger.info("%s: the first one does the work alone", found)
        return None
    on_gpu = trainer.get("accelerator") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    decided = processes.decide(
        found,
        devices=trainer.devices,
        num_nodes=_given_nodes(plan),
        visible_gpus=torch.cuda.device_count() if on_gpu else 0,
    )
    trainer.devices, trainer.num_nodes = decided.devices, decided.num_nodes
    return found


def _given_nodes(plan: Plan) -> int | None:
    """Return the number of nodes that the user has given; None if it is the default."""
    for key, value in reversed(plan.arguments.overrides):
        if key == "trainer.num_nodes":
            return int(value)
    sections = [fragment.values.get("trainer") or {} for fragment in plan.fragments]
    given = [section["num_nodes"] for section in sections if section.get("num_nodes")]
    return int(given[-1]) if given else None


def _check_direction(plan: Plan) -> None:
    """Warn if `checkpoint` contradicts the usual direction of its metric; it needs a mode."""
    section = plan.merged.get("checkpoint") or {}
    given = {key: section.get(key) for key in ("monitor", "mode")}
    for key, value in plan.arguments.overrides:
        name = key.removeprefix("checkpoint.")
        if key.startswith("checkpoint.") and name in given:
            given[name] = value
    monitor, mode = given["monitor"], given["mode"]
    wanted = metric_names.direction(monitor) if isinstance(monitor, str) else None
    if wanted is not None and mode in ("min", "max") and mode != wanted:
        logger.warning(
            "warning: checkpoint.mode: %s keeps the worst epoch if %s values of '%s' are better, "
            "as its name suggests",
            mode,
            _better(wanted),
            monitor,
        )


def _correct_mode(plan: Plan, entry: Namespace) -> None:
    """Correct the default mode of a callback; a mode that the user gave is refused if wrong."""
    cls = import_class(entry.class_path, "trainer.callbacks")
    arguments = entry.get("init_args") or Namespace()  # type: ignore[no-untyped-call]  # jsonargparse
    monitor, mode = arguments.get("monitor"), arguments.get("mode")
    if not {"monitor", "mode"} <= parameters(cls).keys() or not isinstance(monitor, str):
        return
    wanted = metric_names.direction(monitor)
    if wanted is None or mode not in ("min", "max") or mode == wanted:
        return
    if _gave_mode(plan, cls.__name__, monitor):
        raise UsageError(
            f"trainer.callbacks: {cls.__name__} monitors '{monitor}' with mode {mode}, but "
            f"{_better(wanted)} values are better. Use mode: {wanted}."
        )
    logger.info(
        "%s: mode %s instead of the default %s, as %s values of '%s' are better",
        cls.__name__,
        wanted,
        mode,
        _better(wanted),
        monitor,
    )
    arguments.mode = wanted


def _better(mode: str) -> str:
    return "larger" if mode == "max" else "smaller"


def _gave_mode(plan: Plan, name: str, monitor: str) -> bool:
    """Whether the user gave the mode of a callback, by its class and the metric it monitors."""
    keys = (key for key, _ in plan.arguments.overrides)
    if any(key.startswith("trainer.callbacks") and key.endswith(".mode") for key in keys):
        return True
    for fragment in plan.fragments:
        section = fragment.values.get("trainer") or {}
        for key in ("callbacks", "callbacks+"):
            for entry in _listed(section.get(key)):
                arguments = entry.get("init_args") if isinstance(entry, Mapping) else None
                if not isinstance(arguments, Mapping) or arguments.get("monitor") != monitor:
                    continue
                if str(entry["class_path"]).endswith(name) and "mode" in arguments:
                    return True
    return False


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


class Chosen:
    """The arguments of the trainer that plcli chooses.

    Args:
        plan: the plan.
        given: the parsed trainer section.
        made: the instances of the trainer section.
        command: fit, validate, test or predict.
        launched: the processes that share the work; None for one process.
    """

    def __init__(
        self,
        plan: Plan,
        given: Namespace,
        made: Namespace,
        command: str,
        launched: Launched | None = None,
    ) -> None:
        self.plan, self.launched = plan, launched
        self.run = plan.run if command == "fit" else None
        self.resumes = plan.checkpoint is not None
        self.given, self.made, self.command = given, made, command
        self.metrics_csv = MetricsCsv(self.run.folder) if self.run else None
        self.terminal = sys.stderr.isatty() and not plan.arguments.quiet
        self.callbacks: list[Callback] = []

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the trainer that differ from its config."""
        given = self.given
        self.callbacks = list(self._users_callbacks())
        defaults: dict[str, Any] = {
            "enable_progress_bar": self.terminal,
            "enable_model_summary": False,
            "log_every_n_steps": 10,  # so that small data also gets a curve
            "num_sanity_val_steps": 1,  # a second batch shows nothing more, and delays the start
        }
        chosen = {key: value for key, value in defaults.items() if given[key] is None}
        cls = class_of(self.plan.merged.get("model"))
        if is_open_ended(given) and module_contract(cls).offers("choose_epochs"):
            chosen["max_epochs"] = MOST_EPOCHS  # until the length of an epoch is known
        chosen["callbacks"] = self.callbacks
        chosen["logger"] = self._loggers()
        if isinstance(given.profiler, str) and self.run is not None:
            chosen["profiler"] = _profiler(given.profiler, self.run.folder)
        if self.command == "predict":  # one process writes the file
            chosen |= {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        elif self.launched is not None and self.launched.needs_plugin:
            given_plugins = _listed(self.made.plugins)
            if not any(isinstance(each, ClusterEnvironment) for each in given_plugins):
                chosen["plugins"] = [*given_plugins, processes.plugin(self.launched)]
        return chosen

    def extra_callbacks(self) -> list[Callback]:
        """Return the callbacks that plcli adds."""
        own: list[Callback] = [ProgressLines(), Rehearsal()]
        if self.run is not None:
            own += [loggers.LoggerRuns(self.run.folder), ChosenNumbers(self.run.folder)]
        if self.metrics_csv is not None:
            own.append(StepColumns(self.metrics_csv))
        has_bar = any(isinstance(callback, ProgressBar) for callback in self.callbacks)
        if self.terminal and not has_bar and self.given.enable_progress_bar is not False:
            own.insert(0, LiveBar())
        return own

    def _users_callbacks(self) -> Iterator[Callback]:
        """Yield the callbacks of the config, with folders inside the run folder."""
        for callback in _listed(self.made.callbacks):
            if isinstance(callback, ProgressBar) and not self.terminal:
                logger.info(
                    "%s: left out, as the output is not a terminal", type(callback).__name__
                )
                continue
            if type(callback) in (BatchSizeFinder, LearningRateFinder) and self.resumes:
                name = type(callback).__name__
                logger.info("%s: left out, as the run resumes with what it has found", name)
                continue
            if isinstance(callback, ModelCheckpoint) and self.run and callback.dirpath is None:
                callback.dirpath = str((self.run.folder / MODEL_CHECKPOINTS).absolute())
            yield callback

    def _loggers(self) -> Any:
        """Return the loggers: the user's first, so that `self.logger` of a module is theirs."""
        given = self.made.logger
        if given is False:
            return False
        users = [] if given in (None, True) else _listed(given)
        if given is True:
            folder = self.run.folder if self.run else Path()
            users = [loggers.default(folder)]
        users = list(users)
        if self.metrics_csv is not None:
            self.metrics_csv.is_alone = not users
            users.append(self.metrics_csv)
        return users or False


def is_open_ended(given: Namespace) -> bool:
    """Whether a trainer section gives neither epochs, steps nor a time that end the training."""
    named = [entry.get("class_path") for entry in _listed(given.get("callbacks")) if entry]
    timed = any(str(path).rpartition(".")[2] == "Timer" for path in named)
    return (
        given.max_epochs is None and given.max_steps in (None, -1) and not (given.max_time or timed)
    )


def predates(plan: Plan, key: str) -> bool:
    """Whether a run that is resumed began before there was a key of its model.

    What the key's default changes would then change in the middle of the run.
    """
    if plan.checkpoint is None or plan.run is None or not plan.run.config.exists():
        return False
    model = load_yaml(plan.run.config).get("model") or {}
    return key not in (model.get("init_args") or {})


def flag_in(message: str, given: Settings) -> str:
    """Return the key of the trainer whose value Lightning refuses with a message.

    Args:
        message: the message, which may show the value alone.
        given: the trainer section.
    """
    if any(key in message for key in given):
        return "trainer"
    shown = [
        key
        for key, value in given.items()
        if not isinstance(value, (bool, type(None))) and len(str(value)) > 1
        if str(value) in message
    ]
    return f"trainer.{shown[0]}" if len(shown) == 1 else "trainer"


def _profiler(name: str, folder: Path) -> Any:
    """Return a profiler that writes into the run folder; by itself it would print."""
    if name not in PROFILERS:
        return name
    import lightning.pytorch.profilers as profilers

    logger.info("profiler: writes to %s when training ends", folder)
    made: Any = getattr(profilers, PROFILERS[name])(dirpath=folder, filename="profile")
    return made


def finish(trainer: Trainer, checkpoint_io: Any) -> None:
    """Let the trainer write checkpoints as plcli does, and log what this replaces."""
    strategy: Any = trainer.strategy
    before = strategy.checkpoint_io
    if type(before) is not TorchCheckpointIO:
        name = type(before).__name__
        logger.info("%s: is not used; plcli writes checkpoints itself, whole or not at all", name)
    strategy.checkpoint_io = checkpoint_io
