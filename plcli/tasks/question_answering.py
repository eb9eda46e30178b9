"""Extractive question answering: the span of a context that answers a question (SQuAD 1 and 2)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import MetricCollection
from torchmetrics.text import SQuAD

from plcli.config.marks import FACT, FREE
from plcli.data.cells import Kind
from plcli.data.encoders.contexts import ContextEncoder, Fate
from plcli.data.rows import Rows
from plcli.data.split import Batch
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.data.validation_cut import stratified_cut
from plcli.errors import UsageError
from plcli.metrics import answer_scores
from plcli.metrics.answers import answered
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Scoring
from plcli.models.attribution import Support
from plcli.models.transformer_module import TransformerModule

KINDS = ("all", "has_answer", "no_answer")  # the kinds of rows that metrics are computed for


@dataclass(kw_only=True, eq=False, repr=False)
class QuestionAnswerer(TransformerModule):
    """An encoder that scores each token as the start and the end of an answer.

    It is loaded with `AutoModelForQuestionAnswering`. The other arguments are those of
    TransformerModule.

    Args:
        n_best: number of best spans to return for a row; their probabilities add up to 1.
        no_answer_threshold: no answer is given if the score of the first token exceeds that of the
            best span by more than this, by default 0; has no effect without unanswerable.
        goal: max_f1 chooses no_answer_threshold on the validation rows after training.
        thresholds: a fact of the validation split: no_answer, the threshold that was chosen.
        max_answer: a fact of the data.
        unanswerable: a fact of the data.
    """

    task = "question-answering"
    auto_class = "AutoModelForQuestionAnswering"

    n_best: int = 20
    no_answer_threshold: float | None = field(default=None, metadata=FREE)
    goal: Literal["max_f1"] | None = field(default=None, metadata=FREE)
    thresholds: dict[str, float] | None = field(default=None, metadata=FACT)
    max_answer: int | None = field(default=None, metadata=FACT)
    unanswerable: bool | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the settings, and build the network."""
        if self.n_best < 1:
            raise UsageError(f"model.n_best: got {self.n_best}, expected 1 or more.")
        given = self.goal is not None and self.no_answer_threshold is not None
        if given and self.thresholds is None:
            raise UsageError(
                "model.no_answer_threshold and model.goal: both are given, but a goal chooses the "
                "threshold. Give one of them."
            )
        super().__post_init__()

    @property
    def threshold(self) -> float:
        """The threshold of no answer: one that was given, one that was chosen, or 0."""
        chosen = (self.thresholds or {}).get("no_answer", 0.0)
        return chosen if self.no_answer_threshold is None else self.no_answer_threshold

    @property
    def wants_decisions(self) -> bool:
        """Whether the threshold of no answer is to be chosen on validation rows."""
        return self.goal is not None and bool(self.unanswerable)

    def decide(self) -> dict[str, Any]:
        """Choose it on the rows of the last validation."""
        chosen = answer_scores.best_threshold(self.evaluated_rows["val"].columns)
        self.thresholds = {"no_answer": chosen}
        return {"goal": self.goal, "thresholds": dict(self.thresholds)}

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """SQuAD's F1 over words."""
        return "val_f1", "max"

    def metrics(self) -> MetricCollection:
        """SQuAD's exact match and F1 for all rows, and for rows with and without an answer."""
        return MetricCollection({kind: SQuAD() for kind in KINDS}, compute_groups=False)

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns:
        """Add a batch: the predicted and the correct answers."""
        rows = self.answered(outputs, batch)
        predicted = [row["answer"] for row in rows]
        for kind in KINDS:
            chosen = [
                index
                for index, correct in enumerate(batch["answers"])
                if kind == "all" or bool(correct) == (kind == "has_answer")
            ]
            metrics[kind].update(
                [{"id": str(n), "prediction_text": predicted[n]} for n in chosen],
                [{"id": str(n), "answers": {"text": batch["answers"][n] or [""]}} for n in chosen],
            )
        kept = answer_scores.rows(
            predicted, batch["answers"], contexts=batch["contexts"], empty=bool(self.unanswerable)
        )
        if self.wants_decisions:
            kept |= answer_scores.margins(rows, batch["answers"])
        if not self.analyses:
            return {**kept}
        scores = [row["score"] for row in rows]
        told = {"truth": batch["answers"], "prediction": predicted, "probability": scores}
        return {**kept, **told}

    def scoring(self, collector: RowCollector) -> Scoring:
        """Return how exact match and F1 follow from the rows."""
        return answer_scores.scoring(unanswerable=bool(self.unanswerable))

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Metrics between 0 and 1; those of both kinds of rows only if there are both kinds."""
        plain = {"loss": float(values["loss"])}
        both = self.unanswerable and all(torch.isfinite(values[f"{kind}_f1"]) for kind in KINDS)
        for kind in KINDS if both else KINDS[:1]:
            prefix = "" if kind == "all" else f"{kind}_"
            for name in ("exact_match", "f1"):
                plain[prefix + name] = float(values[f"{kind}_{name}"]) / 100
        return plain

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The answer, its character range in the context, its probability, and the best spans."""
        rows = self.answered(outputs, batch)
        return [{"id": row_id, **row} for row_id, row in zip(batch["id"], rows, strict=True)]

    def explained(self, outputs: Any, batch: Mapping[str, Any]) -> Support:
        """Return what was decided on a row: the logits of the first and last token of its answer.

        Of several windows it is the one that scores the answer highest. No answer has those of the
        first token of the first window.
        """
        (row,) = self.answered(outputs, batch)
        shape = outputs.start_logits.shape
        starts, ends = (batch[name].clone() for name in ("char_starts", "char_ends"))
        window, first = 0, int(batch["attention_mask"][0].argmax())
        last = first
        if row["start"] < row["end"]:
            # some tokenizers have the space before a word in its token
            begins = (starts >= 0) & (starts <= row["start"]) & (row["start"] < ends)
            closes = (starts >= 0) & (starts < row["end"]) & (row["end"] <= ends)
            whole = (begins.any(1) & closes.any(1)).nonzero()[:, 0].tolist()
            firsts, lasts = begins.int().argmax(1).tolist(), closes.int().argmax(1).tolist()
            places = [(at, firsts[at], lasts[at]) for at in whole]
            window, first, last = max(
                places,
                key=lambda at: float(
                    outputs.start_logits[at[0], at[1]] + outputs.end_logits[at[0], at[2]]
                ),
            )

        def support(copies: Any) -> torch.Tensor:
            begin, end = (
                logits.float().view(-1, *shape)[:, window]
                for logits in (copies.start_logits, copies.end_logits)
            )
            summed: torch.Tensor = begin[:, first] + end[:, last]
            return summed

        return support

    def answered(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the answer and the best spans of each row."""
        return answered(
            outputs.start_logits,
            outputs.end_logits,
            batch,
            n_best=self.n_best,
            max_answer=self.max_answer or 1,
            no_answer_threshold=self.threshold if self.unanswerable else None,
        )

    def artefact_facts(self) -> dict[str, Any]:
        """Return the threshold above which no answer is given."""
        return {"thresholds": {"no_answer": self.threshold} if self.unanswerable else {}}


@dataclass(kw_only=True, eq=False, repr=False)
class QuestionAnsweringData(TextData):
    """Questions, contexts and answers in SQuAD format.

    A long context is split into windows, each with the question before it. The other arguments are
    those of TextData.

    Args:
        question: the column of questions.
        context: the column of texts that contain the answers.
        answers: the column of answers: {"text": [...], "answer_start": [...]}, with empty lists if
            there is no answer. The first answer is trained on; all count as correct in metrics.
        stride: number of tokens by which windows overlap; by default a third of max_length.
        max_answer: maximum number of tokens in an answer.
        unanswerable: whether questions can have no answer; by default, whether any training row has
            none.
    """

    task = "question-answering"

    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    stride: int | None = None
    max_answer: int = field(default=30, metadata=FACT)
    unanswerable: bool | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the settings."""
        self.inputs = [self.question, self.context]
        for name, value, least in (("stride", self.stride, 0), ("max_answer", self.max_answer, 1)):
            if value is not None and value < least:
                raise UsageError(f"data.{name}: got {value}, expected {least} or more.")
        super().__post_init__()

    def columns(self, split: str) -> dict[str, Kind]:
        """The answers, except for rows to predict."""
        return super().columns(split) | ({} if split == "predict" else {self.answers: Kind.OBJECT})

    def encoded_columns(self, split: str) -> list[str]:
        """Questions, contexts and, except for rows to predict, answers."""
        return list(self.columns(split))

    def encoder(self, split: str) -> ContextEncoder:
        """Return an encoder that makes windows and their labels."""
        return ContextEncoder(
            self.loaded_tokenizer,
            max_length=self.longest,
            stride=self.longest // 3 if self.stride is None else self.stride,
            answers=None if split == "predict" else self.answers,
        )

    def cut(self, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Split off validation rows by whole contexts, so that no context is in both splits."""
        if self.group is not None:
            return super().cut(rows)
        context_of = self.kept_together()
        contexts = np.zeros(context_of.max() + 1)
        _, cut = stratified_cut(contexts, fraction=self.validation_fraction, seed=self.cut_seed)
        if not len(cut):  # there is only one context
            return super().cut(rows)
        chosen = np.isin(context_of, cut)
        return np.flatnonzero(~chosen), np.flatnonzero(chosen)

    def kept_together(self) -> npt.NDArray[np.int64]:
        """The group or, without groups, the context of each training row."""
        if (groups := self.groups("train")) is not None:
            return groups
        cells = self.rows("train").table.column(self.context).combine_chunks()
        found: npt.NDArray[np.int64] = cells.dictionary_encode().indices.to_numpy()
        return found

    def facts(self) -> dict[str, Any]:
        """The maximum length of an answer, and whether questions can have no answer."""
        if (unanswerable := self.unanswerable) is None and self.train is not None:
            unanswerable = bool((self._first("train", "fate") == Fate.NO_ANSWER).any())
        return {
            "max_answer": self.max_answer,
            "unanswerable": unanswerable,
            **super().facts(),
        }

    def _first(self, split: str, column: str) -> npt.NDArray[Any]:
        """Return the values of a column that is the same in all windows of a row, [rows]."""
        encoded, kept = self.encoded(split), self.subset(split)
        firsts = encoded.first[:-1] if kept is None else encoded.first[kept]
        values: npt.NDArray[Any] = encoded.column(column)[firsts]
        return values

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of all windows of some rows.

        The labels are start_positions and end_positions, int64 [windows]. For finding answers, the
        batch has char_starts and char_ends, int64 [windows, tokens]; row_index, int64 [windows],
        the row index of each window; contexts and the texts of the correct answers, lists [rows].
        """
        entries, row_index = encoded.entries(indices)
        batch: Batch = dict(encoded.batch(entries))
        if split != "predict":
            padding = batch["attention_mask"].argmax(1)  # number of padding tokens on the left
            for name, column in (("start", "first_token"), ("end", "last_token")):
                labels = torch.from_numpy(encoded.column(column)[entries].astype(np.int64))
                batch[f"{name}_positions"] = labels + padding
        if split != "train":
            table = self.rows(split).table
            batch["row_index"] = torch.from_numpy(row_index)
            batch["contexts"] = table.column(self.context).take(indices).to_pylist()
            for name in ("char_starts", "char_ends"):
                batch[name] = encoded.padded(name, entries, fill=-1)
            if split != "predict":
                cells = table.column(self.answers).take(indices).to_pylist()
                batch["answers"] = [json.loads(cell)["text"] for cell in cells]
        return batch

    def describe(self, split: str) -> str:
        """Rows, windows, and answers that cannot be trained on or found."""
        encoder, description = self.encoder(split), super().describe(split)
        entries, _ = self.encoded(split).entries(self.split(split).subset)
        counts = {
            f"with a question cut to {encoder.longest_question} tokens": self._first(
                split, "question_cut"
            ),
        }
        if split != "predict":
            fate, tokens = (self._first(split, name) for name in ("fate", "answer_tokens"))
            counts |= {
                "without an answer": fate == Fate.NO_ANSWER,
                "with an answer that no window contains whole": fate == Fate.IN_NO_WINDOW,
                "with an answer that begins or ends inside a token": fate == Fate.INSIDE_TOKENS,
                f"with an answer of more than {self.max_answer} tokens (data.max_answer)": (
                    tokens > self.max_answer
                ),
            }
        description += (
            f" in {len(entries)} windows of at most {self.longest} tokens (data.max_length)"
        )
        return description + "".join(
            f", {found.sum()} {what}" for what, found in counts.items() if found.any()
        )
