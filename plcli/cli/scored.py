"""The results of an evaluation with intervals and baselines: as a dict, as a table, as warnings."""

import logging
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from plcli.cli import analysed, tfidf_baseline
from plcli.cli.arguments import Arguments
from plcli.cli.plan import Plan
from plcli.cli.predict import escapes_formulas
from plcli.config.contracts import data_contract
from plcli.runs import artefact, atomic_files, metrics_file, results
from plcli.runs.folder import ENSEMBLE

logger = logging.getLogger(__name__)


def check(arguments: Arguments, datamodule: Any) -> None:
    """Check the options of scores and of their analysis, before anything is trained or scored.

    Raises:
        PlcliError: if one cannot be.
    """
    tfidf_baseline.check(arguments.options.get("baseline"), datamodule)
    analysed.check(arguments, datamodule)


def found(trainer: Any, model: Any, datamodule: Any, split: str, *, baseline: str | None) -> Any:
    """Return the results of the evaluation that has just ended.

    Args:
        trainer: the trainer.
        model: the LightningModule that was evaluated.
        datamodule: its LightningDataModule; None if the model has its own data.
        split: validation or test.
        baseline: a further baseline that was asked for; None for none.
    """
    values = results.results(model, trainer.callback_metrics, split)
    if baseline is not None:
        own = tfidf_baseline.scores(model, datamodule, split)
        values["baselines"] = {**(values.get("baselines") or {}), **own}
    return with_fingerprint(values, data_contract(datamodule, model), split)


def with_fingerprint(values: dict[str, Any], data: Any, split: str) -> dict[str, Any]:
    """Return results with the fingerprint of the rows, if it is known."""
    fingerprint = data.fingerprints().get(split)
    return values if fingerprint is None else {**values, "fingerprint": fingerprint}


def report(console: Console, plan: Plan, trainer: Any, datamodule: Any, split: str) -> None:
    """Print the results of `validate` or `test`, and keep the rows of a test in the run folder.

    Args:
        console: where to print.
        plan: the plan of the command.
        trainer: the trainer, with the model that was evaluated.
        datamodule: its LightningDataModule; None if the model has its own data.
        split: validation or test.
    """
    model, run, arguments = trainer.lightning_module, plan.run, plan.arguments
    baseline = arguments.options.get("baseline")
    scores = found(trainer, model, datamodule, split, baseline=baseline)
    show(console, {split: scores})
    if run is not None and (told := metrics_file.mend(run)):
        logger.warning("warning: %s", told)
    if split != "test":
        return
    from plcli.cli import analysis_tables, kept_rows

    made = analysed.analysis(model, datamodule, arguments, scores)
    if made is not None:
        analysis_tables.show(console, made.plain)
    if run is not None and run.model != run.folder:
        folder, escape = run.folder, escapes_formulas(arguments)
        if arguments.ensemble:
            folder = folder / ENSEMBLE
            folder.mkdir(exist_ok=True)
            atomic_files.write_text(folder / "metrics.json", artefact.to_json({split: scores}))
        files = kept_rows.keep(
            folder,
            model,
            datamodule,
            made=made,
            escape_formulas=escape,
            engine=plan.engine[0] if plan.engine else None,
        )
        if files:
            analysis_tables.say(console, f"in {folder}: {', '.join(files)}")


def show(console: Console, splits: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the table of the results, and log a warning for each baseline that is better."""
    results.show(console, splits)
    if splits:
        split = list(splits)[-1]
        for warning in results.below_baseline(splits[split], split):
            logger.warning("warning: %s", warning)
        for name, each in (splits[split].get("calibration") or {}).items():
            ends = f", 95 % {each['low']:+.4f} to {each['high']:+.4f}" if "low" in each else ""
            logger.info(
                "%s: %s %.4f without and %.4f with the temperature (%+.4f%s)",
                split,
                name.upper() if name != "brier" else "Brier score",
                each["before"],
                each["after"],
                each["difference"],
                ends,
            )
