"""Runs a fit: opens the run folder, trains, scores the best weights and saves the results."""

import logging
import os
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, Timer
from lightning.pytorch.utilities.model_helpers import is_overridden
from rich.console import Console

from plcli import __version__
from plcli.callbacks import averaging
from plcli.callbacks.checkpoints import Checkpoints
from plcli.cli import (
    analysed,
    decided,
    hints,
    loggers,
    processes,
    run_opening,
    scored,
)
from plcli.cli.plan import Plan
from plcli.cli.predict import escapes_formulas
from plcli.cli.processes import RUN_VARIABLE, Launched
from plcli.config import secrets, yaml_core
from plcli.config.contracts import DataContract, data_contract
from plcli.config.files import load_yaml
from plcli.data.split_data import SplitData
from plcli.errors import ModelError, UsageError
from plcli.runs import artefact, atomic_files, environment, model_card, results
from plcli.runs.folder import Run, differences
from plcli.training import checkpoint_io
from plcli.training.batch_order import reseed
from plcli.training.csv_logger import MetricsCsv
from plcli.training.object_state import ObjectState
from plcli.training.state import RunRecord

if TYPE_CHECKING:  # imported after a test alone
    from plcli.metrics.analysis.whole import Analysis

logger = logging.getLogger(__name__)


