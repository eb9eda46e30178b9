"""Text classification: single-label, multi-label, regression.

A row is a text, a pair of texts, or several columns joined by a template. A long text is cut, or
read in windows whose logits are pooled.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import MetricCollection

from plcli.config.marks import FACT
from plcli.data import labels, templates
from plcli.data.cells import Kind
from plcli.data.encoders.encoder import Encoder
from plcli.data.encoders.text import TextEncoder
from plcli.data.rows import Rows
from plcli.data.split_data import Batch, put_back
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import UsageError
from plcli.metrics import classification, regression
from plcli.models import losses
from plcli.models.build import label_settings
from plcli.models.pooling import Pooling, pooled
from plcli.models.transformer_module import TransformerModule

Problem = Literal["single_label", "multi_label", "regression"]
PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


@dataclass(kw_only=True, eq=False, repr=False)
class TextClassifier(TransformerModule):
    """An encoder with a classification head, as `AutoModelForSequenceClassification` loads it.

    So does `transformers.pipeline`, which knows nothing of windows: of a text that has several here
    it reads the first alone. The arguments not named here are those of TransformerModule.

    Args:
        threshold: the probability from which a label of a multi-label problem is given.
        pooling: how the logits of a row's windows (data.stride) become those of the row: their
            mean, the highest of each label, or those of the first window alone.
        labels: a fact of the data: the label names in order.
        problem: a fact of the data.
    """

    task = "text-classification"
    auto_class = "AutoModelForSequenceClassification"

    threshold: float = 0.5
    pooling: Pooling = "mean"
    labels: list[str] | None = field(default=None, metadata=FACT)
    problem: Problem | None = field(default=None, metadata=FACT)

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
            return float(len(batch["labels"]))
        return self.classification_count(batch["labels"])

    def settings(self) -> dict[str, Any]:
        """Label names and problem type, which travel with the model's config."""
        names = self.names if self.problem != "regression" else ["score"]
        return {
            "problem_type": PROBLEM_TYPES[self.problem or "single_label"],
            **label_settings(names),
        }

    def metrics(self) -> MetricCollection:
        """Running metrics.

        Only Spearman's rank correlation has to keep its scores, two numbers a row.
        """
        if self.problem == "regression":
            return regression.regression()
        if self.problem == "multi_label":
            return classification.multi_label(len(self.names), threshold=self.threshold)
        return classification.single_label(len(self.names))

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Run the network on a batch and pool the logits of windows.

        Of a batch of windows, owners int64 [entries] is the position of each one's row, ascending.
        """
        if "owners" not in batch:
            return super().forward(batch)
        inputs, owners = {key: batch[key] for key in batch if key != "labels"}, batch["owners"]
        if self.pooling == "first":
            first = owners.diff(prepend=owners.new_tensor([-1])) > 0
            inputs = {key: v[first] for key, v in inputs.items() if isinstance(v, torch.Tensor)}
            owners = owners[first]
        outputs = super().forward(inputs)
        outputs.logits = pooled(outputs.logits, owners, self.pooling)
        return outputs

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
        return classification.summary(values, self.names)

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
        return {"thresholds": thresholds, "temperature": 1.0, "pooling": self.pooling}


@dataclass(kw_only=True, eq=False, repr=False)
class TextClassificationData(TextData):
    """Texts with a label, with several labels, or with a score.

    The arguments not named here are those of TextData. A batch holds whole rows, so that one of
    windows is as many times larger as its rows have windows.

    Args:
        text: the text column; two columns for pairs; or columns joined by a template, such as
            '{subject} [SEP] {message}'.
        label: the column of labels: a name, a list of names (multi_label), a number (regression).
        problem: what the labels are.
        labels: the label names in order; by default those of the training split, sorted.
        stride: reads a long text in windows of max_length tokens that overlap by so many, instead
            of cutting it; model.pooling makes one of them.
        max_windows: windows a text at most; what follows them is cut.
    """

    task = "text-classification"

    text: str | list[str] = "text"
    label: str = "label"
    problem: Problem = field(default="single_label", metadata=FACT)
    labels: list[str] | None = field(default=None, metadata=FACT)
    stride: int | None = field(default=None, metadata=FACT)
    max_windows: int = field(default=8, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the columns and the windows."""
        labels.check(self.labels)
        self.template = self.text if isinstance(self.text, str) and "{" in self.text else None
        if self.template is not None:
            self.inputs = templates.parse(self.template, key="data.text")
        else:
            self.inputs = [self.text] if isinstance(self.text, str) else list(self.text)
        self.pairs = self.template is None and len(self.inputs) == 2
        if self.template is None and not 1 <= len(self.inputs) <= 2:
            raise UsageError(
                f"data.text: names {len(self.inputs)} columns; give one, or two for pairs."
            )
        if self.stride is not None:
            if self.pairs:
                raise UsageError(
                    "data.stride: windows are of one text, but data.text names two columns. "
                    "Join them by a template, such as "
                    f"'{{{self.inputs[0]}}} [SEP] {{{self.inputs[1]}}}', or leave the key away."
                )
            if self.stride < 0:
                raise UsageError(f"data.stride: got {self.stride}, expected 0 or more.")
        if self.max_windows < 1:
            raise UsageError(f"data.max_windows: got {self.max_windows}, expected 1 or more.")
        super().__post_init__()

    def encoder(self, split: str) -> Encoder:
        """Return what makes tokens of the inputs, cut or in windows.

        Raises:
            UsageError: if windows would overlap so much that they do not move on.
        """
        room = self.longest - self.loaded_tokenizer.num_special_tokens_to_add(pair=False)
        if self.stride is not None and self.stride >= room:
            raise UsageError(
                f"data.stride: got {self.stride}, expected less than {room}: the tokens of a text "
                f"in a window of {self.longest} (data.max_length)."
            )
        return TextEncoder(
            self.loaded_tokenizer,
            max_length=self.longest,
            pairs=self.pairs,
            template=self.template,
            stride=self.stride,
            max_windows=self.max_windows,
        )

    def texts(self, cells: tuple[Any, ...]) -> Iterator[str]:
        """Yield the texts of a row, to fit a tokenizer on: with the words of the template."""
        if self.template is None:
            yield from cells
        else:
            yield from templates.render(self.template, [[cell] for cell in cells])

    @property
    def texts_key(self) -> str | None:
        """The template."""
        return self.template

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of whole rows; of windows with owners, each one's row, int64 [entries]."""
        if self.stride is None:
            return super().collate(split, encoded, indices)
        entries, owners = encoded.entries(indices)
        return {**encoded.batch(entries), "owners": torch.from_numpy(owners)}

    @property
    def limit(self) -> str:
        """What longer rows are cut to, and the key that says so."""
        if self.stride is None:
            return super().limit
        return f"{self.max_windows} windows of {self.longest} tokens (data.max_windows)"

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
        source = self.rows("train").source
        return labels.found(self.training_column(self.label), source=source, column=self.label)

    def _cells(self, rows: Rows) -> Any:
        return rows.table.column(self.label).combine_chunks()

    def strata(self, rows: Rows) -> npt.NDArray[Any]:
        """Return each row's label; of several the rarest, so that none leaves the training rows."""
        if self.problem == "regression":
            return super().strata(rows)
        return labels.strata(self._cells(rows))

    def cut(self, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Cut the validation rows off; of several labels a row, none leaves the training rows."""
        parts = super().cut(rows)
        if self.problem != "multi_label":
            return parts
        return put_back(*parts, self._cells(rows).to_pylist())

    def facts(self) -> dict[str, Any]:
        """The labels, how often each stands, the kind of problem, and how a long text is read."""
        own: dict[str, Any] = {
            "labels": self.label_names,
            "problem": self.problem,
            "stride": self.stride,
        }
        if self.stride is not None:
            own["max_windows"] = self.max_windows
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
        give = labels.indicators if self.problem == "multi_label" else labels.ids
        return give(cells, self.label_names, source=rows.source)

    def describe(self, split: str) -> str:
        """Rows, truncated rows, windows, and how often each label stands."""
        said = super().describe(split)
        if self.stride is not None:
            encoded = self.encoded(split)
            windows = int(np.diff(encoded.first)[self.split(split).subset].sum())
            said += f", {windows} windows"
        if self.problem == "regression" or split == "predict":
            return said
        counts = self._counts(split)
        return f"{said}; " + ", ".join(
            f"{name} {int(count)}" for name, count in zip(self.label_names, counts, strict=True)
        )
