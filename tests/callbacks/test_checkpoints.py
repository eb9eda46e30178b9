"""Which epoch is kept: the best by the monitored metric, over a resumed run too."""

import os
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback

from plcli.callbacks.checkpoints import Checkpoints
from plcli.errors import UsageError
from plcli.tasks.linear_regression import SimpleLinearModel
from tests.conftest import Command, Result, message, message_rows, table_rows, write_rows
from tests.running import (
    RECORDER,
    TABLE,
    Recorder,
    by_heart,
    card,
    fit,
    predicted,
    read_json,
    try_fit,
)

SCRIPTED = "tests.callbacks.test_checkpoints.Scripted"


class Scripted(SimpleLinearModel):
    """A linear model whose validation metrics are read from a script, an epoch each."""

    script: ClassVar[dict[str, list[float]]] = {}

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's numbers of the script."""
        epoch = self.trainer.current_epoch
        values = {name: numbers[epoch] for name, numbers in self.script.items()}
        self.results["val"] = {name.removeprefix("val_"): x for name, x in values.items()}
        self.log_dict(values)


class Wreck(Callback):
    """Turns a classifier's head round at the start of the last epoch, and learns no more."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Turn it."""
        if trainer.current_epoch == trainer.max_epochs - 1:
            with torch.no_grad():
                pl_module.model.classifier.weight.neg_()
                pl_module.model.classifier.bias.neg_()
            for group in trainer.optimizers[0].param_groups:
                group["lr"] = group["initial_lr"] = 0.0


class Stop(Callback):
    """Breaks a fit off at the start of an epoch."""

    at: ClassVar[int | None] = None

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """Break off."""
        if trainer.current_epoch == self.at:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def _nothing_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder.clear()
    monkeypatch.setattr(Stop, "at", None)


def scripted_fit(
    folder: Path, *words: object, monkeypatch: pytest.MonkeyPatch, **script: list[float]
) -> Result:
    """Fit with scripted validation metrics, as many epochs as they have numbers."""
    monkeypatch.setattr(Scripted, "script", script)
    source = str(write_rows(folder / "table.csv", table_rows()))
    return try_fit(
        folder,
        *words,
        model={},
        data={"train": source, "validation": source, "features": ["a", "b"], "target": "y"},
        trainer={
            "max_epochs": len(next(iter(script.values()))),
            "num_sanity_val_steps": 0,
            "callbacks": [RECORDER, {"class_path": "tests.callbacks.test_checkpoints.Stop"}],
        },
        classes=(SCRIPTED, TABLE),
    )


def kept_epoch(run: Path) -> int:
    """Return the epoch whose weights the artefact holds."""
    from safetensors.torch import load_file

    weights = load_file(run / "model" / "model.safetensors")
    same = [
        epoch
        for epoch, state in enumerate(Recorder.states)
        if torch.equal(state["layer.weight"], weights["layer.weight"])
    ]
    (epoch,) = same
    return epoch


