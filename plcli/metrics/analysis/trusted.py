"""Whether a model is good enough for what it says of labels: clearly better than its baseline."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.scoring import Baseline, MultiLabel, SingleLabel

JUDGED = ("macro_f1", "micro_f1", "accuracy")  # larger is better; the first that has an interval


def doubt(rows: EvaluatedRows, intervals: Mapping[str, Any], *, main: str | None) -> str | None:
    """Return why the labels of rows cannot be doubted by a model; None if they can.

    Args:
        rows: the rows of a classifier.
        intervals: the intervals of its scores, by name; those of the rows if it is empty.
        main: the score that chooses the best epoch; it decides if it is one of JUDGED.
    """
    found = _baseline(rows)
    if found is None:
        return None
    simple = rows.scoring.scores(found.columns)
    intervals = intervals or rows.intervals()
    names = sorted(JUDGED, key=lambda name: name != main)
    name = next((name for name in names if name in intervals and name in simple), None)
    if name is None:
        return f"its scores have no intervals, which would say whether it beats the {found.name}"
    ends = intervals[name]
    if ends["low"] > simple[name]:
        return None
    return (
        f"it is not clearly better than the {found.name}, whose {name} is {simple[name]:.3f} (its "
        f"own: 95 % {ends['low']:.3f} to {ends['high']:.3f})"
    )


def _baseline(rows: EvaluatedRows) -> Baseline | None:
    """Return the baseline; where no training rows are known, that of the rows themselves."""
    scoring, truth = rows.scoring, rows.columns["truth"]
    if (found := rows.baseline()) is not None:
        return found
    if isinstance(scoring, SingleLabel):
        counts = np.bincount(truth, minlength=len(scoring.labels))
        own: list[float] = (counts / counts.sum()).tolist()
        return replace(scoring, frequencies=own).baseline(rows.columns)
    if isinstance(scoring, MultiLabel):
        own = scoring.flags(truth).mean(0).tolist()
        return replace(scoring, frequencies=own).baseline(rows.columns)
    return None
