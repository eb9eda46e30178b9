"""Text classification: single-label, multi-label, regression; one text or a pair of texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import MetricCollection

from plcli import losses, scores
from plcli.data import TextData
from plcli.errors import DataError, UsageError, did_you_mean, listed
from plcli.module import TransformerModule
from plcli.rows import Kind, Rows

Problem = Literal["single_label", "multi_label", "regression"]
PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


@dataclass(kw_only=True, eq=False, repr=False)
class TextClassifier(TransformerModule):
    """An encoder with a classification head, as `AutoModelForSequenceClassification` loads it.

    The arguments not named here are those of TransformerModule.

    Args:
        threshold: the probability from which a label of a multi-label problem is given.
        labels: a fact of the data: the label names in order.
        problem: a fact of the data.
    """

    task = "text-classification"
    auto_class = "AutoModelForSequenceClassification"

    threshold: float = 0.5
    labels: list[str] | None = None
    problem: Problem | None = None

    def __post_init__(self) -> None:
        """Check the label names and build."""
        self.problem = self.problem or "single_label"
        self.names = self.labels or []
        if self.problem != "regression" and len(self.names) < 2:
            raise UsageError(
                "model.labels: a classifier needs two label names or more; they come from the data."
            )
        super().__post_init__()

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """Macro F1; for regression Pearson's r.

        Macro F1 counts rare classes as much as common ones.
        """
        return ("val_pearson" if self.problem == "regression" else "val_macro_f1"), "max"

    @property
    def several_labels(self) -> bool:
        """Whether a row has any number of labels."""
        return self.problem == "multi_label"

    @property
    def loss_options(self) -> frozenset[str]:
        """Huber's loss for numbers; the options of classification else."""
        if self.problem == "regression":
            return frozenset({"huber"})
        return frozenset({"class_weights", "focal", "label_smoothing", "r_drop"})

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss of the rows, weighted where classes are."""
        if self.problem == "regression":
            return losses.regression(outputs.logits.squeeze(-1), batch["labels"], huber=self.huber)
        return self.classification_loss(outputs.logits, batch["labels"])

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return how many rows the loss is the mean of, weighted where classes are."""
        if self.weights_of_classes is None:
            return super().count(batch)
        return self.classification_count(batch["labels"])

    def settings(self) -> dict[str, Any]:
        """Label names and problem type, which travel with the model's config."""
        names = self.names if self.problem != "regression" else ["score"]
        return {
            "problem_type": PROBLEM_TYPES[self.problem or "single_label"],
            "id2label": dict(enumerate(names)),
            "label2id": {name: index for index, name in enumerate(names)},
        }

    def metrics(self) -> MetricCollection:
        """Running metrics.

        Only Spearman's rank correlation has to keep its scores, two numbers a row.
        """
        if self.problem == "regression":
            return scores.regression()
        if self.problem == "multi_label":
            return scores.multi_label(len(self.names), threshold=self.threshold)
        return scores.single_label(len(self.names))

    def update(self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]) -> None:
        """Add a batch.

        Logits [rows, labels] and labels [rows] or, for several labels a row, [rows, labels].
        """
        logits = outputs.logits.float()
        if self.problem == "regression":
            metrics.update(logits.squeeze(-1), batch["labels"])
        elif self.problem == "multi_label":
            metrics.update(logits.sigmoid(), batch["labels"].long())
        else:
            metrics.update(logits, batch["labels"])

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Plain numbers, a table of the classes and the confusion matrix.

        Rows of the matrix are the true classes.
        """
        return scores.summary(values, self.names)

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A label, its score and every probability; labels and probabilities; or a score alone."""
        logits = outputs.logits.float()
        if self.problem == "regression":
            scores = logits.squeeze(-1).tolist()
            return [
                {"id": id, "score": score} for id, score in zip(batch["id"], scores, strict=True)
            ]
        single = self.problem == "single_label"
        probabilities = (logits.softmax(-1) if single else logits.sigmoid()).tolist()
        return [
            {"id": id, **self._chosen(row), "probability": dict(zip(self.names, row, strict=True))}
            for id, row in zip(batch["id"], probabilities, strict=True)
        ]

    def _chosen(self, probabilities: list[float]) -> dict[str, Any]:
        if self.problem == "single_label":
            score = max(probabilities)
            return {"label": self.names[probabilities.index(score)], "score": score}
        chosen = zip(self.names, probabilities, strict=True)
        return {"labels": [name for name, p in chosen if p >= self.threshold]}

    def artefact_facts(self) -> dict[str, Any]:
        """Return decision thresholds and the temperature that scores were divided by.

        Thresholds are for several labels a row.
        """
        thresholds = (
            dict.fromkeys(self.names, self.threshold) if self.problem == "multi_label" else {}
        )
        return {"thresholds": thresholds, "temperature": 1.0}


