"""Fits that are killed, stopped or damaged at any moment go on exactly: forks, a second each."""

import os
import re
import shutil
import signal
import socket
from pathlib import Path

import pytest
import torch

from plcli.runs import atomic_files
from tests.conftest import Command, message
from tests.killed_fits import BATCH, Ended, fork, result_of, send, send_once, write_config

# killed, stopped, damaged: in forks, each a second or two


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config and an uninterrupted run; both say when they train and validate."""

    folder = tmp_path_factory.mktemp("killed")
    write_config(folder / "config.yaml", model={"slow": 0.002})
    ended = fork(*FIT, "whole", folder=folder)
    assert ended.code == 0, ended.said
    return folder


@pytest.fixture(scope="module")
def stopped(whole: Path) -> Path:
    """A run that SIGTERM stopped after some saves."""
    stop = send_once(signal.SIGTERM, "<training after 7>")
    assert fork(*FIT, "stopped", folder=whole, meddle=stop).code == 143
    return whole / "stopped"


TRUSTED = ("--allow-import", "tests")  # the model and the data of tests/killed_fits.py
FIT = ("fit", *TRUSTED, "-c", "config.yaml", "--resume", "auto", "--run")


def goes_on_exactly(folder: Path, run: str, *words: str) -> bool:
    """Whether a run that goes on ends as the one that was never stopped."""
    ended = fork(*FIT, run, *words, folder=folder)
    assert ended.code == 0, ended.said
    return result_of(folder / run) == result_of(folder / "whole")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_was_not(
    whole: Path, workers: int
) -> None:
    run, words = f"killed-{workers}", ("--data.num_workers", str(workers))
    for step in (3, 5, 9):
        kill = send_once(signal.SIGKILL, f"<training after {step}>", after=0.003 * step)
        fork(*FIT, run, *words, folder=whole, meddle=kill)
    assert goes_on_exactly(whole, run, *words)


def test_a_run_that_is_killed_in_its_validation_ends_as_one_that_was_not(whole: Path) -> None:
    kill = send_once(signal.SIGKILL, "<validation after 6>", after=0.01)
    fork(*FIT, "killed-v", folder=whole, meddle=kill)
    assert goes_on_exactly(whole, "killed-v")


@pytest.mark.parametrize("place", ["training after 4", "validation after 3", "validation after 6"])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 143), (signal.SIGINT, 130)]
)
def test_a_signal_saves_and_the_run_goes_on_exactly(
    whole: Path, number: int, code: int, place: str
) -> None:
    run = f"{place}-{number}".replace(" ", "-")
    ended = fork(*FIT, run, folder=whole, meddle=send_once(number, f"<{place}>"))
    assert ended.code == code
    assert "Saved after step" in ended.said.splitlines()[-1]
    assert goes_on_exactly(whole, run)


def test_a_second_ctrl_c_stops_at_once(whole: Path, tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", model={"slow": 1.0}, trainer={"num_sanity_val_steps": 0})

    def twice(process: int, log: Path) -> None:
        send_once(signal.SIGINT, "<training after 0>")(process, log)
        send(signal.SIGINT, after=0.2)(process, log)

    ended = fork(*FIT, "run", folder=tmp_path, meddle=twice)
    assert (ended.code, "stopped at once" in ended.said) == (130, True)


def damaged(stopped: Path, run: str, content: bytes) -> Path:
    """Copy a stopped run and give it another last.ckpt."""
    shutil.copytree(stopped, stopped.parent / run)
    last = stopped.parent / run / "checkpoints" / "last.ckpt"
    last.write_bytes(content)
    return last


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_truncated_checkpoint_is_named_and_the_one_before_it_is_used(
    stopped: Path, part: float
) -> None:
    content = (stopped / "checkpoints" / "last.ckpt").read_bytes()
    run = f"cut-{part}"
    damaged(stopped, run, content[: int(len(content) * part)])
    ended = fork(*FIT, run, folder=stopped.parent)
    assert f"{run}/checkpoints/last.ckpt: is damaged (" in ended.said
    assert f"{run}: resuming from checkpoints/previous.ckpt" in ended.said
    assert result_of(stopped.parent / run) == result_of(stopped.parent / "whole")


def test_every_truncation_and_every_flipped_bit_is_found(stopped: Path, tmp_path: Path) -> None:
    content = (stopped / "checkpoints" / "last.ckpt").read_bytes()
    path = tmp_path / "last.ckpt"
    missed = []
    for place in range(0, len(content), max(1, len(content) // 97)):
        for harmed in (
            content[:place],
            content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :],
        ):
            path.write_bytes(harmed)
            if atomic_files.damage(path) is None:
                missed.append(place)
    path.write_bytes(content)
    assert (missed, atomic_files.damage(path)) == ([], None)


def test_two_damaged_checkpoints_are_named(stopped: Path) -> None:
    shutil.copytree(stopped, stopped.parent / "both")
    for name in ("last", "previous"):
        (stopped.parent / "both" / "checkpoints" / f"{name}.ckpt").write_bytes(b"x")
    ended = fork(*FIT, "both", folder=stopped.parent)
    assert (ended.code, ended.said) == (
        4,
        "plcli: both/checkpoints/last.ckpt: cannot be loaded as a checkpoint (its end is missing); "
        "both/checkpoints/previous.ckpt: cannot be loaded as a checkpoint (its end is missing). "
        "Train again with another --run, or remove the folder.\n",
    )


def test_a_full_disk_ends_with_one_message_and_leaves_whole_files(stopped: Path) -> None:
    shutil.copytree(stopped, stopped.parent / "full")
    last = stopped.parent / "full" / "checkpoints" / "last.ckpt"
    before = last.read_bytes()
    limit = len(before) - 1000
    ended = fork(*FIT, "full", folder=stopped.parent, file_size=limit)
    assert (ended.code, "Traceback" in ended.said) == (5, False)
    assert "last.ckpt: cannot be written (File too large)" in ended.said
    assert last.read_bytes() == before
    assert list(last.parent.glob(".tmp-*")) == []
    assert goes_on_exactly(stopped.parent, "full")


def test_what_a_killed_save_left_is_swept(stopped: Path) -> None:
    shutil.copytree(stopped, stopped.parent / "left")
    name = f".tmp-left.{os.getppid()}.1@{socket.gethostname()}"  # of an earlier process
    left = stopped.parent / "left" / "checkpoints" / name
    left.write_bytes(b"half")
    fork(*FIT, "left", folder=stopped.parent)
    assert not left.exists()


def test_a_disk_without_room_is_told_before_the_start(
    plcli: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    result = plcli("fit", "-c", linear_config, "--run", "here")
    assert (result.code, message(result)) == (
        5,
        "plcli: here: 0 MB are free, and training with its checkpoints needs 1 MB. Free some "
        "space, or use a folder on another disk with --run.\n",
    )


def test_a_finished_run_keeps_the_best_and_the_last_checkpoint_only(whole: Path) -> None:
    names = {path.name for path in (whole / "whole" / "checkpoints").iterdir()}
    assert names == {"best.ckpt", "last.ckpt"}


def test_a_finished_run_is_done_under_resume_auto(whole: Path) -> None:
    ended = fork(*FIT, "whole", folder=whole)
    assert (ended.code, ended.said.splitlines()[-1]) == (0, "whole: done.")


# numbers that are no numbers


def poisoned(folder: Path, *words: str) -> Ended:
    """Fit with a row whose target is no number."""
    trainer = {"max_epochs": 1, "accumulate_grad_batches": 1, "callbacks": []}
    write_config(folder / "config.yaml", data={"poison": 7}, trainer=trainer)
    return fork(*FIT, "run", *words, folder=folder)


def test_a_loss_that_is_no_number_ends_the_fit_and_names_its_rows(tmp_path: Path) -> None:
    ended = poisoned(tmp_path)
    said = ended.said.splitlines()[-1]
    rows = re.search(r"rows ([\d, ]+) of data.train", said)
    assert (ended.code, said.startswith("plcli: step ")) == (3, True)
    assert rows is not None
    assert "7" in rows[1].split(", ")
    assert len(rows[1].split(", ")) == BATCH


def test_a_step_that_is_no_number_may_be_left_out(tmp_path: Path) -> None:
    ended = poisoned(tmp_path, "--numbers.on_nan", "skip")
    assert (ended.code, "the step is skipped (1 of 10)" in ended.said) == (0, True)
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(value.isfinite().all() for value in state["state_dict"].values())


def test_only_so_many_steps_are_left_out(tmp_path: Path) -> None:
    words = ("--numbers.on_nan", "skip", "--numbers.limit", "1", "--trainer.max_epochs", "3")
    ended = poisoned(tmp_path, *words)
    assert (ended.code, "after 1 skipped steps" in ended.said) == (3, True)
