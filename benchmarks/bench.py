"""Measures plcli beside its peers: contestants in turn, several times, each in its own process.

Writes results.json, from which report.py makes the table and the picture. A part that is named
with --parts is measured anew, the others stay as they are.
"""

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
TRAIN = {
    "plcli": ["train_plcli.py"],
    "bare loop, the same batches": ["train_bare_loop.py", "--batches", "same"],
    "bare loop, random batches": ["train_bare_loop.py", "--batches", "random"],
    "plcli, random batches in 4 pieces": ["train_plcli.py", "--window", "1", "--pieces", "4"],
    "Trainer, grouped by length": ["train_hf_trainer.py", "--padding", "grouped"],
    "Trainer, dynamic padding": ["train_hf_trainer.py", "--padding", "dynamic"],
    "Trainer, padded to 128": ["train_hf_trainer.py", "--padding", "max_length"],
    "Lightning by hand, dynamic padding": ["train_raw_lightning.py"],
}
# Batches at random are alike, so that their speed does not depend on the number of rows.
FEWER_ROWS = 960
WITH_FEWER_ROWS = {
    "bare loop, random batches",
    "plcli, random batches in 4 pieces",
    "Trainer, dynamic padding",
    "Trainer, padded to 128",
    "Lightning by hand, dynamic padding",
}
ONE_TURN = WITH_FEWER_ROWS - {"Trainer, dynamic padding"}  # far from the others
ACCURACY = {
    "plcli": ["train_plcli.py"],
    "bare loop, random batches": ["train_bare_loop.py", "--batches", "random"],
}
REACHING = {name: TRAIN[name] for name in ("plcli", "Trainer, grouped by length")}
PREDICT = {
    "plcli": ["predict.py", "--tool", "plcli"],
    "bare loop, sorted": ["predict.py", "--tool", "bare"],
    "pipeline, batch_size=32": ["predict.py", "--tool", "pipeline32"],
    "pipeline": ["predict.py", "--tool", "pipeline"],
}
ENCODE = {
    "plcli": ["encode.py", "--tool", "plcli"],
    "bare encode_batch_fast": ["encode.py", "--tool", "bare"],
    "datasets.map": ["encode.py", "--tool", "datasets"],
}
START = {
    "import lightning.pytorch, transformers": [
        *(sys.executable, "-c", "import lightning.pytorch, transformers"),
    ],
    "plcli --help": ["plcli", "--help"],
    "plcli --version": ["plcli", "--version"],
    "plcli fit --help": ["plcli", "fit", "--help"],
    "plcli fit -c configs/bert.yaml --help": ["plcli", "fit", "-c", "configs/bert.yaml", "--help"],
    "a refused typo": ["plcli", "fit", "-c", "configs/bert.yaml", "--trainer.max_epoch", "1"],
}
GROWTH = ("encode", "second", "loader", "predict")


