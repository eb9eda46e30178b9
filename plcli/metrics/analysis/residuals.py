"""The analysis of numbers: the worst errors and how they are distributed."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from plcli.metrics.analysis.details import Details
from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.intervals import Array

BINS = 20
MOST_POINTS = 500


def _read(rows: EvaluatedRows) -> tuple[Array, Array]:
    """Return the true and the predicted numbers in their unit, [rows, targets]."""
    readable = rows.scoring.readable(rows.columns)
    truth, predicted = (
        np.asarray(readable[name], np.float64).reshape(len(rows.index), -1)
        for name in ("truth", "prediction")
    )
    return truth, predicted


def details(rows: EvaluatedRows, *, same_unit: bool) -> Details:
    """Return truth, prediction and error of each row.

    Args:
        rows: the rows.
        same_unit: whether predictions have the unit of the truth. Otherwise, as of cosines and
            scores of similarity, and of several targets, the error is in standard deviations.
    """
    truth, predicted = _read(rows)
    size = truth.shape[1]
    if same_unit and size == 1:
        error = (predicted - truth)[:, 0]
    elif same_unit:
        spread = np.where(truth.std(0) > 0, truth.std(0), 1.0)
        error = np.sqrt((((predicted - truth) / spread) ** 2).mean(1))
    else:
        error = (_standardized(predicted) - _standardized(truth))[:, 0]

    def row(position: int, cells: Mapping[str, Any]) -> dict[str, Any]:
        true, given = truth[position].tolist(), predicted[position].tolist()
        return {
            "truth": true if size > 1 else true[0],
            "prediction": given if size > 1 else given[0],
            "error": float(error[position]),
        }

    return Details(np.abs(error), "error", None, row)


def _standardized(values: Array) -> Array:
    spread = values.std(0)
    return np.asarray((values - values.mean(0)) / np.where(spread > 0, spread, 1.0))


def residuals(rows: EvaluatedRows) -> dict[str, Any]:
    """Return a histogram of prediction minus truth, and some points; empty for several targets."""
    truth, predicted = _read(rows)
    if truth.shape[1] > 1:
        return {}
    error = (predicted - truth)[:, 0]
    error = error[np.isfinite(error)]
    if not len(error):
        return {}
    counts, edges = np.histogram(error, bins=BINS)
    shown = np.linspace(0, len(truth) - 1, min(MOST_POINTS, len(truth))).astype(np.int64)
    return {
        "mean": float(error.mean()),
        "std": float(error.std()),
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "points": np.stack([truth[shown, 0], predicted[shown, 0]], axis=1).tolist(),
    }
