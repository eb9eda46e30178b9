"""The plan of a command: its run, weights and config."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plcli.cli import engines, hints, processes, untrained
from plcli.cli.arguments import Arguments
from plcli.cli.fragments import entered
from plcli.cli.processes import RUN_VARIABLE
from plcli.config import allowlist, yaml_core
from plcli.config.files import Fragment, load_yaml, merge
from plcli.config.marks import class_of, marked
from plcli.errors import ModelError, UsageError, shown
from plcli.runs import atomic_files, lock
from plcli.runs.artefact import Artefact
from plcli.runs.artefact import load as load_artefact
from plcli.runs.folder import (
    ROOT,
    Run,
    absolute,
    check_local,
    flat,
    newest_finished,
    open_run,
)
from plcli.runs.lock import RunLock
from plcli.runs.predictions import check_output

logger = logging.getLogger(__name__)

RESUME = ("auto", "never", "must", "allow-changes")


@dataclass
class Plan:
    """The plan of a command.

    Attributes:
        arguments: the command line.
        fragments: the user's config values, lowest precedence first.
        base: the values saved with the run or artefact, which have lower precedence.
        run: the run folder; None if nothing is saved.
        artefact: the artefact to load; None for fit, and for an unfinished run.
        checkpoint: the checkpoint to load instead of the artefact, or to resume from.
        start: the checkpoint that a new run starts from; None for a run that starts anew.
        pretrained: the weights that are evaluated as they are; None for those of a run.
        lock: the lock of the run folder, on the first process of a fit.
        member: what the run is of a campaign, for messages; None for a run of its own.
        ensemble: the sha256 of the weights of further models whose outputs are averaged.
        engine: the engine that runs the network, and the sha256 of its export; empty for torch.
    """

    arguments: Arguments
    fragments: list[Fragment]
    base: list[Fragment] = field(default_factory=list)
    run: Run | None = None
    artefact: Artefact | None = None
    checkpoint: Path | None = None
    start: Path | None = None
    pretrained: str | None = None
    lock: RunLock | None = None
    member: str | None = None
    ensemble: list[str] = field(default_factory=list)
    engine: list[str] = field(default_factory=list)

    @property
    def engine_name(self) -> str:
        """The engine that runs the network."""
        return self.engine[0] if self.engine else engines.TORCH

    @property
    def allows_changes(self) -> bool:
        """Whether a run may resume with a changed config or changed data."""
        return self.arguments.options.get("resume") == "allow-changes"

    @property
    def merged(self) -> dict[str, Any]:
        """The values of all configs, and the overrides of a class or its direct arguments."""
        return self._merge([*self.base, *self.fragments])

    @property
    def typed(self) -> dict[str, Any]:
        """The values given by the user: `merged` without those of a run or artefact."""
        return self._merge(self.fragments)

    def has_section(self, section: str) -> bool:
        """Whether a config or the command line has a section, such as optimizer."""
        keys = (key.split(".")[0] for key, _ in self.arguments.overrides)
        return self.merged.get(section) is not None or section in keys

    def _merge(self, fragments: list[Fragment]) -> dict[str, Any]:
        layers = [fragment.values for fragment in fragments]
        for key, value in self.arguments.overrides:
            section, _, path = key.partition(".")
            if section not in ("model", "data"):
                continue
            if path in ("", "class_path"):
                layers.append({section: {"class_path": value}})
            elif "." not in (name := path.removeprefix("init_args.")):
                layers.append({section: {"init_args": {name: yaml_core.parse_value(value)}}})
        return merge(layers)

    def command_line(self) -> list[str]:
        """Return the arguments for the parser: configs as JSON, then overrides.

        Both are in the order of precedence, lowest first.
        """
        return [
            self.arguments.command,
            *(
                f"--config={json.dumps(fragment.values)}"
                for fragment in (*self.base, *self.fragments)
            ),
            *(f"--{key}={value}" for key, value in self.arguments.overrides),
        ] + (
            []
            if self.arguments.show_config is None
            else [
                "--print_config"
                + (f"={self.arguments.show_config}" if self.arguments.show_config else "")
            ]
        )


def plan_fit(arguments: Arguments, fragments: list[Fragment]) -> Plan:
    """Choose and lock the run folder of a fit, and the checkpoint to resume from.

    Raises:
        UsageError: if the options do not fit the state of the run folder.
        MachineError: if another process trains in it.
    """
    resume = arguments.options.get("resume")
    if resume not in (None, *RESUME):
        known = f"{', '.join(RESUME[:-1])} or {RESUME[-1]}"
        raise UsageError(f"--resume: got '{resume}', expected {known}.")
    check_local("--run", arguments.options.get("run", ""))
    held = None
    shows = arguments.show_config is not None  # and nothing is written
    named = arguments.options.get("run") or os.environ.get(RUN_VARIABLE)
    if named is not None:
        run = Run(Path(named))
        if processes.is_first() and not run.finished and not shows:
            held = RunLock(run.folder, command="fit")
    elif processes.is_one_of_several():
        raise UsageError(
            "several processes were started without a run folder. "
            "Name it with --run, so that all of them use the same one."
        )
    else:
        name = Path(arguments.configs[0]).stem if arguments.configs else "run"
        held = None if shows else lock.claim_free(ROOT, name, command="fit")
        run = Run(lock.next_free(ROOT, name) if held is None else held.folder)
    try:
        plan = _plan_fit(arguments, fragments, run)
    except BaseException:  # Ctrl-C too must not leave the lock
        if held is not None:
            held.release()
        raise
    plan.lock = held
    return plan


def _plan_fit(arguments: Arguments, fragments: list[Fragment], run: Run) -> Plan:
    resume = arguments.options.get("resume")
    if run.finished and resume != "auto":
        raise UsageError(
            f"{run.folder}: this run is finished. "
            f"Score it with `{hints.command('test', run.folder)}`, "
            "train in another folder (another --run, or none), or remove the folder. "
            "With `--resume auto` a finished run is not an error."
        )
    if run.config.exists() and not fragments:
        fragments = [entered(str(run.config), load_yaml(run.config))]
    last = run.checkpoints / "last.ckpt"
    checkpoint, damaged = atomic_files.first_whole([last, run.checkpoints / "previous.ckpt"])
    for path, reason in damaged.items():
        logger.warning("%s: is damaged (%s); using %s instead", path, reason, checkpoint)
    if resume == "must" and checkpoint is None:
        raise UsageError(
            f"--resume must: there is no checkpoint to resume from at {last}. Check --run, or use "
            "--resume auto to start a new run."
        )
    if resume == "never" and run.config.exists() and RUN_VARIABLE not in os.environ:
        raise UsageError(
            f"--resume never: {run.folder} already contains a run. "
            "Name another folder with --run, or remove it."
        )
    start = _start(arguments.options.get("ckpt_path"), resumes=checkpoint is not None)
    return Plan(arguments, fragments, run=run, checkpoint=checkpoint, start=start)


def _start(wanted: str | None, *, resumes: bool) -> Path | None:
    """Return the checkpoint that a new run starts from.

    Raises:
        UsageError: if it is not a file, as `best` and `last` belong to a run.
        ModelError: if there is no such file.
    """
    if wanted in (None, "last"):  # a run resumes from its own last checkpoint anyway
        return None
    if wanted in ("best", "hpc", "registry"):
        raise UsageError(
            f"--ckpt_path: got '{wanted}', expected a file to start from. To resume a run, name "
            "it with --run."
        )
    path = Path(str(wanted))
    if resumes:
        logger.info("--ckpt_path %s: not used, as the run resumes from its own checkpoint", path)
        return None
    if not path.is_file():
        raise ModelError(f"--ckpt_path {path}: no such file.")
    return path


def plan_use(arguments: Arguments, fragments: list[Fragment]) -> Plan:
    """Find the run whose weights validate, test or predict use.

    Raises:
        UsageError: if no run is named, or the config names other weights than the run has.
        ModelError: if the run or its artefact cannot be used.
    """
    folder = arguments.options.get("run")
    pretrained = untrained.named(arguments) if folder is None else None
    if folder is None and not fragments and pretrained is None:
        raise UsageError(
            f"no model given. Name a run with `plcli {arguments.command} --run runs/...`, or a "
            "config with --config."
        )
    if "output" in arguments.options:
        check_output(Path(arguments.options["output"]))
    plan = Plan(arguments, fragments)
    wanted = arguments.options.get("ckpt_path", "best")
    if folder is None and wanted not in ("best", "last", untrained.AS_IT_IS):
        own = _run_of(Path(wanted))
        if own is None:  # a checkpoint of plain Lightning
            plan.checkpoint = Run(Path()).checkpoint(wanted)
            return plan
        folder = str(own)
    as_it_is = wanted == untrained.AS_IT_IS
    if as_it_is and folder is None:
        pretrained = pretrained or (plan.merged["model"].get("init_args") or {}).get("pretrained")
    if as_it_is and pretrained is None:
        raise UsageError(
            f"--ckpt_path {wanted}: is for pretrained weights without training, but there are none"
            f"{' beside --run' if folder else ''}. Name them with --model.pretrained."
        )
    finished = None
    if fragments and folder is None and not as_it_is:
        finished = newest_finished(plan.merged)
    if finished is None and pretrained is not None:
        if "ckpt_path" in arguments.options and not as_it_is:
            raise UsageError(
                f"--ckpt_path {wanted}: {pretrained} is not a run and has no checkpoints. Remove "
                "the option, or name a run with --run."
            )
        untrained.check_name(pretrained)
        plan.pretrained = pretrained
        if (plan.merged.get("model") or {}).get("class_path") is None:
            plan.base = [untrained.sections(pretrained)]
        logger.info("using %s as it is, without training", pretrained)
        return plan
    if folder is None and finished is None:
        raise ModelError(
            "no finished run of this config in runs/, and random weights are not evaluated. Train "
            "it with `plcli fit`, name a run with --run, or pretrained weights to use as they are "
            "with --model.pretrained."
        )
    run = open_run(folder) if folder else finished
    assert run is not None
    if folder is None:
        logger.info("using %s, the newest finished run of this config", run.folder)
    plan.run = run
    lock.check_not_held(run.folder)
    plan.artefact = load_artefact(run.model) if run.finished else None
    if wanted != "best" or plan.artefact is None:
        plan.checkpoint = run.checkpoint(wanted)
    if plan.artefact is None:
        logger.warning(
            "warning: %s is not finished; its weights so far are used, %s",
            run.folder,
            plan.checkpoint,
        )
    base = _saved(run, plan.artefact)
    _refuse_other_weights(base.values.get("model") or {}, plan)
    plan.base = [base]
    return plan


def _run_of(checkpoint: Path) -> Path | None:
    """Return the run folder of a checkpoint; None if it is not in one."""
    folder = checkpoint.absolute().parent.parent
    inside = checkpoint.absolute().parent.name == "checkpoints"
    return folder if inside and (folder / "config.yaml").is_file() else None


def _saved(run: Run, artefact: Artefact | None) -> Fragment:
    """Return the model and data sections saved with a run.

    Of the trainer section only the precision and the user's own callbacks are kept, as this may be
    a different machine.
    """
    if run.config.exists():
        values = load_yaml(run.config)
        precision = str((values.get("trainer") or {}).get("precision") or "32-true")
        kept: dict[str, Any] = {
            key: values[key] for key in ("model", "data", "seed_everything") if key in values
        }
        kept["trainer"] = {} if precision.startswith("16") else {"precision": precision}
        if callbacks := _users_callbacks(values.get("trainer") or {}):
            kept["trainer"]["callbacks"] = callbacks
        return entered(str(run.config), kept)
    assert artefact is not None
    card = artefact.card
    if not card.get("model"):
        raise ModelError(
            f"{run.model}: its plcli.json does not name a model. Get the folder from its source "
            "again."
        )
    return entered(str(run.model), {key: card[key] for key in ("model", "data") if card.get(key)})


def _users_callbacks(trainer: Mapping[str, Any]) -> list[Any]:
    """Return the callbacks of the user's own classes, such as one that writes predictions."""
    given = trainer.get("callbacks") or []
    kept = []
    for entry in given if isinstance(given, list) else [given]:
        path = str(entry.get("class_path")) if isinstance(entry, Mapping) else str(entry)
        if path.split(".")[0] in allowlist.PACKAGES:
            continue
        if allowlist.is_restricted(path):
            logger.info("%s: left out; add --allow-import to use the callback", path)
        else:
            kept.append(entry)
    return kept


def _refuse_other_weights(saved: Mapping[str, Any], plan: Plan) -> None:
    typed: dict[str, Any] = {}
    for fragment in plan.fragments:
        typed |= dict(flat(fragment.values.get("model") or {}))
    for key, value in plan.arguments.overrides:
        section, _, path = key.partition(".")
        if section == "model":
            path = path or "class_path"
            inside = "" if path.startswith(("class_path", "init_args")) else "init_args."
            typed[inside + path] = yaml_core.parse_value(value)
    stored = dict(flat(saved))
    decisive = ("class_path", *(f"init_args.{name}" for name in marked(class_of(saved), "weights")))
    for key, value in typed.items():
        same = value is None or absolute(value) == stored.get(key)
        if key.startswith(decisive) and not same:
            assert plan.run is not None
            raise UsageError(
                f"model.{key}: got {value}, but the weights of {plan.run.folder} were trained with "
                f"{shown(stored.get(key))}. Remove the key, or train another run."
            )
