"""The analysis of answers, generated texts, choices and language models, row by row."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from plcli.metrics import texts
from plcli.metrics.analysis.details import Details
from plcli.metrics.evaluated import EvaluatedRows


def answers(rows: EvaluatedRows) -> Details:
    """Return the correct answers and the predicted one, and their F1 and exact match."""
    f1, exact = (rows.columns[name].astype(np.float64) for name in ("f1", "exact_match"))
    scores = np.array([score or 0.0 for score in rows.outputs["probability"]])

    def row(position: int, cells: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **_both(rows, position),
            "probability": float(scores[position]),
            "f1": float(f1[position]),
            "exact_match": float(exact[position]),
        }

    # of equally wrong answers, those that the model was surest of first
    return Details(1 - f1 + 1e-6 * scores, "f1", exact == 0, row)


def generated(rows: EvaluatedRows) -> Details:
    """Return the generated text and the reference, and the first of chrF, ROUGE-L and BLEU."""
    scores, name = None, "loss"
    for name, value in (("chrf", texts.chrf), ("rougeL", None), ("bleu", texts.bleu)):
        if name in rows.columns:
            column = rows.columns[name].astype(np.float64)
            scores = column if value is None else value(column)
            break
    loss = None
    if "loss" in rows.columns:
        sums, terms = rows.columns["loss"].astype(np.float64).T
        loss = sums / np.maximum(terms, 1)

    def row(position: int, cells: Mapping[str, Any]) -> dict[str, Any]:
        found = _both(rows, position)
        if scores is not None:
            found[name] = float(scores[position])
        return found | ({} if loss is None else {"loss": float(loss[position])})

    if scores is not None:
        return Details(-scores, name, None, row)
    badness = np.zeros(len(rows.index)) if loss is None else loss
    return Details(badness, "loss", None, row)


def choices(rows: EvaluatedRows) -> Details:
    """Return the correct and the predicted choice of each row, and how sure the model was."""
    truth, predicted, loss = (rows.columns[name] for name in ("truth", "prediction", "loss"))
    chances = rows.columns.get("probability")

    def row(position: int, cells: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "truth": int(truth[position]),
            "prediction": int(predicted[position]),
        }
        if "texts" in rows.outputs:
            found = dict(rows.outputs["texts"][position])
        if chances is not None:
            found["probability"] = float(chances[position])
        return {**found, "loss": float(loss[position])}

    return Details(loss, "loss", truth != predicted, row)


def tokens(rows: EvaluatedRows) -> Details:
    """Return the loss per token of each row, of all its blocks."""
    _, of_row = np.unique(rows.index, return_inverse=True)
    sums, terms = (
        np.bincount(of_row.reshape(-1), weights=column)
        for column in rows.columns["loss"].astype(np.float64).T
    )
    loss = sums / np.maximum(terms, 1)

    def row(position: int, cells: Mapping[str, Any]) -> dict[str, Any]:
        return {"loss": float(loss[position]), "tokens": int(terms[position])}

    return Details(loss, "loss", None, row)


def _both(rows: EvaluatedRows, position: int) -> dict[str, Any]:
    return {
        name: rows.outputs[name][position]
        for name in ("truth", "prediction")
        if name in rows.outputs
    }
