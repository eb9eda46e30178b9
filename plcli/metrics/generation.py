"""Running scores of generated texts against references, through torchmetrics; from 0 to 1."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torchmetrics import MetricCollection

Score = Literal["chrf", "bleu", "rouge"]
MAIN = {"chrf": "chrf", "bleu": "bleu", "rouge": "rougeL"}  # the number that says most of each


def collection(names: Sequence[Score]) -> MetricCollection:
    """Return fresh scores: chrF and BLEU as sacrebleu computes them, ROUGE-1, -2 and -L.

    Only ROUGE keeps numbers of each row, nine a row. ROUGE-Lsum is left out: torchmetrics asks nltk
    for it, which downloads a file.
    """
    from torchmetrics.text import CHRFScore, ROUGEScore, SacreBLEUScore

    makers: dict[Score, Callable[[], Any]] = {
        "chrf": lambda: CHRFScore(n_word_order=0),  # 2 would be chrF++
        "bleu": SacreBLEUScore,
        "rouge": lambda: ROUGEScore(normalizer=_words, rouge_keys=("rouge1", "rouge2", "rougeL")),
    }
    return MetricCollection({name: makers[name]() for name in names}, compute_groups=False)


def summary(values: Mapping[str, torch.Tensor]) -> dict[str, float]:
    """Return plain numbers; of ROUGE, F1."""
    return {
        name.removesuffix("_fmeasure"): float(value)
        for name, value in values.items()
        if not name.endswith(("_precision", "_recall"))
    }


def _words(text: str) -> str:
    """Lower a text and leave letters and digits, of any script; torchmetrics leaves a to z."""
    return re.sub(r"[\W_]+", " ", text.lower())
