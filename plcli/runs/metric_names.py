"""What the name of a metric says: its stage, and whether smaller or larger values are better."""

import re
from typing import Literal

Mode = Literal["min", "max"]

SMALLER = {
    *("loss", "losses", "error", "errors", "err", "mae", "mse", "rmse", "msle", "rmsle", "mape"),
    *("smape", "nll", "ce", "bce", "perplexity", "ppl", "wer", "cer", "ter", "mer", "fid", "ece"),
    *("hamming", "divergence", "kl", "deviance"),
}
LARGER = {
    *("accuracy", "acc", "top1", "top5", "f1", "f2", "fbeta", "auc", "auroc", "auprc", "ap", "map"),
    *("precision", "recall", "sensitivity", "specificity", "mcc", "kappa", "iou", "miou", "dice"),
    *("jaccard", "r2", "pearson", "spearman", "psnr", "ssim", "bleu", "sacrebleu", "chrf", "rouge"),
    *("rouge1", "rouge2", "rougel", "rougelsum", "meteor", "mrr", "ndcg", "hits", "em"),
}
UNCLEAR = {  # words that turn the meaning of others around
    *("neg", "negative", "inverse", "inv", "std", "var", "variance", "gap", "diff", "difference"),
    *("delta", "change", "drop"),
}
STAGES = {
    "validation": ("val", "valid", "validation", "dev", "eval"),
    "test": ("test", "testing"),
    "train": ("train", "training"),
}


def tokens(name: str) -> list[str]:
    """Split the name of a metric into words: `val/macroF1` has val, macro and f1."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return [word for word in re.split(r"[^a-z0-9]+", apart.lower()) if word]


def direction(name: str) -> Mode | None:
    """Return whether smaller or larger values of a metric are better; None if its name is unclear.

    A name with words of both kinds, such as `accuracy_loss`, is unclear, as is `f1_std`.
    """
    words = set(tokens(without_loader(name)))
    smaller, larger = bool(words & SMALLER), bool(words & LARGER)
    if smaller == larger or words & UNCLEAR:
        return None
    return "min" if smaller else "max"


def without_loader(name: str) -> str:
    """Return a name without the `/dataloader_idx_0` that Lightning adds for several loaders."""
    return re.sub(r"/dataloader_idx_\d+$", "", name)


def without_stage(name: str, stage: str) -> str:
    """Return a name without its stage: `val_loss`, `val/loss` and `valid_loss` become `loss`.

    Args:
        name: the name of a metric.
        stage: train, validation or test.
    """
    prefix, separator, rest = _first(name)
    return rest if separator and prefix.lower() in STAGES[stage] and rest else name


def loss_of(names: list[str], stage: str) -> str | None:
    """Return the metric that is the loss of a stage; None if there is none, or if it is unclear.

    Args:
        names: the metrics that were logged in that stage.
        stage: validation or test.
    """
    losses = [name for name in names if without_stage(name, stage).lower() == "loss"]
    losses = losses or [name for name in names if "loss" in tokens(name) and direction(name)]
    return losses[0] if len(losses) == 1 else None


def _first(name: str) -> tuple[str, str, str]:
    found = re.match(r"([^_/.\- ]+)([_/.\- ]+)(.*)$", name)
    return (found[1], found[2], found[3]) if found else (name, "", "")
