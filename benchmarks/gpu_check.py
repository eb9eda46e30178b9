"""Checks plcli on one GPU in less than 8 minutes, and measures it: a table, and JSON.

Every part is a process of its own with a limit of time, so that a part that hangs or dies costs
itself alone. With --cpu only the checks that make sense there are run, in this process. The exit
status is 1 if a check fails, and 2 without a GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # for deterministic matrix products
os.environ["HF_HUB_OFFLINE"] = "1"

import gpu_correctness
import gpu_fits
import gpu_speed
import torch
from gpu_fits import Checks, Outcome, Setting
from rich.console import Console
from rich.table import Table

STARTING = 15.0  # seconds of a part's limit that its imports may take
PARTS: dict[str, tuple[float, Callable[[Setting], Checks]]] = {  # 450 seconds in all
    "losses": (110, gpu_correctness.losses),
    "resume": (80, gpu_correctness.resume),
    "speed, MiniLM": (110, partial(gpu_speed.checks, network="minilm")),
    "speed, BERT of 110M": (150, partial(gpu_speed.checks, network="bert")),
}
COLOURS = {"pass": "green", "fail": "bold red", "skipped": "yellow", "cut": "yellow"}


def main(words: list[str] | None = None) -> int:
    """Run all parts and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cpu", action="store_true", help="the checks that a CPU can do")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="the JSON file")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), help="by default all")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.child is not None:
        _be_a_part(options.parts[0], options.child)
        return 0
    if not options.cpu and not torch.cuda.is_available():
        print("gpu-check: torch finds no CUDA GPU. --cpu runs what a CPU can do.", file=sys.stderr)
        return 2
    parts = options.parts or (list(PARTS)[:2] if options.cpu else list(PARTS))
    began, outcomes = time.monotonic(), list[Outcome]()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        for part in parts:
            place = Path(folder) / str(len(outcomes))
            place.mkdir()
            run = _in_this_process if options.cpu else _in_a_process
            outcomes += run(part, place)
    seconds = round(time.monotonic() - began, 1)
    found = {"date": date.today().isoformat(), "machine": machine(on_gpu=not options.cpu)}
    found |= {"seconds": seconds, "results": [asdict(each) for each in outcomes]}
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    show(outcomes, found["machine"], Console(width=150))
    counts = {status: sum(each.status == status for each in outcomes) for status in COLOURS}
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    print(f"{said}; {seconds:.0f} s; {options.out}")
    return 1 if counts["fail"] else 0


def _in_this_process(part: str, folder: Path) -> list[Outcome]:
    outcomes: list[Outcome] = []
    setting = Setting("cpu", folder, PARTS[part][0])
    gpu_fits.run(part, PARTS[part][1](setting), setting, outcomes.append)
    return outcomes


def _in_a_process(part: str, folder: Path) -> list[Outcome]:
    """Run a part; what it leaves out when its time is over, or when it dies, is said."""
    limit, checks = PARTS[part]
    print(f"{part}: at most {limit:.0f} s", file=sys.stderr, flush=True)
    outcomes = folder / "outcomes.jsonl"
    outcomes.touch()
    command = [sys.executable, str(Path(__file__)), "--parts", part, "--child", str(folder)]
    with open(folder / "said.txt", "w+", encoding="utf-8") as said:
        child = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True)
        try:
            code: int | None = child.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            os.killpg(child.pid, 9)  # with the fits that it started
            child.wait()
    found = [Outcome(**json.loads(line)) for line in outcomes.read_text().splitlines()]
    names = {each.name for each in found}
    missing = [name for name in checks(Setting("cuda", folder, 0)) if name not in names]
    for index, name in enumerate(missing):
        if code is None:
            reason = f"the part's {limit:.0f} seconds were over"
            found.append(Outcome(part, name, "cut", f"{reason}{' in it' * (index == 0)}"))
        elif index == 0:
            last = (folder / "said.txt").read_text(encoding="utf-8")[-300:]
            found.append(Outcome(part, name, "fail", f"its process ended with {code}: {last}"))
        else:
            found.append(Outcome(part, name, "cut", f"its process had ended with {code}"))
    return found


def _be_a_part(part: str, folder: Path) -> None:
    def tell(outcome: Outcome) -> None:
        with open(folder / "outcomes.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(outcome)) + "\n")

    setting = Setting("cuda", folder, PARTS[part][0] - STARTING)
    gpu_fits.run(part, PARTS[part][1](setting), setting, tell)


def machine(*, on_gpu: bool) -> dict[str, Any]:
    """Return what was checked on and with."""
    packages = ("torch", "lightning", "transformers")
    found: dict[str, Any] = {"versions": {name: version(name) for name in packages}}
    if not on_gpu:
        return {"device": "CPU", **found}
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gb": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        **found,
    }


def show(outcomes: list[Outcome], found: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table("part", "check", "result", "samples/s", "peak MB", "about", title=found["device"])
    for each in outcomes:
        rate, peak = (each.figures.get(key) for key in ("samples_per_second", "peak_mb"))
        said = each.reason
        if "difference" in each.figures:
            said = f"losses within {each.figures['difference']:.1g}"
        elif each.figures.get("without_padding"):
            said = "varlen attention" if each.figures["varlen"] else "in groups"
        numbers = ["" if value is None else f"{value:,.0f}" for value in (rate, peak)]
        status = f"[{COLOURS[each.status]}]{each.status}[/]"
        table.add_row(each.part, each.name, status, *numbers, said)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
