"""Running scores of generated texts and references: sacrebleu and rouge-score themselves.

chrF and BLEU are on sacrebleu's scale, 0 to 100, and ROUGE on rouge-score's, 0 to 1. Each score
adds up the counts of its rows, which is all that it keeps.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import Any, Literal

import torch
from torchmetrics import Metric, MetricCollection

Score = Literal["chrf", "bleu", "rouge"]
BleuTokenizer = Literal["13a", "intl", "zh", "char", "none"]
MAIN = {"chrf": "chrf", "bleu": "bleu", "rouge": "rougeL"}  # the main number of each score
ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class CorpusScore(Metric):
    """A score of sacrebleu.

    Args:
        scorer: such as `sacrebleu.metrics.CHRF()`.

    Attributes:
        of_rows: the counts of each row of the last update, int64 [rows, counts].
    """

    full_state_update = False
    higher_is_better = True
    counts: torch.Tensor

    def __init__(self, scorer: Any) -> None:
        super().__init__()
        self.scorer = scorer
        scorer.num_refs = 1  # for the signature, before any row
        none = torch.zeros_like(self.counts_of([""], [""])[0])
        self.add_state("counts", none, dist_reduce_fx="sum")

    def update(self, texts: Sequence[str], references: Sequence[str]) -> None:
        """Add generated texts and the reference of each."""
        self.of_rows = self.counts_of(texts, references)
        self.counts += self.of_rows.sum(0).to(self.counts.device)

    def counts_of(self, texts: Sequence[str], references: Sequence[str]) -> torch.Tensor:
        """Return the counts of each row, int64 [rows, counts]; corpus_score needs all at once."""
        rows = self.scorer._extract_corpus_statistics(list(texts), [list(references)])
        return torch.tensor(rows, dtype=torch.int64)

    def compute(self) -> torch.Tensor:
        """Return the score, 0 to 100."""
        return torch.tensor(self.scorer._compute_score_from_stats(self.counts.tolist()).score)

    @property
    def signature(self) -> str:
        """What sacrebleu asks to be reported with the score."""
        return str(self.scorer.get_signature())


class Rouge(Metric):
    """The mean F1 of ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum, whose sentences are lines.

    Words are lower-cased letters and digits of any script; rouge-score's own tokenizer, which keeps
    only a-z and 0-9, gives the same for English.

    Attributes:
        of_rows: the values of each row of the last update, float32 [rows, 4].
    """

    full_state_update = False
    higher_is_better = True
    totals: torch.Tensor
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        from rouge_score.rouge_scorer import RougeScorer

        self.scorer = RougeScorer(ROUGE, tokenizer=_Words())
        zeros = torch.zeros(len(ROUGE), dtype=torch.float32)
        self.add_state("totals", zeros, dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, texts: Sequence[str], references: Sequence[str]) -> None:
        """Add generated texts and the reference of each."""
        self.of_rows = self.counts_of(texts, references)
        for row in self.of_rows:
            self.totals += row.to(self.totals.device)
        self.count += len(texts)

    def counts_of(self, texts: Sequence[str], references: Sequence[str]) -> torch.Tensor:
        """Return the values of each row, float32 [rows, 4]."""
        found = [self.scorer.score(*pair) for pair in zip(references, texts, strict=True)]
        values = [[each[name].fmeasure for name in ROUGE] for each in found]
        return torch.tensor(values, dtype=torch.float32).view(-1, len(ROUGE))

    def compute(self) -> dict[str, torch.Tensor]:
        """Return the mean of each over rows, 0 to 1."""
        return dict(zip(ROUGE, self.totals / self.count, strict=True))

    @property
    def signature(self) -> str:
        """How it is computed, in the form of sacrebleu's signatures."""
        return f"nrefs:1|case:lc|stem:no|tok:words|f1:mean|rouge-score:{version('rouge-score')}"


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return re.sub(r"[\W_]+", " ", text.lower()).split()


def collection(
    names: Sequence[Score], *, bleu_tokenizer: BleuTokenizer = "13a"
) -> MetricCollection:
    """Return new scores.

    Args:
        names: which of them.
        bleu_tokenizer: sacrebleu's name of the tokenizer for BLEU.
    """
    from sacrebleu.metrics import BLEU, CHRF

    makers: dict[Score, Callable[[], Any]] = {
        "chrf": lambda: CorpusScore(CHRF()),
        "bleu": lambda: CorpusScore(BLEU(tokenize=bleu_tokenizer)),
        "rouge": Rouge,
    }
    return MetricCollection({name: makers[name]() for name in names}, compute_groups=False)


def of_rows(
    scores: Any, copies: Sequence[str], references: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Return what `GeneratedTexts` scores of the rows of the last update.

    Args:
        scores: the scores by name, a MetricCollection.
        copies: the source of each row, as the text that the baseline generates; empty without.
        references: the reference of each row.
    """
    found: dict[str, torch.Tensor] = {}
    for name, score in scores.items():
        parts = {"": score.of_rows}
        if copies:
            parts["baseline."] = score.counts_of(copies, references)
        for prefix, rows in parts.items():
            if name == "rouge":
                found |= {f"{prefix}{each}": rows[:, k] for k, each in enumerate(ROUGE)}
            else:
                found[f"{prefix}{name}"] = rows
    return found


def summary(
    values: Mapping[str, torch.Tensor],
    names: Sequence[Score],
    *,
    bleu_tokenizer: BleuTokenizer = "13a",
) -> dict[str, Any]:
    """Return plain numbers, and the signatures of the scores among them."""
    plain: dict[str, Any] = {name: float(value) for name, value in values.items()}
    computed = [name for name in names if MAIN[name] in values]
    if computed:
        scores = collection(computed, bleu_tokenizer=bleu_tokenizer)
        plain["signatures"] = {name: scores[name].signature for name in computed}
    return plain
