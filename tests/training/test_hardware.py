"""What a machine lacks is told before any data is read."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from tests.conftest import Command, FinishedRun, message


@pytest.fixture(autouse=True)
def _without_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps"])
def test_a_device_that_the_machine_lacks_is_told(
    plcli: Command, linear_config: Path, accelerator: str
) -> None:
    result = plcli("fit", "-c", linear_config, "--trainer.accelerator", accelerator)
    assert (result.code, message(result)) == (
        5,
        f"plcli: trainer.accelerator: got {accelerator}, but this machine has no such "
        "device. Use auto or cpu.\n",
    )


@pytest.mark.parametrize("precision", ["16-mixed", "16-true", "16"])
def test_half_precision_on_a_cpu_is_told(
    plcli: Command, linear_config: Path, precision: str
) -> None:
    result = plcli("fit", "-c", linear_config, "--trainer.precision", precision)
    assert (result.code, message(result)) == (
        5,
        f"plcli: trainer.precision: {precision} needs a GPU; on a CPU use bf16-mixed or 32-true.\n",
    )


def test_an_accelerator_that_does_not_exist_is_told(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--trainer.accelerator", "gppu")
    assert result.code == 2
    assert message(result).startswith(
        "plcli: trainer.accelerator: 'gppu' is not known. Did you mean 'gpu'? There are: auto, gpu,"
    )


def test_a_precision_that_does_not_exist_is_told(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--trainer.precision", "17")
    assert result.code == 2
    assert message(result).startswith("plcli: trainer.precision: got '17', expected ")


def test_more_devices_than_the_machine_has_are_told(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    words = ["--trainer.accelerator", "gpu", "--trainer.devices", "4"]
    result = plcli("fit", "-c", linear_config, *words)
    assert (result.code, message(result)) == (
        5,
        "plcli: trainer.devices: got 4, but this machine only has 1. Use that number or "
        "fewer, or auto.\n",
    )


@pytest.mark.parametrize("devices", ["0", "two"])
def test_a_number_of_devices_that_makes_no_sense_is_told(
    plcli: Command, linear_config: Path, devices: str
) -> None:
    result = plcli("fit", "-c", linear_config, "--trainer.devices", devices)
    assert result.code == 2
    assert message(result).startswith("plcli: trainer")


def test_the_hardware_is_checked_before_the_data(plcli: Command, linear_config: Path) -> None:
    linear_config.with_name("table.csv").unlink()
    assert plcli("fit", "-c", linear_config, "--trainer.accelerator", "gpu").code == 5


def test_a_machine_without_the_device_leaves_no_run_folder(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config, "--trainer.accelerator", "gpu")
    assert not Path("runs").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true", "64-true"])
def test_a_precision_that_a_cpu_has_is_taken(
    plcli: Command, linear_config: Path, precision: str
) -> None:
    assert plcli("fit", "-c", linear_config, "--trainer.precision", precision).code == 0


def test_auto_falls_back_to_the_cpu(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--trainer.accelerator", "auto")
    assert "on cpu (32-true)" in result.err


@pytest.fixture
def gpu_run(linear_run: FinishedRun) -> Path:
    """A run as a machine with a GPU leaves it."""
    folder = linear_run.copy("gpu")
    values = yaml.safe_load((folder / "config.yaml").read_text())
    values["trainer"] |= {"accelerator": "gpu", "devices": 4, "precision": "16-mixed"}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_a_run_of_a_gpu_is_tested_on_a_cpu(plcli: Command, gpu_run: Path) -> None:
    assert plcli("test", "--run", gpu_run).code == 0


def test_a_run_of_a_gpu_predicts_on_a_cpu(plcli: Command, gpu_run: Path) -> None:
    assert plcli("predict", "--run", gpu_run, '{"a": 1, "b": 2}').code == 0


def test_a_run_of_the_cpu_is_refused_on_a_gpu_that_is_not_there(
    plcli: Command, linear_run: FinishedRun
) -> None:
    result = plcli("test", "--run", linear_run.folder, "--trainer.accelerator", "gpu")
    assert result.code == 5


# threads


@pytest.fixture
def _threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_threads_as_before")
def test_a_fit_computes_with_as_many_threads_as_the_config_says(
    plcli: Command, linear_config: Path
) -> None:
    assert plcli("fit", "-c", linear_config, "--threads", 3, "--run", "run").code == 0
    machine = json.loads(Path("run/environment.json").read_text())["machine"]
    assert (machine["threads"], torch.get_num_threads()) == (3, 3)


@pytest.mark.usefixtures("_threads_as_before")
def test_there_are_no_more_threads_than_cores(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(4)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0})
    assert plcli("fit", "-c", linear_config, "--run", "run").code == 0
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("key", ["threads", "interop_threads"])
def test_no_threads_at_all_are_refused(plcli: Command, linear_config: Path, key: str) -> None:
    result = plcli("fit", "-c", linear_config, f"--{key}", 0)
    assert (result.code, message(result)) == (2, f"plcli: {key}: got 0, expected 1 or more.\n")


def test_threads_side_by_side_are_set_in_a_new_process(linear_config: Path) -> None:
    code = (
        "import sys, torch; from plcli.__main__ import main; main(sys.argv[1:]); "
        "print(torch.get_num_interop_threads())"
    )
    words = ["fit", "-c", str(linear_config), "--interop_threads", "3"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "3", done.stderr
