"""`--baseline tfidf`: a linear model on TF-IDF, fitted on the training rows, beside the scores."""

import logging
from typing import Any

import numpy as np
import numpy.typing as npt

from plcli.config.contracts import data_contract, module_contract
from plcli.errors import UsageError
from plcli.metrics.scoring import Columns

logger = logging.getLogger(__name__)

CHOICES = ("tfidf",)
NAME = "TF-IDF and a linear model"


def check(wanted: str | None, datamodule: Any) -> None:
    """Check that the baseline that was asked for can be computed, before anything is trained.

    Raises:
        UsageError: if there is no such baseline, or the task has none.
        MachineError: if scikit-learn is not installed.
    """
    if wanted is None:
        return
    if wanted not in CHOICES:
        raise UsageError(f"--baseline: got '{wanted}', expected {' or '.join(CHOICES)}.")
    if not data_contract(datamodule).offers("texts_and_targets"):
        raise UsageError(
            "--baseline tfidf: is for text classification and regression. Remove it for this task."
        )
    if not data_contract(datamodule).has("train"):
        raise UsageError("--baseline tfidf: needs training rows. Give data.train.")
    from plcli.metrics import tfidf  # which others do not need

    tfidf.need_library()


def scores(model: Any, datamodule: Any, split: str) -> dict[str, dict[str, float]]:
    """Return the scores of the baseline on the rows of the last evaluation of a split, by its name.

    Args:
        model: the LightningModule that was evaluated.
        datamodule: its LightningDataModule.
        split: validation or test.
    """
    rows = module_contract(model).evaluated_rows.get("val" if split == "validation" else split)
    if rows is None:
        return {}
    data = data_contract(datamodule)
    texts, targets, problem = data.texts_and_targets("train")
    others, truth, _ = data.texts_and_targets(split)
    logger.info("baseline: fitting %s on %d rows", NAME, len(texts))
    from plcli.metrics import tfidf

    predicted = tfidf.predictions(texts, targets, others, problem=problem)
    found = rows.scoring.scores(_columns(truth, predicted, problem))
    return {NAME: {name: value for name, value in found.items() if "." not in name}}


def _columns(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], problem: str) -> Columns:
    """Return the columns that the scoring of the task reads."""
    if problem != "multi_label":
        return {"truth": truth, "prediction": predicted}
    return {
        name: np.packbits(flags.astype(np.uint8), axis=1, bitorder="little")
        for name, flags in (("truth", truth), ("prediction", predicted))
    }