class Bench:
    """Runs contestants.

    Args:
        options: the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def run(self, words: list[str], **settings: object) -> dict[str, Any]:
        """Run one contestant in a process of its own and return its result."""
        settings = {"data": self.options.data, "threads": self.options.threads, **settings}
        command = [sys.executable, str(HERE / words[0]), *words[1:]]
        command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.options.threads)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE)
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
        print(" ".join(command[1:]), result, flush=True)
        return result

    def turns(
        self,
        contestants: dict[str, list[str]],
        count: int,
        *,
        rows: int,
        fewer: Collection[str] = (),
        once: Collection[str] = (),
        **settings: object,
    ) -> dict[str, list[dict[str, Any]]]:
        """Run all contestants in turn, so many times; `seed` is the number of the turn."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
        for seed in range(count):
            for name, words in contestants.items():
                if seed == 0 or name not in once:
                    own = min(rows, FEWER_ROWS) if name in fewer else rows
                    found[name].append(self.run(words, seed=seed, rows=own, **settings))
        return found

    def training(self) -> dict[str, Any]:
        """Samples per second of one epoch, and test accuracy of those that saw all its rows."""
        rows = self.options.train_rows
        runs = self.turns(
            *(TRAIN, self.options.repetitions), rows=rows, fewer=WITH_FEWER_ROWS, once=ONE_TURN
        )
        shown = [name for name in TRAIN if name not in WITH_FEWER_ROWS]
        return {"rows": rows, "accuracy_of": shown, "runs": runs}

    def accuracy(self) -> dict[str, Any]:
        """Test accuracy beside that of plain random batches."""
        rows, epochs = self.options.accuracy_rows, 2
        runs = self.turns(ACCURACY, self.options.seeds, rows=rows, epochs=epochs)
        return {"rows": rows, "epochs": epochs, "runs": runs}

    def reaching(self) -> dict[str, Any]:
        """Seconds until a validation accuracy is reached."""
        rows, epochs, target = self.options.reaching_rows, 2, self.options.target
        runs = self.turns(REACHING, 3, rows=rows, epochs=epochs, evaluations=3)
        return {"rows": rows, "epochs": epochs, "target": target, "runs": runs}

    def predicting(self) -> dict[str, Any]:
        """Rows per second from a file to a file."""
        rows = self.options.predict_rows
        self.run(["predict.py", "--tool", "model"], rows=rows)
        return {"rows": rows, "runs": self.turns(PREDICT, self.options.repetitions, rows=rows)}

    def encoding(self) -> dict[str, Any]:
        """Rows per second from text to tokens on the disk."""
        rows = self.options.encode_rows
        return {"rows": rows, "runs": self.turns(ENCODE, self.options.repetitions, rows=rows)}

    def start(self) -> dict[str, Any]:
        """Seconds of CPU time until a command answers."""
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in START}
        for _ in range(self.options.repetitions):
            for name, words in START.items():
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                program = str(Path(sys.executable).parent / words[0])
                subprocess.run([program, *words[1:]], capture_output=True, cwd=ROOT)
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                user, system = (
                    getattr(after, key) - getattr(before, key) for key in ("ru_utime", "ru_stime")
                )
                runs[name].append({"cpu_seconds": user + system})
        return {"runs": runs}

    def growth(self) -> dict[str, Any]:
        """Seconds and peak memory for ten and a hundred times the rows."""
        shutil.rmtree(Path(tempfile.gettempdir()) / "bench_growth", ignore_errors=True)
        sizes = [int(size) for size in self.options.growth_rows.split(",")]
        words = {tool: ["grow.py", "--tool", tool] for tool in ("prepare", *GROWTH)}
        for size in sizes:
            self.run(words["prepare"], rows=size)
        return {
            "rows": sizes,
            "runs": {tool: [self.run(words[tool], rows=size) for size in sizes] for tool in GROWTH},
        }


def machine(threads: int) -> dict[str, Any]:
    """Return what the figures were measured on and with."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
    packages = ("torch", "lightning", "transformers", "tokenizers", "datasets")
    return {
        "processor": model or platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {name: version(name) for name in packages},
    }


def main() -> None:
    """Measure the parts that are asked for, and write results.json, the table and the picture."""
    parts: dict[str, Callable[[Bench], dict[str, Any]]] = {
        method.__name__: method
        for method in (
            *(Bench.training, Bench.accuracy, Bench.reaching, Bench.predicting),
            *(Bench.encoding, Bench.start, Bench.growth),
        )
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", default="package", help="a folder of train, validation and test.jsonl"
    )
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5, help="of the part accuracy")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--train_rows", type=int, default=3200)
    parser.add_argument("--accuracy_rows", type=int, default=4000)
    parser.add_argument("--reaching_rows", type=int, default=1600)
    parser.add_argument("--target", type=float, default=0.75, help="of the part reaching")
    parser.add_argument("--predict_rows", type=int, default=2000)
    parser.add_argument("--encode_rows", type=int, default=200_000)
    parser.add_argument("--growth_rows", default="10000,100000,1000000")
    options = parser.parse_args()
    path = HERE / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for part in options.parts:
        name = Path(options.data).name if options.data != "package" else "the shipped tickets"
        measured = parts[part](Bench(options))
        results[part] = {
            "date": date.today().isoformat(),
            "data": name,
            **machine(options.threads),
            **measured,
        }
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.write(results, HERE)


if __name__ == "__main__":
    main()
