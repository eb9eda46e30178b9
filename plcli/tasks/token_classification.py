"""Token classification: finds spans, given tagged words or texts with character spans."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
from torchmetrics import MetricCollection

from plcli.config.marks import FACT, instead_of
from plcli.data import labels
from plcli.data.cells import Kind
from plcli.data.encoders.words import WordEncoder, Words, found_spans, words_of
from plcli.data.rows import Rows
from plcli.data.split import Batch
from plcli.data.split_data import SplitData
from plcli.data.tagging import OUTSIDE, Span, Tagging, is_iob1, of_labels, of_tags, tags_of
from plcli.data.tagging import read as read_spans
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import DataError, UsageError, listed
from plcli.metrics import spans
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Scoring
from plcli.metrics.spans import SpanScores, counts_of_rows
from plcli.metrics.texts import SpanCounts
from plcli.models import distillation, ensemble, losses
from plcli.models.attribution import Support, log_odds
from plcli.models.build import label_settings
from plcli.models.transformer_module import TransformerModule
from plcli.pretrained.label_ids import IGNORED

logger = logging.getLogger(__name__)

LOST = 0.01  # the fraction of spans that may begin or end inside a word
FEW_ROWS = 20  # rows, too few to tell whether each is a word
MOST_WORDS = 0.95  # the fraction of rows with a single word, above which rows are words


@dataclass(kw_only=True, eq=False, repr=False)
class TokenClassifier(TransformerModule):
    """An encoder that tags words, loaded with `AutoModelForTokenClassification`.

    The other arguments are those of TransformerModule.

    Args:
        labels: a fact of the data: the tags in order.
    """

    task = "token-classification"
    auto_class = "AutoModelForTokenClassification"
    network_loss = False
    distils = distillation.Words

    labels: list[str] | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the tags, and build the network."""
        self.names = self.labels or []
        if len(self.names) < 2:
            raise UsageError(
                "model.labels: a classifier needs at least two tags; they come from the data."
            )
        self.tagging = Tagging(self.names)
        super().__post_init__()

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """F1 over all spans."""
        return "val_f1", "max"

    def settings(self) -> dict[str, Any]:
        """The tags, which are saved in the model's config."""
        return label_settings(self.names)

    def metrics(self) -> MetricCollection:
        """Running counts of spans and words."""
        return MetricCollection({"counts": SpanScores(len(self.tagging.types))})

    @property
    def loss_options(self) -> frozenset[str]:
        """All options of the classification loss."""
        return frozenset({"class_weights", "focal", "label_smoothing", "r_drop"})

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss over labelled words, weighted if class_weights are set."""
        return self.classification_loss(outputs.logits, batch["labels"])

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return the number of labelled words, or their total weight if class_weights are set."""
        return self.classification_count(batch["labels"])

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns:
        """Add a batch: logits [windows, tokens, labels] and true spans [spans, row and span]."""
        best = outputs.logits.argmax(-1)
        rows = words_of(best, batch)
        true: list[list[Span]] = [[] for _ in rows]
        for row, start, end, type_ in batch["true"].tolist():
            true[row].append((start, end, type_))
        predicted = self._placed(rows)
        kept = self._counts(predicted, true, best, batch)
        metrics.update(kept["spans"], kept["words"])
        if not (self.class_weights or self.focal or self.label_smoothing):
            terms = losses.of_rows(outputs.logits, batch["labels"]).cpu()
            kept["loss"] = terms.new_zeros(len(rows), 2).index_add(
                0, batch["row_index"].cpu(), terms
            )
        if self.label_frequencies is not None:
            tag = int(np.argmax(self.label_frequencies))
            same = [Words(row.start, row.end, [tag] * len(row.values)) for row in rows]
            simple = self._counts(self._placed(same), true, torch.full_like(best, tag), batch)
            kept |= {f"baseline.{name}": column for name, column in simple.items()}
        return {**kept, "truth": true, "prediction": predicted} if self.analyses else {**kept}

    def _placed(self, rows: list[Words]) -> list[list[Span]]:
        """Return the spans of each row, in characters or words of the row."""
        return [[row.place(span) for span in self.tagging.spans(row.values)] for row in rows]

    def _counts(
        self,
        predicted: list[list[Span]],
        true: list[list[Span]],
        tag_ids: torch.Tensor,
        batch: Mapping[str, Any],
    ) -> dict[str, torch.Tensor]:
        """Return the counts of spans, [rows, types, 3], and of words, [rows, 2], of each row."""
        counted = batch["labels"] != IGNORED
        right = (tag_ids == batch["labels"]) & counted
        of_windows = torch.stack([right.sum(1), counted.sum(1)], dim=1).cpu()
        words = of_windows.new_zeros(len(true), 2).index_add(
            0, batch["row_index"].cpu(), of_windows
        )
        spans = counts_of_rows(true, predicted, num_types=len(self.tagging.types))
        return {"spans": spans, "words": words}

    def scoring(self, collector: RowCollector) -> Scoring:
        """Return how the scores follow from the counts of each row."""
        return SpanCounts(types=list(self.tagging.types))

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Strict precision, recall and F1 over all spans, word accuracy, and a table of types."""
        return {"loss": float(values["loss"]), **spans.summary(values, self.tagging.types)}

    def explained(self, outputs: Any, batch: Mapping[str, Any]) -> Support:
        """Return what was decided on a row: the sum of the log odds of the tags of its spans."""
        tag_ids, counted = outputs.logits.argmax(-1), batch["start"] != IGNORED
        outside = self.tagging.ids.get(OUTSIDE, -1)
        within = counted & (tag_ids != outside)
        shape = outputs.logits.shape

        def support(copies: Any) -> torch.Tensor:
            odds = log_odds(copies.logits.float().view(-1, *shape), tag_ids)
            summed: torch.Tensor = (odds * within).sum((1, 2))
            return summed

        return support

    def averaged(self, outputs: Sequence[Any], batch: Any, modules: Sequence[Any]) -> Any:
        """Return outputs with the mean probabilities of tags."""
        return ensemble.with_mean_probabilities(outputs)

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The spans of each row in the order of the text, and its tags if the input is words.

        A span has a label, its text, its character range, and the mean probability of the tags of
        its words. If the input is words, a span also has the indices of its words, and the
        character range is that of the words joined by spaces.
        """
        scores, best = outputs.logits.float().softmax(-1).max(-1)
        rows = zip(words_of(best, batch), words_of(scores, batch), strict=True)
        return [
            {"id": row_id, **found_spans(self.tagging, source, tagged, scored.values)}
            for row_id, source, (tagged, scored) in zip(
                batch["id"], batch["source"], rows, strict=True
            )
        ]


