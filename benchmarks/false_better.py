"""Measures how often `plcli compare` calls one of two equally good models better.

    python benchmarks/false_better.py [--pairs 2000]

Each pair of models is drawn from one distribution: on every row both have the same chance to be
right, which differs from row to row, as in two trainings with different seeds. 5 % are expected;
2,000 pairs measure that to +-0.5 points (one standard deviation). The table is printed as Markdown.
"""

import argparse
import inspect

import numpy as np

from plcli.metrics.numeric import Numbers
from plcli.metrics.scoring import Columns, Scoring, SingleLabel

SIZES = (200, 1000)
CLASSES = ["a", "b", "c", "d", "e"]


def classified(generator: np.random.Generator, n: int) -> tuple[Columns, Columns]:
    """Return the rows of two models of five classes, about 80 % of them right."""
    truth = generator.choice(5, n, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    chance = generator.beta(1.6, 0.4, n)
    both = []
    for _ in range(2):
        wrong = (truth + generator.integers(1, 5, n)) % 5
        prediction = np.where(generator.random(n) < chance, truth, wrong)
        both.append(
            {"truth": truth, "prediction": prediction, "loss": generator.gamma(0.5, 1.0, n)}
        )
    return both[0], both[1]


def numbers(generator: np.random.Generator, n: int) -> tuple[Columns, Columns]:
    """Return the rows of two models of numbers, half of whose error is common."""
    truth = generator.gamma(3.0, 1.0, n)
    common = generator.normal(size=n)
    one, two = (truth + common + generator.normal(size=n) for _ in range(2))
    return {"truth": truth, "prediction": one}, {"truth": truth, "prediction": two}


def main() -> None:
    """Draw the pairs and print the table."""
    parser = argparse.ArgumentParser(description=inspect.cleandoc(str(__doc__)).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=2000)
    pairs = parser.parse_args().pairs
    tries: list[tuple[Scoring, object, list[str]]] = [
        (SingleLabel(labels=CLASSES), classified, ["accuracy", "macro_f1"]),
        (Numbers(names=["rmse", "pearson"]), numbers, ["rmse", "pearson"]),
    ]
    print(f"| score | {' | '.join(f'{n:,} rows' for n in SIZES)} |")
    print("|---" * (len(SIZES) + 1) + "|")
    for scoring, draw, names in tries:
        called: dict[str, list[str]] = {name: [] for name in names}
        for n in SIZES:
            generator, found = np.random.default_rng(n), dict.fromkeys(names, 0)
            for _ in range(pairs):
                one, two = draw(generator, n)  # type: ignore[operator]
                for name in names:
                    difference = scoring.difference(one, two, name)
                    found[name] += difference is not None and difference.seen
            for name in names:
                called[name].append(f"{100 * found[name] / pairs:.1f}")
        for name in names:
            print(f"| {name} | {' | '.join(called[name])} |", flush=True)


if __name__ == "__main__":
    main()
