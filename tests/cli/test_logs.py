"""What other libraries say while they are imported is kept out of the user's sight."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command


@pytest.mark.parametrize("name", ["bitsandbytes.backends.cpu.ops", "fsspec", "lightning.fabric"])
def test_a_note_of_a_library_below_is_not_shown(
    plcli: Command, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    assert plcli("fit", "--help").code == 0
    logging.getLogger(name).warning("Failed to load a kernel")
    assert [record.message for record in caplog.records] == []


def test_quiet_says_only_warnings_and_shows_results(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--run", "run", "--quiet")
    assert result.code == 0
    assert all(" warning: " in line for line in result.err.splitlines())
    assert "rmse" in result.out
    assert "epoch 1" in Path("run", "train.log").read_text(encoding="utf-8")


def test_a_process_says_at_once_what_it_does() -> None:
    words = [sys.executable, "-m", "plcli", "fit", "-c", "nowhere.yaml"]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ", fit: loading libraries for some seconds" in result.stderr.splitlines()[0]
