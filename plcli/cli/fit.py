"""A fit: the run folder is opened, or taken up; what follows the training; what is kept."""

import logging
import os
import sys
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from rich.console import Console

from plcli.callbacks.checkpoints import Checkpoints
from plcli.cli import logs
from plcli.cli.plan import RUN_VARIABLE, Plan
from plcli.config import secrets, yaml_core
from plcli.config.contracts import DataContract, data_contract
from plcli.config.files import load_yaml
from plcli.errors import MachineError, ModelError, UsageError, below
from plcli.runs import artefact, atomic_files, environment, results
from plcli.runs.folder import Run, differences
from plcli.training import checkpoint_io
from plcli.training.batch_order import reseed
from plcli.training.csv_logger import MetricsCsv

logger = logging.getLogger(__name__)

STATES = 3  # of the weights' size: the weights and AdamW's two means
COPIES = 2  # of a state at least: the one that stands, and the next one


@dataclass
class Fit:
    """Trains a model and keeps it.

    Attributes:
        plan: which run, and which checkpoint is gone on from.
        trainer: the trainer.
        model: the model.
        datamodule: its LightningDataModule; None where the model brings its data.
        checkpoints: saves.
        metrics_csv: the run's metrics.csv; None where nothing is kept.
        config: the resolved config.
        console: where results are shown.
    """

    plan: Plan
    trainer: Trainer
    model: LightningModule
    datamodule: Any
    checkpoints: Checkpoints
    metrics_csv: MetricsCsv | None
    config: dict[str, Any]
    console: Console

    def run(self) -> None:
        """Train, then score, save and show the best weights."""
        run, trainer, model = self.plan.run, self.trainer, self.model
        source = model if self.datamodule is None else self.datamodule
        if not is_overridden("train_dataloader", source):
            raise UsageError("no data is named. Give a data class in a config, or as --data CLASS.")
        if run is not None:
            self._open(run)
        try:
            if run is not None:  # for the processes that the trainer starts
                os.environ[RUN_VARIABLE] = str(run.folder)
            trainer.fit(
                model, datamodule=self.datamodule, ckpt_path=self.plan.checkpoint, weights_only=True
            )
        finally:
            os.environ.pop(RUN_VARIABLE, None)
        if run is None:
            logger.info("fast_dev_run: nothing is kept")
            return
        best = self.checkpoints.best_path
        if best is None:
            raise ModelError(f"{run.folder}: no epoch was finished, so there is no model to keep.")
        state = checkpoint_io.load(best)
        model.load_state_dict(state["state_dict"])
        self.checkpoints.load_state_dict(state["callbacks"][self.checkpoints.state_key])
        scores = {}
        if self.checkpoints.best_results:
            scores["validation"] = self.checkpoints.best_results
        if self._has_test():
            reseed("test", self.config.get("seed_everything"))  # as in a run not stopped
            trainer.test(model, datamodule=self.datamodule, verbose=False)
            scores["test"] = results.results(model, trainer.callback_metrics, "test")
        if trainer.is_global_zero:
            self._keep(run, scores)
        trainer.strategy.barrier()

    # before the training

    def _open(self, run: Run) -> None:
        """Make the run folder, or open that of the run that goes on."""
        self.checkpoints.folder = run.checkpoints
        self.checkpoints.metrics_csv = self.metrics_csv
        if not self.trainer.is_global_zero:
            return
        if self.data.offers("fingerprints"):
            self.datamodule.setup("fit")  # a mistake in a split is told before there is a folder
            read = self.data.fingerprints()
            self.checkpoints.fingerprints = {
                split: read[split] for split in ("train", "validation") if split in read
            }
        goes_on, again = self.plan.checkpoint, run.config.exists()
        changed = self._take_up(run) if goes_on is not None else []
        try:
            run.checkpoints.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(
                f"--run {run.folder}: cannot be made ({error.strerror}). Name another folder."
            ) from None
        atomic_files.sweep(run.folder, run.checkpoints)
        self._check_space(run)
        logs.to_file(run.folder / "train.log")
        if goes_on is None or changed or self._differences(run):
            atomic_files.write_text(run.config, yaml_core.dump(self.config))
        if goes_on is None:
            described = environment.environment(
                seed=self.config.get("seed_everything"),
                fingerprints=self.data.fingerprints(),
                command=secrets.hide_words(sys.argv[1:]),
            )
            atomic_files.write_text(run.folder / "environment.json", artefact.to_json(described))
        logger.info("run folder: %s", run.folder)
        if goes_on is not None:
            logger.info("%s: goes on from checkpoints/%s", run.folder, goes_on.name)
        elif again:
            logger.info("%s: starts again, no checkpoint was saved", run.folder)
        for difference in changed:
            logger.warning("changed since this run began: %s", difference)
        logger.info(
            "keeps in %s: best.ckpt, last.ckpt (%s) and, until the run is finished, the one "
            "before it",
            run.checkpoints,
            self._when(),
        )

    def _when(self) -> str:
        minutes, steps = self.checkpoints.every_minutes, self.checkpoints.every_n_steps
        times = ["every epoch"]
        times += [f"every {minutes:g} minutes"] if minutes else []
        times += [f"every {steps} steps"] if steps else []
        return ", ".join(times)

    def _check_space(self, run: Run) -> None:
        weights = checkpoint_io.num_bytes(self.model.state_dict())
        needed = weights * STATES * COPIES + checkpoint_io.ROOM
        atomic_files.check_space(run.folder, needed, purpose="training with its checkpoints")

    def _differences(self, run: Run) -> list[str]:
        return differences(load_yaml(run.config), self.config)

    def _take_up(self, run: Run) -> list[str]:
        """Check that the run that goes on has the same data, and take its metrics over.

        Returns:
            What has changed, where that is allowed.
        """
        assert self.plan.checkpoint is not None
        assert self.metrics_csv is not None
        best = run.checkpoints / "best.ckpt"
        if best.exists() and (said := atomic_files.damage(best)) is not None:
            raise ModelError(
                f"{best}: cannot be loaded as a checkpoint ({said}). Remove it: the run then goes "
                "on, and keeps the best of the epochs that follow."
            )
        before = checkpoint_io.load(self.plan.checkpoint)["plcli"]
        changed = [
            *_changes("data", before["data"], self.checkpoints.fingerprints),
            *_changes("facts", before["facts"], self.checkpoints.facts),
        ]
        if changed and not self.plan.allows_changes:
            raise UsageError(
                f"{run.folder}: the data are others than when this run began. Give the same data, "
                f"another --run, or --resume allow-changes.{below(changed)}"
            )
        self.metrics_csv.resume(before["metrics_csv"])
        return changed + self._differences(run)

    # after the training

    def _has_test(self) -> bool:
        if not is_overridden("test_step", self.model):
            return False
        return self.data.has("test")

    @property
    def data(self) -> DataContract:
        """The data by what plcli asks of them."""
        return data_contract(self.datamodule, self.model)

    def _keep(self, run: Run, scores: dict[str, Any]) -> None:
        """Write the numbers and, last of all, the artefact; say what to do next."""
        card = results.card(
            self.model,
            self.datamodule,
            config=self.config,
            facts=self.checkpoints.facts,
            metrics=scores,
        )
        atomic_files.write_text(run.folder / "metrics.json", artefact.to_json(scores))
        artefact.save(run.model, model=self.model, data=self.datamodule, card=card)
        (run.checkpoints / "previous.ckpt").unlink(missing_ok=True)
        results.show(self.console, scores)
        epoch = self.checkpoints.best_epoch + 1
        self.console.print(
            f"{f'best epoch {epoch}' if epoch else 'last epoch'}; the model: {run.model}"
        )
        if "test" in scores:
            self.console.print(f"next: plcli test --run {run.folder}", markup=False)
        if self.data.offers("predict_values"):
            self.console.print(f"next: plcli predict --run {run.folder} --input FILE", markup=False)


def _changes(what: str, before: Any, now: Any) -> list[str]:
    """Return `what.key: before -> now` for every key that differs, values shortened."""
    return [
        f"{what}.{key}: {_short(before.get(key))} -> {_short(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
