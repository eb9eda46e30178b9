"""The analysis of classes and of several labels a row: what is confused, how sure, how wrong."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from plcli.metrics import decisions
from plcli.metrics.analysis import confident
from plcli.metrics.analysis.details import Details, Positions
from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.intervals import Array
from plcli.metrics.scoring import Labelled, MultiLabel, SingleLabel

MOST_IN_A_MATRIX = 200  # classes
MOST_PAIRS = 50
MOST_CURVES = 15  # labels
POINTS = 51  # of a threshold curve
BINS = 10  # of the calibration
LEAST = 1e-12  # of a probability, for its logarithm
PARTS = ("precision", "recall", "f1")


def chances_of(rows: EvaluatedRows) -> Array | None:
    """Return the probabilities of classes or labels, [rows, labels]; None if they are not kept."""
    scoring = rows.scoring
    if not isinstance(scoring, Labelled) or "logits" not in rows.columns:
        return None
    logits = rows.columns["logits"].astype(np.float64) / (scoring.temperature or 1.0)
    return decisions.probabilities(logits, several=isinstance(scoring, MultiLabel))


def truth_and_prediction(rows: EvaluatedRows) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return label ids, int64 [rows], or of several labels flags, bool [rows, labels]."""
    scoring, columns = rows.scoring, rows.columns
    if isinstance(scoring, MultiLabel):
        return scoring.flags(columns["truth"]) > 0, scoring.flags(columns["prediction"]) > 0
    return columns["truth"].astype(np.int64), columns["prediction"].astype(np.int64)


# of each row


def details(rows: EvaluatedRows) -> Details:
    """Return what is said of each row: truth, prediction, its probability, and the loss.

    The loss is the negative log-likelihood of the truth (of several labels the mean over them),
    with the temperature, and without class weights and the like. Where no probabilities are kept,
    it is that of the evaluation, if any.
    """
    scoring = rows.scoring
    assert isinstance(scoring, Labelled)
    truth, predicted = truth_and_prediction(rows)
    chances = chances_of(rows)
    several = isinstance(scoring, MultiLabel)
    wrong = (truth != predicted).any(1) if several else truth != predicted
    if chances is None:
        loss = rows.columns.get("loss")
    elif several:
        right = np.where(truth, chances, 1 - chances)
        loss = -np.log(np.maximum(right, LEAST)).mean(1)
    else:
        loss = -np.log(np.maximum(chances[np.arange(len(truth)), truth], LEAST))
    names = scoring.labels

    def of_one(position: int, cells: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "truth": names[truth[position]],
            "prediction": names[predicted[position]],
        }
        if chances is not None:
            found["probability"] = float(chances[position, predicted[position]])
        return found | _loss(loss, position)

    def of_several(position: int, cells: Mapping[str, Any]) -> dict[str, Any]:
        own, given = truth[position], predicted[position]
        return {
            "truth": _named(names, own),
            "prediction": _named(names, given),
            "missed": _named(names, own & ~given),
            "wrong": _named(names, given & ~own),
            **_loss(loss, position),
        }

    badness = wrong.astype(np.float64) if loss is None else loss
    by = "number of wrong labels" if loss is None else "loss"
    return Details(badness, by, wrong, of_several if several else of_one)


def _loss(loss: npt.NDArray[Any] | None, position: int) -> dict[str, float]:
    return {} if loss is None else {"loss": float(loss[position])}


def _named(names: list[str], flags: npt.NDArray[np.bool_]) -> list[str]:
    return [names[label] for label in np.flatnonzero(flags)]


# of all rows


