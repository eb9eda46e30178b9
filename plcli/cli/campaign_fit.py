"""`plcli fit --seeds` and `--folds`: a run for each seed or fold, one after the other.

Sub-runs are ordinary runs, in this process: each starts from its own seed, as a run of its own
does, and what a fit holds is freed before the next one. Those that are finished are not repeated.
"""

import copy
import gc
import json
import logging
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from plcli.cli import campaign_tables, execution, hints, logs, out_of_fold, processes
from plcli.cli.arguments import Arguments
from plcli.cli.plan import Plan
from plcli.config import secrets, yaml_core
from plcli.config.classes import parameters
from plcli.config.contracts import module_contract
from plcli.config.files import Fragment, load_yaml
from plcli.config.marks import class_of
from plcli.errors import MachineError, ModelError, PlcliError, Terminated, UsageError, below, shown
from plcli.runs import artefact, atomic_files, campaign, lock, metrics_file, results
from plcli.runs.campaign import Campaign, Kind, Summary
from plcli.runs.folder import ENSEMBLE, ROOT, Run, check_local, differences, flat
from plcli.runs.lock import RunLock

logger = logging.getLogger(__name__)

SEED = 42  # as of a run of its own
MOST = 100  # sub-runs


@dataclass
class CampaignFit:
    """The fit of a campaign.

    Attributes:
        arguments: the command line.
        entered: its config files.
        kind: seeds or folds.
        numbers: the seeds, or the folds from 1.
        seed: the seed of the config.
        data: the class of the data; None if the model has its own.
        data_arguments: the values of its section.
        repairs: whether a damaged metrics.json is written again, of the same sub-runs.
    """

    arguments: Arguments
    entered: list[Fragment]
    kind: Kind
    numbers: tuple[int, ...]
    seed: int
    data: type | None
    data_arguments: dict[str, Any]
    repairs: bool = False

    def run(self) -> None:
        """Train the sub-runs that are not finished, and gather what they reach.

        Raises:
            PlcliError: if a sub-run ends with one; the same command continues with it.
        """
        with self._locked() as held:
            found = self._opened(held.folder)
            if found is None:
                return
            once = logs.SaidOnce()
            for place, (number, run) in enumerate(found.runs.items(), start=1):
                said = f"{found.kind.removesuffix('s')} {number} ({place} of {len(found.numbers)})"
                if run.finished:
                    self._check_member(number, run)
                    logger.info("%s: done before, %s", said, run.folder)
                else:
                    self._train(number, run, said, once)
            with atomic_files.disk_errors_explained():
                self._gather(found)

    # the folder

    @contextmanager
    def _locked(self) -> Iterator[RunLock]:
        """Hold the lock of the campaign's folder: the one that is named, or the next free one."""
        named = self.arguments.options.get("run")
        if named is not None:
            check_local("--run", named)
            held = RunLock(Path(named), command="fit")
        else:
            configs = self.arguments.configs
            name = Path(configs[0]).stem if configs else "run"
            held = lock.claim_free(ROOT, name, command="fit")
        try:
            yield held
        finally:
            held.release()

    def _opened(self, folder: Path) -> Campaign | None:
        """Return the campaign, saved; None if it is finished and may be.

        Raises:
            UsageError: if the folder has another run or campaign, or --resume does not fit.
        """
        resume = self.arguments.options.get("resume")
        command = secrets.hide_words(sys.argv[1:])
        wanted = Campaign(folder, self.kind, self.numbers, self._config(), command)
        if not campaign.exists(folder):
            if resume == "must":
                raise UsageError(f"--resume must: there is no campaign in {folder}. Check --run.")
            if Run(folder).finished or Run(folder).config.exists():
                raise UsageError(
                    f"{folder}: contains a run that is no campaign. Name another folder with --run."
                )
            wanted.save()
            logger.info("run folder: %s, %s", folder, wanted)
            return wanted
        before = campaign.read(folder)
        if resume == "never":
            raise UsageError(
                f"--resume never: {folder} already contains {before}. Name another folder with "
                "--run, or remove it."
            )
        self._check_same(before, wanted)
        damage = metrics_file.damage(Run(folder))
        self.repairs = damage is not None and before.numbers == wanted.numbers
        if damage is not None:
            logger.warning("warning: metrics.json is damaged (%s) and is written again", damage)
        elif before.numbers == wanted.numbers and Run(folder).finished:
            if resume == "auto":
                print(f"{folder}: done.")
                return None
            raise UsageError(
                f"{folder}: this campaign is finished. Score it with "
                f"`{hints.command('test', folder)}`, train in another folder, or give more seeds. "
                "With `--resume auto` a finished campaign is not an error."
            )
        logger.info("%s: continues %s, %d of them done", folder, wanted, wanted.num_done)
        wanted = replace(wanted, command=before.command)
        wanted.save()
        return wanted

    def _check_same(self, before: Campaign, wanted: Campaign) -> None:
        more = set(before.numbers) <= set(wanted.numbers) and wanted.kind == "seeds"
        if before.kind != wanted.kind or (before.numbers != wanted.numbers and not more):
            raise UsageError(
                f"{before.folder}: contains {before}, of `{before.option}`, not of "
                f"`{wanted.option}`. Give the same, or more seeds, or another --run."
            )
        if changed := differences(before.config, wanted.config):
            raise UsageError(
                f"{before.folder}: contains {before} with a different config. Use the same config "
                f"or another --run.{below(changed)}"
            )

    def _config(self) -> dict[str, Any]:
        """Return what was given for all sub-runs, by dotted key and without secrets."""
        values: dict[str, Any] = {}
        for fragment in self.entered:
            values |= dict(flat(fragment.values))
        for key, value in self.arguments.overrides:
            values[key] = yaml_core.parse_value(value)
        for name in ("ckpt_path", "confirm"):
            if name in self.arguments.options:
                values[f"--{name}"] = self.arguments.options[name]
        plain: dict[str, Any] = yaml_core.without_objects(secrets.hide(values))
        return plain

    # the sub-runs

    def words(self, number: int) -> list[tuple[str, str]]:
        """Return the keys that make a sub-run of the config, and their values."""
        if self.kind == "folds":
            count = str(len(self.numbers))
            return [("data.init_args.folds", count), ("data.init_args.fold", str(number))]
        own = [("seed_everything", str(number))]
        takes_it = self.data is not None and "split_seed" in parameters(self.data)
        if takes_it and self.data_arguments.get("split_seed") is None:
            seed = self.data_arguments.get("seed")
            own.append(("data.init_args.split_seed", str(self.seed if seed is None else seed)))
        return own

    def _check_member(self, number: int, run: Run) -> None:
        """Check that a finished run is that of a seed or fold.

        Raises:
            UsageError: if it is not, as one that was started by hand.
        """
        config = dict(flat(load_yaml(run.config)))
        for key, value in self.words(number):
            if str(config.get(key)) != value:
                raise UsageError(
                    f"{run.folder}: was trained with {key} {shown(config.get(key))}, but in this "
                    f"campaign it is {value}. Remove the folder, or train it with --{key} {value}."
                )

    def _train(self, number: int, run: Run, said: str, once: logs.SaidOnce) -> None:
        arguments, entered = copy.deepcopy((self.arguments, self.entered))
        arguments.options.pop(self.kind)
        arguments.options.pop("resume", None)
        arguments.options["run"] = str(run.folder)
        arguments.overrides = [
            *((key, value) for key, value in arguments.overrides if not self._is_replaced(key)),
            *self.words(number),
        ]
        logs.set_up(quiet=arguments.quiet, once=once)  # without the train.log of the one before
        once.begin(run.folder)
        logger.info("%s: %s", said, run.folder)
        try:
            execution.fit(arguments, entered, member=said)
        except PlcliError:
            logger.warning("%s has ended; the same command continues with it", said)
            raise
        except Terminated as end:  # what resumes is the campaign, not the sub-run alone
            folder = str(run.folder.parent)
            raise Terminated(end.number, end.said.replace(str(run.folder), folder)) from None
        finally:
            once.end()
            _free()
        if not run.finished:
            raise MachineError(f"{run.folder}: {said} has saved no model. See its train.log.")

    def _is_replaced(self, key: str) -> bool:
        return self.kind == "seeds" and key in ("seed", "seed_everything")

    # what they reach

    def _gather(self, found: Campaign) -> None:
        logs.set_up(quiet=self.arguments.quiet)
        self._check_comparable(found)
        runs = {run.folder.name: run for run in found.runs.values()}
        summary = campaign.summary({name: campaign.scores(run) for name, run in runs.items()})
        rows = None
        if found.kind == "folds":
            rows = out_of_fold.score(found.folder, list(runs.values()))
        metrics = summary.plain(found.kind, rows)
        if (found.folder / ENSEMBLE).exists() and not self.repairs:
            logger.info("%s: removed, as it was of other sub-runs", found.folder / ENSEMBLE)
            shutil.rmtree(found.folder / ENSEMBLE)
        atomic_files.write_text(found.folder / "metrics.json", artefact.to_json(metrics))
        campaign.keep_best(found, runs[summary.best])
        self._show(found, summary, metrics)

    def _check_comparable(self, found: Campaign) -> None:
        """Check that the sub-runs differ in nothing but their seed or fold.

        Raises:
            UsageError: if they do, as if a file of the data was changed meanwhile.
        """
        first, *others = found.runs.values()
        config, rows = _config_of(first, found.kind), _rows_of(first)
        for run in others:
            changed = differences(config, _config_of(run, found.kind))
            changed += differences(rows, _rows_of(run))
            if changed:
                raise UsageError(
                    f"{run.folder}: differs from {first.folder} in more than its "
                    f"{found.kind.removesuffix('s')}, so that they cannot be compared. Remove one "
                    f"of them and run the same command again.{below(changed)}"
                )

    def _show(self, found: Campaign, summary: Summary, metrics: dict[str, Any]) -> None:
        console = Console()
        campaign_tables.show(console, metrics)
        if "slice" in self.arguments.options:
            self._show_slices(console, found, summary.best)
        for split in ("validation", "test"):
            for warning in results.below_baseline(metrics.get(split) or {}, split):
                logger.warning("warning: %s", warning)

        def say(text: str) -> None:
            console.print(text, markup=False, highlight=False, soft_wrap=True)

        if summary.monitor is None:
            chosen = "first sub-run, as no validation metric chose epochs"
        else:
            value = summary.each[summary.best]["fit"]["value"]
            chosen = f"best by {summary.monitor} ({value:.4g})"
        say(f"{chosen}: {summary.best}; model: {found.folder / 'model'}")
        if "test" in metrics:
            say(f"next: {hints.command('test', found.folder)}")
        if _can_be_averaged(found):
            words = ["test"] if "test" in metrics else ["predict", "--input", "FILE"]
            say(f"next: {hints.command(words[0], found.folder, '--ensemble', *words[1:])}")

    def _show_slices(self, console: Console, found: Campaign, best: str) -> None:
        """Print the slices of the best sub-run, whose analysis is that of the campaign."""
        from plcli.cli import analysis_tables
        from plcli.runs import test_files

        for path, plain in test_files.read_analyses(found.folder)[:1]:
            if path.name == test_files.ANALYSIS.format("") and plain.get("slices"):
                analysis_tables.say(console, f"of the best sub-run, {best}:")
                analysis_tables.show_slices(console, plain)


