"""Two processes share one run: its folder, its rows, its numbers."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import Command


def test_two_processes_train_into_one_folder_and_score_every_row_once(
    plcli: Command, linear_config: Path
) -> None:
    words = ["fit", "-c", str(linear_config), "--trainer.devices=2", "--trainer.strategy=ddp"]
    done = subprocess.run(
        [sys.executable, "-m", "plcli", *words], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [path.name for path in Path("runs").iterdir()] == ["table-1"]
    two = json.loads(Path("runs/table-1/metrics.json").read_text())["test"]
    assert f"{two['rmse']:.4f}" in plcli("test", "--run", "runs/table-1").out
