"""Mean weights: what is scored is what is saved."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
from safetensors.torch import load_file

from plcli.callbacks import averaging
from plcli.errors import UsageError
from tests.running import (
    RECORDER,
    Recorder,
    fit_messages,
    read_json,
    run_plcli,
    saved_state,
    try_messages,
)

EMA = {
    "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
    "init_args": {"decay": 0.7},
}
EPOCHS = {
    "class_path": "plcli.callbacks.averaging.EpochAveraging",
    "init_args": {"start_epoch": 1},
}


@pytest.fixture(scope="module")
def ema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with mean weights."""
    return fit_messages(tmp_path_factory.mktemp("ema") / "x", callbacks=[EMA], max_epochs=2)


def test_the_artefact_holds_the_mean_weights_of_the_best_epoch(ema: Path) -> None:
    kept = load_file(ema / "model" / "model.safetensors")
    mean, last = saved_state(ema, "best"), saved_state(ema, "best", "current_model_state")
    assert all(torch.equal(tensor, mean[f"model.{name}"]) for name, tensor in kept.items())
    assert not torch.equal(mean["model.classifier.weight"], last["model.classifier.weight"])


def test_the_numbers_of_a_run_are_those_of_its_mean_weights(ema: Path) -> None:
    result = run_plcli("validate", "--run", ema)
    expected = read_json(ema / "metrics.json")["validation"]
    for name in ("loss", "macro_f1"):
        assert f" {expected[name]:.4f} " in result.out, result.err


def test_epochs_are_averaged_from_the_first_that_is_wanted(tmp_path: Path) -> None:
    Recorder.clear()
    run = fit_messages(tmp_path / "x", callbacks=[EPOCHS, RECORDER], max_epochs=3)
    name = "model.classifier.weight"
    expected = (Recorder.states[1][name] + Recorder.states[2][name]) / 2
    torch.testing.assert_close(saved_state(run)[name], expected)
    kept = load_file(run / "model" / "model.safetensors")["classifier.weight"]
    assert torch.equal(kept, saved_state(run, "best")[name])
    result = run_plcli("validate", "--run", run, "--allow-import", "tests")
    assert f" {read_json(run / 'metrics.json')['validation']['loss']:.4f} " in result.out


def test_a_mean_that_is_never_scored_is_refused(tmp_path: Path) -> None:
    swa = {"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging"}
    result = try_messages(tmp_path / "x", callbacks=[{**swa, "init_args": {"swa_lrs": 0.01}}])
    assert result.code == 2
    assert "Use plcli.callbacks.averaging.EpochAveraging (start_epoch), or" in result.err


@pytest.mark.parametrize("callback", [EMAWeightAveraging(decay=0.9), WeightAveraging()])
def test_whole_numbers_are_no_means(callback: WeightAveraging) -> None:
    averaging.prepare([callback])
    mean = callback._kwargs["avg_fn"]
    numbers = torch.arange(512)
    assert torch.equal(mean(numbers, numbers, torch.tensor(3)), numbers)
    halves = mean(torch.zeros(1), torch.ones(1), torch.tensor(1))
    assert 0 < float(halves) < 1


def test_an_epoch_before_the_first_is_refused() -> None:
    with pytest.raises(UsageError, match=r"EpochAveraging\.start_epoch: got -1, expected 0 or mo"):
        averaging.EpochAveraging(start_epoch=-1)
