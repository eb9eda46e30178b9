"""Scores of spans, generated texts and language models as functions of the rows."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from plcli.metrics import intervals
from plcli.metrics.intervals import Array, Table, Value
from plcli.metrics.scoring import Baseline, Columns, Means, Scoring


@dataclass(frozen=True, kw_only=True)
class SpanCounts(Scoring):
    """Spans: the columns spans, [rows, types, 3], and words, [rows, 2], as SpanScores counts them.

    Columns named `baseline.NAME` are those of the most frequent tag.

    Attributes:
        types: the names of the types.
    """

    types: list[str]

    def tables(self, columns: Columns) -> list[Table]:
        """Return the counts of all spans, of each type, and of words."""
        spans = columns["spans"].astype(np.float64).reshape(len(columns["words"]), -1, 3)
        found = [
            intervals.of_rows(spans.sum(1), _of_spans("")),
            intervals.of_rows(
                columns["words"],
                {"accuracy": lambda sums: sums[..., 0] / np.maximum(sums[..., 1], 1)},
            ),
        ]
        for number, name in enumerate(self.types):
            found.append(intervals.of_rows(spans[:, number], _of_spans(f"types.{name}.")))
        if "loss" in columns:
            found.append(_loss(columns))
        return found

    def baseline(self, columns: Columns) -> Baseline | None:
        """Return the columns of the most frequent tag, for every word."""
        if "baseline.words" not in columns:
            return None
        own = {name: columns[f"baseline.{name}"] for name in ("spans", "words")}
        return Baseline("most frequent tag", own)


def _of_spans(prefix: str) -> dict[str, Value]:
    """Return precision, recall and F1 of sums of correct, predicted and true spans."""

    def ratio(numerator: int, *denominators: int) -> Value:
        def value(sums: Array) -> Array:
            below = sum(sums[..., k] for k in denominators)
            factor = len(denominators)
            ratio = factor * sums[..., numerator] / np.maximum(below, 1)
            return np.asarray(np.where(below > 0, ratio, 0.0))

        return value

    return {
        f"{prefix}precision": ratio(0, 1),
        f"{prefix}recall": ratio(0, 2),
        f"{prefix}f1": ratio(0, 1, 2),
    }


@dataclass(frozen=True, kw_only=True)
class GeneratedTexts(Scoring):
    """Generated texts: the columns chrf and bleu, sacrebleu's counts of each row, and ROUGE's.

    Columns named `baseline.NAME` are those of a copy of the source.
    """

    def tables(self, columns: Columns) -> list[Table]:
        """Return the counts of chrF and BLEU, and the values of ROUGE."""
        found = []
        for name, value in (("chrf", chrf), ("bleu", bleu)):
            if name in columns:
                found.append(intervals.of_rows(columns[name], {name: value}, bounded=False))
        rouge = [name for name in columns if name.startswith("rouge")]
        means = Means(names=rouge, proportions=[], only={})
        found += means.tables(columns)
        if "loss" in columns:
            found.append(_loss(columns))
        return found

    def baseline(self, columns: Columns) -> Baseline | None:
        """Return the columns of a copy of the source."""
        prefix = "baseline."
        own = {
            name.removeprefix(prefix): column
            for name, column in columns.items()
            if name.startswith(prefix)
        }
        return Baseline("copy of the source", own) if own else None


def _loss(columns: Columns) -> Table:
    """Return the mean loss per term, of the column loss: sums of losses and terms, [rows, 2]."""
    return intervals.of_rows(
        columns["loss"], {"loss": lambda sums: sums[..., 0] / sums[..., 1]}, bounded=False
    )


def chrf(sums: Array) -> Array:
    """Return sacrebleu's chrF2 (character order 6, no words) of summed counts, [..., 18].

    The counts of each order are n-grams of the text, of the reference, and common ones.
    """
    given, support, both = (sums[..., part::3] for part in range(3))
    used = (given > 0) & (support > 0)
    orders = np.maximum(used.sum(-1), 1)
    precision, recall = (
        np.where(used, both / np.maximum(each, 1), 0.0).sum(-1) / orders
        for each in (given, support)
    )
    below = 4 * precision + recall
    score = 100 * 5 * precision * recall / np.where(below > 0, below, 1)
    return np.asarray(np.where(below > 0, score, 0.0))


def bleu(sums: Array) -> Array:
    """Return sacrebleu's BLEU of summed counts, [..., 10], with its default smoothing, exp.

    They are the lengths of texts and references, and the correct and all n-grams of orders 1 to 4.
    """
    length, reference = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2:6], sums[..., 6:10]
    misses = np.cumsum((correct == 0) & (total > 0), axis=-1)
    smoothed = 100 / (2.0**misses * np.maximum(total, 1))
    precision = np.where(correct > 0, 100 * correct / np.maximum(total, 1), smoothed)
    valid = (total > 0).all(-1) & (correct > 0).any(-1)
    mean = np.exp(np.log(np.where(total > 0, precision, 1.0)).mean(-1))
    brevity = np.where(
        length < reference, np.exp(1 - reference / np.where(length > 0, length, 1)), 1.0
    )
    return np.asarray(np.where(valid & (length > 0), brevity * mean, 0.0))


@dataclass(frozen=True, kw_only=True)
class TokenLosses(Scoring):
    """Language models: the column loss, sums of losses and tokens of each block, [blocks, 2].

    Further columns: bytes, the bytes of the tokens, and right, the number of right tokens.

    Attributes:
        unigram: the loss per token of the frequencies of tokens, if it is known.
        most_frequent: the fraction of tokens that are the most frequent one.
    """

    unigram: float | None = None
    most_frequent: float | None = None

    @classmethod
    def of_counts(cls, counts: Any) -> "TokenLosses":
        """Return the scoring with the baseline of the counts of tokens, int64 [vocabulary]."""
        if counts is None:
            return cls()
        loss, most_frequent = unigram_loss(np.asarray(counts))
        return cls(unigram=loss, most_frequent=most_frequent)

    def tables(self, columns: Columns) -> list[Table]:
        """Return the sums of losses, tokens, bytes and right tokens."""
        names = [name for name in ("bytes", "right") if name in columns]
        loss: npt.NDArray[np.float64] = columns["loss"].astype(np.float64)
        statistics = np.column_stack([loss, *(columns[name] for name in names)])

        def mean(sums: Array) -> Array:
            return np.asarray(sums[..., 0] / sums[..., 1])

        values: dict[str, Value] = {
            "loss": mean,
            "perplexity": lambda sums: np.asarray(np.exp(mean(sums))),
        }
        if "bytes" in columns:
            values["perplexity_per_byte"] = lambda sums: np.exp(sums[..., 0] / sums[..., 2])
            values["bits_per_byte"] = lambda sums: sums[..., 0] / sums[..., 2] / np.log(2)
            values["bytes_per_token"] = lambda sums: sums[..., 2] / sums[..., 1]
        if "right" in columns:
            place = 2 + names.index("right")
            values["accuracy"] = lambda sums: sums[..., place] / sums[..., 1]
        return [intervals.of_rows(statistics, values, bounded=False)]

    def baseline(self, columns: Columns) -> Baseline | None:
        """Return the frequencies of tokens, whatever is around them."""
        if self.unigram is None or not np.isfinite(self.unigram):
            return None
        tokens = columns["loss"][:, 1]
        own = {"loss": np.stack([self.unigram * tokens, tokens], axis=1)}
        if "bytes" in columns:
            own["bytes"] = columns["bytes"]
        if "right" in columns and self.most_frequent is not None:
            own["right"] = self.most_frequent * tokens
        return Baseline("token frequencies", own)


def unigram_loss(counts: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return the loss per token of the frequencies of tokens, and the fraction of the commonest.

    The frequency of a token is that among all other tokens of the split, with one added to each
    (Laplace), so that a token does not help to predict itself.

    Args:
        counts: int64 [vocabulary], the number of each token.
    """
    total, seen = int(counts.sum()), counts[counts > 0]
    if total < 2:
        return float("nan"), float("nan")
    chances = seen / (total - 1 + len(counts))  # seen - 1 others of its kind, and one added
    return float(-(seen * np.log(chances)).sum() / total), float(seen.max() / total)
