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

    def update(self, predicted: torch.Tensor, label_ids: torch.Tensor) -> None:
        """Add predicted label ids [rows], or logits [rows, classes], and true label ids [rows]."""
        chosen = predicted if predicted.ndim == 1 else predicted.argmax(-1)
        count = len(self.true)
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
    """Return metrics of predicted and true label ids, int64 [rows].

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


def multi_label(count: int) -> MetricCollection:
    """Return metrics of predicted and true multi-hot labels, int64 [rows, labels].

    The average precision is of probabilities instead, so that they are not updated together.
    """
    return MetricCollection(
        {
            "micro_f1": MultilabelF1Score(count, average="micro"),
            "macro_f1": MultilabelF1Score(count, average="macro"),
            "average_precision": MultilabelAveragePrecision(count, thresholds=BINS),
            "precision": MultilabelPrecision(count, average=None),
            "recall": MultilabelRecall(count, average=None),
            "f1": MultilabelF1Score(count, average=None),
            "counts": MultilabelStatScores(count, average=None),
        },
        compute_groups=False,
    )


def single_label_rows(
    logits: torch.Tensor, labels: torch.Tensor, predicted: torch.Tensor, *, with_loss: bool
) -> dict[str, torch.Tensor]:
    """Return what `SingleLabel` scores of each row.

    Args:
        logits: [rows, classes].
        labels: int64 [rows].
        predicted: int64 [rows].
        with_loss: whether the loss is the plain cross-entropy, so that it is kept.
    """
    kept = {"truth": labels, "prediction": predicted}
    if with_loss:
        kept["loss"] = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    return kept


def multi_label_rows(
    logits: torch.Tensor, labels: torch.Tensor, predicted: torch.Tensor, *, with_loss: bool
) -> dict[str, torch.Tensor]:
    """Return what `MultiLabel` scores of each row.

    Args:
        logits: [rows, labels].
        labels: 0 or 1, [rows, labels].
        predicted: bool [rows, labels].
        with_loss: whether the loss is the plain binary cross-entropy, so that it is kept.
    """
    kept = {"truth": _bits(labels > 0), "prediction": _bits(predicted)}
    if with_loss:
        terms = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, labels.float(), reduction="none"
        )
        kept["loss"] = terms.mean(-1)
    return kept


def _bits(flags: torch.Tensor) -> torch.Tensor:
    """Return flags, bool [rows, labels], as bits, uint8 [rows, labels / 8]; the lowest first."""
    padded = torch.nn.functional.pad(flags.to(torch.int32), (0, -flags.shape[1] % 8))
    powers = 2 ** torch.arange(8, dtype=torch.int32, device=flags.device)
    return (padded.view(len(flags), -1, 8) * powers).sum(-1).to(torch.uint8)


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
