"""Compares the chosen learning rate with a grid, on several data sets (docs/fine-tuning.md).

    python benchmarks/rates.py --data FOLDER --results rates.jsonl

FOLDER holds one folder for each data set with train, validation and test.jsonl; the tickets are
the package's own. Every cell is one `plcli fit`, best epoch by validation, and one line of the
results; cells that are there already are not run again.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import common

TEXTS = ("TextClassifier", "TextClassificationData")
TAGS = ("TokenClassifier", "TokenClassificationData")


class Task(NamedTuple):
    """A data set: its task, the options for its columns, and the metric of the table."""

    task: tuple[str, str]
    columns: tuple[str, ...]
    metric: str
    max_length: int = 128


TASKS = {
    "tickets": Task(TEXTS, ("--data.text=message", "--data.label=intent"), "accuracy"),
    "rotten_tomatoes": Task(TEXTS, ("--data.text=text", "--data.label=label"), "accuracy"),
    "sms_spam": Task(TEXTS, ("--data.text=text", "--data.label=label"), "accuracy"),
    "banking77": Task(TEXTS, ("--data.text=text", "--data.label=label"), "accuracy"),
    "stsb": Task(
        TEXTS,
        (
            '--data.text=["sentence1","sentence2"]',
            "--data.label=score",
            "--data.problem=regression",
        ),
        "pearson",
    ),
    "movie_reviews_long": Task(
        TEXTS, ("--data.text=text", "--data.label=label"), "accuracy", max_length=256
    ),
    "wnut17": Task(TAGS, ("--data.words=tokens", "--data.tags=tags"), "f1"),
}
# data set, rows, batch, epochs, rates ("own" is the rule's)
SMALL = (800, 16, 10)
LARGE = (4000, 32, 2)
CELLS: list[tuple[str, tuple[int, int, int], tuple[str, ...]]] = [
    ("tickets", SMALL, ("own", "1e-4", "2e-4", "4e-4")),
    ("banking77", SMALL, ("own", "8e-4")),
    ("stsb", SMALL, ("own", "2e-4", "4e-4")),
    ("sms_spam", SMALL, ("own", "2e-4", "4e-4")),
    ("wnut17", SMALL, ("own", "8e-4", "1e-4")),
    ("movie_reviews_long", (800, 16, 4), ("own", "2e-4")),
    ("banking77", LARGE, ("own", "8e-4")),
    ("stsb", LARGE, ("own", "2e-4", "4e-4")),
    ("wnut17", LARGE, ("own", "4e-4", "8e-4")),
    ("sms_spam", LARGE, ("own", "2e-4")),
    ("tickets", (800, 16, 3), ("own", "4e-4", "8e-4")),
    ("rotten_tomatoes", SMALL, ("4e-4",)),
    ("rotten_tomatoes", LARGE, ("4e-4",)),
    ("movie_reviews_long", (800, 16, 4), ("4e-4",)),
]


def cut(source: Path, target: Path, rows: int) -> None:
    """Write a fixed random part of a file's rows."""
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    if rows < len(lines):
        lines = random.Random(7).sample(lines, rows)
    target.write_text("".join(lines), encoding="utf-8")


def cell(options: argparse.Namespace, name: str, size: tuple[int, int, int], rate: str) -> dict:
    """Train and test once."""
    rows, batch, epochs = size
    task = TASKS[name]
    source = common.paths("package")["folder"] if name == "tickets" else Path(options.data) / name
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        words = [
            *(sys.executable, "-m", "plcli", "fit", "--run", str(folder / "run")),
            *("--model", task.task[0], "--model.pretrained", common.minilm()),
            *("--data", task.task[1], *task.columns, f"--data.max_length={task.max_length}"),
            *(f"--data.batch_size={batch}", f"--trainer.max_epochs={epochs}"),
            *("--seed_everything", str(options.seed), "--trainer.precision", options.precision),
        ]
        for split, most in (("train", rows), ("validation", 300), ("test", 1000)):
            cut(source / f"{split}.jsonl", folder / f"{split}.jsonl", most)
            words.append(f"--data.{split}={folder / f'{split}.jsonl'}")
        if rate != "own":
            words += ["--model.optimizer=torch.optim.AdamW", f"--model.optimizer.lr={rate}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(words, capture_output=True, text=True, cwd=folder)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            sys.exit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        metrics = json.loads((folder / "run" / "metrics.json").read_text())
        facts = json.loads((folder / "run" / "environment.json").read_text())
    return {
        "data": name,
        "rows": rows,
        "batch": batch,
        "epochs": epochs,
        "rate": rate,
        "seed": options.seed,
        "precision": options.precision,
        "metric": task.metric,
        "chosen": facts.get("chosen"),
        "test": {k: v for k, v in metrics["test"].items() if isinstance(v, (int, float))},
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime),
    }


def missing(path: Path, seed: int) -> Iterator[tuple[str, tuple[int, int, int], str]]:
    """Yield the cells that are not in the results yet."""
    lines = path.read_text().splitlines() if path.exists() else []
    found = [json.loads(line) for line in lines]
    keys = ("data", "rows", "batch", "epochs", "rate", "seed")
    done = {tuple(each[key] for key in keys) for each in found}
    for name, size, rates in CELLS:
        for rate in rates:
            if (name, *size, rate, seed) not in done:
                yield name, size, rate


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the folder of the data sets")
    parser.add_argument("--results", default="rates.jsonl")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precision", default="bf16-mixed")
    given = parser.parse_args()
    for each in missing(Path(given.results), given.seed):
        result = cell(given, *each)
        print(result, flush=True)
        with open(given.results, "a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")