def checkpoint(run: Path, name: str) -> dict[str, Any]:
    """Load a checkpoint of a run."""
    content: dict[str, Any] = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four epochs of which the second is the best."""
    folder = tmp_path_factory.mktemp("scripted")
    with pytest.MonkeyPatch.context() as patch:
        scripted_fit(folder, monkeypatch=patch, val_rmse=[3.0, 1.0, 2.0, 2.5])
    return folder / "run"


def test_the_artefact_holds_the_best_epoch_not_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_fit(tmp_path, monkeypatch=monkeypatch, val_rmse=[3.0, 1.0, 2.0, 2.5])
    assert kept_epoch(tmp_path / "run") == 1


def test_the_last_epoch_is_kept_where_it_is_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_fit(tmp_path, monkeypatch=monkeypatch, val_rmse=[3.0, 2.0, 1.0])
    assert kept_epoch(tmp_path / "run") == 2


def test_the_earlier_of_two_equal_epochs_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_fit(tmp_path, monkeypatch=monkeypatch, val_rmse=[3.0, 1.0, 1.0])
    assert kept_epoch(tmp_path / "run") == 1


def test_the_earlier_of_two_equal_epochs_is_kept_where_the_largest_is_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_fit(
        tmp_path, "--checkpoint.monitor", "val_r2", "--checkpoint.mode", "max",
        monkeypatch=monkeypatch, val_rmse=[1.0, 2.0, 3.0], val_r2=[0.1, 0.9, 0.9],
    )  # fmt: skip
    assert kept_epoch(tmp_path / "run") == 1


def test_a_metric_that_is_not_a_number_is_never_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nan = float("nan")
    scripted_fit(tmp_path, monkeypatch=monkeypatch, val_rmse=[nan, 2.0, nan])
    assert kept_epoch(tmp_path / "run") == 1


def test_a_config_may_monitor_another_metric(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted_fit(
        tmp_path, "--checkpoint.monitor", "val_mae", "--checkpoint.mode", "min",
        monkeypatch=monkeypatch, val_rmse=[1.0, 2.0, 3.0], val_mae=[5.0, 5.0, 4.0],
    )  # fmt: skip
    assert kept_epoch(tmp_path / "run") == 2


def test_a_config_may_ask_for_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted_fit(
        tmp_path, "--checkpoint.monitor", "val_r2", "--checkpoint.mode", "max",
        monkeypatch=monkeypatch, val_rmse=[1.0, 2.0, 3.0], val_r2=[0.1, 0.9, 0.5],
    )  # fmt: skip
    assert kept_epoch(tmp_path / "run") == 1


def test_the_validation_metrics_of_the_run_are_those_of_the_best_epoch(run: Path) -> None:
    assert card(run)["metrics"]["validation"]["rmse"] == 1.0


def test_best_ckpt_is_of_the_best_epoch(run: Path) -> None:
    assert checkpoint(run, "best")["epoch"] == 1


def test_last_ckpt_is_of_the_last_epoch(run: Path) -> None:
    assert checkpoint(run, "last")["epoch"] == 3


def test_a_checkpoint_is_the_whole_training_state(run: Path) -> None:
    assert set(checkpoint(run, "best")) >= {
        "state_dict",
        "optimizer_states",
        "lr_schedulers",
        "loops",
        "epoch",
        "global_step",
    }


def test_a_checkpoint_holds_the_facts_of_the_data(run: Path) -> None:
    assert checkpoint(run, "best")["plcli"]["facts"] == card(run)["facts"]


def test_last_can_be_asked_for_by_name(run: Path) -> None:
    source = run.parent / "table.csv"
    assert predicted(run, source) != predicted(run, source, "--ckpt_path", "last")


def test_best_by_name_is_what_the_artefact_holds(run: Path) -> None:
    source = run.parent / "table.csv"
    assert predicted(run, source) == predicted(run, source, "--ckpt_path", "best")


def test_only_two_checkpoints_are_kept(run: Path) -> None:
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}


def test_the_best_epoch_before_a_stop_is_kept_by_the_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stop, "at", 2)
    stopped = scripted_fit(tmp_path, monkeypatch=monkeypatch, val_rmse=[3.0, 1.0, 2.0, 2.5])
    monkeypatch.setattr(Stop, "at", None)
    scripted_fit(tmp_path, monkeypatch=monkeypatch, val_rmse=[3.0, 1.0, 2.0, 2.5])
    assert (stopped.code, kept_epoch(tmp_path / "run")) == (130, 1)


def test_a_resumed_run_goes_on_with_the_epoch_after_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Stop, "at", 2)
    scripted_fit(tmp_path, monkeypatch=monkeypatch, val_rmse=[4.0, 3.0, 2.0, 1.0])
    monkeypatch.setattr(Stop, "at", None)
    Recorder.states.clear()
    scripted_fit(tmp_path, monkeypatch=monkeypatch, val_rmse=[4.0, 3.0, 2.0, 1.0])
    assert len(Recorder.states) == 2


def test_an_unknown_metric_is_refused_with_a_suggestion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = scripted_fit(
        tmp_path, "--checkpoint.monitor", "val_rmsee", "--checkpoint.mode", "min",
        monkeypatch=monkeypatch, val_rmse=[1.0],
    )  # fmt: skip
    assert (result.code, result.err.splitlines()[-1]) == (
        2,
        "plcli: checkpoint.monitor: no metric 'val_rmsee' is logged. Did you mean 'val_rmse'? "
        "There are: val_rmse.",
    )


def test_monitor_without_mode_is_refused(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--checkpoint.monitor", "val_mae")
    assert (result.code, "checkpoint: monitor requires mode (min or max)" in result.err) == (
        2,
        True,
    )


def test_mode_without_monitor_is_refused() -> None:
    with pytest.raises(UsageError, match=r"monitor requires mode \(min or max\)"):
        Checkpoints(mode="min")


def test_the_last_epoch_is_kept_where_nothing_is_validated(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config, "--data.validation_fraction", 0, "--run", "run")
    assert (Path("run/checkpoints/best.ckpt").exists(), Path("run/model/plcli.json").exists()) == (
        False,
        True,
    )


def test_a_run_without_validation_claims_no_validation_metrics(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config, "--data.validation_fraction", 0, "--run", "run")
    assert set(read_json(Path("run/metrics.json"))) == {"test", "fit"}


def test_a_text_model_that_worsens_in_training_is_kept_as_it_was_before(tmp_path: Path) -> None:
    rows = message_rows()
    source = write_rows(tmp_path / "rows.jsonl", rows)
    run = fit(
        tmp_path,
        model=by_heart(),
        data={"train": str(source), "validation": str(source), "text": "message"}
        | {"label": "intent", "batch_size": 2},
        trainer={
            "max_epochs": 9,
            "callbacks": [RECORDER, {"class_path": "tests.callbacks.test_checkpoints.Wreck"}],
        },
    )
    best, last = (
        [row["label"] for row in predicted(run, source, "--ckpt_path", run / "checkpoints" / name)]
        for name in ("best.ckpt", "last.ckpt")
    )
    kept = [row["label"] for row in predicted(run, source)]
    assert kept == best != last


# when a run is finished


def sizes(run: Path) -> dict[str, int]:
    """Return the bytes of a run's checkpoints."""
    return {path.name: path.stat().st_size for path in (run / "checkpoints").iterdir()}


