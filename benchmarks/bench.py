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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PLCLI = ["train_plcli.py"]
BARE = ["train_bare_loop.py", "--batches"]
TRAINER = ["train_hf_trainer.py", "--padding"]
RANDOM_UNPADDED = [*PLCLI, "--window", "1", "--unpadded", "true"]
IN_PIECES = [*PLCLI, "--window", "1", "--pieces", "4", "--unpadded", "false"]
HALF = ("--precision", "bf16")
# A name that ends with ", bf16" is compared with "plcli, bf16", any other one with "plcli".
TRAIN = {
    "plcli": PLCLI,
    "plcli, random batches without padding": RANDOM_UNPADDED,
    "plcli, random batches in 4 pieces": IN_PIECES,
    "bare loop, the same batches padded": [*BARE, "same"],
    "bare loop, random batches": [*BARE, "random"],
    "Trainer, grouped by length": [*TRAINER, "grouped"],
    "Trainer, dynamic padding": [*TRAINER, "dynamic"],
    "Trainer, padded to 128": [*TRAINER, "max_length"],
    "Lightning by hand, dynamic padding": ["train_raw_lightning.py"],
    "plcli, precision auto": [*PLCLI, "--precision", "auto"],
}
TRAIN_IN_BF16 = {
    "plcli, bf16": [*PLCLI, *HALF],
    "plcli, random batches without padding, bf16": [*RANDOM_UNPADDED, *HALF],
    "bare loop, random batches, bf16": [*BARE, "random", *HALF],
    "Trainer, grouped by length, bf16": [*TRAINER, "grouped", *HALF],
    "Trainer, dynamic padding, bf16": [*TRAINER, "dynamic", *HALF],
}
SHORT = [
    *("plcli", "plcli, random batches in 4 pieces", "Trainer, grouped by length"),
    *("plcli, precision auto", "plcli, bf16", "Trainer, grouped by length, bf16"),
]
# Batches at random are alike, so that their speed does not depend on the number of rows.
FEWER_ROWS = 960
WITH_FEWER_ROWS = {
    "plcli, random batches without padding",
    "plcli, random batches in 4 pieces",
    "bare loop, random batches",
    "Trainer, dynamic padding",
    "Trainer, padded to 128",
    "Lightning by hand, dynamic padding",
    "plcli, random batches without padding, bf16",
    "bare loop, random batches, bf16",
    "Trainer, dynamic padding, bf16",
}
ONE_TURN = {  # far from the others
    "plcli, random batches in 4 pieces",
    "bare loop, random batches",
    "Trainer, padded to 128",
    "Lightning by hand, dynamic padding",
    "bare loop, random batches, bf16",
    "Trainer, dynamic padding, bf16",
}
ACCURACY = {"plcli": PLCLI, "bare loop, random batches": [*BARE, "random"]}
REACHING = ["plcli", "Trainer, grouped by length"]
OWN_RATE = {"plcli, its own rate": [*PLCLI, "--lr", "own"]}
OWN_RATE_IN_BF16 = {"plcli, its own rate, bf16": [*PLCLI, "--lr", "own", *HALF]}
FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # what of them a CPU has decides its speed
WITH_BF16 = ("amx_bf16", "avx512_bf16")
PREDICT = {
    "plcli": ["predict.py", "--tool", "plcli"],
    "bare loop, sorted": ["predict.py", "--tool", "bare"],
    "pipeline, batch_size=32": ["predict.py", "--tool", "pipeline32"],
    "pipeline": ["predict.py", "--tool", "pipeline"],
}
ENGINES = {  # and the package that runs each
    "torch-bf16": "torch",
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "openvino-int8": "openvino",
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
        same = {key: getattr(self.options, key) for key in ("data", "threads", "batch")}
        settings = {**same, **settings}
        command = [sys.executable, str(HERE / words[0]), *words[1:]]
        command += [word for key, value in settings.items() for word in (f"--{key}", str(value))]
        environment = os.environ | {"OMP_NUM_THREADS": str(self.options.threads)}
        before = common.now()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=HERE)
        process = {f"process_{key}": value - before[key] for key, value in common.now().items()}
        lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
        if not lines:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        result = {**json.loads(lines[-1].removeprefix("RESULT ")), **process}
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

    def contestants(self) -> dict[str, list[str]]:
        """Return those that train, in the precisions that are asked for."""
        found = dict(TRAIN) if "fp32" in self.options.precisions else {}
        return found | (TRAIN_IN_BF16 if "bf16" in self.options.precisions else {})

    def training(self) -> dict[str, Any]:
        """Samples per second of one long epoch, and test accuracy of those that saw all rows."""
        rows, contestants = self.options.train_rows, self.contestants()
        runs = self.turns(
            *(contestants, self.options.repetitions),
            rows=rows,
            fewer=WITH_FEWER_ROWS,
            once=ONE_TURN,
        )
        shown = [name for name in contestants if name not in WITH_FEWER_ROWS]
        return {"rows": rows, "accuracy_of": shown, "runs": runs}

    def short(self) -> dict[str, Any]:
        """Samples per second of short epochs, each of which ends with plcli's saves."""
        rows, epochs = self.options.short_rows, 2
        contestants = {
            name: self.contestants()[name] for name in SHORT if name in self.contestants()
        }
        runs = self.turns(contestants, self.options.repetitions, rows=rows, epochs=epochs)
        return {"rows": rows, "epochs": epochs, "runs": runs}

    def accuracy(self) -> dict[str, Any]:
        """Test accuracy beside that of plain random batches."""
        rows, epochs = self.options.accuracy_rows, 2
        runs = self.turns(ACCURACY, self.options.seeds, rows=rows, epochs=epochs)
        return {"rows": rows, "epochs": epochs, "runs": runs}

    def reaching(self) -> dict[str, Any]:
        """Steps, CPU seconds and wall seconds until a validation accuracy is reached."""
        target, epochs = self.options.target, self.options.reaching_epochs
        names = [*REACHING, *(f"{name}, bf16" for name in REACHING)]
        contestants = {
            name: self.contestants()[name] for name in names if name in self.contestants()
        }
        contestants |= OWN_RATE if "fp32" in self.options.precisions else {}
        contestants |= OWN_RATE_IN_BF16 if "bf16" in self.options.precisions else {}
        often = {"epochs": epochs, "until": target, "evaluations": self.options.evaluations}
        return {
            "epochs": epochs,
            "evaluations": self.options.evaluations,
            "target": target,
            "sizes": {
                str(rows): self.turns(contestants, self.options.seeds, rows=rows, **often)
                for rows in _numbers(self.options.reaching_rows)
            },
        }

    def predicting(self) -> dict[str, Any]:
        """Rows per second from a file to a file."""
        rows = self.options.predict_rows
        self.run(["predict.py", "--tool", "model"], rows=rows)
        return {"rows": rows, "runs": self.turns(PREDICT, self.options.repetitions, rows=rows)}

    def engines(self) -> dict[str, Any]:
        """Rows per second from a file to a file, by what runs the network."""
        rows = self.options.predict_rows
        self.run(["predict.py", "--tool", "model"], rows=rows)
        names = [name for name, package in ENGINES.items() if find_spec(package)]
        for name in names:
            self.run(["predict.py", "--tool", "export"], rows=rows, engine=name)
        contestants = {
            f"plcli --engine {name}": [*PREDICT["plcli"], "--engine", name]
            for name in (*names, "auto")
        }
        others = ("plcli", "pipeline, batch_size=32", "pipeline")
        contestants |= {name: PREDICT[name] for name in others}
        return {"rows": rows, "runs": self.turns(contestants, self.options.repetitions, rows=rows)}

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
        sizes = _numbers(self.options.growth_rows)
        words = {tool: ["grow.py", "--tool", tool] for tool in ("prepare", *GROWTH)}
        for size in sizes:
            self.run(words["prepare"], rows=size)
        return {
            "rows": sizes,
            "runs": {tool: [self.run(words[tool], rows=size) for size in sizes] for tool in GROWTH},
        }


