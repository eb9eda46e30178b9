"""Predictions of so many rows that they are kept on disk in between, and their interruption."""

import os
import signal
import time
from pathlib import Path

from plcli.__main__ import main
from plcli.data import samplers
from tests.conftest import FinishedRun

ROWS = 3 * samplers.ORDERED_ROWS + 100


def write_table(folder: Path) -> Path:
    """Write rows to predict: three windows and a rest."""
    path = folder / "rows.csv"
    lines = (f"{number},{number % 11}\n" for number in range(ROWS))
    path.write_text("a,b\n" + "".join(lines))
    return path


def words(run: FinishedRun, table: Path, output: str | Path, *further: str) -> list[str]:
    """A prediction of a table, in few batches."""
    return [
        *("predict", "--run", str(run.folder), "--input", str(table), "--output", str(output)),
        *("--data.batch_size", "128", *further),
    ]


def killed(command: list[str], state: Path, number: int = signal.SIGKILL) -> int:
    """Run a command in a fork, and kill it once a state is on disk; return its exit status."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(main(command))
    for _ in range(20_000):
        if state.exists():
            break
        time.sleep(0.001)
    os.kill(child, number)
    return os.waitpid(child, 0)[1]
