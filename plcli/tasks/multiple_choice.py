"""Multiple choice: which of several texts continues a text, or answers a question about it."""

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import MeanMetric, MetricCollection

from plcli.data.cells import Kind
from plcli.data.encoders.choices import ChoiceEncoder, choices_of, names_of, texts_of
from plcli.data.encoders.text import TextEncoder
from plcli.data.rows import Rows
from plcli.data.split import Batch
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import DataError, UsageError, did_you_mean, listed
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Means, Scoring
from plcli.models import ensemble
from plcli.models.transformer_module import TransformerModule

LabelForm = Literal["index", "letter", "text"]
LETTERS = string.ascii_uppercase


@dataclass(kw_only=True, eq=False, repr=False)
class MultipleChoiceModel(TransformerModule):
    """An encoder that scores every choice, loaded with `AutoModelForMultipleChoice`.

    The other arguments are those of TransformerModule.
    """

    task = "multiple-choice"
    auto_class = "AutoModelForMultipleChoice"
    network_loss = False  # it does not support rows with fewer choices

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The accuracy."""
        return "val_accuracy", "max"

    def metrics(self) -> MetricCollection:
        """The accuracy."""
        return MetricCollection({"accuracy": MeanMetric()})

    def logits(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the scores of each row's choices, [rows, most choices]; -inf for absent choices.

        The network gets every choice as a row of its own.
        """
        scores = outputs.logits.float().squeeze(1)
        row_index, places = batch["row_index"], batch["places"]
        shape = int(row_index[-1]) + 1, int(places.max()) + 1
        table: torch.Tensor = scores.new_full(shape, -torch.inf)
        return table.index_put((row_index, places), scores)

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean cross-entropy of the rows, each over its own choices."""
        return torch.nn.functional.cross_entropy(self.logits(outputs, batch), batch["labels"])

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return the number of rows."""
        return float(len(batch["labels"]))

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns:
        """Add a batch."""
        logits = self.logits(outputs, batch)
        chosen = logits.argmax(1)
        correct = (chosen == batch["labels"]).float()
        metrics["accuracy"].update(correct)
        told = {}
        if self.analyses and "choices" in batch:
            named = zip(batch["choices"], batch["labels"].tolist(), chosen.tolist(), strict=True)
            texts = [{"truth": row[true], "prediction": row[given]} for row, true, given in named]
            told = {"texts": texts}
        return {
            **told,
            "truth": batch["labels"],
            "prediction": chosen,
            "probability": logits.softmax(1).max(1).values,
            "accuracy": correct,
            "loss": torch.nn.functional.cross_entropy(logits, batch["labels"], reduction="none"),
            "baseline.accuracy": 1 / logits.isfinite().sum(1),
            "baseline.loss": logits.isfinite().sum(1).log(),
        }

    def scoring(self, collector: RowCollector) -> Scoring:
        """Return how the accuracy follows from the rows; its baseline is chance."""
        names = ["accuracy", "loss"]
        return Means(names=names, proportions=["accuracy"], only={}, baseline_name="chance")

    def averaged(self, outputs: Sequence[Any], batch: Any, modules: Sequence[Any]) -> Any:
        """Return outputs with the mean probabilities of choices."""
        row_index, places = batch["row_index"], batch["places"]
        tables = [ensemble.with_logits(each, self.logits(each, batch)) for each in outputs]
        mean = ensemble.with_mean_probabilities(tables).logits
        return ensemble.with_logits(outputs[0], mean[row_index, places][:, None])

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The choice, its index and score, and the probability of each choice."""
        rows = []
        probabilities = self.logits(outputs, batch).softmax(1).tolist()
        for row_id, choices, row in zip(batch["id"], batch["choices"], probabilities, strict=True):
            probability = row[: len(choices)]
            score = max(probability)
            index = probability.index(score)
            rows.append(
                {"id": row_id, "choice": choices[index], "index": index, "score": score}
                | {"probability": probability}
            )
        return rows


@dataclass(kw_only=True, eq=False, repr=False)
class MultipleChoiceData(TextData):
    """Texts with choices, one of which is correct; the number of choices can differ between rows.

    The input for each choice is the context, the question if there is one, and the choice. The
    other arguments are those of TextData.

    Args:
        context: the column of texts that the choices refer to.
        question: a column of texts to put before each choice: a question, or the start of a
            sentence.
        choices: a column of lists, or of objects with the lists text and label, as in ARC; or
            several columns with one choice each; if a row has fewer choices, its last columns are
            empty.
        label: the column of the correct choice: its index from 0, its letter, A for the first, or
            its text; or one of the labels that the choices have.
        label_form: whether labels are indices, letters or texts; by default detected for each row.
    """

    task = "multiple-choice"

    context: str = "context"
    question: str | None = None
    choices: str | list[str] = "choices"
    label: str = "label"
    label_form: LabelForm | None = None

    def __post_init__(self) -> None:
        """Check the columns."""
        if isinstance(self.choices, list) and len(self.choices) < 2:
            raise UsageError(
                f"data.choices: names {len(self.choices)} columns; give two or more, or the name "
                "of one column of lists."
            )
        self.prompt = [self.context, *([self.question] if self.question else [])]
        self.chosen = [self.choices] if isinstance(self.choices, str) else self.choices
        self.inputs = [*self.prompt, *self.chosen]
        super().__post_init__()

    def columns(self, split: str) -> dict[str, Kind]:
        """The choices as lists or texts and, except for rows to predict, the label."""
        lists = {self.choices: Kind.OBJECT} if isinstance(self.choices, str) else {}
        label = {} if split == "predict" else {self.label: Kind.TEXT}
        return super().columns(split) | lists | label

    def texts(self, cells: tuple[Any, ...]) -> Iterator[str]:
        """Yield the prompt and every choice."""
        prompt, choices = cells[: len(self.prompt)], cells[len(self.prompt) :]
        yield from prompt
        yield from texts_of(choices, self.choices, "a row")

    def text_columns(self, split: str) -> list[list[str]]:
        """The context; choices can be empty."""
        return [[self.context]]

    def encoder(self, split: str) -> "ChoiceEncoder":
        """Return an encoder that makes one entry per choice."""
        text = TextEncoder(self.loaded_tokenizer, max_length=self.longest, pairs=True)
        return ChoiceEncoder(text, prompts=len(self.prompt), choices=self.choices)

    def targets(self, rows: Rows) -> npt.NDArray[np.int64]:
        """The index of the correct choice of each row, int64 [rows]."""
        found: list[int] = []
        for *choices, labels in rows.parts([*self.chosen, self.label]):
            for row, label in zip(zip(*choices, strict=True), labels, strict=True):
                where = f"{rows.source}, row {len(found) + 1}"
                texts, names = (
                    choices_of(row, self.choices, where),
                    names_of(row, self.choices, where),
                )
                found.append(self._index_of(label.strip(), texts, names, where))
        return np.array(found, np.int64)

    def _index_of(self, label: str, choices: list[str], names: list[str] | None, where: str) -> int:
        """Return the index of the choice that a label refers to."""
        if names is not None and self.label_form is None:
            if label not in names:
                raise DataError(
                    f"{where}: column '{self.label}' contains '{label:.60}', which is not one of "
                    f"the choices' labels: {listed(names)}. Correct it, or remove the row."
                )
            return names.index(label)
        indices = [index for index in range(len(choices)) if str(index) == label]
        letter = LETTERS.find(label) if len(label) == 1 else -1
        letters = [letter] if 0 <= letter < len(choices) else []
        texts = [index for index, choice in enumerate(choices) if choice.strip() == label]
        forms = {
            "index": indices,
            "letter": letters,
            "text": texts,
            None: [*indices, *letters, *texts],
        }
        found = sorted(set(forms[self.label_form]))
        if len(found) == 1:
            return found[0]
        message = f"{where}: column '{self.label}' contains '{label:.60}', which "
        if not found:
            raise DataError(
                f"{message}is not one of the choices: {listed(choices)}."
                f"{did_you_mean(label, choices)} Give the text of one, its index, 0 to "
                f"{len(choices) - 1}, or its letter, A to {LETTERS[: len(choices)][-1]} "
                "(data.label_form)."
            )
        remedy = (
            "Set data.label_form to index, letter or text."
            if indices or letters
            else "Give the index instead."
        )
        raise DataError(
            f"{message}could be choice {' or '.join(map(str, found))} (counted from 0). {remedy}"
        )

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of all choices of some rows.

        The token tensors, such as input_ids, are int64 [choices, 1, tokens], because the network
        gets every choice as a row of its own. row_index, int64 [choices], is the row index of each
        choice, and places, int64 [choices], its index within the row.
        """
        entries, row_index = encoded.entries(indices)
        batch: Batch = {name: value[:, None] for name, value in encoded.batch(entries).items()}
        batch["row_index"] = torch.from_numpy(row_index)
        batch["places"] = torch.from_numpy(entries - encoded.first[indices][row_index])
        if split != "train":
            table = self.rows(split).table
            columns = [table.column(name).take(indices).to_pylist() for name in self.chosen]
            cells = zip(*columns, strict=True)
            batch["choices"] = [choices_of(row, self.choices, "") for row in cells]
        return batch

    def describe(self, split: str) -> str:
        """Rows, truncated rows, and the number of choices per row."""
        encoded, subset = self.encoded(split), self.split(split).subset
        counts = np.diff(encoded.first)[subset]
        least, most = counts.min(), counts.max()
        return f"{super().describe(split)}; choices: {least}" + (
            f" to {most}" if most > least else ""
        )