def _numbers(words: str) -> list[int]:
    return [int(word) for word in words.split(",")]


def machine(threads: int) -> dict[str, Any]:
    """Return what the figures were measured on and with."""
    packages = ("torch", "lightning", "transformers", "tokenizers", "datasets")
    return {
        "processor": _of_cpu("model name") or platform.machine(),
        "has": [flag for flag in FLAGS if flag in _of_cpu("flags").split()],
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": {name: version(name) for name in packages},
    }


def _of_cpu(key: str) -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith(key)), "")


def main() -> None:
    """Measure the parts that are asked for, and write results.json, the table and the picture."""
    parts: dict[str, Callable[[Bench], dict[str, Any]]] = {
        method.__name__: method
        for method in (
            *(Bench.training, Bench.short, Bench.accuracy, Bench.reaching),
            *(Bench.predicting, Bench.engines, Bench.encoding, Bench.start, Bench.growth),
        )
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data", default="package", help="a folder of train, validation and test.jsonl"
    )
    parser.add_argument("--parts", nargs="+", choices=list(parts), default=list(parts))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=5, help="of the parts accuracy and reaching")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=["fp32", "bf16"],
        help="by default fp32, and bf16 where the CPU has instructions for it",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--results", type=Path, default=HERE, help="the folder of results.*")
    parser.add_argument("--train_rows", type=int, default=3200)
    parser.add_argument("--accuracy_rows", type=int, default=4000)
    parser.add_argument("--short_rows", type=int, default=1600)
    parser.add_argument("--reaching_rows", default="800,1600,2400,4000")
    parser.add_argument("--reaching_epochs", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=3, help="an epoch, of the part reaching")
    parser.add_argument("--target", type=float, default=0.75, help="of the part reaching")
    parser.add_argument("--predict_rows", type=int, default=2000)
    parser.add_argument("--encode_rows", type=int, default=200_000)
    parser.add_argument("--growth_rows", default="10000,100000,1000000")
    options = parser.parse_args()
    found = machine(options.threads)
    print(f"{found['processor']} with {', '.join(found['has'])}, {options.threads} threads")
    if options.precisions is None:
        half = any(flag in found["has"] for flag in WITH_BF16)
        options.precisions = ["fp32", "bf16"] if half else ["fp32"]
    options.results.mkdir(parents=True, exist_ok=True)
    path = options.results / "results.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for part in options.parts:
        name = Path(options.data).name if options.data != "package" else "the shipped tickets"
        measured = parts[part](Bench(options))
        results[part] = {
            "date": date.today().isoformat(),
            "data": name,
            "batch": options.batch,
            **found,
            **measured,
        }
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.write(results, options.results)


if __name__ == "__main__":
    main()
