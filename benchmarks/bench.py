"""Runs the contestants in turn, several times, and writes medians and ratios to results.json."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TRAIN = {
    "plcli": ["train_plcli.py"],
    "bare loop, same batches": ["train_bare_loop.py", "--batches", "pieces"],
    "bare loop, random batches": ["train_bare_loop.py", "--batches", "random"],
    "Lightning by hand, dynamic padding": ["train_raw_lightning.py"],
    "HF Trainer, grouped by length": ["train_hf_trainer.py", "--padding", "grouped"],
    "HF Trainer, dynamic padding": ["train_hf_trainer.py", "--padding", "dynamic"],
    "HF Trainer, padded to 128": ["train_hf_trainer.py", "--padding", "max_length"],
}
PREDICT = {
    "plcli": ["predict.py", "--tool", "plcli"],
    "bare sorted loop": ["predict.py", "--tool", "bare"],
    "transformers.pipeline, batch_size=32": ["predict.py", "--tool", "pipeline32"],
    "transformers.pipeline": ["predict.py", "--tool", "pipeline"],
}
ENCODE = {
    "plcli": ["encode.py", "--tool", "plcli"],
    "bare tokenizer": ["encode.py", "--tool", "bare"],
    "datasets.map": ["encode.py", "--tool", "datasets"],
    "plcli, second start": ["encode.py", "--tool", "second"],
}
PARTS = {
    "training, samples/s": (TRAIN, "samples_per_second"),
    "predicting, rows/s": (PREDICT, "rows_per_second"),
    "encoding, rows/s": (ENCODE, "rows_per_second"),
}


def run(words: list[str], options: argparse.Namespace, rows: int) -> dict[str, Any]:
    """Run one contestant and return its result."""
    command = [sys.executable, str(HERE / words[0]), *words[1:]]
    command += ["--data", options.data, "--rows", str(rows), "--threads", str(options.threads)]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result


def main() -> None:
    """Measure every part and write results.json and a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="package", help="a folder of train/validation/test.jsonl")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train-rows", type=int, default=960)
    parser.add_argument("--predict-rows", type=int, default=2000)
    parser.add_argument("--encode-rows", type=int, default=200_000)
    options = parser.parse_args()
    sizes = (options.train_rows, options.predict_rows, options.encode_rows)
    results: dict[str, Any] = {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads",
        "parts": {},
    }
    table = []
    for (part, (contestants, figure)), rows in zip(PARTS.items(), sizes, strict=True):
        found: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(options.repetitions):
            for name, words in contestants.items():
                found[name].append(run(words, options, rows)[figure])
                print(f"{part}: {name}: {found[name][-1]:.1f}", flush=True)
        results["parts"][part] = {"rows": rows, "runs": found}
        table += [
            f"\n| {part} ({rows:,} rows) | median | plcli is so many times as fast |",
            "|---|---|---|",
        ]
        for name, values in found.items():
            ratios = [ours / theirs for ours, theirs in zip(found["plcli"], values, strict=True)]
            table.append(
                f"| {name} | {statistics.median(values):,.1f} | {statistics.median(ratios):.2f} |"
            )
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text("\n".join(table).lstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
