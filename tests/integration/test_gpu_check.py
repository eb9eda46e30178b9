"""scripts/gpu-check without a GPU: its checks that a CPU can do, and what it says."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import ROOT

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning, in fits without plcli's own rules


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script, as one of benchmarks/."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return importlib.import_module("gpu_check")


def test_the_half_for_a_cpu_passes(gpu_check: Any, tmp_path: Path) -> None:
    assert gpu_check.main(["--cpu", "--out", str(tmp_path / "found.json")]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    statuses = {each["name"]: each["status"] for each in found["results"]}
    assert statuses == {
        "fp32": "skipped",
        "bf16-mixed": "pass",
        "16-mixed": "skipped",
        "fp32 without padding, in groups": "pass",
        "bf16-mixed without padding, varlen attention": "skipped",
        "QLoRA": "skipped",
        "compile": "skipped",
        "kill -9, then the same bits": "pass",
        "the same with varlen attention": "skipped",
    }
    killed = next(each for each in found["results"] if each["name"].startswith("kill"))
    assert killed["figures"]["steps"] == [1, 2, 3, 4, 5, 5, 6]


def test_without_a_gpu_nothing_is_pretended(
    gpu_check: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gpu_check.main([]) == 2
    assert capsys.readouterr().err == (
        "gpu-check: torch finds no CUDA GPU. --cpu runs what a CPU can do.\n"
    )


def test_what_fails_and_what_is_cut_is_said(
    gpu_check: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 10))
    fits = sys.modules["gpu_fits"]
    monkeypatch.setattr(fits.time, "monotonic", lambda: float(next(clock)))  # 10 s a look

    def wrong() -> dict[str, Any]:
        raise fits.Failed("losses differ by 0.5")

    checks = {"right": dict, "wrong": wrong, "broken": lambda: {}["key"], "late": dict}
    monkeypatch.setattr(gpu_check, "PARTS", {"losses": (75.0, lambda setting: checks)})
    assert gpu_check.main(["--cpu", "--out", "found.json"]) == 1
    found = json.loads(Path("found.json").read_text())["results"]
    assert [(each["status"], each["reason"]) for each in found] == [
        ("pass", ""),
        ("fail", "losses differ by 0.5"),
        ("fail", "KeyError: 'key'"),
        ("cut", "the part's 75 seconds do not suffice"),
    ]
    said = capsys.readouterr().out
    assert "1 pass, 2 fail, 0 skipped, 1 cut" in said
