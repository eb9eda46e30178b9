"""What scripts/bench makes of its measurements."""

import importlib
from typing import Any

import pytest

from tests.conftest import ROOT

MACHINE = {
    "data": "reviews",
    "processor": "a CPU",
    "has": ["avx2"],
    "threads": 2,
    "versions": {"torch": "2.13.0"},
    "date": "2026-11-29",
}


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that makes the tables."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("report")


def curve(*accuracies: float, pace: float) -> dict[str, Any]:
    """Return a run with an evaluation every ten steps."""
    points = [
        {"step": 10 * at, "seconds": pace * at, "cpu_seconds": 2 * pace * at, "accuracy": accuracy}
        for at, accuracy in enumerate(accuracies, 1)
    ]
    return {"curve": points}


def test_time_to_accuracy_is_that_of_the_first_evaluation_that_reaches_it(report: Any) -> None:
    sizes = {
        "plcli": [curve(0.6, 0.8, pace=2.0), curve(0.8, pace=4.0), curve(0.6, 0.7, pace=2.0)],
        "Trainer, grouped by length": [curve(0.6, 0.7, 0.8, pace=3.0), *[curve(0.5, pace=3.0)] * 2],
        "plcli, bf16": [curve(0.9, pace=1.0)],
        "Trainer, grouped by length, bf16": [curve(0.9, pace=2.0)],
    }
    found = {**MACHINE, "epochs": 3, "evaluations": 3, "target": 0.75, "sizes": {"1600": sizes}}
    lines = report.markdown({"reaching": found}).splitlines()
    assert "a CPU with avx2, 2 threads" in lines[0]
    assert lines[-4:] == [
        "| 1,600 | plcli | 4, 4, not reached | 4 | 8 | 20 | 1.00 |",
        "| 1,600 | Trainer, grouped by length | 9, not reached, not reached |  |  |  |  |",
        "| 1,600 | plcli, bf16 | 1 | 1 | 2 | 10 | 1.00 |",
        "| 1,600 | Trainer, grouped by length, bf16 | 2 | 2 | 4 | 10 | 2.00 |",
    ]


def test_rates_are_compared_in_the_same_precision(report: Any) -> None:
    def run(rate: float) -> list[dict[str, float]]:
        return [{"samples_per_second": rate, "cpu_seconds_per_1000": 20.0, "accuracy": 0.8}]

    runs = {"plcli": run(60), "Trainer": run(50), "plcli, bf16": run(100), "Trainer, bf16": run(80)}
    found = {**MACHINE, "rows": 1600, "epochs": 2, "runs": runs}
    lines = report.markdown({"short": found}).splitlines()
    assert lines[-4:] == [
        "| plcli (1 runs) | 60 | 1.00 | 20.0 | 0.800 |",
        "| Trainer (1 runs) | 50 | 1.20 | 20.0 | 0.800 |",
        "| plcli, bf16 (1 runs) | 100 | 1.00 | 20.0 | 0.800 |",
        "| Trainer, bf16 (1 runs) | 80 | 1.25 | 20.0 | 0.800 |",
    ]