@dataclass(kw_only=True, eq=False, repr=False)
class TextClassificationData(TextData):
    """Texts with a label, with several labels, or with a score.

    The arguments not named here are those of TextData.

    Args:
        text: the text column, or two columns for pairs.
        label: the column of labels: a name, a list of names (multi_label), a number (regression).
        problem: what the labels are.
        labels: the label names in order; by default those of the training split, sorted.
    """

    task = "text-classification"

    text: str | list[str] = "text"
    label: str = "label"
    problem: Problem = "single_label"
    labels: list[str] | None = None

    def __post_init__(self) -> None:
        """Check the columns."""
        self.inputs = [self.text] if isinstance(self.text, str) else self.text
        if not 1 <= len(self.inputs) <= 2:
            raise UsageError(
                f"data.text: names {len(self.inputs)} columns; give one, or two for pairs."
            )
        super().__post_init__()

    def columns(self, split: str) -> dict[str, Kind]:
        """The label column, but for rows to predict."""
        kinds = {"single_label": Kind.NAME, "multi_label": Kind.NAMES, "regression": Kind.NUMBER}
        return super().columns(split) | (
            {} if split == "predict" else {self.label: kinds[self.problem]}
        )

    @cached_property
    def label_names(self) -> list[str]:
        """Label names in order: as given, else those of the training split, sorted."""
        if self.labels is not None:
            return self.labels
        if self.problem == "regression":
            return []
        cells = self.training_column(self.label)
        found = sorted(
            (cells.flatten() if self.problem == "multi_label" else cells).unique().to_pylist()
        )
        if len(found) < 2:
            raise DataError(
                f"{self.rows('train').source}: column '{self.label}' holds {len(found)} label "
                f"({listed(found)}); two or more are needed. Name another column with data.label, "
                "or add rows."
            )
        return found

    def _cells(self, rows: Rows) -> Any:
        return rows.table.column(self.label)

    def strata(self, rows: Rows) -> npt.NDArray[Any]:
        """Return each row's label; of several the rarest, so that none leaves the training rows."""
        if self.problem == "regression":
            return super().strata(rows)
        cells = self._cells(rows).combine_chunks()
        if self.problem == "single_label":
            codes: npt.NDArray[Any] = cells.dictionary_encode().indices.to_numpy()
            return codes
        names = cells.flatten().dictionary_encode().indices.to_numpy()
        rarest = np.argsort(np.argsort(np.bincount(names), kind="stable"), kind="stable")
        strata = np.full(len(cells), len(rarest))
        row_of = np.repeat(np.arange(len(cells)), cells.value_lengths().to_numpy())
        np.minimum.at(strata, row_of, rarest[names])
        return strata

    def cut(self, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Cut the validation rows off; of several labels a row, none leaves the training rows."""
        kept, cut = super().cut(rows)
        if self.problem != "multi_label":
            return kept, cut
        names = self._cells(rows).to_pylist()
        learned = {name for row in kept for name in names[row]}
        back = []
        for row in cut:
            if not learned.issuperset(names[row]):
                learned.update(names[row])
                back.append(row)
        return np.sort(np.append(kept, back).astype(np.int64)), np.setdiff1d(cut, back)

    def facts(self) -> dict[str, Any]:
        """The labels, how often each stands, and the kind of problem."""
        own = {"labels": self.label_names, "problem": self.problem}
        if self.problem != "regression":
            own["label_frequencies"] = (self._counts("train") / self._num_rows("train")).tolist()
        return {**own, **super().facts()}

    def _num_rows(self, split: str) -> int:
        kept = self.subset(split)
        return len(self.rows(split)) if kept is None else len(kept)

    def _counts(self, split: str) -> npt.NDArray[Any]:
        """Return how many rows of a split have each label."""
        targets, kept = self.targets(self.rows(split)), self.subset(split)
        targets = targets if kept is None else targets[kept]
        if self.problem == "multi_label":
            return np.asarray(targets.sum(0))
        return np.bincount(targets, minlength=len(self.label_names))

    def targets(self, rows: Rows) -> npt.NDArray[Any]:
        """Label ids int64 [rows], indicators float32 [rows, labels], or scores float32 [rows]."""
        cells = self._cells(rows)
        if self.problem == "regression":
            scores: npt.NDArray[Any] = cells.to_numpy().astype(np.float32)
            return scores
        cells = cells.combine_chunks()
        if self.problem == "single_label":
            return self._ids(cells, rows, np.arange(len(rows)))
        row_of = np.repeat(np.arange(len(rows)), cells.value_lengths().to_numpy())
        indicators = np.zeros((len(rows), len(self.label_names)), np.float32)
        indicators[row_of, self._ids(cells.flatten(), rows, row_of)] = 1
        return indicators

    def _ids(self, names: Any, rows: Rows, row_of: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Turn an Arrow array of names into label ids; row_of says in which row each stands."""
        encoded = names.dictionary_encode()
        known = {name: index for index, name in enumerate(self.label_names)}
        table = np.array([known.get(name, -1) for name in encoded.dictionary.to_pylist()], np.int64)
        ids: npt.NDArray[np.int64] = table[encoded.indices.to_numpy()]
        if (ids < 0).any():
            first = int(np.argmax(ids < 0))
            name = names[first].as_py()
            raise DataError(
                f"{rows.source}, row {row_of[first] + 1}: label '{name}' is not one of "
                f"{listed(known)}.{did_you_mean(name, known) or ' Mend it, or remove the row.'}"
            )
        return ids

    def describe(self, split: str) -> str:
        """Rows, truncated rows and how often each label stands."""
        said = super().describe(split)
        if self.problem == "regression" or split == "predict":
            return said
        counts = self._counts(split)
        return f"{said}; " + ", ".join(
            f"{name} {int(count)}" for name, count in zip(self.label_names, counts, strict=True)
        )