def _can_be_averaged(found: Campaign) -> bool:
    """Whether the outputs of the models of a campaign can be averaged."""
    model = class_of(load_yaml(Run(found.folder).config).get("model"))
    if not module_contract(model).offers("averaged"):
        return False
    from plcli.cli import ensembled  # whose libraries a training does not need

    first, *others = (artefact.load(run.model) for run in found.runs.values())
    try:
        for other in others:
            ensembled.check_same(first, other)
    except ModelError:
        return False
    return True


def asked(arguments: Arguments, entered: list[Fragment]) -> CampaignFit | None:
    """Return the campaign that a command line of fit asks for; None for a single run.

    Raises:
        UsageError: if its options make no sense, or the folder is that of a campaign without them.
    """
    options = arguments.options
    if not {"seeds", "folds"} & options.keys():
        named = Path(options.get("run") or "")
        if options.get("run") and campaign.exists(named):
            before = campaign.read(named)
            raise UsageError(
                f"{named}: contains {before}. Continue it with the command that started it and "
                f"--run {shlex.quote(str(named))}: plcli {shlex.join(before.command)}"
            )
        return None
    if {"seeds", "folds"} <= options.keys():
        raise UsageError(
            "--seeds and --folds: both are given. Give one of them; for folds with another seed, "
            "run a campaign of folds with --seed."
        )
    if arguments.show_config is not None:
        return None
    if options.get("resume") == "allow-changes":
        raise UsageError(
            "--resume allow-changes: the sub-runs of a campaign have the same config. Remove it."
        )
    plan = Plan(arguments, entered)
    section = plan.merged.get("data") or {}
    data = class_of(section)
    arguments_of_data = section.get("init_args") or {}
    seed = _seed(plan)
    kind: Kind = "folds" if "folds" in options else "seeds"
    if kind == "folds":
        numbers = tuple(range(1, _count(options["folds"], "--folds") + 1))
        _check_folds(data, arguments_of_data)
    else:
        numbers = _seeds(options["seeds"], seed)
    made = CampaignFit(arguments, entered, kind, numbers, seed, data, arguments_of_data)
    if processes.is_one_of_several():
        words = " ".join(f"--{key} {value}" for key, value in made.words(numbers[0]))
        folder = next(iter(Campaign(Path("RUN"), kind, numbers, {}, []).runs.values())).folder
        raise UsageError(
            f"--{kind}: {processes.launched() or 'a launcher has started several processes'}, but "
            f"a campaign trains in one. Start each sub-run by itself, here with {words} --run "
            f"{folder}, and then the campaign with --run RUN in one process, which gathers them."
        )
    return made