@dataclass
class Fit:
    """Trains a model and saves it.

    Attributes:
        plan: the run, and the checkpoint to resume from.
        trainer: the trainer.
        model: the model.
        datamodule: the LightningDataModule; None if the model has its own data.
        checkpoints: the callback that saves checkpoints.
        metrics_csv: the run's metrics.csv; None if nothing is saved.
        config: the resolved config.
        console: where results are shown.
        launched: the processes of a launcher that share the work.
    """

    plan: Plan
    trainer: Trainer
    model: LightningModule
    datamodule: Any
    checkpoints: Checkpoints
    metrics_csv: MetricsCsv | None
    config: dict[str, Any]
    console: Console
    launched: Launched | None = None

    def run(self) -> None:
        """Train, then score, save and show the best weights.

        Raises:
            UsageError: if there are no data or no optimizer.
            ModelError: if no epoch was finished.
        """
        run, trainer, model = self.plan.run, self.trainer, self.model
        source = model if self.datamodule is None else self.datamodule
        if not is_overridden("train_dataloader", source):
            raise UsageError("no data given. Set a data class in a config, or with --data CLASS.")
        if not is_overridden("configure_optimizers", model):
            raise UsageError(
                f"model: {type(model).__name__} does not define configure_optimizers, and the "
                "config has no optimizer. Add one, for example `optimizer: {class_path: "
                "torch.optim.Adam, init_args: {lr: 0.001}}`."
            )
        decided.check(model, self.datamodule)
        scored.check(self.plan.arguments, self.datamodule)
        if run is not None:
            self._open(run)
        if trainer.is_global_zero:
            loggers.start(trainer.loggers)
        try:
            if run is not None:  # for the processes that the trainer starts
                os.environ[RUN_VARIABLE] = str(run.folder)
            trainer.fit(
                model,
                datamodule=self.datamodule,
                ckpt_path=self.plan.checkpoint or self.plan.start,
                weights_only=True,
            )
        finally:
            os.environ.pop(RUN_VARIABLE, None)
        self._log_early_end()
        if run is None:
            logger.info("fast_dev_run: nothing is saved")
            return
        self.checkpoints.check_best()
        best = self.checkpoints.best_path
        if best is None:
            raise ModelError(
                f"{run.folder}: no epoch was finished, so there is no model to save. Train longer, "
                "or find what has ended the training above."
            )
        state = checkpoint_io.load(best)
        model.load_state_dict(state["state_dict"])
        self.checkpoints.load_state_dict(state["callbacks"][self.checkpoints.state_key])
        scores = {}
        if self.checkpoints.best_results:
            scores["validation"] = self.checkpoints.best_results
        with averaging.set_aside(trainer):
            chosen, validation = decided.decide(trainer, model, self.datamodule)
            self._keep_held_out(run, validated=bool(validation))
        if validation:
            scores["validation"] = validation
            facts = {name: chosen[name] for name in decided.FACTS if name in chosen}
            self.checkpoints.facts = {**self.checkpoints.facts, **facts}
        if self._has_test():
            reseed("test", self.config.get("seed_everything"))  # as in an uninterrupted run
            trainer.test(model, datamodule=self.datamodule, verbose=False)
            scores["test"] = scored.found(
                trainer,
                model,
                self.datamodule,
                "test",
                baseline=self.plan.arguments.options.get("baseline"),
            )
        if "validation" in scores:
            scores["validation"] = scored.with_fingerprint(
                scores["validation"], self.data, "validation"
            )
        if trainer.is_global_zero:
            self._save(run, scores, chosen)
        trainer.strategy.barrier()

    def _open(self, run: Run) -> None:
        """Create the run folder, or open the folder of a run that is resumed."""
        record = RunRecord(run.checkpoints, self.metrics_csv)
        if self.trainer.is_global_zero:
            record = self._opened(run, record)
        objects = ObjectState(self.trainer, self.model, self.datamodule)
        self.checkpoints.keep(record, objects, resumes=self.plan.checkpoint is not None)

    def _opened(self, run: Run, record: RunRecord) -> RunRecord:
        """Check an existing run, and write config.yaml and environment.json before training."""
        if self.data.offers("fingerprints"):
            self.datamodule.setup("fit")  # reports errors in the data before a folder is created
            read = self.data.fingerprints()
            kept = {split: read[split] for split in ("train", "validation") if split in read}
            record = replace(record, fingerprints=kept)
        checkpoint, again = self.plan.checkpoint, run.config.exists()
        changed: list[str] = []
        if checkpoint is not None:
            facts, allowed = self.checkpoints.facts, self.plan.allows_changes
            changed = run_opening.resume(
                run, checkpoint, record, facts=facts, config=self.config, allows_changes=allowed
            )
        run_opening.make_folder(run, weights=checkpoint_io.num_bytes(self.model.state_dict()))
        if checkpoint is None or changed or differences(load_yaml(run.config), self.config):
            atomic_files.write_text(run.config, yaml_core.dump(self.config))
        if checkpoint is None:
            described = environment.environment(
                seed=self.config.get("seed_everything"),
                fingerprints=self.data.fingerprints(),
                rows=self.data.row_digests(),
                command=secrets.hide_words(sys.argv[1:]),
                processes=processes.described(self.launched, **self._size()),
            )
            atomic_files.write_text(run.folder / "environment.json", artefact.to_json(described))
        if self.trainer.world_size > 1:
            logger.info("%s", processes.said(self.launched, **self._size()))
        if self.plan.start is not None:
            checkpoint_io.check_start(self.plan.start)
            logger.info("starting from %s", self.plan.start)
        run_opening.announce(
            run, checkpoint, again=again, changed=changed, times=self.checkpoints.times()
        )
        return record

    def _size(self) -> dict[str, int]:
        return {"world_size": self.trainer.world_size, "num_nodes": self.trainer.num_nodes}

    # after the training

    def _has_test(self) -> bool:
        if not is_overridden("test_step", self.model):
            return False
        return self.data.has("test")

    def _chosen_epoch(self) -> str:
        """Return which epoch's weights are kept, and the metric that chose it."""
        best = self.checkpoints
        if best.best_value is None and best.monitor is not None and self._was_validated():
            return f"last epoch ({best.monitor} was never finite, so that there is no best one)"
        if best.best_value is None:
            step = self.trainer.global_step
            return f"last step, {step} (no metric of a validation has chosen an epoch)"
        return f"best epoch {best.best_epoch + 1} by {best.monitor} ({best.best_value:.4g})"

    def _was_validated(self) -> bool:
        return (
            is_overridden("validation_step", self.model) and sum(self.trainer.num_val_batches) > 0
        )

    def _log_early_end(self) -> None:
        """Log why training has ended before the last epoch or step."""
        trainer = self.trainer
        begun = trainer.fit_loop.epoch_progress.current.ready
        steps = trainer.max_steps != -1 and trainer.global_step >= trainer.max_steps
        epochs = trainer.max_epochs not in (None, -1) and (
            trainer.fit_loop.epoch_progress.current.completed >= (trainer.max_epochs or 0)
        )
        if steps and trainer.max_epochs not in (None, -1) and not epochs:
            logger.info("ended at max_steps, %d, in epoch %d", trainer.global_step, begun)
        if steps or epochs:
            return
        reason = "a callback has stopped it"
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning's list
        for callback in callbacks:
            if isinstance(callback, EarlyStopping) and callback.stopping_reason_message:
                reason = callback.stopping_reason_message
            elif isinstance(callback, Timer) and (callback.time_remaining() or 0) <= 0:
                reason = f"{type(callback).__name__} or max_time: the time is over"
        logger.info(
            "stopped early, after step %d in epoch %d: %s",
            trainer.global_step,
            begun,
            reason,
        )

    @property
    def data(self) -> DataContract:
        """The data, seen through the contract."""
        return data_contract(self.datamodule, self.model)

    def _save(self, run: Run, scores: dict[str, Any], chosen: dict[str, Any]) -> None:
        """Write metrics.json and, last of all, the artefact; then suggest the next commands."""
        card = results.card(
            self.model,
            self.datamodule,
            config=self.config,
            facts=self.checkpoints.facts,
            metrics=scores,
        )
        atomic_files.check_there(run.checkpoints)
        made = self._keep_test(run, scores["test"]) if "test" in scores else None
        written = {**scores, "fit": self._described()}
        if chosen:
            written["decisions"] = chosen
        atomic_files.write_text(run.folder / "metrics.json", artefact.to_json(written))
        page = self._model_card({"plcli": __version__, **card}, written["fit"])
        artefact.save(run.model, model=self.model, data=self.datamodule, card=card, page=page)
        (run.checkpoints / "previous.ckpt").unlink(missing_ok=True)
        if self.checkpoints.keep_at_end == "weights":
            checkpoint_io.strip(run.checkpoints / "last.ckpt")
        logger.info(
            "%s: %s in all, %s of it the model",
            run.folder,
            atomic_files.size_of(run.folder),
            atomic_files.size_of(run.model),
        )
        if self.plan.member is not None:
            logger.info("%s: %s", self.plan.member, self._chosen_epoch())
            return
        scored.show(self.console, scores)
        if made is not None and made.plain.get("slices"):
            from plcli.cli import analysis_tables  # which a fit does not need without slices

            analysis_tables.show_slices(self.console, made.plain)
        told = f"{self._chosen_epoch()}; model: {run.model}"
        self.console.print(told, markup=False, highlight=False, soft_wrap=True)
        if "test" in scores:
            self._suggest("test")
        report = shlex.join(["plcli", "report", str(run.folder)])
        self.console.print(f"next: {report}", markup=False, highlight=False, soft_wrap=True)
        if self.data.offers("predict_values"):
            self._suggest("predict", "--input", "FILE")
        elif self.data.has("predict"):
            self._suggest("predict")

    def _model_card(self, card: dict[str, Any], fit: dict[str, Any]) -> str:
        """Return the text of the model card."""
        assert self.plan.run is not None
        arguments = (self.config.get("data") or {}).get("init_args") or {}
        kinds = self.data.columns("predict") if self.data.offers("columns") else {}
        row = model_card.example(
            {name: str(getattr(kind, "value", kind)) for name, kind in kinds.items()},
            messages=arguments.get("messages"),
            task=card["task"],
            mask=self._mask(),
        )
        sources = {
            split: Path(str(arguments[split])).name
            for split in ("train", "validation", "test")
            if isinstance(arguments.get(split), str)
        }
        return model_card.page(
            card,
            where=self.plan.run.model,
            fit=fit,
            example=row if self.data.offers("predict_values") else {},
            pretrained=(self.config["model"].get("init_args") or {}).get("pretrained"),
            sources=sources,
        )

    def _keep_held_out(self, run: Run, *, validated: bool) -> None:
        """Write the rows that a fold holds out, as the best weights predict them."""
        if isinstance(self.datamodule, SplitData) and self.datamodule.held_out is not None:
            from plcli.cli import out_of_fold  # which a training does not need

            folder, trainer, model = run.folder, self.trainer, self.model
            out_of_fold.keep(trainer, model, self.datamodule, folder, validated=validated)

    def _keep_test(self, run: Run, scores: dict[str, Any]) -> "Analysis | None":
        """Write the rows of the test and what is said of them, which is returned."""
        from plcli.cli import kept_rows  # which a training does not need

        arguments = self.plan.arguments
        made = analysed.analysis(self.model, self.datamodule, arguments, scores)
        escape = escapes_formulas(arguments)
        files = kept_rows.keep(
            run.folder, self.model, self.datamodule, made=made, escape_formulas=escape
        )
        if files:
            logger.info("%s: the rows of the test: %s", run.folder, ", ".join(files))
        return made

    def _described(self) -> dict[str, Any]:
        """Return which epoch was chosen by which metric, and how long the training took."""
        best, progress = self.checkpoints, self.trainer.fit_loop.epoch_progress.current
        chosen = best.best_value is not None
        return {
            "best_epoch": best.best_epoch + 1 if chosen else None,
            "monitor": best.monitor if chosen else None,
            "mode": best.mode if chosen else None,
            "value": best.best_value,
            "epochs": progress.ready,  # begun: max_steps may end in the middle of one
            "steps": self.trainer.global_step,
            "lr": self._rate(),
            "seconds": None if best.seconds is None else round(best.seconds, 3),
        }

    def _mask(self) -> str | None:
        """Return the token of the data's tokenizer that stands for a missing word."""
        mask: str | None = getattr(self.data.loaded_tokenizer, "mask_token", None)
        return mask

    def _rate(self) -> float | None:
        """Return the highest learning rate of the schedule; None without a schedule."""
        bases = [
            rate
            for each in self.trainer.lr_scheduler_configs
            for rate in getattr(each.scheduler, "base_lrs", [])
        ]
        return max(map(float, bases), default=None)

    def _suggest(self, command: str, *words: str) -> None:
        assert self.plan.run is not None
        suggested = hints.command(command, self.plan.run.folder, *words)
        self.console.print(f"next: {suggested}", markup=False, highlight=False, soft_wrap=True)
