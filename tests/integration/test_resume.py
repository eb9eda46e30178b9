"""A run that was stopped goes on, a finished one is left alone, and another config is refused."""

import csv
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from plcli.tasks.linear_regression import SimpleLinearModel
from tests.conftest import Command, FinishedRun, message
from tests.running import read_metrics, stopped

EVERY_STEP = ("--trainer.log_every_n_steps", "1")


@pytest.fixture
def unfinished(linear_run: FinishedRun) -> Path:
    """A run that was stopped after its last epoch, before its model was written."""
    folder = linear_run.copy("here")
    for path in (folder / "model").iterdir():
        path.unlink()
    (folder / "model").rmdir()
    return folder


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let fit be stopped at an epoch, once: by an exception, or by a function that is called."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    step = SimpleLinearModel.training_step

    def stop_at(epoch: int, how: type[BaseException] | Callable[[], None]) -> None:
        def stopped_step(self: SimpleLinearModel, batch: Any, batch_idx: int) -> torch.Tensor:
            if self.current_epoch == epoch:
                monkeypatch.setattr(SimpleLinearModel, "training_step", step)
                if isinstance(how, type):
                    raise how()
                how()
            return step(self, batch, batch_idx)

        monkeypatch.setattr(SimpleLinearModel, "training_step", stopped_step)

    yield stop_at
    for number, handler in before.items():
        signal.signal(number, handler)


Stop = Callable[..., None]


def terminate() -> None:
    """Send this process SIGTERM."""
    os.kill(os.getpid(), signal.SIGTERM)


def steps(run: Path) -> list[int]:
    """Return the steps of a run's metrics.csv."""
    with open(run / "metrics.csv", encoding="utf-8", newline="") as file:
        return [int(line["step"]) for line in csv.DictReader(file)]


# going on


def test_an_unfinished_run_goes_on_and_says_so(
    plcli: Command, linear_run: FinishedRun, unfinished: Path
) -> None:
    result = plcli("fit", "-c", linear_run.config, "--run", "here")
    assert "here: resuming from checkpoints/last.ckpt\n" in result.err


def test_an_unfinished_run_is_finished_then(
    plcli: Command, linear_run: FinishedRun, unfinished: Path
) -> None:
    plcli("fit", "-c", linear_run.config, "--run", "here")
    assert (unfinished / "model" / "plcli.json").exists()


def test_an_unfinished_run_needs_no_config_to_go_on(plcli: Command, unfinished: Path) -> None:
    assert "resuming from" in plcli("fit", "--run", "here").err


def test_the_saved_config_may_be_given_to_go_on(plcli: Command, unfinished: Path) -> None:
    assert plcli("fit", "-c", "here/config.yaml", "--run", "here").code == 0


def test_the_log_file_says_that_a_run_goes_on(plcli: Command, unfinished: Path) -> None:
    plcli("fit", "--run", "here")
    assert "resuming from" in (unfinished / "train.log").read_text()


def test_the_log_file_keeps_the_lines_from_before(plcli: Command, unfinished: Path) -> None:
    before = (unfinished / "train.log").read_text()
    plcli("fit", "--run", "here")
    assert (unfinished / "train.log").read_text().startswith(before)


def test_a_run_that_goes_on_has_the_numbers_of_one_that_was_not_stopped(
    plcli: Command, linear_config: Path, linear_run: FinishedRun, stop: Stop
) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    plcli("fit", "-c", linear_config, "--run", "here")
    assert read_metrics(Path("here")) == read_metrics(linear_run.folder)


@pytest.mark.usefixtures("stop")
def test_a_classifier_that_goes_on_has_the_numbers_of_one_that_was_not_stopped(
    plcli: Command, text_config: Path
) -> None:
    from plcli.tasks.text_classification import TextClassifier

    epochs = ("--trainer.max_epochs", "2")
    plcli("fit", "-c", text_config, "--run", "whole", *epochs)
    with stopped(TextClassifier, lambda module, _: module.current_epoch == 1):
        plcli("fit", "-c", text_config, "--run", "here", *epochs)
    plcli("fit", "-c", text_config, "--run", "here", *epochs)
    assert read_metrics(Path("here")) == read_metrics(Path("whole"))