def parts(
    rows: EvaluatedRows, intervals: Mapping[str, Any], *, thresholds: Mapping[str, float]
) -> dict[str, Any]:
    """Return the parts of an analysis that only labels have.

    Args:
        rows: the rows.
        intervals: the intervals of their scores by name.
        thresholds: the thresholds in use by label; empty for the most likely class.
    """
    scoring = rows.scoring
    assert isinstance(scoring, Labelled)
    truth, predicted = truth_and_prediction(rows)
    found: dict[str, Any] = {
        "labels": list(scoring.labels),
        "classes": of_classes(*_counts(truth, predicted, scoring), scoring.labels, intervals),
    }
    size = len(scoring.labels)
    if isinstance(scoring, SingleLabel):
        pairs, counts = np.unique(truth * size + predicted, return_counts=True)
        if size <= MOST_IN_A_MATRIX:
            matrix = np.zeros(size * size, np.int64)
            matrix[pairs] = counts
            found["confusion_matrix"] = matrix.reshape(size, size).tolist()
        true, given = np.divmod(pairs, size)
    else:
        counted = _confused_labels(truth, predicted)
        true, given, counts = counted
    support = _counts(truth, predicted, scoring)[2]
    found["confused"] = confused_pairs(true, given, counts, support, scoring.labels)
    if (chances := chances_of(rows)) is not None:
        found["thresholds"] = _curves(chances, truth, scoring, support, thresholds)
        found["calibration"] = calibration(chances, truth, predicted, scoring.temperature)
    return found


