"""Tries every model type of the zoo on every task, and writes the table of docs/models.md.

python -m tests.zoo.table [--types bert,gpt2] [--tasks causal_lm] [--jobs 2]; the rows of the types
are written if all tasks were tried. The exit status is 1 if one fails.
"""

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.zoo.models import KINDS
from tests.zoo.tasks import TASKS
from tests.zoo.trials import Outcome, in_folder

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- written by scripts/zoo -->", "<!-- end of what scripts/zoo writes -->"
NO_CLASS = ("for which transformers has no", "transformers has no class for its encoder")
Table = Mapping[str, Mapping[str, Outcome]]


def tried(name: str, tasks: Sequence[str]) -> dict[str, Outcome]:
    """Try a model type on some tasks."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks:
            found[task] = in_folder(name, task, Path(folder) / task)
    return found


def lines_of(table: Table) -> tuple[dict[str, str], list[str]]:
    """Return the line of each type in Markdown, and messages other than of a missing class."""
    lines, notes = {}, []
    for name, row in table.items():
        cells = []
        for task, outcome in row.items():
            cell = {"works": "yes", "refused": "–", "fails": "fails"}[outcome.kind]
            if "is bidirectional" in outcome.said:
                cell = "no"
            elif outcome.kind == "refused" and not any(part in outcome.said for part in NO_CLASS):
                cell = "no, see below"
                notes.append(f"- {name}, {task}: {_without_folder(outcome.said)}")
            cells.append(cell)
        lines[name] = f"| {name} | {' | '.join(cells)} |"
    return lines, notes


def _without_folder(said: str) -> str:
    words = said.removeprefix("plcli: ").split()
    return " ".join("FOLDER:" if word.endswith("/base:") else word for word in words)


def write(table: Table) -> None:
    """Put the types that were tried into the table of the document."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    lines, notes = lines_of(table)
    for line in old.splitlines():
        name = line.strip("|- ").split(" |")[0].split(",")[0]
        if name in KINDS and name not in table:
            if line.startswith("|"):
                lines[name] = line
            else:
                notes.append(line)
    head = [f"| model type | {' | '.join(TASKS)} |", f"|---|{'---|' * len(TASKS)}"]
    whole = "\n".join([*head, *(lines[name] for name in sorted(lines)), "", *sorted(notes)])
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{whole.strip()}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Run the trials."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--types", default=",".join(KINDS))
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--jobs", type=int, default=2)
    chosen = parser.parse_args()
    names, tasks = chosen.types.split(","), chosen.tasks.split(",")
    context = multiprocessing.get_context("spawn")
    table: dict[str, dict[str, Outcome]] = {}
    with ProcessPoolExecutor(chosen.jobs, mp_context=context) as pool:
        results = pool.map(tried, names, [tasks] * len(names))
        for name, row in zip(names, results, strict=True):
            table[name] = row
            for task, outcome in row.items():
                print(f"{name:14s} {task:22s} {outcome.kind:8s} {outcome.said}", flush=True)
    if tasks == list(TASKS):
        write(table)
    return int(any(each.kind == "fails" for row in table.values() for each in row.values()))


if __name__ == "__main__":
    sys.exit(main())