@dataclass(kw_only=True, eq=False, repr=False)
class TokenClassificationData(TextData):
    """Words with tags, or texts with character spans.

    The label of a word is on its first token. A row longer than max_length is split into windows; a
    word is scored in the window where it has the most context, also in training. The other
    arguments are those of TextData.

    Args:
        words: the column of words: a list, or a text of words separated by spaces.
        tags: the column of tags, one per word: B-x, I-x and O, or plain names; consecutive words
            with the same plain name other than O are a span.
        text: instead of words: the column of texts.
        spans: the column of spans in a text: a list of objects with label, start and end; both are
            in characters, and end is exclusive.
        stride: number of tokens by which windows overlap; by default a quarter of max_length.
        labels: the tags in order; by default those of the training split, sorted. For BIO tags and
            spans, these are O, and B-x and I-x for each x.
    """

    task = "token-classification"
    default_bucket_batches = 1  # the loss is a mean over tokens

    words: str | None = field(default=None, metadata=instead_of("text", "spans"))
    tags: str | None = field(default=None, metadata=instead_of("text", "spans"))
    text: str | None = field(default=None, metadata=instead_of("words", "tags"))
    spans: str | None = field(default=None, metadata=instead_of("words", "tags"))
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
        self._schemes: dict[str, bool] = {}
        self._checked: set[str] = set()
        self.labels = labels.given(self.labels)
        if self.labels is not None and self.spans:
            wanted = tags_of(Tagging(self.labels).types)
            if sorted(self.labels) != wanted:
                raise UsageError(
                    f"data.labels: got {listed(self.labels)}; for spans give O, and B-x and I-x "
                    f"for each label x, here {listed(wanted)}."
                )
        super().__post_init__()

    def columns(self, split: str) -> dict[str, Kind]:
        """The words or the text and, except for rows to predict, the tags or spans."""
        kind, target = (Kind.WORDS, Kind.TAGS) if self.words else (Kind.TEXT, Kind.OBJECT)
        targets = [] if split == "predict" else self.label_columns
        return {self.inputs[0]: kind} | dict.fromkeys(targets, self.label_kind(target, split))

    @property
    def label_columns(self) -> Sequence[str]:
        """The column of tags or spans."""
        return [self.target]

    def texts(self, cells: tuple[Any, ...]) -> Iterator[str]:
        """Yield a row's text, to fit a tokenizer on."""
        yield " ".join(cells[0]) if self.words else cells[0]

    @cached_property
    def loaded_tokenizer(self) -> Any:
        """The tokenizer; a byte-level one tokenizes each word as after a space."""
        tokenizer = super().loaded_tokenizer
        if self.words and tokenizer.is_fast:
            pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
            if getattr(pre_tokenizer, "add_prefix_space", None) is False:
                pre_tokenizer.add_prefix_space = True
                # save_pretrained writes it, and some classes build the tokenizer from it
                tokenizer.add_prefix_space = tokenizer.init_kwargs["add_prefix_space"] = True
        return tokenizer

    @cached_property
    def _names(self) -> list[set[str]]:
        """The tags, or the types of the spans, of each row of the training source."""
        rows, found = self.rows("train"), list[set[str]]()
        for inputs, targets in rows.parts([*self.inputs, self.target]):
            for text, cell in zip(inputs, targets, strict=True):
                where = f"{rows.source}, row {len(found) + 1}"
                if cell is None:
                    found.append(set())
                elif self.spans:
                    found.append({name for *_, name in read_spans(cell, text, where, self.target)})
                else:
                    found.append(set(cell) - {""})
        return found

    def trained_names(self, rows: Rows) -> list[set[str]]:
        """The tags, or the types of the spans, of each row."""
        return self._names

    @cached_property
    def tagging(self) -> Tagging:
        """The tags in order: data.labels or, by default, those of the training split, sorted.

        Raises:
            DataError: if there are fewer than two tags, or they are numbers or of mixed schemes.
        """
        if self.labels is not None:
            return Tagging(self.labels)
        kept = self.subset("train")
        names = self._names if kept is None else [self._names[row] for row in kept]
        make = of_labels if self.spans else of_tags
        return make(set().union(*names), f"{self.rows('train').source}: column '{self.target}'")

    def facts(self) -> dict[str, Any]:
        """The tags, and the fraction of the training words with each."""
        trained = {} if self.train is None else {"label_frequencies": self._frequencies()}
        return {"labels": self.tagging.names, **trained, **super().facts()}

    def _frequencies(self) -> list[float]:
        encoded, kept = self.encoded("train"), self.subset("train")
        rows = np.arange(len(self.rows("train"))) if kept is None else kept
        entries, _ = encoded.entries(rows)
        found = np.concatenate([encoded.numbers("labels", entry) for entry in entries])
        counts = np.bincount(found[found != IGNORED], minlength=len(self.tagging.names))
        return [float(part) for part in counts / max(1, counts.sum())]

    def encoded_columns(self, split: str) -> list[str]:
        """The words or texts and, except for rows to predict, their tags or spans."""
        return [*self.inputs] if split == "predict" else [*self.inputs, self.target]

    def encoder(self, split: str) -> WordEncoder:
        """Return an encoder that makes windows and, except for rows to predict, their labels."""
        return WordEncoder(
            self.loaded_tokenizer,
            max_length=self.longest,
            stride=self.stride,
            words=self.words is not None,
            tagging=None if split == "predict" else self.tagging,
            column=self.target,
            iob1=split != "predict" and self.words is not None and self._is_iob1(split),
        )

    def without_rows(self) -> SplitData:
        """Return a copy that has checked no rows yet."""
        other = super().without_rows()
        vars(other).update(_schemes={}, _checked=set())
        return other

    def _is_iob1(self, split: str) -> bool:
        """Whether the tags of a split's source follow the scheme IOB1; they are converted."""
        if split not in self._schemes:
            rows = self.rows(split)
            cells = (cell or [] for (column,) in rows.parts([self.target]) for cell in column)
            self._schemes[split] = is_iob1(cells)
            if self._schemes[split]:
                logger.info("%s: its tags are IOB1 and are converted to IOB2", rows.source)
        return self._schemes[split]

    def encoded(self, split: str) -> Encoded:
        """Return the encoded rows of a split.

        Raises:
            DataError: if more than one span of a hundred cannot be found, or if rows are words.
        """
        encoded = super().encoded(split)
        if split != "predict" and split not in self._checked:
            self._checked.add(split)
            self._check_rows(split)
            self._check_spans(split, encoded)
        return encoded

    def _check_rows(self, split: str) -> None:
        """Refuse rows of single words, as in a file with a line for each word."""
        rows = self.rows(split)
        if self.words is None or len(rows) < FEW_ROWS:
            return
        lengths = pc.list_value_length(rows.table.column(self.words))
        single = pc.sum(pc.less_equal(lengths, 1)).as_py()
        if single > MOST_WORDS * len(rows):
            raise DataError(
                f"{rows.source}: {single} of {len(rows)} rows have a single word, so that nothing "
                "can be learned from the words around it. Give each row the words of a sentence; "
                "a file in the CoNLL form, with a blank line between sentences, has the ending "
                ".conll."
            )

    def _check_spans(self, split: str, encoded: Encoded) -> None:
        """Refuse spans that do not fit the words of the texts."""
        if self.spans is None:
            return
        lost, total = encoded.column("unaligned"), len(encoded.flat("spans", None)) // 3
        count = int(lost.sum())
        if count > LOST * max(total, 1):
            entry = int(np.argmax(lost > 0))
            row = int(encoded.column("row")[entry]) + 1
            raise DataError(
                f"{self.rows(split).source}, row {row}: {count} of {total} spans begin or end "
                "inside a word, so that they cannot be found. Check that offsets count characters, "
                "not bytes or UTF-16 code units, and that the tokenizer separates words of this "
                "script."
            )

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of all windows of some rows.

        Besides the tokens, the batch has row_index, int64 [windows], the row index of each window;
        start, end and labels, int64 [windows, tokens]; and the true spans, [spans, row and span].
        """
        entries, row_index = encoded.entries(indices)
        batch: Batch = encoded.batch(entries) | {"row_index": torch.from_numpy(row_index)}
        batch |= {name: encoded.padded(name, entries) for name in ("start", "end")}
        if split == "predict":
            cells = self.rows(split).table.column(self.inputs[0]).take(indices)
            return batch | {"source": cells.to_pylist()}
        true = [
            (row, *span)
            for row, entry in zip(row_index.tolist(), entries, strict=True)
            for span in encoded.numbers("spans", entry).reshape(-1, 3).tolist()
        ]
        batch["true"] = torch.tensor(true, dtype=torch.int64).reshape(-1, 4)
        return batch | {"labels": encoded.padded("labels", entries)}

    def describe(self, split: str) -> str:
        """Rows, windows, spans that cannot be found, and the number of spans of each type."""
        encoded, rows = self.encoded(split), self.split(split).subset
        entries, row_index = encoded.entries(rows)
        long = int((np.bincount(row_index) > 1).sum())
        description = super().describe(split)
        if long:
            description += f", {long} in windows of {self.longest} tokens (data.max_length)"
        counts = {
            "tokenless": "words without a token, which are not tagged",
            "unaligned": "spans that begin or end inside a word, which cannot be found",
            "strays": "I-x tags without a B-x before them, which are not part of a span",
        }
        for name, what in counts.items():
            if split != "predict" or name == "tokenless":
                count = int(encoded.column(name)[entries].sum())
                description += f", {count} {what}" if count else ""
        if split == "predict":
            return description
        types = [encoded.numbers("spans", entry)[2::3] for entry in entries]
        number = np.bincount(np.concatenate(types), minlength=len(self.tagging.types))
        return f"{description}; {labels.counted(self.tagging.types, number)}"
