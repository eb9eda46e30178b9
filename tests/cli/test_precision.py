"""trainer.precision: auto, and what is said of bf16."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from plcli.training import hardware
from tests.conftest import Command, message


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "has_gpu", lambda: False)


def takes(monkeypatch: pytest.MonkeyPatch, time: float) -> None:
    """Make a product in bf16 take this share of the time of one in fp32."""
    monkeypatch.setattr(hardware, "time_of_bf16", lambda: time)


def precision_of(run: str) -> str:
    """Return the precision in a run's config."""
    values = yaml.safe_load(Path(run, "config.yaml").read_text())["trainer"]
    return str(values["precision"])


@pytest.mark.parametrize(("time", "chosen"), [(0.4, "bf16-mixed"), (0.9, "32-true")])
def test_auto_takes_what_is_clearly_faster_and_the_config_says_which(
    plcli: Command,
    linear_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    time: float,
    chosen: str,
) -> None:
    takes(monkeypatch, time)
    words = ("-c", linear_config, "--run", "run", "--trainer.precision", "auto")
    result = plcli("fit", *words)
    assert (result.code, precision_of("run")) == (0, chosen), result.err
    assert f"trainer.precision: auto is {chosen}, as a matrix product in bf16 takes {time}" in (
        result.err
    )


def test_a_run_keeps_its_precision_where_another_would_be_chosen_now(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("fit", "-c", linear_config, "--run", "run", "--trainer.precision", "auto")
    takes(monkeypatch, 0.4)
    assert plcli(*words).code == 0
    takes(monkeypatch, 0.9)
    assert plcli(*words, "--resume", "auto").code == 0
    assert precision_of("run") == "bf16-mixed"


@pytest.mark.parametrize(("time", "said"), [(0.25, True), (0.9, False)])
def test_where_bf16_would_be_faster_one_line_says_so(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch, time: float, said: bool
) -> None:
    takes(monkeypatch, time)
    result = plcli("fit", "-c", linear_config, "--run", "run")
    line = "this machine multiplies matrices 4.0 times as fast in bf16; --trainer.precision auto"
    assert (line in result.err) == said


def test_weights_in_bf16_are_trained_only_where_that_is_confirmed(
    plcli: Command, linear_config: Path
) -> None:
    words = ("fit", "-c", linear_config, "--run", "run", "--trainer.precision", "bf16-true")
    result = plcli(*words)
    assert result.code == 2
    assert "Use bf16-mixed, or confirm it with --confirm bf16-true." in message(result)
    assert plcli(*words, "--confirm", "bf16-true").code == 0


def test_the_time_of_bf16_is_measured() -> None:
    measure = "from plcli.training import hardware; print(hardware.time_of_bf16())"
    words = [sys.executable, "-c", measure]
    result = subprocess.run(words, capture_output=True, text=True, check=True)
    assert 0.01 < float(result.stdout) < 1000


def test_a_cpu_without_bf16_is_known_from_a_product_of_few_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried: list[int] = []

    def time(rows: int, dtype: torch.dtype) -> float:
        tried.append(rows)
        return 40.0 if dtype == torch.bfloat16 else 1.0

    monkeypatch.undo()  # conftest's
    monkeypatch.setattr(hardware, "_time_of_product", time)
    assert (hardware.time_of_bf16(), max(tried)) == (40.0, 16)
