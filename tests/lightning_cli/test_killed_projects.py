"""A LightningCLI project that is killed with kill -9 and resumed ends as if it had not been."""

import hashlib
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tests.conftest import write_config
from tests.killed_fits import Ended, fork
from tests.lightning_cli.test_projects import PROJECTS

pytestmark = pytest.mark.filterwarnings("ignore")  # what Lightning says to users' projects
KILLED_BEFORE = (1, 3, 8, 13, 21)  # batches: at the start, within the first of three epochs, ...
LIGHTNING = "lightning.pytorch.callbacks"


class Case(NamedTuple):
    """What is in a config beside three epochs of eight batches.

    Attributes:
        same_numbers: whether metrics.csv is the same; not if the time is logged.
    """

    model: str = "Network"
    data: dict[str, Any] = {}
    callbacks: tuple[dict[str, Any], ...] = ()
    trainer: dict[str, Any] = {}
    same_numbers: bool = True


def callback(name: str, **arguments: Any) -> dict[str, Any]:
    """A callback of Lightning in a config."""
    return {"class_path": f"{LIGHTNING}.{name}", "init_args": arguments}


WORKERS = {"num_workers": 1}
PERSISTENT = {"num_workers": 1, "persistent_workers": True}
CASES = {
    "workers": Case(data=WORKERS),
    "persistent workers": Case(data=PERSISTENT),
    "a sampler and workers": Case(data={"kind": "weighted", **WORKERS}),
    "several loaders": Case(data={"kind": "several"}),
    "several loaders and workers": Case(data={"kind": "several", **WORKERS}),
    "several loaders and persistent workers": Case(data={"kind": "several", **PERSISTENT}),
    "loaders by name": Case(data={"kind": "named"}),
    "LBFGS": Case(model="SecondOrder"),
    "LBFGS and workers": Case(model="SecondOrder", data=WORKERS),
    "manual optimization and workers": Case(model="ByHand", data=WORKERS),
    "a callback that acts at the start of an epoch": Case(
        callbacks=({"class_path": "lab.noisy.Scale"},)
    ),
    "a module that acts at the start of an epoch": Case(model="Hooks"),
    "a callback that makes an object at the start of an epoch": Case(
        callbacks=({"class_path": "lab.noisy.Exponent"},)
    ),
    "GradientAccumulationScheduler": Case(
        callbacks=(callback("GradientAccumulationScheduler", scheduling={0: 1, 1: 3, 2: 2}),)
    ),
    "ModelPruning": Case(
        callbacks=(callback("ModelPruning", pruning_fn="l1_unstructured", amount=0.3),)
    ),
    "BackboneFinetuning": Case(
        callbacks=(callback("BackboneFinetuning", unfreeze_backbone_at_epoch=1, verbose=False),)
    ),
    "LearningRateFinder": Case(callbacks=(callback("LearningRateFinder", num_training_steps=5),)),
    "BatchSizeFinder": Case(
        callbacks=(callback("BatchSizeFinder", max_trials=1, steps_per_trial=1),)
    ),
    "WeightAveraging": Case(callbacks=(callback("WeightAveraging"),)),
    "DeviceStatsMonitor and ThroughputMonitor": Case(
        callbacks=(
            callback("DeviceStatsMonitor", cpu_stats=True),
            callback("ThroughputMonitor", batch_size_fn="lab.callbacks.batch_size", window_size=2),
        ),
        trainer={"log_every_n_steps": 2},
        same_numbers=False,
    ),
    "progress bars": Case(callbacks=(callback("RichProgressBar"), callback("RichModelSummary"))),
    "EMAWeightAveraging": Case(callbacks=(callback("EMAWeightAveraging"),)),
    "ModelCheckpoint and loggers": Case(
        callbacks=(
            callback("ModelCheckpoint", monitor="val_loss", every_n_train_steps=3, save_top_k=2),
            callback("LearningRateMonitor"),
            callback("Timer", duration="00:01:00:00"),
            callback("OnExceptionCheckpoint", dirpath="exceptions"),
        ),
        trainer={
            "logger": [
                {"class_path": "lightning.pytorch.loggers.TensorBoardLogger"},
                {"class_path": "lightning.pytorch.loggers.CSVLogger"},
            ]
        },
    ),
}


def result_of(run: Path) -> tuple[str, str, str]:
    """Return what must be the same: the last weights, the model and metrics.csv."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    last = hashlib.sha256()
    for name, value in sorted(state.items()):
        last.update(name.encode() + value.numpy().tobytes())
    model = hashlib.sha256((run / "model" / "model.safetensors").read_bytes())
    return last.hexdigest(), model.hexdigest(), (run / "metrics.csv").read_text()


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Ended]:
    """Fit a case into a folder, in a fork of this process."""
    folder = Path(shutil.copytree(PROJECTS, tmp_path / "project"))

    def run(case: Case, name: str, killed_before: int | None = None, **environment: str) -> Ended:
        config = write_config(
            folder / "noisy.yaml",
            model={"class_path": f"lab.noisy.{case.model}"},
            data={"class_path": "lab.noisy.Data", "init_args": case.data},
            trainer={
                "max_epochs": 3,
                "accelerator": "cpu",
                "log_every_n_steps": 1,
                "callbacks": [*case.callbacks, {"class_path": "lab.noisy.Kill"}],
                **case.trainer,
            },
            checkpoint={"every_n_steps": 2},
        )
        killed = {} if killed_before is None else {"KILL_BEFORE": str(killed_before)}
        words = ("fit", "-c", config, "--run", tmp_path / name, "--allow-import", "lab")
        return fork(*words, folder=folder, environment=killed | environment)

    return run


@pytest.mark.parametrize("name", CASES)
def test_a_killed_project_ends_as_if_it_had_not_been_killed(
    fit: Callable[..., Ended], tmp_path: Path, name: str
) -> None:
    whole = fit(CASES[name], "whole")
    assert whole.code == 0, whole.said
    expected = result_of(tmp_path / "whole")
    compared = 3 if CASES[name].same_numbers else 2
    turn = [*CASES].index(name)  # two of the five batches for each of thirty cases, by turns
    for batch in (KILLED_BEFORE[(turn + more) % len(KILLED_BEFORE)] for more in (0, 2)):
        run = f"killed-{batch}"
        assert fit(CASES[name], run, batch).code == -signal.SIGKILL
        resumed = fit(CASES[name], run)
        assert resumed.code == 0, resumed.said
        assert result_of(tmp_path / run)[:compared] == expected[:compared]


def test_what_a_stopped_validation_has_collected_is_collected_once(
    fit: Callable[..., Ended], tmp_path: Path
) -> None:
    case = Case(model="Collecting")
    fit(case, "whole")
    assert fit(case, "stopped", STOP_IN_VALIDATION="16").code == 143
    assert fit(case, "stopped").code == 0
    assert result_of(tmp_path / "stopped") == result_of(tmp_path / "whole")
