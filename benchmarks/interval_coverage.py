"""Measures how often the 95 % intervals of plcli.metrics.intervals contain the true score.

    python benchmarks/interval_coverage.py [--sets 1000] [--out coverage.json]

For each score, test sets of several sizes are drawn from a known distribution of rows; its true
score is that of 1,000,000 rows. 1,000 sets measure a coverage of 95 % to +-0.7 points (one standard
deviation). The table is printed as Markdown, as in docs/evaluation.md.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from plcli.metrics import intervals
from plcli.metrics.numeric import Numbers
from plcli.metrics.scoring import Columns, Means, MultiLabel, Scoring, SingleLabel
from plcli.metrics.texts import GeneratedTexts, SpanCounts, TokenLosses

SIZES = (100, 500, 5000)
TRUE_ROWS = 1_000_000
Draw = Callable[[np.random.Generator, int], Columns]
CLASSES = ["a", "b", "c", "d", "e"]


def classes(right: float) -> Draw:
    """Five classes, the rarest of which has 5 % of the rows."""

    def draw(generator: np.random.Generator, n: int) -> Columns:
        truth = generator.choice(5, n, p=[0.4, 0.25, 0.2, 0.1, 0.05])
        wrong = generator.integers(0, 5, n)
        return {
            "truth": truth,
            "prediction": np.where(generator.random(n) < right, truth, wrong),
            "loss": generator.gamma(0.5, 1.0, n),
        }

    return draw


def several_labels(generator: np.random.Generator, n: int) -> Columns:
    """Eight labels of 2 to 30 %, which occur together."""
    difficulty = generator.beta(4, 2, (n, 1))
    truth = generator.random((n, 8)) < np.linspace(0.02, 0.3, 8)
    found = truth & (generator.random((n, 8)) < difficulty)
    found |= generator.random((n, 8)) < 0.03
    bits = [np.packbits(each, axis=1, bitorder="little") for each in (truth, found)]
    return {"truth": bits[0], "prediction": bits[1]}


def numbers(generator: np.random.Generator, n: int) -> Columns:
    """Skewed numbers with normal errors."""
    truth = generator.gamma(3.0, 1.0, n)
    return {"truth": truth, "prediction": truth + generator.normal(size=n)}


def outliers(generator: np.random.Generator, n: int) -> Columns:
    """Skewed numbers with errors of heavy tails (Student's t of 5 degrees of freedom)."""
    truth = generator.gamma(3.0, 1.0, n)
    return {"truth": truth, "prediction": truth + generator.standard_t(5, n)}


def spans(generator: np.random.Generator, n: int) -> Columns:
    """Texts of 0 to about 8 spans of two types; texts differ in difficulty."""
    true = generator.poisson(1.2, (n, 2))
    right = generator.binomial(true, generator.beta(5, 2, (n, 1)))
    given = right + generator.poisson(0.3, (n, 2))
    words = generator.integers(5, 40, n)
    counts = np.stack([right, given, true], axis=2)
    ok = generator.binomial(words, generator.beta(20, 2, n))
    return {"spans": counts, "words": np.stack([ok, words], axis=1)}


def texts(generator: np.random.Generator, n: int) -> Columns:
    """Counts of n-grams of texts of 5 to 60 words, which differ in quality."""
    quality = generator.beta(3, 3, n)
    length = generator.integers(5, 60, n)
    reference = np.maximum(4, length + generator.integers(-3, 4, n))
    chrf, bleu = [], [length, reference]
    for order in range(6):
        given, support = 5 * length - order, 5 * reference - order
        both = generator.binomial(np.minimum(given, support), quality ** (1 + order / 2))
        chrf += [given, support, both]
    total = [np.maximum(length - order, 0) for order in range(4)]
    right = [generator.binomial(t, quality ** (order + 1)) for order, t in enumerate(total)]
    return {
        "chrf": np.stack(chrf, axis=1),
        "bleu": np.stack([*bleu, *right, *total], axis=1),
        "rougeL": generator.beta(8 * quality + 0.1, 8 * (1 - quality) + 0.1),
    }


def answers(generator: np.random.Generator, n: int) -> Columns:
    """Answers of which 55 % are exact, and the others partly right or wrong."""
    exact = generator.random(n) < 0.55
    part = np.where(generator.random(n) < 0.5, generator.beta(2, 2, n), 0.0)
    return {"exact_match": exact.astype(float), "f1": np.where(exact, 1.0, part)}


def found(generator: np.random.Generator, n: int) -> Columns:
    """Queries with one to three relevant documents."""
    wanted = generator.integers(1, 4, n)
    return {"recall_at_5": generator.binomial(wanted, generator.beta(6, 2, n)) / wanted}


def blocks(generator: np.random.Generator, n: int) -> Columns:
    """Blocks of 16 to 128 tokens, whose loss per token differs between texts."""
    tokens = generator.integers(16, 129, n)
    return {"loss": np.stack([tokens * generator.normal(3, 0.5, n), tokens], axis=1)}


CASES: dict[str, tuple[Scoring, list[str], Draw]] = {
    "classes, 80 % right": (
        SingleLabel(labels=CLASSES),
        ["accuracy", "macro_f1", "weighted_f1", "classes.e.f1", "classes.e.recall", "loss"],
        classes(0.75),
    ),
    "classes, 98 % right": (
        SingleLabel(labels=CLASSES),
        ["accuracy", "macro_f1", "weighted_f1", "classes.e.f1"],
        classes(0.975),
    ),
    "several labels": (MultiLabel(labels=[*"abcdefgh"]), ["micro_f1", "macro_f1"], several_labels),
    "numbers": (
        Numbers(names=["rmse", "mae", "r2", "pearson", "spearman"]),
        ["rmse", "mae", "r2", "pearson", "spearman"],
        numbers,
    ),
    "numbers with outliers": (
        Numbers(names=["rmse", "mae", "r2", "pearson", "spearman"]),
        ["rmse", "mae", "r2", "pearson", "spearman"],
        outliers,
    ),
    "spans": (SpanCounts(types=["x", "y"]), ["f1", "types.x.f1", "precision", "accuracy"], spans),
    "generated texts": (GeneratedTexts(), ["chrf", "bleu", "rougeL"], texts),
    "answers": (
        Means(names=["exact_match", "f1"], proportions=["exact_match"], only={}),
        ["exact_match", "f1"],
        answers,
    ),
    "retrieval": (
        Means(names=["recall_at_5"], proportions=[], only={}),
        ["recall_at_5"],
        found,
    ),
    "language model": (TokenLosses(), ["perplexity"], blocks),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=1000)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    parser.add_argument("--only", default="", help="cases whose name starts with it")
    parser.add_argument("--resamples", type=int, default=intervals.RESAMPLES)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    intervals.RESAMPLES = options.resamples
    table: dict[str, dict[str, Any]] = {}
    for number, (case, (scoring, names, draw)) in enumerate(CASES.items()):
        if not case.startswith(options.only):
            continue
        true = scoring.scores(draw(np.random.default_rng(1000 + number), TRUE_ROWS))
        for size in options.sizes:
            covered, missing, start = dict.fromkeys(names, 0), dict.fromkeys(names, 0), time.time()
            for seed in range(options.sets):
                columns = draw(np.random.default_rng([number, size, seed]), size)
                made = scoring.intervals(columns)
                for name in names:
                    if name not in made:  # such as of a class without rows
                        missing[name] += 1
                    elif made[name].low <= true[name] <= made[name].high:
                        covered[name] += 1
            for name in names:
                row = table.setdefault(f"{case}: {name}", {"true": true[name]})
                row[str(size)] = covered[name] / max(1, options.sets - missing[name])
                row["method"] = made[name].method
            print(f"# {case}, {size} rows: {time.time() - start:.0f} s", flush=True)
            if options.out:
                options.out.write_text(json.dumps(table, indent=1))
    print("\n| score | true | method | " + " | ".join(f"n = {n:,}" for n in options.sizes) + " |")
    print("|---|---|---|" + "---|" * len(options.sizes))
    for name, row in table.items():
        cells = " | ".join(f"{100 * row[str(n)]:.1f} %" for n in options.sizes)
        print(f"| {name} | {row['true']:.3f} | {row['method']} | {cells} |")


if __name__ == "__main__":
    main()
