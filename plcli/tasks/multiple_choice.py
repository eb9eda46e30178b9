"""Multiple choice: which of several texts goes with a text, or answers a question on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import MeanMetric, MetricCollection

from plcli.data.cells import Kind
from plcli.data.encoders.choices import ChoiceEncoder, choices_of
from plcli.data.encoders.text import TextEncoder
from plcli.data.rows import Rows
from plcli.data.split_data import Batch
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import DataError, UsageError, did_you_mean, listed
from plcli.models.transformer_module import TransformerModule

LabelForm = Literal["index", "text"]


@dataclass(kw_only=True, eq=False, repr=False)
class MultipleChoiceModel(TransformerModule):
    """An encoder that gives every choice a score, as `AutoModelForMultipleChoice` loads it.

    The arguments not named here are those of TransformerModule.
    """

    task = "multiple-choice"
    auto_class = "AutoModelForMultipleChoice"
    network_loss = False  # it knows no absent choices

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The part of the rows whose choice is right."""
        return "val_accuracy", "max"

    def metrics(self) -> MetricCollection:
        """The accuracy."""
        return MetricCollection({"accuracy": MeanMetric()})

    def logits(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the scores of each row's choices, [rows, most choices], -inf where one has fewer.

        The network is given every choice as a row of its own.
        """
        scores = outputs.logits.float().squeeze(1)
        owners, places = batch["owners"], batch["places"]
        shape = int(owners[-1]) + 1, int(places.max()) + 1
        table: torch.Tensor = scores.new_full(shape, -torch.inf)
        return table.index_put((owners, places), scores)

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean cross-entropy over the choices that a row has."""
        return torch.nn.functional.cross_entropy(self.logits(outputs, batch), batch["labels"])

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return the number of rows."""
        return float(len(batch["labels"]))

    def update(self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]) -> None:
        """Add a batch."""
        right = self.logits(outputs, batch).argmax(1) == batch["labels"]
        metrics["accuracy"].update(right.float())

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The choice, its index and score, and the probability of each choice."""
        rows = []
        probabilities = self.logits(outputs, batch).softmax(1).tolist()
        for id, choices, row in zip(batch["id"], batch["choices"], probabilities, strict=True):
            probability = row[: len(choices)]
            score = max(probability)
            index = probability.index(score)
            rows.append(
                {"id": id, "choice": choices[index], "index": index, "score": score}
                | {"probability": probability}
            )
        return rows


@dataclass(kw_only=True, eq=False, repr=False)
class MultipleChoiceData(TextData):
    """Texts with choices, of which one is right; rows may have different numbers of them.

    Every choice is read after its context, and after its question where there is one. The arguments
    not named here are those of TextData.

    Args:
        context: the column of texts that the choices go with.
        question: a column of texts that stand before each choice: a question, or a sentence to end.
        choices: a column of lists, or several columns with a choice each; where a row has fewer,
            its last ones are empty.
        label: the column of the right choice: its index from 0, or its text.
        label_form: which of both it is; by default what it can be.
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
                "of one that holds lists."
            )
        self.prompt = [self.context, *([self.question] if self.question else [])]
        self.chosen = [self.choices] if isinstance(self.choices, str) else self.choices
        self.inputs = [*self.prompt, *self.chosen]
        super().__post_init__()

    def columns(self, split: str) -> dict[str, Kind]:
        """The choices as lists or texts, and the label, but for rows to predict."""
        lists = {self.choices: Kind.TEXTS} if isinstance(self.choices, str) else {}
        label = {} if split == "predict" else {self.label: Kind.TEXT}
        return super().columns(split) | lists | label

    def texts(self, cells: tuple[Any, ...]) -> Iterator[str]:
        """Yield the prompt and every choice."""
        prompt, choices = cells[: len(self.prompt)], cells[len(self.prompt) :]
        yield from prompt
        yield from choices[0] if isinstance(self.choices, str) else choices

    def text_columns(self, split: str) -> list[list[str]]:
        """The context; a choice may be empty."""
        return [[self.context]]

    def encoder(self, split: str) -> "ChoiceEncoder":
        """Return what makes an entry of every choice."""
        text = TextEncoder(self.loaded_tokenizer, max_length=self.longest, pairs=True)
        return ChoiceEncoder(text, prompts=len(self.prompt), choices=self.choices)

    def targets(self, rows: Rows) -> npt.NDArray[np.int64]:
        """The index of each row's right choice, int64 [rows]."""
        found: list[int] = []
        for *choices, labels in rows.parts([*self.chosen, self.label]):
            for row, label in zip(zip(*choices, strict=True), labels, strict=True):
                where = f"{rows.source}, row {len(found) + 1}"
                found.append(
                    self._right(label.strip(), choices_of(row, self.choices, where), where)
                )
        return np.array(found, np.int64)

    def _right(self, label: str, choices: list[str], where: str) -> int:
        """Return the index that a label means."""
        indices = [index for index in range(len(choices)) if str(index) == label]
        texts = [index for index, choice in enumerate(choices) if choice.strip() == label]
        forms = {"index": indices, "text": texts, None: [*indices, *texts]}
        found = sorted(set(forms[self.label_form]))
        if len(found) == 1:
            return found[0]
        said = f"{where}: column '{self.label}' holds '{label:.60}', which "
        if not found:
            raise DataError(
                f"{said}is none of the choices: {listed(choices)}."
                f"{did_you_mean(label, choices)} Give the text of one, or its index, 0 to "
                f"{len(choices) - 1} (data.label_form)."
            )
        remedy = "Set data.label_form to index or text." if indices else "Give the index instead."
        raise DataError(f"{said}may be choice {' or '.join(map(str, found))} (from 0). {remedy}")

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of all choices of some rows.

        input_ids and the like are int64 [choices, 1, tokens], as the network takes single choices;
        owners and places, int64 [choices], say of which row a choice is the how manieth.
        """
        entries, owners = encoded.entries(indices)
        batch: Batch = {name: value[:, None] for name, value in encoded.batch(entries).items()}
        batch["owners"] = torch.from_numpy(owners)
        batch["places"] = torch.from_numpy(entries - encoded.first[indices][owners])
        if split == "predict":
            table = self.rows(split).table
            columns = [table.column(name).take(indices).to_pylist() for name in self.chosen]
            cells = zip(*columns, strict=True)
            batch["choices"] = [choices_of(row, self.choices, "") for row in cells]
        return batch

    def describe(self, split: str) -> str:
        """Rows, truncated rows and how many choices there are."""
        encoded, subset = self.encoded(split), self.split(split).subset
        counts = np.diff(encoded.first)[subset]
        least, most = counts.min(), counts.max()
        return f"{super().describe(split)}; choices: {least}" + (
            f" to {most}" if most > least else ""
        )
