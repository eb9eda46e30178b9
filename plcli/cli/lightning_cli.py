"""PlCLI: extends LightningCLI with checks, run folders and facts passed from data to model.

The order of a command: parse, check the hardware and the run, make the trainer, the data and, with
the facts, the model, then run. Facts come from the training split in fit, and from the artefact or
checkpoint in validate, test and predict. A value that contradicts a fact is refused.
"""

import argparse
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace, set_dumper, set_parsing_settings
from jsonargparse._loaders_dumpers import get_yaml_default_loader
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.model_helpers import is_overridden
from rich.console import Console

from plcli.callbacks import averaging
from plcli.callbacks.checkpoints import Checkpoints
from plcli.callbacks.late_weights import LateWeights
from plcli.callbacks.numbers import FiniteNumbers
from plcli.cli import (
    chosen_rate,
    distilled,
    engines,
    facts,
    instances,
    loggers,
    logs,
    parser_errors,
    predict,
    prepared,
    processes,
    resolving,
    scored,
    trainer_setup,
    untrained,
    user_errors,
    written_paths,
)
from plcli.cli.fit import Fit
from plcli.cli.plan import Plan
from plcli.config import allowlist, checks, classes, secrets, yaml_core
from plcli.config.classes import parameters
from plcli.config.contracts import data_contract
from plcli.config.files import load_yaml
from plcli.config.marks import marked
from plcli.errors import ModelError, UsageError, below
from plcli.models.init_from import artefact_folder
from plcli.pretrained import tasks
from plcli.runs import artefact
from plcli.runs.folder import absolute, differences
from plcli.training import checkpoint_io, hardware
from plcli.training.checkpoint_io import WholeCheckpoints
from plcli.training.loops import ExactFitLoop

logger = logging.getLogger(__name__)

SEED = 42


def fixed_classes() -> dict[str, type]:
    """Return the classes of config sections that have no class_path."""
    return {"trainer": Trainer, "checkpoint": Checkpoints, "numbers": FiniteNumbers}


