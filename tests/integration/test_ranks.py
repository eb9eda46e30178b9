"""Two processes share one run: its folder, its rows, its numbers."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import Command


def test_torchrun_without_a_word_about_devices_is_one_run(linear_config: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    command = ["plcli", "fit", "-c", str(linear_config), "--run", "run"]
    done = subprocess.run(
        [sys.executable, *words, *command], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("best epoch") == 1
    kept = json.loads(Path("run/environment.json").read_text())["processes"]
    assert kept == {"world_size": 2, "nodes": 1, "launcher": "torchrun"}
    assert "world size 2: 2 processes on 1 node, started by torchrun" in done.stderr


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
