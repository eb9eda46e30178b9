"""Running scores of generated texts and references, from torchmetrics; from 0 to 1."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torchmetrics import MetricCollection

Score = Literal["chrf", "bleu", "rouge"]
MAIN = {"chrf": "chrf", "bleu": "bleu", "rouge": "rougeL"}  # the main number of each score


def collection(names: Sequence[Score]) -> MetricCollection:
    """Return new scores: chrF and BLEU as in sacrebleu, ROUGE-1, ROUGE-2 and ROUGE-L.

    Only ROUGE keeps numbers for each row, nine per row. ROUGE-Lsum is omitted, because torchmetrics
    computes it with nltk, which downloads a file.
    """
    from torchmetrics.text import CHRFScore, ROUGEScore, SacreBLEUScore

    makers: dict[Score, Callable[[], Any]] = {
        "chrf": lambda: CHRFScore(n_word_order=0),  # 2 would be chrF++
        "bleu": SacreBLEUScore,
        "rouge": lambda: ROUGEScore(normalizer=_words, rouge_keys=("rouge1", "rouge2", "rougeL")),
    }
    return MetricCollection({name: makers[name]() for name in names}, compute_groups=False)


def summary(values: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return plain numbers; of ROUGE only F1."""
    return {
        name.removesuffix("_fmeasure"): float(value)
        for name, value in values.items()
        if not name.endswith(("_precision", "_recall"))
    }


def _words(text: str) -> str:
    """Lower-case a text and keep letters and digits of any script; torchmetrics keeps only a-z."""
    return re.sub(r"[\W_]+", " ", text.lower())