def _counts(
    truth: npt.NDArray[Any], predicted: npt.NDArray[Any], scoring: Labelled
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the correct, predicted and true rows of each label, int64 [labels]."""
    if isinstance(scoring, MultiLabel):
        return (truth & predicted).sum(0), predicted.sum(0), truth.sum(0)
    size = len(scoring.labels)
    right = np.bincount(truth[truth == predicted], minlength=size)
    return right, np.bincount(predicted, minlength=size), np.bincount(truth, minlength=size)


def of_classes(
    right: npt.NDArray[np.int64],
    given: npt.NDArray[np.int64],
    support: npt.NDArray[np.int64],
    labels: list[str],
    intervals: Mapping[str, Any],
    *,
    prefix: str = "classes",
) -> list[dict[str, Any]]:
    """Return precision, recall, F1 and counts of each label, with their intervals.

    Args:
        right: the correct rows of each label, int64 [labels].
        given: the predicted ones.
        support: the true ones.
        labels: the label names.
        intervals: the intervals of scores by name, such as `classes.bug.f1`.
        prefix: what those names begin with.
    """
    found = []
    for place, label in enumerate(labels):
        correct, predicted, true = int(right[place]), int(given[place]), int(support[place])
        ends = {
            name: [each["low"], each["high"]]
            for name in PARTS
            if (each := intervals.get(f"{prefix}.{label}.{name}"))
        }
        found.append(
            {
                "label": label,
                "precision": correct / predicted if predicted else 0.0,
                "recall": correct / true if true else 0.0,
                "f1": 2 * correct / (predicted + true) if predicted + true else 0.0,
                "support": true,
                "predicted": predicted,
                "correct": correct,
                "intervals": ends,
            }
        )
    return found


def _confused_labels(
    truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return pairs of a missed label and one that is wrong in the same rows, and their number."""
    missed, wrong = (truth & ~predicted).astype(np.float64), (predicted & ~truth).astype(np.float64)
    together = (missed.T @ wrong).astype(np.int64)
    true, given = np.nonzero(together)
    return true, given, together[true, given]


def confused_pairs(
    true: npt.NDArray[Any],
    given: npt.NDArray[Any],
    counts: npt.NDArray[Any],
    support: npt.NDArray[Any],
    labels: list[str],
) -> list[dict[str, Any]]:
    """Return pairs of different labels, the most frequent first.

    Args:
        true: the true label of each pair, int64 [pairs].
        given: the predicted one.
        counts: the number of rows.
        support: the number of rows of each true label.
        labels: the label names.
    """
    order = np.argsort(-counts, kind="stable")
    order = order[true[order] != given[order]][:MOST_PAIRS]
    return [
        {
            "true": labels[true[pair]],
            "predicted": labels[given[pair]],
            "count": int(counts[pair]),
            "share": float(counts[pair] / max(1, support[true[pair]])),
        }
        for pair in order
    ]


def calibration(
    chances: Array,
    truth: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    temperature: float | None,
) -> dict[str, Any]:
    """Return the mean confidence and the accuracy of bins of equal width.

    They are of the predicted class or, of several labels, of all labels of all rows.

    Args:
        chances: probabilities, [rows, labels].
        truth: label ids, int64 [rows], or flags, bool [rows, labels].
        predicted: likewise.
        temperature: the temperature in use, to be named.
    """
    if truth.ndim > 1:
        confidence, right = chances.ravel(), truth.ravel()
    else:
        confidence = chances[np.arange(len(truth)), predicted]
        right = truth == predicted
    bins = np.clip((confidence * BINS).astype(np.int64), 0, BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    sums = [np.bincount(bins, weights=each, minlength=BINS) for each in (confidence, right)]
    means = [np.where(counts > 0, each / np.maximum(counts, 1), np.nan) for each in sums]
    gaps = np.where(counts > 0, np.abs(sums[0] - sums[1]), 0.0)
    return {
        "of": "labels" if truth.ndim > 1 else "prediction",
        "ece": float(gaps.sum() / max(1, counts.sum())),
        "temperature": temperature,
        "bins": [
            {
                "low": number / BINS,
                "high": (number + 1) / BINS,
                "n": int(counts[number]),
                "confidence": float(means[0][number]),
                "accuracy": float(means[1][number]),
            }
            for number in range(BINS)
        ],
    }


def _curves(
    chances: Array,
    truth: npt.NDArray[Any],
    scoring: Labelled,
    support: npt.NDArray[np.int64],
    chosen: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Return precision, recall and F1 by threshold; they are shown, and choose nothing."""
    if isinstance(scoring, MultiLabel):
        places = sorted(np.argsort(-support, kind="stable")[:MOST_CURVES].tolist())
    elif len(scoring.labels) == 2:
        places = [scoring.labels.index(next(iter(chosen), scoring.labels[1]))]
    else:
        return []
    found = []
    for place in places:
        has = truth[:, place] if truth.ndim > 1 else truth == place
        label = scoring.labels[place]
        curve = []
        for threshold in np.linspace(0, 1, POINTS):
            given = chances[:, place] >= threshold
            right = int((given & has).sum())
            both = int(given.sum() + has.sum())
            curve.append(
                {
                    "threshold": round(float(threshold), 2),
                    "precision": right / int(given.sum()) if given.any() else None,
                    "recall": right / int(has.sum()) if has.any() else None,
                    "f1": 2 * right / both if both else 0.0,
                }
            )
        found.append(
            {
                "label": label,
                "chosen": float(chosen.get(label, decisions.PLAIN)),
                "curve": curve,
            }
        )
    return found


def suspected_labels(rows: EvaluatedRows) -> tuple[Positions, list[dict[str, Any]]] | None:
    """Return rows whose label looks wrong, and what is said of each; None if it is not known."""
    scoring, chances = rows.scoring, chances_of(rows)
    if chances is None or not isinstance(scoring, Labelled):
        return None
    truth, _ = truth_and_prediction(rows)
    names, found = scoring.labels, []
    if not isinstance(scoring, MultiLabel):
        known = confident.suspected(chances, truth)
        for row, label, margin in zip(known.rows, known.suggested, known.margins, strict=True):
            found.append(
                {
                    "given": names[truth[row]],
                    "suggested": names[label],
                    "probability": float(chances[row, label]),
                    "given_probability": float(chances[row, truth[row]]),
                    "margin": float(margin),
                }
            )
        return known.rows, found
    known = confident.suspected_of_labels(chances, truth)
    for row, label, margin in zip(known.rows, known.suggested, known.margins, strict=True):
        has, chance = bool(truth[row, label]), float(chances[row, label])
        texts = (f"not {names[label]}", names[label])
        found.append(
            {
                "given": texts[has],
                "suggested": texts[not has],
                "probability": 1 - chance if has else chance,
                "given_probability": chance if has else 1 - chance,
                "margin": float(margin),
            }
        )
    return known.rows, found
