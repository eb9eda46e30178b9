"""metrics.csv: what a resumed run of an earlier version has in its lines."""

import csv
from pathlib import Path
from typing import Any

import pytest

from plcli.training.csv_logger import MetricsCsv

STATE = {"lines": 1, "open": {"step": 1, "train_loss": 0.5, "epoch": 0.0}, "names": ["step"]}


def resumed(folder: Path, state: dict[str, Any]) -> list[dict[str, str]]:
    """Resume a run after two steps, log a third one in the second epoch, and read the lines."""
    (folder / "metrics.csv").write_text("step,train_loss,epoch\n0,0.75,0.0\n", encoding="utf-8")
    logger = MetricsCsv(folder)
    logger.resume(state)
    logger.in_training, logger.rate = True, 0.125
    logger.log_metrics({"train_loss": 0.25, "epoch": 1}, step=2)
    logger.finalize("success")
    with open(folder / "metrics.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_of_an_earlier_version_goes_on_counting_from_0(tmp_path: Path) -> None:
    lines = resumed(tmp_path, STATE)
    assert [line["epoch"] for line in lines] == ["0.0", "0.0", "1.0"]
    assert "lr" not in lines[0]


def test_a_run_of_this_version_goes_on_counting_from_1(tmp_path: Path) -> None:
    lines = resumed(tmp_path, {**STATE, "first_epoch": 1})
    assert (lines[2]["epoch"], lines[2]["lr"]) == ("2.0", "0.125")


@pytest.mark.parametrize(("epoch", "written"), [(3, 4.0), (3.0, 3.0)])
def test_an_epoch_that_a_module_logs_itself_is_kept(
    tmp_path: Path, epoch: float, written: float
) -> None:
    logger = MetricsCsv(tmp_path)
    logger.in_training = True
    logger.log_metrics({"epoch": epoch}, step=0)
    assert logger.lines == [{"step": 0, "epoch": written}]