def _seed(plan: Plan) -> int:
    typed = [value for key, value in plan.arguments.overrides if key in ("seed", "seed_everything")]
    value = yaml_core.parse_value(typed[-1]) if typed else plan.merged.get("seed_everything")
    return value if type(value) is int else SEED


def _count(given: str, option: str) -> int:
    number = int(given) if re.fullmatch("[0-9]{1,9}", given) else 0
    if not 2 <= number <= MOST:
        raise UsageError(f"{option}: got '{given}', expected a number from 2 to {MOST}.")
    return number


def _seeds(given: str, seed: int) -> tuple[int, ...]:
    """Return the seeds of --seeds: a number of them from that of the config, or a list.

    Raises:
        UsageError: if they are no seeds, or one is given twice.
    """
    if "," not in given:
        if given == "1":
            raise UsageError("--seeds: got '1', expected 2 or more. A single run has --seed.")
        return tuple(range(seed, seed + _count(given, "--seeds")))
    parts = [part.strip() for part in given.split(",")]
    seeds = [int(part) if re.fullmatch("[0-9]{1,10}", part) else -1 for part in parts]
    if len(seeds) > MOST or any(not 0 <= value < 2**32 for value in seeds):
        raise UsageError(
            f"--seeds: got '{given}', expected a number of seeds such as 5, or seeds from 0 to "
            f"{2**32 - 1} such as 1,7,42."
        )
    if twice := [value for value in seeds if seeds.count(value) > 1]:
        raise UsageError(f"--seeds: {twice[0]} is given twice. Give different seeds.")
    return tuple(seeds)