def test_a_run_that_goes_on_trains_the_epochs_that_are_missing_only(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    result = plcli("fit", "-c", linear_config, "--run", "here")
    assert ("epoch 1 of 2" in result.err, "epoch 2 of 2" in result.err) == (False, True)


def test_the_metrics_of_every_step_are_there_once_after_going_on(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here", *EVERY_STEP)
    plcli("fit", "-c", linear_config, "--run", "here", *EVERY_STEP)
    assert steps(Path("here")) == [0, 1, 2, 3, 4]


def test_the_metrics_of_a_run_that_goes_on_at_its_end_stand_once(
    plcli: Command, unfinished: Path
) -> None:
    before = steps(unfinished)
    plcli("fit", "--run", "here")
    assert steps(unfinished) == before


def test_a_run_that_was_stopped_in_its_first_epoch_starts_again_and_says_so(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(0, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    result = plcli("fit", "-c", linear_config, "--run", "here")
    assert "here: starting over, as no checkpoint was saved\n" in result.err


def test_a_run_goes_on_after_a_bug_in_an_epoch(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(1, ZeroDivisionError)
    assert plcli("fit", "-c", linear_config, "--run", "here").code == 1
    assert "resuming from" in plcli("fit", "-c", linear_config, "--run", "here").err


def test_a_run_that_goes_on_takes_the_best_epoch_of_before(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    worst = ("--checkpoint.monitor", "val_rmse", "--checkpoint.mode", "max")
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here", *worst)
    plcli("fit", "-c", linear_config, "--run", "here", *worst)
    best = torch.load("here/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == 0


# another config


def test_another_config_is_refused_with_the_difference(
    plcli: Command, linear_run: FinishedRun, unfinished: Path
) -> None:
    words = ["--trainer.max_epochs", "5", "--data.batch_size", "7"]
    result = plcli("fit", "-c", linear_run.config, "--run", "here", *words)
    assert (result.code, message(result)) == (
        2,
        "plcli: here: contains an unfinished run with a different config. Use the same config, "
        "another --run or --resume allow-changes.\n"
        "  data.init_args.batch_size: 32 -> 7\n"
        "  trainer.max_epochs: 2 -> 5\n",
    )


def test_a_refused_config_changes_nothing_in_the_folder(
    plcli: Command, linear_run: FinishedRun, unfinished: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in unfinished.rglob("*")}
    plcli("fit", "-c", linear_run.config, "--run", "here", "--trainer.max_epochs", "5")
    assert {path: path.stat().st_mtime_ns for path in unfinished.rglob("*")} == before


def test_of_many_differences_three_are_said(
    plcli: Command, linear_run: FinishedRun, unfinished: Path
) -> None:
    words = ["--data.batch_size=7", "--data.seed=1", "--seed_everything=7"]
    words += ["--trainer.max_epochs=5", "--trainer.accumulate_grad_batches=2"]
    result = plcli("fit", "-c", linear_run.config, "--run", "here", *words)
    lines = message(result).splitlines()
    assert (len(lines), lines[-1]) == (5, "  ... (2 more)")


@pytest.mark.parametrize(
    "words",
    [
        ("--trainer.log_every_n_steps", "1"),
        ("--data.test", "null"),
        ("--trainer.enable_progress_bar", "false"),
    ],
)
def test_a_difference_that_does_not_matter_is_no_hindrance(
    plcli: Command, linear_run: FinishedRun, unfinished: Path, words: tuple[str, str]
) -> None:
    assert plcli("fit", "-c", linear_run.config, "--run", "here", *words).code == 0


def test_another_seed_matters(plcli: Command, linear_run: FinishedRun, unfinished: Path) -> None:
    result = plcli("fit", "-c", linear_run.config, "--run", "here", "--seed_everything", "7")
    assert "  seed_everything: 42 -> 7\n" in result.err


def test_training_data_of_other_facts_than_those_of_the_checkpoint_is_refused(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    with open("table.csv", "a") as file:
        file.write("1000,1000,7\n")
    assert plcli("fit", "-c", linear_config, "--run", "here").code == 2


# --resume


def test_resume_never_refuses_an_unfinished_run(plcli: Command, unfinished: Path) -> None:
    result = plcli("fit", "--run", "here", "--resume", "never")
    assert (result.code, message(result)) == (
        2,
        "plcli: --resume never: here already contains a run. Name another folder with --run, or "
        "remove it.\n",
    )


def test_resume_never_starts_in_a_new_folder(plcli: Command, linear_config: Path) -> None:
    words = ["--run", "here", "--resume", "never"]
    assert plcli("fit", "-c", linear_config, *words).code == 0


def test_resume_must_refuses_a_new_folder(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--run", "here", "--resume", "must")
    assert (result.code, message(result)) == (
        2,
        "plcli: --resume must: there is no checkpoint to resume from at "
        "here/checkpoints/last.ckpt. Check --run, or use --resume auto to start a new run.\n",
    )


def test_resume_must_goes_on(plcli: Command, unfinished: Path) -> None:
    assert "resuming from" in plcli("fit", "--run", "here", "--resume", "must").err


def test_resume_auto_goes_on(plcli: Command, unfinished: Path) -> None:
    assert "resuming from" in plcli("fit", "--run", "here", "--resume", "auto").err


def test_resume_auto_starts_in_a_new_folder(plcli: Command, linear_config: Path) -> None:
    words = ["--run", "here", "--resume", "auto"]
    assert plcli("fit", "-c", linear_config, *words).code == 0


@pytest.mark.parametrize("resume", [(), ("--resume", "never"), ("--resume", "must")])
def test_a_finished_run_is_refused(
    plcli: Command, linear_run: FinishedRun, resume: tuple[str, ...]
) -> None:
    result = plcli("fit", "-c", linear_run.config, "--run", linear_run.folder, *resume)
    assert result.code == 2


def test_resume_auto_with_another_config_does_not_take_a_finished_run_for_done(
    plcli: Command, linear_run: FinishedRun
) -> None:
    words = ["--resume", "auto", "--trainer.max_epochs", "5"]
    result = plcli("fit", "-c", linear_run.config, "--run", linear_run.folder, *words)
    assert result.code == 2


# a damaged checkpoint


def test_a_run_does_not_go_on_from_a_damaged_checkpoint(plcli: Command, unfinished: Path) -> None:
    last = unfinished / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    assert plcli("fit", "--run", "here").code == 4


def test_a_damaged_best_checkpoint_is_told_when_a_run_goes_on(
    plcli: Command, unfinished: Path
) -> None:
    best = unfinished / "checkpoints" / "best.ckpt"
    best.write_bytes(best.read_bytes()[:1000])
    assert plcli("fit", "--run", "here").code == 4


# being stopped


def test_ctrl_c_ends_fit_with_130(plcli: Command, linear_config: Path, stop: Stop) -> None:
    stop(0, KeyboardInterrupt)
    assert plcli("fit", "-c", linear_config, "--run", "here").code == 130


def test_ctrl_c_says_how_to_go_on(plcli: Command, linear_config: Path, stop: Stop) -> None:
    stop(0, KeyboardInterrupt)
    result = plcli("fit", "-c", linear_config, "--run", "here")
    said = message(result).splitlines()[-1]
    assert said.startswith("plcli: stopped. A fit resumes from its last checkpoint: ")


def test_ctrl_c_shows_no_traceback(plcli: Command, linear_config: Path, stop: Stop) -> None:
    stop(0, KeyboardInterrupt)
    assert "Traceback" not in plcli("fit", "-c", linear_config, "--run", "here").err


def test_sigterm_ends_fit_with_143(plcli: Command, linear_config: Path, stop: Stop) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: None)  # so that a miss spares the tests
    stop(1, terminate)
    assert plcli("fit", "-c", linear_config, "--run", "here").code == 143


def test_a_run_goes_on_after_sigterm(plcli: Command, linear_config: Path, stop: Stop) -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    stop(1, terminate)
    plcli("fit", "-c", linear_config, "--run", "here")
    assert "resuming from" in plcli("fit", "-c", linear_config, "--run", "here").err


def test_a_stopped_run_leaves_no_model(plcli: Command, linear_config: Path, stop: Stop) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    assert not Path("here/model").exists()


def test_a_stopped_run_is_tested_with_its_best_weights_so_far(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    assert plcli("test", "--run", "here").code == 0


def test_a_run_without_a_checkpoint_cannot_be_tested(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(0, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    result = plcli("test", "--run", "here")
    assert (result.code, message(result)) == (
        4,
        "plcli: here/checkpoints/best.ckpt: no such checkpoint. Use --ckpt_path with best, "
        "last or a file.\n",
    )


def test_a_stopped_run_is_not_the_newest_finished_run(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config)
    assert plcli("test", "-c", linear_config).code == 4


def test_the_next_run_after_a_stopped_one_gets_its_own_folder(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config)
    assert "run folder: runs/table-2\n" in plcli("fit", "-c", linear_config).err


def test_no_finished_epoch_leaves_no_model(plcli: Command, linear_config: Path) -> None:
    words = ("--run", "here", "--trainer.max_time", "00:00:00:00")
    result = plcli("fit", "-c", linear_config, *words)
    assert (result.code, message(result)) == (
        4,
        "plcli: here: no epoch was finished, so there is no model to save. Train longer, or find "
        "what has ended the training above.\n",
    )


def test_the_saved_config_keeps_the_trainers_epochs(unfinished: Path) -> None:
    values = yaml.safe_load((unfinished / "config.yaml").read_text())
    assert values["trainer"]["max_epochs"] == 2


# changes


def test_changed_data_are_refused_with_the_difference(
    plcli: Command, linear_config: Path, stop: Stop
) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    with open("table.csv", "a") as file:
        file.write("3,3,8\n")
    result = plcli("fit", "-c", linear_config, "--run", "here")
    assert "  data.train: " in message(result)


def test_changes_that_are_allowed_are_said(plcli: Command, linear_config: Path, stop: Stop) -> None:
    stop(1, KeyboardInterrupt)
    plcli("fit", "-c", linear_config, "--run", "here")
    words = ["--trainer.max_epochs", "3", "--resume", "allow-changes"]
    result = plcli("fit", "-c", linear_config, "--run", "here", *words)
    assert (result.code, "trainer.max_epochs: 2 -> 3" in result.err) == (0, True)
