"""Running metrics of classification, from torchmetrics; no logits are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchmetrics import (
    MetricCollection,
)
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassPrecision,
    MulticlassRecall,
    MultilabelAveragePrecision,
    MultilabelF1Score,
    MultilabelPrecision,
    MultilabelRecall,
    MultilabelStatScores,
)

BINS = 200  # of the running average precision; the exact value needs all scores


def single_label(count: int) -> MetricCollection:
    """Return metrics of logits [rows, classes] and label ids [rows]."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(count, average="micro"),
            "macro_f1": MulticlassF1Score(count, average="macro"),
            "weighted_f1": MulticlassF1Score(count, average="weighted"),
            "precision": MulticlassPrecision(count, average=None),
            "recall": MulticlassRecall(count, average=None),
            "f1": MulticlassF1Score(count, average=None),
            "confusion_matrix": MulticlassConfusionMatrix(count),
        }
    )


def multi_label(count: int, *, threshold: float) -> MetricCollection:
    """Return metrics of probabilities [rows, labels] and multi-hot labels [rows, labels]."""
    return MetricCollection(
        {
            "micro_f1": MultilabelF1Score(count, threshold=threshold, average="micro"),
            "macro_f1": MultilabelF1Score(count, threshold=threshold, average="macro"),
            "average_precision": MultilabelAveragePrecision(count, thresholds=BINS),
            "precision": MultilabelPrecision(count, threshold=threshold, average=None),
            "recall": MultilabelRecall(count, threshold=threshold, average=None),
            "f1": MultilabelF1Score(count, threshold=threshold, average=None),
            "counts": MultilabelStatScores(count, threshold=threshold, average=None),
        }
    )


def summary(values: Mapping[str, torch.Tensor], labels: Sequence[str]) -> dict[str, Any]:
    """Return plain numbers, a table of the classes and the confusion matrix.

    Args:
        values: the computed metrics of a collection.
        labels: the label names; empty for regression.
    """
    plain: dict[str, Any] = {
        name: float(value) for name, value in values.items() if value.ndim == 0
    }
    if not labels:
        return plain
    matrix = values.get("confusion_matrix")
    support = values["counts"][:, 4] if matrix is None else matrix.sum(1)
    plain["classes"] = {
        name: {key: float(values[key][index]) for key in ("precision", "recall", "f1")}
        | {"support": int(support[index])}
        for index, name in enumerate(labels)
    }
    if matrix is not None:
        plain["confusion_matrix"] = matrix.tolist()  # rows are the true classes
    return plain
