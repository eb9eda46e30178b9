"""Running metrics of classification, from torchmetrics; no logits are kept."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torchmetrics import (
    Metric,
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

MOST_IN_A_MATRIX = 1000  # classes; a matrix of more has millions of cells, and few rows in each
BINS = 200  # of the running average precision; the exact value needs all scores


class ClassCounts(Metric):
    """Precision, recall and F1 of many classes, from three counts of each class.

    torchmetrics counts pairs of classes, which takes time and memory with the square of their
    number. The values are those of its metrics; `compute` returns them by the same names.

    Args:
        count: the number of classes.
    """

    predicted: torch.Tensor
    true: torch.Tensor
    right: torch.Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        for name in ("predicted", "true", "right"):
            self.add_state(name, torch.zeros(count, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, logits: torch.Tensor, label_ids: torch.Tensor) -> None:
        """Add logits [rows, classes] and label ids [rows]."""
        chosen, count = logits.argmax(-1), len(self.true)
        self.predicted += chosen.bincount(minlength=count)
        self.true += label_ids.bincount(minlength=count)
        self.right += label_ids[chosen == label_ids].bincount(minlength=count)

    def compute(self) -> dict[str, torch.Tensor]:
        """Return accuracy, macro_f1, weighted_f1, and those of each class, [classes]."""
        precision = self.right / self.predicted.clamp(min=1)
        recall = self.right / self.true.clamp(min=1)
        f1 = 2 * self.right / (self.predicted + self.true).clamp(min=1)
        seen = (self.predicted + self.true) > 0  # as in torchmetrics, others do not count
        return {
            "accuracy": self.right.sum() / self.true.sum(),
            "macro_f1": f1[seen].mean(),
            "weighted_f1": (f1 * self.true).sum() / self.true.sum(),
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": self.true,
        }


def single_label(count: int) -> MetricCollection:
    """Return metrics of logits [rows, classes] and label ids [rows].

    With more than MOST_IN_A_MATRIX classes there is no confusion matrix.
    """
    if count > MOST_IN_A_MATRIX:
        return MetricCollection({"counts_of_classes": ClassCounts(count)})
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
    if "support" in values:
        support = values["support"]
    else:
        support = values["counts"][:, 4] if matrix is None else matrix.sum(1)
    plain["classes"] = {
        name: {key: float(values[key][index]) for key in ("precision", "recall", "f1")}
        | {"support": int(support[index])}
        for index, name in enumerate(labels)
    }
    if matrix is not None:
        plain["confusion_matrix"] = matrix.tolist()  # rows are the true classes
    return plain
