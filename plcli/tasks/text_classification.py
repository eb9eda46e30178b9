"""Text classification: single-label, multi-label, regression.

A row is a text, a pair, or columns joined by a template; long texts are cut, or read in windows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torchmetrics import MetricCollection

from plcli.config.marks import FACT, FREE, USE
from plcli.data import labels, templates
from plcli.data.cells import Kind, normalized
from plcli.data.encoders.encoder import Encoder
from plcli.data.encoders.text import TextEncoder, check_windows
from plcli.data.rows import Rows
from plcli.data.split import Batch
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import UsageError
from plcli.metrics import classification, regression
from plcli.metrics.numeric import Numbers
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Scoring
from plcli.models import deciding, distillation, ensemble, losses, target_scaling
from plcli.models.build import label_settings
from plcli.models.pooling import Pooling, first_windows, pooled
from plcli.models.target_scaling import TargetScaling
from plcli.models.transformer_module import TransformerModule

Problem = Literal["single_label", "multi_label", "regression"]
IDENTITY = "torch.nn.modules.linear.Identity"
PROBLEM_TYPES = {
    "single_label": "single_label_classification",
    "multi_label": "multi_label_classification",
    "regression": "regression",
}


@dataclass(kw_only=True, eq=False, repr=False)
class TextClassifier(TransformerModule):
    """An encoder with a classification head, loaded with `AutoModelForSequenceClassification`.

    `transformers.pipeline` also loads it, but does not support windows: it reads only the first
    window of a long text. The other arguments are those of TransformerModule.

    Args:
        threshold: labels with at least this probability are predicted: all labels of multi-label
            problems, where it is 0.5 by default, or `positive` of two classes.
        positive: of two classes the one that a threshold is of; by default the second one.
        goal: chooses thresholds on the validation rows after training: max_f1, precision>=0.95,
            recall>=0.9, or the costs {false_positive: 1, false_negative: 5}.
        calibrate: whether to choose a temperature on the validation rows after training, which
            logits are divided by, so that probabilities are as likely as they say.
        abstain_below: a single label with less than this probability is not predicted: it is null.
        pooling: how the logits of a row's windows (data.stride) are combined: their mean, the
            maximum for each label, or those of the first window.
        labels: a fact of the data: the label names in order.
        problem: a fact of the data.
        temperature: a fact of the validation split: the temperature that was chosen.
        thresholds: a fact of the validation split: the threshold of each label.
        target_mean: a fact of the training split, for regression: the mean of the targets, in their
            unit. The network learns standardized targets, which are also what the loss is of; what
            it predicts, and the saved model, are in the unit of the targets.
        target_std: likewise, their standard deviation.
        sigmoid: a fact of pretrained weights that are used as they are: whether the single output
            is a probability.
    """

    task = "text-classification"
    auto_class = "AutoModelForSequenceClassification"
    explained = deciding.explained
    distils = distillation.Rows

    threshold: float | None = field(default=None, metadata=FREE)
    positive: str | None = field(default=None, metadata=FREE)
    goal: str | dict[str, float] | None = field(default=None, metadata=FREE)
    calibrate: bool = field(default=False, metadata=FREE)
    abstain_below: float | None = field(default=None, metadata=FREE)
    pooling: Pooling = "mean"
    labels: list[str] | None = field(default=None, metadata=FACT)
    problem: Problem | None = field(default=None, metadata=FACT)
    temperature: float | None = field(default=None, metadata=FACT)
    thresholds: dict[str, float] | None = field(default=None, metadata=FACT)
    target_mean: float | None = field(default=None, metadata=FACT)
    target_std: float | None = field(default=None, metadata=FACT)
    sigmoid: bool | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the label names, and build the network."""
        self.problem = self.problem or "single_label"
        self.names = self.labels or []
        if self.problem != "regression" and len(self.names) < 2:
            raise UsageError(
                "model.labels: a classifier needs at least two labels; they come from the data."
            )
        deciding.check(self)
        self.decider = deciding.decider(self)
        super().__post_init__()
        if self.problem == "regression":  # otherwise a CrossEncoder would apply a sigmoid
            self.model.config.sentence_transformers = {"activation_fn": IDENTITY}
            head = target_scaling.output_names(self.model)
            self.scaling = target_scaling.scaling(
                self.model,
                mean=self.target_mean,
                std=self.target_std,
                pretrained=self.architecture is None and not head & self.fresh_names,
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the weights of earlier versions, which predicted targets in their unit."""
        super().on_load_checkpoint(checkpoint)
        if self.problem == "regression":
            for name, value in TargetScaling(0.0, 1.0).state_dict(prefix="scaling.").items():
                checkpoint["state_dict"].setdefault(name, value)

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """Macro F1, which gives all classes the same weight; for regression Pearson's r."""
        return ("val_pearson" if self.problem == "regression" else "val_macro_f1"), "max"

    @property
    def several_labels(self) -> bool:
        """Whether the problem is multi-label."""
        return self.problem == "multi_label"

    @property
    def loss_options(self) -> frozenset[str]:
        """The Huber loss for regression, otherwise the options of the classification loss."""
        if self.problem == "regression":
            return frozenset({"huber"})
        return frozenset({"class_weights", "focal", "label_smoothing", "r_drop"})

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss over rows, weighted if class_weights are set."""
        if self.problem == "regression":
            return losses.regression(
                self._standardized(outputs),
                self.scaling.standardized(batch["labels"]),
                huber=None if self.huber is None else self.huber / float(self.scaling.std),
            )
        return self.classification_loss(outputs.logits, batch["labels"])

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return the number of rows in the loss, or their total weight with class_weights."""
        if self.weights_of_classes is None:
            return float(len(batch["labels"]))
        return self.classification_count(batch["labels"])

    def settings(self) -> dict[str, Any]:
        """The label names and the problem type, which are saved in the model's config."""
        names = self.names if self.problem != "regression" else ["score"]
        return {
            "problem_type": PROBLEM_TYPES[self.problem or "single_label"],
            **label_settings(names),
        }

    def metrics(self) -> MetricCollection:
        """Running metrics; only Spearman's correlation keeps all values, two numbers per row."""
        if self.problem == "regression":
            return regression.regression()
        if self.problem == "multi_label":
            return classification.multi_label(len(self.names))
        return classification.single_label(len(self.names))

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Run the network on a batch, and pool the logits of windows.

        A batch of windows has row_index, int64 [windows], the row index of each window, ascending.
        """
        if "row_index" not in batch:
            return super().forward(batch)
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        if self.pooling == "first":
            inputs = first_windows(inputs)
        row_index = inputs["row_index"]
        outputs = super().forward(inputs)
        outputs.logits = pooled(outputs.logits, row_index, self.pooling)
        return outputs

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns:
        """Add a batch: logits [rows, labels], and labels [rows] or (multi-label) [rows, labels]."""
        logits, labels = outputs.logits.float(), batch["labels"]
        if self.problem == "regression":
            # distances from the mean, because sums of squares lose precision if it is large
            distances = labels - self.scaling.mean
            predicted = self._standardized(outputs) * self.scaling.std
            metrics.update(predicted, distances)
            return {"truth": distances, "prediction": predicted}
        return self.decider.update(
            metrics,
            logits,
            labels,
            with_loss=not (self.class_weights or self.focal or self.label_smoothing),
            with_logits=self.wants_decisions or self.temperature is not None or self.analyses,
        )

    def scoring(self, collector: RowCollector) -> Scoring:
        """Return how the scores follow from truth and prediction of each row."""
        if self.problem == "regression":
            known = None if self.target_mean is None else [0.0]
            names = ["rmse", "mae", "pearson", "spearman"]
            return Numbers(names=names, mean=known, centre=[self.target_mean or 0.0])
        return self.decider.scoring(self.label_frequencies)

    @property
    def wants_decisions(self) -> bool:
        """Whether a temperature or thresholds are to be chosen on validation rows."""
        return self.calibrate or self.goal is not None

    def decide(self) -> dict[str, Any]:
        """Choose them on the rows of the last validation."""
        self.decider, described = self.decider.chosen_on(
            self.evaluated_rows["val"].columns,
            calibrate=self.calibrate,
            goal=self.goal,
            positive=deciding.checked_positive(self.positive, self.names),
        )
        self.temperature = self.decider.temperature
        self.thresholds = dict(self.decider.thresholds) or None
        return described

    def _standardized(self, outputs: Any) -> torch.Tensor:
        """Return the predicted numbers of a regression, standardized, float32 [rows]."""
        logits: torch.Tensor = outputs.logits.float().squeeze(-1)
        return logits.sigmoid() if self.sigmoid else logits

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Plain numbers, a table of the classes, and the confusion matrix; its rows are true."""
        return classification.summary(values, self.names)

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A label, its score and all probabilities; labels and probabilities; or only a score."""
        logits = outputs.logits.float()
        if self.problem == "regression":
            scores = self.scaling.restored(self._standardized(outputs)).tolist()
            return [
                {"id": row_id, "score": score}
                for row_id, score in zip(batch["id"], scores, strict=True)
            ]
        return self.decider.rows(batch["id"], logits)

    def averaged(self, outputs: Sequence[Any], batch: Any, modules: Sequence[Any]) -> Any:
        """Return outputs with the mean probabilities or, for regression, the mean numbers."""
        if self.problem == "regression":
            scalings = [module.scaling for module in modules]
            mean = target_scaling.mean(scalings, [each.logits.float() for each in outputs])
            return ensemble.with_logits(outputs[0], mean)
        several, single = ensemble.with_mean_chances, ensemble.with_mean_probabilities
        average = several if self.several_labels else single
        return average(outputs, temperatures=[module.temperature for module in modules])

    def use_ensemble(self, modules: Sequence[Any]) -> None:
        """Decide by the mean of the thresholds."""
        self.decider = deciding.joint([module.decider for module in modules])

    def artefact_facts(self) -> dict[str, Any]:
        """Return the thresholds, the temperature, and the pooling."""
        return {**super().artefact_facts(), **self.decider.facts(), "pooling": self.pooling}

    def save_pretrained(self, folder: Path) -> None:
        """Save the network; that of a regression predicts targets in their unit."""
        regression = self.problem == "regression"
        with self.scaling.folded(self.model) if regression else nullcontext():
            super().save_pretrained(folder)


@dataclass(kw_only=True, eq=False, repr=False)
class TextClassificationData(TextData):
    """Texts with a label, with several labels, or with a score.

    A batch contains whole rows with all their windows. The other arguments are those of TextData.

    Args:
        text: the text column; two columns for pairs; or columns joined by a template, such as
            '{subject} [SEP] {message}'.
        label: the column of labels: a name, a list of names or indicators such as [0, 0, 1]
            (multi_label), a number (regression); or a list of columns of 0 and 1, one for each
            label, which makes the problem multi_label.
        problem: the kind of labels.
        labels: the label names in order; by default those of the training split, sorted.
        ignore_label: a label that marks rows without one, such as '-' or '-1'; they are left out.
        stride: splits a long text into windows of max_length tokens that overlap by this number of
            tokens, instead of truncating it; model.pooling combines their logits.
        max_windows: maximum number of windows per text; the rest of the text is cut.
    """

    task = "text-classification"

    text: str | list[str] = "text"
    label: str | list[str] = "label"
    problem: Problem = field(default="single_label", metadata=FACT)
    labels: list[str] | None = field(default=None, metadata=FACT)
    ignore_label: str | None = field(default=None, metadata=USE)
    stride: int | None = field(default=None, metadata=FACT)
    max_windows: int = field(default=8, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the columns and the windows."""
        self.labels = labels.given(self.labels)
        if self.ignore_label is not None:
            self.ignore_label = normalized(self.ignore_label, "data.ignore_label")
        self.flags = None if isinstance(self.label, str) else list(self.label)
        if self.flags is not None:
            labels.check_flags(self.flags, self.labels, regression=self.problem == "regression")
            self.problem, self.labels = "multi_label", self.flags
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
        labels.check_columns(self.label_columns, self.inputs)
        check_windows(self.stride, self.max_windows, self.inputs, pairs=self.pairs)
        super().__post_init__()

    def encoder(self, split: str) -> Encoder:
        """Return an encoder that truncates the inputs or splits them into windows.

        Raises:
            UsageError: if the stride is not smaller than a window.
        """
        room = self.longest - self.loaded_tokenizer.num_special_tokens_to_add(pair=False)
        if self.stride is not None and self.stride >= room:
            raise UsageError(
                f"data.stride: got {self.stride}, expected less than {room}, the number of text "
                f"tokens in a window of {self.longest} (data.max_length)."
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
        """Yield the texts of a row, to fit a tokenizer on; a template is filled in."""
        if self.template is None:
            yield from cells
        else:
            yield from templates.render(self.template, [[cell] for cell in cells])

    @property
    def texts_key(self) -> str | None:
        """The template."""
        return self.template

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of all windows of some rows; row_index, int64 [windows], is their row."""
        if self.stride is None:
            return super().collate(split, encoded, indices)
        entries, row_index = encoded.entries(indices)
        return {**encoded.batch(entries), "row_index": torch.from_numpy(row_index)}

    @property
    def limit(self) -> str:
        """The length that longer rows are cut to, and the key that sets it."""
        if self.stride is None:
            return super().limit
        return f"{self.max_windows} windows of {self.longest} tokens (data.max_windows)"

    def columns(self, split: str) -> dict[str, Kind]:
        """The label column, except for rows to predict."""
        kinds = {"single_label": Kind.NAME, "multi_label": Kind.NAMES, "regression": Kind.NUMBER}
        kind = Kind.FLAG if self.flags else kinds[self.problem]
        names = [] if split == "predict" else self.label_columns
        return super().columns(split) | dict.fromkeys(names, self.label_kind(kind, split))

    @property
    def label_columns(self) -> Sequence[str]:
        """The label column, or those of 0 and 1."""
        return self.flags or [str(self.label)]

    @cached_property
    def label_names(self) -> list[str]:
        """The label names in order: data.labels, or those of the training split, sorted."""
        if self.labels is not None:
            return self.labels
        if self.problem == "regression":
            return []
        rows, kept, column = self.rows("train"), self.subset("train"), str(self.label)
        every = self._cells(rows)  # with those that are split off for validation
        cells = (every if kept is None else every.take(pa.array(kept))).drop_null()
        names = labels.found(cells, source=rows.source, column=column)
        if self.problem == "single_label":
            labels.check_missing(names, source=rows.source, column=column)
            labels.check_repeated(every, self.ignore_label, source=rows.source, column=column)
        return names

    def _cells(self, rows: Rows) -> Any:
        """Return the labels of all rows: names, lists of names, or numbers."""
        if not isinstance(self.label, str):
            flags = [rows.table.column(name).combine_chunks() for name in self.label]
            return labels.of_flags(self.label, flags, source=rows.source)
        cells = rows.table.column(self.label).combine_chunks()
        if self.problem != "multi_label":
            return cells
        return labels.named(cells, self.labels, source=rows.source, column=self.label)

    def subset(self, split: str) -> npt.NDArray[np.int64] | None:
        """Return the row numbers of a split within its rows, without those to ignore."""
        kept = super().subset(split)
        if self.ignore_label is None or self.problem != "single_label" or split == "predict":
            return kept
        labelled = labels.labelled(self._cells(self.rows(split)), ignored=self.ignore_label)
        return labelled if kept is None else np.intersect1d(kept, labelled)

    def texts_and_targets(self, split: str) -> tuple[list[str], npt.NDArray[Any], Problem]:
        """Return the text of each row of a split, its target, and the kind of problem."""
        rows, kept = self.rows(split), self.labelled(split)
        cells = [rows.table.column(name).take(kept).to_pylist() for name in self.inputs]
        texts = [" ".join(self.texts(row)) for row in zip(*cells, strict=True)]
        return texts, self.targets(rows)[kept], self.problem

    def strata(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the label of each row, or its rarest label, so that each one stays in training."""
        if self.problem == "regression":
            return super().strata(rows)
        return labels.strata(self._cells(rows))

    def trained_names(self, rows: Rows) -> list[list[str]] | None:
        """The labels of each row, except where strata are labels that no group holds together."""
        grouped = self.problem == "single_label" and self.group is not None
        multiple = self.problem == "multi_label"
        return labels.of_rows(self._cells(rows)) if grouped or multiple else None

    def facts(self) -> dict[str, Any]:
        """The labels and their frequencies, the kind of problem, and the settings of windows."""
        own: dict[str, Any] = {
            "labels": self.label_names,
            "problem": self.problem,
            "stride": self.stride,
        }
        if self.stride is not None:
            own["max_windows"] = self.max_windows
        if self.train is None:  # pretrained weights are used as they are
            pass
        elif self.problem != "regression":
            num_rows = len(self.labelled("train"))
            own["label_frequencies"] = (self._counts("train") / num_rows).tolist()
        else:
            targets = self._cells(self.rows("train")).take(self.labelled("train")).to_numpy()
            own |= {"target_mean": float(targets.mean()), "target_std": float(targets.std()) or 1.0}
        return {**own, **super().facts()}

    def _counts(self, split: str) -> npt.NDArray[Any]:
        """Return the number of rows of a split with each label."""
        targets = self.targets(self.rows(split))[self.labelled(split)]
        if self.problem == "multi_label":
            return np.asarray(targets.sum(0))
        return np.bincount(targets, minlength=len(self.label_names))

    def targets(self, rows: Rows) -> npt.NDArray[Any]:
        """Label ids int64 [rows], indicators float32 [rows, labels], or scores float32 [rows].

        Rows without a label have -100, or NaN.
        """
        cells = self._cells(rows)
        if self.problem == "regression":
            return np.asarray(cells.to_numpy(zero_copy_only=False), np.float32)
        convert = labels.indicators if self.problem == "multi_label" else labels.ids
        if self.ignore_label is not None and self.problem == "single_label":
            any_name = self.label_names[0]  # of rows that no split has
            cells = pc.if_else(pc.equal(cells, self.ignore_label), any_name, cells)
        return convert(cells, self.label_names, source=rows.source)

    def describe(self, split: str) -> str:
        """Rows, truncated rows, windows, and the number of rows with each label."""
        description = super().describe(split)
        if self.stride is not None:
            encoded = self.encoded(split)
            windows = int(np.diff(encoded.first)[self.split(split).subset].sum())
            description += f", {windows} windows"
        if self.problem == "regression" or split == "predict":
            return description
        return f"{description}; {labels.counted(self.label_names, self._counts(split))}"
