"""W&B and MLflow by config: real ones where they are installed, else modules in their place."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from plcli.cli import loggers
from tests.conftest import Command, message, write_config
from tests.running import read_json

WANDB = {"class_path": "WandbLogger", "init_args": {"project": "mine", "offline": True}}
MLFLOW = {"class_path": "MLFlowLogger", "init_args": {"experiment_name": "mine"}}


def fit_with(plcli: Command, config: Path, *sections: dict[str, Any]) -> Any:
    """Fit with loggers into the folder run."""
    write_config(Path("logged.yaml"), trainer={"logger": list(sections), "log_every_n_steps": 1})
    return plcli("fit", "-c", config, "-c", "logged.yaml", "--run", "run")


def fake(patch: pytest.MonkeyPatch, name: str, **values: Any) -> Any:
    """Put a module in the place of one, with the modules above it."""
    for part in (name.rsplit(".", count)[0] for count in range(name.count("."), 0, -1)):
        if part not in sys.modules:
            patch.setitem(sys.modules, part, ModuleType(part))
    module = ModuleType(name)
    vars(module).update(values)
    patch.setitem(sys.modules, name, module)
    return module


class Recorded:
    """A run of W&B or a client of MLflow that notes what it is called with."""

    id, run_id, config = "abc123", "abc123", SimpleNamespace(update=lambda *a, **k: None)

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.arguments, self.settings = arguments, settings

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*arguments: Any, **settings: Any) -> Any:
            self.calls.append((name, arguments, settings))
            return None

        return call


# the real ones


def test_wandb_writes_offline_into_the_run_folder(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    result = fit_with(plcli, linear_config, WANDB)
    assert result.code == 0, result.err
    assert list(Path("run/wandb").glob("offline-run-*/*.wandb"))
    assert [*read_json(Path("run/loggers.json"))] == ["WandbLogger"]


def test_mlflow_writes_into_the_run_folder(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv(loggers.FILE_STORE, "true")
    result = fit_with(plcli, linear_config, MLFLOW)
    assert result.code == 0, result.err
    assert list(Path("run").rglob("metrics/val_rmse"))
    assert [*read_json(Path("run/loggers.json"))] == ["MLFlowLogger"]


# in their place


def test_wandb_gets_the_run_folder_and_the_metrics(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Recorded] = []

    def init(**settings: Any) -> Recorded:
        begun.append(Recorded(**settings))
        return begun[-1]

    for name in ("wandb.sdk.lib", "wandb.wandb_run"):
        kind = {"wandb.sdk.lib": {"RunDisabled": type("RunDisabled", (), {})}}
        fake(monkeypatch, name, **kind.get(name, {"Run": Recorded}))
    fake(monkeypatch, "wandb", init=init, run=None, require=lambda name: None)
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", True)
    result = fit_with(plcli, linear_config, WANDB)
    assert result.code == 0, result.err
    (run,) = begun
    assert (run.settings["project"], run.settings["dir"]) == ("mine", "run")
    logged = {name for call, given, _ in run.calls if call == "log" for name in given[0]}
    assert {"val_rmse", "train_loss"} <= logged
    assert read_json(Path("run/loggers.json")) == {"WandbLogger": [{"id": "abc123"}]}


def mlflow_in_its_place(patch: pytest.MonkeyPatch, client: type) -> None:
    fake(patch, "mlflow.tracking", MlflowClient=client)
    fake(patch, "mlflow.tracking.context.registry", resolve_tags=lambda tags: tags)
    fake(patch, "mlflow.utils.mlflow_tags", MLFLOW_RUN_NAME="mlflow.runName")
    fake(patch, "mlflow.entities", Metric=SimpleNamespace, Param=SimpleNamespace)
    fake(patch, "mlflow", set_tracking_uri=lambda uri: None)
    for name in ("_MLFLOW_AVAILABLE", "_MLFLOW_SYNCHRONOUS_AVAILABLE"):
        patch.setattr(f"lightning.pytorch.loggers.mlflow.{name}", True)
    tags = "lightning.pytorch.loggers.mlflow._get_resolve_tags"
    patch.setattr(tags, lambda: lambda given: given)


def test_mlflow_gets_the_run_folder_and_continues_its_run(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    class Client(Recorded):
        def __init__(self, uri: str) -> None:
            super().__init__(uri)
            made.append(self)

        def create_experiment(self, **settings: Any) -> str:
            self.calls.append(("create_experiment", (), settings))
            return "1"

        def create_run(self, **settings: Any) -> Any:
            return SimpleNamespace(info=SimpleNamespace(run_id="abc123", experiment_id="1"))

    mlflow_in_its_place(monkeypatch, Client)
    result = fit_with(plcli, linear_config, MLFLOW)
    assert result.code == 0, result.err
    assert made[0].arguments == ("file:run",)
    assert "create_experiment" in {call for call, _, _ in made[0].calls}
    assert "log_batch" in {call for call, _, _ in made[0].calls}
    assert read_json(Path("run/loggers.json")) == {"MLFlowLogger": [{"run_id": "abc123"}]}


def test_what_mlflow_refuses_is_said_before_the_training(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Client(Recorded):
        def get_experiment_by_name(self, name: str) -> None:
            raise RuntimeError(f"set {loggers.FILE_STORE}=true to write into ./mlruns")

    mlflow_in_its_place(monkeypatch, Client)
    result = fit_with(plcli, linear_config, MLFLOW)
    assert result.code == 2
    assert (
        "plcli: trainer.logger: MLFlowLogger cannot begin its run: MLflow does not write into a "
        f"folder by itself any more. Set the environment variable {loggers.FILE_STORE}=true, or "
        "tracking_uri: the address of a server, or sqlite:///mlflow.db, which needs the whole "
        "mlflow package.\n"
    ) in result.err


@pytest.mark.parametrize(("section", "package"), [(WANDB, "wandb"), (MLFLOW, "mlflow")])
def test_a_logger_whose_package_is_missing_is_refused(
    plcli: Command,
    linear_config: Path,
    monkeypatch: pytest.MonkeyPatch,
    section: dict[str, Any],
    package: str,
) -> None:
    """Alone and in a list, for which the parser says that it is no logger."""
    monkeypatch.delitem(sys.modules, package, raising=False)
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    for sections in ([section], [{"class_path": "CSVLogger"}, section]):
        result = fit_with(plcli, linear_config, *sections)
        assert result.code == 5
        assert message(result) == (
            f"plcli: trainer.logger: {section['class_path']} needs the package {package}, which is "
            f"not installed. Install it: pip install {package}\n"
        )
        assert not Path("run").exists()
