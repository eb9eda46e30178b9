"""Rows that a fold holds out: kept with the predictions of its model, and scored together."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from plcli.config.contracts import data_contract, module_contract
from plcli.metrics import evaluated, out_of_fold
from plcli.runs import test_rows
from plcli.runs.folder import Run

logger = logging.getLogger(__name__)

HELD_OUT = "validation_rows.parquet"  # of a run on a fold
ALL = "out_of_fold.parquet"  # of a campaign


def keep(trainer: Any, model: Any, datamodule: Any, folder: Path, *, validated: bool) -> None:
    """Write the rows that the fold of a run has held out, as its best weights predict them.

    Args:
        trainer: the trainer.
        model: the LightningModule, with its best weights.
        datamodule: its LightningDataModule, which has a fold.
        folder: the run folder.
        validated: whether the last evaluation of the validation split was with these weights.
    """
    if not validated:
        loggers, trainer.loggers = trainer.loggers, []  # it is no further step of the training
        try:
            trainer.validate(model, datamodule=datamodule, verbose=False)
        finally:
            trainer.loggers = loggers
    rows = module_contract(model).evaluated_rows.get("val")
    if rows is None or not len(rows.index) or not trainer.is_global_zero:
        return
    fingerprint = data_contract(datamodule, model).fingerprints().get("train")
    table = rows.table(datamodule.ids("validation", rows.index), fingerprint=fingerprint)
    test_rows.write_file(folder / HELD_OUT, table)


def score(folder: Path, runs: Sequence[Run]) -> dict[str, Any] | None:
    """Return the scores of all rows that folds have held out, and write the rows.

    Args:
        folder: the folder of the campaign.
        runs: the runs on its folds.

    Returns:
        The scores with their intervals; None if the task has no scores of rows.
    """
    paths = [run.folder / HELD_OUT for run in runs]
    if not all(path.is_file() for path in paths):
        return None
    parts = [evaluated.read(test_rows.read_file(path), where=str(path)) for path in paths]
    found = out_of_fold.joined(parts)
    if found is None:
        logger.info("the rows that the folds have held out cannot be scored together")
        return None
    rows = found.rows
    test_rows.write_file(folder / ALL, rows.table(found.ids, fingerprint=found.fingerprint))
    scores = rows.scoring.scores(rows.columns)
    plain: dict[str, Any] = {name: float(each) for name, each in scores.items() if "." not in name}
    return {**plain, "intervals": rows.intervals(), "rows": len(rows.index)}