def _check_folds(data: type | None, given: dict[str, Any]) -> None:
    """Check that the data can be divided into folds.

    Raises:
        UsageError: if its class has no folds, or the config chooses them or other validation rows.
    """
    if data is None or not {"folds", "fold"} <= parameters(data).keys():
        name = "the model has its own data" if data is None else f"{data.__name__} has no folds"
        raise UsageError(
            f"--folds: {name}. Derive the data class from plcli.TextData or plcli.SplitData with "
            "the arguments folds and fold, or use --seeds."
        )
    for key in ("folds", "fold"):
        if given.get(key) is not None:
            raise UsageError(f"--folds: data.{key} is given as well, as {given[key]}. Remove it.")
    if (validation := given.get("validation")) is not None:
        parts = [
            each if isinstance(each, list) else [each]
            for each in (given.get("train") or [], validation)
        ]
        both = shlex.quote(json.dumps([source for part in parts for source in part]))
        raise UsageError(
            f"--folds: each fold is validated on training rows that it holds out, but "
            f"data.validation is given as well. Add its rows to those for training: --data.train "
            f"{both} --data.validation null"
        )


def _config_of(run: Run, kind: Kind) -> dict[str, Any]:
    """Return the config of a run by dotted key, without what differs between sub-runs."""
    values = dict(flat(load_yaml(run.config)))
    return {key: value for key, value in values.items() if key != campaign.OF_A_MEMBER[kind]}


def _rows_of(run: Run) -> dict[str, Any]:
    """Return the fingerprints of the rows that a run was trained and validated on."""
    path = run.folder / "environment.json"
    found = campaign.read_json(path).get("data") or {}
    return {f"rows of {name}": value for name, value in found.items() if name != "predict"}


def _free() -> None:
    """Free what a fit has held, before the next one."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