def test_the_last_checkpoint_of_a_finished_run_has_no_optimizer_state(
    plcli: Command, linear_config: Path
) -> None:
    trimmed = plcli("fit", "-c", linear_config, "--run", "trimmed")
    plcli("fit", "-c", linear_config, "--run", "all", "--checkpoint.keep", "all")
    assert checkpoint(Path("trimmed"), "last")["optimizer_states"] == []
    assert checkpoint(Path("all"), "last")["optimizer_states"][0]["state"]
    assert sizes(Path("trimmed"))["last.ckpt"] < sizes(Path("all"))["last.ckpt"]
    assert re.search(r"trimmed: 0\.0 MB in all, 0\.0 MB of it the model", trimmed.err)


def test_a_fit_that_starts_from_a_checkpoint_without_optimizer_state_is_refused(
    plcli: Command, linear_config: Path
) -> None:
    plcli("fit", "-c", linear_config, "--run", "first")
    words = ("--ckpt_path", "first/checkpoints/last.ckpt", "--trainer.max_epochs", "4")
    result = plcli("fit", "-c", linear_config, "--run", "second", *words)
    assert (result.code, message(result)) == (
        4,
        "plcli: first/checkpoints/last.ckpt: has no optimizer state any more, as its run is "
        "finished. Start from best.ckpt, or train that run with `checkpoint.keep: all`, which "
        "keeps it.\n",
    )
    words = ("--ckpt_path", "first/checkpoints/best.ckpt", "--trainer.max_epochs", "4")
    assert plcli("fit", "-c", linear_config, "--run", "third", *words).code == 0


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_files_of_a_run_have_the_permissions_of_the_umask(
    umask: int, mode: int, plcli: Command, linear_config: Path
) -> None:
    before = os.umask(umask)
    try:
        assert plcli("fit", "-c", linear_config, "--run", "run").code == 0
    finally:
        os.umask(before)
    files = [path for path in Path("run").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {mode}
    folders = [path for path in Path("run").rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o777 & ~umask}
