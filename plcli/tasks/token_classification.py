"""Token classification: words with tags, or texts with spans of characters; spans are found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import MetricCollection

from plcli.config.marks import FACT
from plcli.data import labels
from plcli.data.cells import Kind
from plcli.data.encoders.words import WordEncoder, found_spans, words_of
from plcli.data.rows import Rows
from plcli.data.split_data import Batch, put_back
from plcli.data.tagging import Span, Tagging, of_labels, of_tags, tags_of
from plcli.data.tagging import read as read_spans
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import UsageError, listed
from plcli.metrics import spans
from plcli.metrics.spans import SpanScores
from plcli.models.build import label_settings
from plcli.models.transformer_module import TransformerModule
from plcli.pretrained.label_ids import IGNORED


@dataclass(kw_only=True, eq=False, repr=False)
class TokenClassifier(TransformerModule):
    """An encoder that tags words, as `AutoModelForTokenClassification` loads it.

    The arguments not named here are those of TransformerModule.

    Args:
        labels: a fact of the data: the tags in order.
    """

    task = "token-classification"
    auto_class = "AutoModelForTokenClassification"
    network_loss = False

    labels: list[str] | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the tags and build."""
        self.names = self.labels or []
        if len(self.names) < 2:
            raise UsageError(
                "model.labels: a classifier needs two tags or more; they come from the data."
            )
        self.tagging = Tagging(self.names)
        super().__post_init__()

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """F1 over all spans."""
        return "val_f1", "max"

    def settings(self) -> dict[str, Any]:
        """Tags, which travel with the model's config."""
        return label_settings(self.names)

    def metrics(self) -> MetricCollection:
        """Running counts of spans and words."""
        return MetricCollection({"counts": SpanScores(len(self.tagging.types))})

    @property
    def loss_options(self) -> frozenset[str]:
        """All options of a classification's loss."""
        return frozenset({"class_weights", "focal", "label_smoothing", "r_drop"})

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss of the words that have a label, weighted where tags are."""
        return self.classification_loss(outputs.logits, batch["labels"])

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return how many words have a label, weighted where tags are."""
        return self.classification_count(batch["labels"])

    def update(self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]) -> None:
        """Add a batch: logits [windows, tokens, labels], and true spans [spans, row and span]."""
        best = outputs.logits.argmax(-1)
        rows = words_of(best, batch)
        true: list[list[Span]] = [[] for _ in rows]
        for row, start, end, type_ in batch["true"].tolist():
            true[row].append((start, end, type_))
        counted = batch["labels"] != IGNORED
        right = (best == batch["labels"]) & counted
        metrics.update(
            true,
            [[row.place(span) for span in self.tagging.spans(row.values)] for row in rows],
            int(right.sum()),
            int(counted.sum()),
        )

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Strict precision, recall and F1 over all spans, words' accuracy, a table of types."""
        return {"loss": float(values["loss"]), **spans.summary(values, self.tagging.types)}

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The spans of each row, in the order of the text; of words the tags as well.

        A span has its label, text, characters from start to end, and the mean probability of its
        words' tags. Of words it has their numbers as well; its characters are those of the words
        with blanks between them.
        """
        scores, best = outputs.logits.float().softmax(-1).max(-1)
        rows = zip(words_of(best, batch), words_of(scores, batch), strict=True)
        return [
            {"id": id, **found_spans(self.tagging, source, tagged, scored.values)}
            for id, source, (tagged, scored) in zip(batch["id"], batch["source"], rows, strict=True)
        ]


@dataclass(kw_only=True, eq=False, repr=False)
class TokenClassificationData(TextData):
    """Words with tags, or texts with spans of characters.

    A word's label stands on its first piece. A row that is longer than max_length is read in
    windows; a word counts in the one where it has most context, in training too. The arguments not
    named here are those of TextData.

    Args:
        words: the column of words: a list, or a text with blanks between them.
        tags: the column of tags, one a word: B-x, I-x and O, or plain names; a run of one plain
            name but O is a span.
        text: instead of words: the column of texts.
        spans: the column of spans in a text: a list of objects with start, end (exclusive), both
            in characters, and label.
        stride: tokens that a window repeats of the one before it; by default a quarter.
        labels: the tags in order; by default those of the training split, sorted; of BIO tags and
            spans they are O, and B-x and I-x for each x.
    """

    task = "token-classification"
    usual_window = 1  # the loss is a mean over tokens

    words: str | None = None
    tags: str | None = None
    text: str | None = None
    spans: str | None = None
    stride: int | None = None
    labels: list[str] | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the columns."""
        given = [name for name in ("words", "tags", "text", "spans") if getattr(self, name)]
        if given not in (["words", "tags"], ["text", "spans"]):
            raise UsageError(
                f"data: got {' and '.join(given) or 'no column'}; "
                "give either words and tags, or text and spans, each the name of a column."
            )
        self.inputs = [self.words or self.text or ""]
        self.target = self.tags or self.spans or ""
        labels.check(self.labels)
        if self.labels is not None and self.spans:
            wanted = tags_of(Tagging(self.labels).types)
            if sorted(self.labels) != wanted:
                raise UsageError(
                    f"data.labels: got {listed(self.labels)}; for spans give O, and B-x and I-x of "
                    f"each label x, here {listed(wanted)}."
                )
        super().__post_init__()

    def columns(self, split: str) -> dict[str, Kind]:
        """Words or a text, and but for rows to predict their tags or spans."""
        kind, target = (Kind.WORDS, Kind.TAGS) if self.words else (Kind.TEXT, Kind.OBJECT)
        return {self.inputs[0]: kind} | ({} if split == "predict" else {self.target: target})

    def texts(self, cells: tuple[Any, ...]) -> Iterator[str]:
        """Yield a row's text, to fit a tokenizer on."""
        yield " ".join(cells[0]) if self.words else cells[0]

    @cached_property
    def loaded_tokenizer(self) -> Any:
        """The tokenizer; one of bytes takes a word as it stands after a blank."""
        tokenizer = super().loaded_tokenizer
        if self.words and tokenizer.is_fast:
            parts = tokenizer.backend_tokenizer.pre_tokenizer
            if getattr(parts, "add_prefix_space", None) is False:
                parts.add_prefix_space = True
        return tokenizer

    @cached_property
    def _names(self) -> list[set[str]]:
        """The tags, or the types of spans, of each row that training rows are taken of."""
        rows, found = self.rows("train"), list[set[str]]()
        for inputs, targets in rows.parts([*self.inputs, self.target]):
            for text, cell in zip(inputs, targets, strict=True):
                where = f"{rows.source}, row {len(found) + 1}"
                found.append(
                    {name for *_, name in read_spans(cell, text, where, self.target)}
                    if self.spans
                    else set(cell) - {""}
                )
        return found

    def cut(self, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Cut the validation rows off; no tag leaves the training rows."""
        return put_back(*super().cut(rows), self._names)

    @cached_property
    def tagging(self) -> Tagging:
        """The tags in order: as given, else those of the training split, sorted.

        Raises:
            DataError: if they are fewer than two, numbers, or of two kinds.
        """
        if self.labels is not None:
            return Tagging(self.labels)
        kept = self.subset("train")
        names = self._names if kept is None else [self._names[row] for row in kept]
        make = of_labels if self.spans else of_tags
        return make(set().union(*names), f"{self.rows('train').source}: column '{self.target}'")

    def facts(self) -> dict[str, Any]:
        """The tags, and the part of the training words that has each."""
        return {
            "labels": self.tagging.names,
            "label_frequencies": self._frequencies(),
            **super().facts(),
        }

    def _frequencies(self) -> list[float]:
        encoded, kept = self.encoded("train"), self.subset("train")
        rows = np.arange(len(self.rows("train"))) if kept is None else kept
        entries, _ = encoded.entries(rows)
        found = np.concatenate([encoded.numbers("labels", entry) for entry in entries])
        counts = np.bincount(found[found != IGNORED], minlength=len(self.tagging.names))
        return [float(part) for part in counts / max(1, counts.sum())]

    def encoded_columns(self, split: str) -> list[str]:
        """Words or texts, and their tags or spans."""
        return [*self.inputs] if split == "predict" else [*self.inputs, self.target]

    def encoder(self, split: str) -> WordEncoder:
        """Return what makes windows, with labels but for rows to predict."""
        return WordEncoder(
            self.loaded_tokenizer,
            max_length=self.longest,
            stride=self.stride,
            words=self.words is not None,
            tagging=None if split == "predict" else self.tagging,
            column=self.target,
        )

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of all windows of some rows.

        Beside the tokens it holds owners, int64 [windows], the position of each one's row in the
        batch; start and end, int64 [windows, tokens]; labels alike; and the true spans, [spans, row
        and span].
        """
        entries, owners = encoded.entries(indices)
        batch: Batch = encoded.batch(entries) | {"owners": torch.from_numpy(owners)}
        batch |= {name: encoded.padded(name, entries) for name in ("start", "end")}
        if split == "predict":
            cells = self.rows(split).table.column(self.inputs[0]).take(indices)
            return batch | {"source": cells.to_pylist()}
        true = [
            (owner, *span)
            for owner, entry in zip(owners.tolist(), entries, strict=True)
            for span in encoded.numbers("spans", entry).reshape(-1, 3).tolist()
        ]
        batch["true"] = torch.tensor(true, dtype=torch.int64).reshape(-1, 4)
        return batch | {"labels": encoded.padded("labels", entries)}

    def describe(self, split: str) -> str:
        """Rows, windows, what cannot be found, and how many spans of each type there are."""
        encoded, rows = self.encoded(split), self.split(split).subset
        entries, owners = encoded.entries(rows)
        long = int((np.bincount(owners) > 1).sum())
        said = super().describe(split)
        said += f", {long} in windows of {self.longest} tokens (data.max_length)" if long else ""
        counts = {
            "tokenless": "words without a token, which are not tagged",
            "unaligned": "spans that begin or end inside a word, which cannot be found",
            "strays": "tags I-x without a B-x before them, which are in no span",
        }
        for name, what in counts.items():
            if split != "predict" or name == "tokenless":
                count = int(encoded.column(name)[entries].sum())
                said += f", {count} {what}" if count else ""
        if split == "predict":
            return said
        types = [encoded.numbers("spans", entry)[2::3] for entry in entries]
        number = np.bincount(np.concatenate(types), minlength=len(self.tagging.types))
        return f"{said}; " + ", ".join(
            f"{name} {int(count)}" for name, count in zip(self.tagging.types, number, strict=True)
        )