class PlCLI(LightningCLI):
    """Runs a plan.

    Args:
        plan: the command, its config and its run.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.command = plan.arguments.command
        self.console = Console()
        self.loaded_by_pretrained = False
        logs.quiet_libraries()
        set_dumper("yaml", yaml_core.dump)
        set_dumper("plain", yaml_core.plain)
        set_parsing_settings(**allowlist.parsing_settings())
        resolving.check_what_is_named()
        # jsonargparse parses some values with its YAML 1.1 loader, regardless of the one set
        loader: Any = get_yaml_default_loader()  # type: ignore[no-untyped-call]  # jsonargparse
        loader.yaml_implicit_resolvers = yaml_core.resolvers()
        super().__init__(
            save_config_callback=None,
            seed_everything_default=SEED,
            parser_kwargs={"exit_on_error": False, self.command: {"exit_on_error": False}},
            auto_configure_optimizers=plan.has_section("optimizer"),
            load_from_checkpoint_support=False,
        )

    # parsing

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # only the parser of the chosen command is built
        """Return the chosen command, and the arguments of its method that plcli sets itself."""
        own = {"model", "train_dataloaders", "val_dataloaders", "dataloaders", "datamodule"}
        return {self.command: own | {"ckpt_path", "weights_only", "verbose", "return_predictions"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections without a class_path, and the thread options.

        Arguments of the model that the data may provide as facts are not required.
        """
        parser.add_lightning_class_args(Checkpoints, "checkpoint")
        parser.add_lightning_class_args(FiniteNumbers, "numbers")
        for name in ("threads", "interop_threads"):
            parser.add_argument(f"--{name}", type=int | None, default=None)
        provided = facts.provided(self.plan)
        action: Any
        for action in parser._actions:
            if action.dest == "model" and provided:
                action.sub_add_kwargs["linked_targets"] = provided  # not required, for jsonargparse

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line of the plan, and reduce any error to one message.

        Raises:
            UsageError: if a value is missing, of the wrong type or out of range.
        """
        try:
            self.config = parser.parse_args(self.plan.command_line())
        except argparse.ArgumentError as error:
            raise UsageError(parser_errors.explain(str(error))) from None
        seed = self.values.seed_everything
        if type(seed) is int and not 0 <= seed < 2**32:  # null and true are Lightning's 0
            raise UsageError(f"seed_everything: got {seed}, expected 0 to {2**32 - 1}.")

    @property
    def values(self) -> Namespace:
        """The parsed config of the command."""
        values: Namespace = self.config[self.command]
        return values

    def _class(self, section: str) -> type | None:
        chosen = self.values.get(section)
        return (
            None
            if chosen is None
            else classes.import_class(chosen.class_path, f"{section}.class_path")
        )

    def _names(self, section: str) -> Mapping[str, Any]:
        """Return the constructor arguments of a section's class; empty without the section."""
        cls = self._class(section)
        return {} if cls is None else parameters(cls)

    # checks

    def before_instantiate_classes(self) -> None:
        """Check the config and the hardware before any data is read, then fill in values.

        Raises:
            UsageError: if the config is not valid or contains a hidden secret.
            MachineError: if the hardware is not available.
        """
        checks.check_all(self.values.as_dict())
        trainer_setup.check(self.plan, self.values.trainer)
        data = self._class("data")
        self.launched = trainer_setup.follow_launcher(self.plan, self.values.trainer, data=data)
        if self.command == "fit":
            averaging.check(self.values.trainer.as_dict())
        hardware.check(self.values.trainer.as_dict())
        arguments = (self.values.get("data") or _namespace()).get("init_args") or _namespace()
        hardware.check_shared_memory(arguments.get("num_workers"))
        hardware.set_threads(self.values.threads, interop=self.values.interop_threads)
        chosen_rate.settle(self.plan, self.values.model, self._class("model"))
        self.resolved = chosen_rate.written(self._resolve())
        if key := secrets.hidden_key(self.resolved):
            raise UsageError(
                f"{key}: is a secret that was hidden when its config was saved. "
                f"Give it again with --{key} VALUE."
            )
        self.resolved = secrets.hide(self.resolved)
        where = written_paths.places(self.plan)
        if self.command == "fit":
            self._use_run_folder()
        written_paths.confine(self.values.trainer, where)
        self._fill_in()

    def _resolve(self) -> dict[str, Any]:
        """Return the complete config as plain values.

        Paths are absolute, so that the config is valid in any working directory.
        """
        parser = self._parser(self.command)
        found = parser.dump(self.values, format="plain", skip_unset=False, skip_validation=True)
        values: dict[str, Any] = yaml_core.without_objects(found)
        values = {
            section: value if section in ("model", "data") else yaml_core.without_none(value)
            for section, value in values.items()
            if value is not None
        }
        if logger_section := (values.get("trainer") or {}).get("logger"):
            folder = self.plan.run.folder if self.plan.run else Path()
            values["trainer"]["logger"] = loggers.without_run_folder(logger_section, folder)
        for section in ("data", "model"):
            arguments = (values.get(section) or {}).get("init_args") or {}
            for key in marked(self._class(section), "path") & arguments.keys():
                arguments[key] = absolute(arguments[key])
        return values

    def _use_run_folder(self) -> None:
        run = self.plan.run
        if self.values.trainer.fast_dev_run or run is None:
            self.plan.run = None
            return
        if run.config.exists() and (self.plan.checkpoint is not None or run.finished):
            changed = differences(load_yaml(run.config), self.resolved)
            if changed and not self.plan.allows_changes:
                kind = "a finished" if run.finished else "an unfinished"
                others = (
                    " or another --run"
                    if run.finished
                    else ", another --run or --resume allow-changes"
                )
                raise UsageError(
                    f"{run.folder}: contains {kind} run with a different config. "
                    f"Use the same config{others}.{below(changed)}"
                )
        if run.finished:
            self.console.print(f"{run.folder}: done.", markup=False, highlight=False)
            raise SystemExit(0)
        if self.values.trainer.default_root_dir is not None:
            logger.info("trainer.default_root_dir: not used; all is saved in %s", run.folder)
        self.values.trainer.default_root_dir = str(run.folder)

    def _fill_in(self) -> None:
        """Fill in the tokenizer of the model, the seed of the run and the facts of the weights."""
        data = self.values.get("data")
        model = self.values.model
        names = self._names("data")
        if self.plan.pretrained is not None:
            self._set_facts_of_pretrained(self.plan.pretrained)
        elif self.command != "fit":
            self._set_saved_facts()
        if weights := (model.get("init_args") or _namespace()).get("pretrained"):
            tasks.check(getattr(self._class("model"), "auto_class", ""), weights)
        distilled.fill_in(self.command, model, data, *map(self._class, ("model", "data")))
        if "tokenizer" in names and data.init_args.tokenizer is None:
            before = model.init_args.get("init_from")
            data.init_args.tokenizer = model.init_args.get("pretrained") or (
                before and str(artefact_folder(before))
            )
        if "seed" in names and data.init_args.seed is None:
            data.init_args.seed = self._seed()
        if data_contract(self._class("data")).distributes_rows:
            self.values.trainer.use_distributed_sampler = False

    def _seed(self) -> int:
        seed = self.values.seed_everything
        return SEED if isinstance(seed, bool) else int(seed)

    def _set_saved_facts(self) -> None:
        """Set the arguments of model and data to the facts saved with the weights.

        Raises:
            ModelError: if the classes do not accept the facts.
        """
        plan = self.plan
        self.state = checkpoint_io.load(plan.checkpoint) if plan.checkpoint is not None else None
        found, where = facts.of_weights(plan, self.state)
        for section in ("model", "data"):
            if self._class(section) is not None:
                source = f"the weights of {plan.run.folder if plan.run else ''}"
                self._set_facts(section, found, source=source, where=where)
        try:
            self._parser(self.command).validate(self.values)
        except (TypeError, ValueError, KeyError) as error:
            reason = parser_errors.explain(str(error))
            weights = plan.checkpoint or (plan.artefact and plan.artefact.folder)
            raise ModelError(
                f"{weights}: has values that its class does not accept: {reason} "
                "Copy it again from its source."
            ) from None
        arguments = self.values.model.init_args
        is_lora_checkpoint = plan.checkpoint is not None and arguments.get("lora") is not None
        if (
            plan.artefact is not None
            and not is_lora_checkpoint  # which has the base weights, too
            and "pretrained" in arguments
            and plan.artefact.loads_by_pretrained
        ):
            arguments.pretrained = str(plan.artefact.folder)
            self.loaded_by_pretrained = True
            if "tokenizer" in self._names("data"):
                self.values.data.init_args.tokenizer = str(plan.artefact.folder)
            for key in ("architecture", "init_from", "lora", "freeze", "keep_layers"):
                if key in arguments:
                    arguments[key] = None  # these only apply before training

    def _set_facts_of_pretrained(self, name: str) -> None:
        """Set the facts of weights that are used as they are, and leave out the training rows."""
        arguments = (self.values.get("data") or _namespace()).get("init_args") or _namespace()
        found = untrained.facts(name, model=self._names("model"), data=arguments)
        for section in ("model", "data"):
            if self._class(section) is not None:
                source, where = f"the weights of {name}", f"pretrained: {name}, config.json"
                self._set_facts(section, found, source=source, where=where)

    def _set_facts(
        self, section: str, found: Mapping[str, Any], *, source: str, where: str
    ) -> None:
        """Set the constructor arguments of a section's class that are facts."""
        cls = self._class(section)
        assert cls is not None
        if "init_args" not in self.values[section]:
            self.values[section].init_args = _namespace()
        facts.set_arguments(
            self.values[section].init_args,
            found,
            section=section,
            cls=cls,
            typed=(self.plan.typed.get(section) or {}).get("init_args") or {},
            source=source,
            where=where,
        )

    # instances

    def instantiate_classes(self) -> None:
        """Make the trainer, then the data, then the model with the facts of the data."""
        values = self.values
        if self.plan.run is not None and self.plan.checkpoint is not None:
            loggers.resume(values.trainer.logger, self.plan.run.folder)
        made = _namespace()
        for section in ("trainer", "checkpoint", "numbers"):
            made[section] = self._make(section)
        self.config_init = {self.command: made}
        self.checkpoints: Checkpoints = made.checkpoint
        self._make_trainer(made.trainer)
        self.datamodule = None
        found: dict[str, Any] = {}
        if values.get("data") is not None:
            if self.command == "predict":
                self.take_input(values.data)
            self.datamodule = self._make("data")
            data = data_contract(self.datamodule)
            predict.give_texts(self.plan.arguments, data, self.values.data.class_path)
            if self.command == "fit" or self.plan.pretrained is not None:
                name = type(self.datamodule).__name__
                found = facts.of_data(data, name)
                self._set_facts("model", found, source="the data", where=name)
        elif self.plan.arguments.texts or "input" in self.plan.arguments.options:
            raise UsageError("the model has its own data. Remove --input and the texts.")
        facts.check_told(self.plan, found, getattr(self, "state", None))
        self.checkpoints.facts = found
        torch.manual_seed(self._seed())  # initial weights do not depend on random draws of the data
        self.model = self._make("model")
        if self.plan.pretrained is not None or self.loaded_by_pretrained:
            untrained.check_weights(
                self.model,
                pretrained=self.plan.pretrained,
                found=self.plan.artefact,
                tokenizer=data_contract(self.datamodule).loaded_tokenizer,
            )
        self._configure_optimizers(made)
        prepared.pass_objects(
            *(self.plan, self.trainer, self.model, self.datamodule),
            seed=self._seed(),
            open_ended=trainer_setup.is_open_ended(values.trainer),
        )
        self._load_weights()
        engines.put(self.plan, self.trainer, self.model, self.datamodule)

    def take_input(self, data: Namespace) -> None:
        """Set the rows to predict in the data section."""
        given = data.get("init_args") or _namespace()
        predict.take_input(self.plan.arguments, given, data.class_path)

    def _configure_optimizers(self, made: Namespace) -> None:
        """Give the model the optimizer of the config, if there is one.

        Raises:
            UsageError: if it refuses a value.
        """
        optimizer = self.values.get("optimizer") if self.auto_configure_optimizers else None
        if optimizer is not None:
            made.optimizer = optimizer
            made.lr_scheduler = schedule = self.values.get("lr_scheduler")
            if schedule is not None:
                logger.info(
                    "lr_scheduler: %s is stepped once per epoch; define configure_optimizers in "
                    "the model for one that is stepped once per batch",
                    schedule.class_path.rpartition(".")[2],
                )
            try:
                self._add_configure_optimizers_method_to_model(self.command)
            except (ValueError, TypeError) as error:
                if said := user_errors.refused_by_a_library(error):
                    raise UsageError(f"optimizer: {said}") from error
                raise

    def _make(self, section: str) -> Any:
        return instances.make(section, self.values, self._parser(self.command))

    def _make_trainer(self, made: Namespace) -> None:
        chosen = trainer_setup.Chosen(
            self.plan, self.values.trainer, made, self.command, self.launched
        )
        arguments = chosen.arguments()
        self.metrics_csv = chosen.metrics_csv
        self.trainer_defaults = {"callbacks": chosen.extra_callbacks()}
        try:
            self.trainer = self.instantiate_trainer(**arguments)
        except (MisconfigurationException, ValueError, TypeError) as error:
            flag = trainer_setup.flag_in(str(error), self.values.trainer.as_dict())
            raise UsageError(f"{flag}: {str(error).splitlines()[0]}") from error
        processes.check_world(self.launched, self.trainer)
        processes.check_alone(self.plan.member, self.trainer)
        if self.command == "fit":
            averaging.prepare(self.trainer.callbacks)  # type: ignore[attr-defined]  # Lightning's list
            self.trainer.fit_loop = ExactFitLoop(
                self.trainer, seed=self._seed(), keeper=self.checkpoints
            )
            folder = self.plan.run.checkpoints if self.plan.run else None
            trainer_setup.finish(self.trainer, WholeCheckpoints(folder))
        if not self.trainer.is_global_zero:
            logs.silence()

    def _load_weights(self) -> None:
        """Load the weights; after the setup of a module that makes layers there."""
        if self.command == "fit":
            return
        if any(is_overridden(hook, self.model) for hook in ("setup", "configure_model")):
            callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]  # Lightning's
            callbacks.append(LateWeights(self._load_state))
        else:
            self._load_state()

    def _load_state(self) -> None:
        plan = self.plan
        if plan.checkpoint is not None:
            try:
                assert self.state is not None
                self.model.load_state_dict(self.state["state_dict"])
            except RuntimeError as error:
                last = str(error).splitlines()[-1].strip()[:200]
                raise ModelError(
                    f"{plan.checkpoint}: does not fit {type(self.model).__name__}: {last} Use the "
                    "config that it was trained with."
                ) from None
        elif plan.artefact is not None and not self.loaded_by_pretrained:
            artefact.load_state(plan.artefact, self.model)

    # commands

    def fit(self, model: LightningModule, datamodule: LightningDataModule | None = None) -> None:
        """Train, then score, save and show the best weights."""
        Fit(
            self.plan,
            self.trainer,
            model,
            datamodule,
            self.checkpoints,
            self.metrics_csv,
            self.resolved,
            self.console,
            self.launched,
        ).run()

    def validate(
        self, model: LightningModule, datamodule: LightningDataModule | None = None
    ) -> None:
        """Score the validation split."""
        self.trainer.validate(model, datamodule=datamodule, verbose=False)
        self._report("validation")

    def test(self, model: LightningModule, datamodule: LightningDataModule | None = None) -> None:
        """Score the test split."""
        scored.check(self.plan.arguments, datamodule)
        self.trainer.test(model, datamodule=datamodule, verbose=False)
        self._report("test")

    def _report(self, split: str) -> None:
        if self.trainer.is_global_zero:
            scored.report(self.console, self.plan, self.trainer, self.datamodule, split)

    def predict(
        self, model: LightningModule, datamodule: LightningDataModule | None = None
    ) -> None:
        """Predict, and write or print the rows in the order of the input."""
        data = self.values.get("data") or _namespace()
        source = (data.get("init_args") or _namespace()).get("predict")
        given, key = self.plan.arguments, predict.key_of(self.plan, self.resolved, datamodule)
        more = predict.additions(given, model, datamodule)
        sink = predict.output_of(given, self.plan.run, source, key=key)
        predict.predict(self.trainer, model, datamodule, sink=sink, **more)


def _namespace(**sections: Any) -> Namespace:
    return Namespace(**sections)  # type: ignore[no-untyped-call]  # jsonargparse leaves it untyped
