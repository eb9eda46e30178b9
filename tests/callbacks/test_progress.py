"""What a run shows on a terminal while it runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_rows

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")


def on_a_terminal(*words: object) -> str:
    """Run plcli with standard error on a terminal, and return all that was drawn there."""
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "plcli", *map(str, words)]
    with subprocess.Popen(command, stderr=writer, stdout=subprocess.DEVNULL):
        os.close(writer)
        drawn = b""
        while True:
            try:
                part = os.read(reader, 65536)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not part:
                break
            drawn += part
    os.close(reader)
    return drawn.decode()


def test_a_bar_is_drawn_a_few_times_a_second_whatever_the_number_of_batches(
    linear_config: Path,
) -> None:
    rows = [{"a": number % 7, "b": number % 5, "y": number % 3} for number in range(800)]
    source = write_rows(Path("many.csv"), rows)
    words = ["--data.train", source, "--data.batch_size", 1, "--trainer.max_epochs", 1]
    drawn = on_a_terminal("fit", "-c", linear_config, *words).count("epoch 1 of 1")
    assert 0 < drawn < 200  # of 720 batches; four times a second were they as slow as 15 a second
