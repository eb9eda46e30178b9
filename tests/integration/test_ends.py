"""How commands end: signals, hanging processes, exits, memory, streams, folders and odd numbers."""

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plcli.cli import streams
from tests.conftest import (
    ROOT,
    Command,
    FinishedRun,
    message,
    signed,
    write_config,
    write_linear_config,
    write_rows,
)
from tests.killed_fits import Ended, fork, send_once
from tests.killed_fits import write_config as write_noisy_config

TRUSTED = ("--allow-import", "tests")


def fit_in_a_fork(name: str, *words: object, meddle: Any = None) -> Ended:
    """Fit a module of tests.ending in a fork, in the current folder."""
    config = write_linear_config(Path.cwd())
    model = ("--model", f"tests.ending.{name}", "--run", "run", *TRUSTED)
    return fork("fit", "-c", config, *model, *words, folder=Path.cwd(), meddle=meddle)


# signals


@pytest.fixture(autouse=True)
def hangs_up() -> Iterator[None]:
    """Let commands get SIGHUP even if the tests run under nohup, which has them ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_training_that_hangs_ends_when_the_grace_is_over() -> None:
    stop = send_once(signal.SIGTERM, "<hangs>")
    ended = fit_in_a_fork("Hangs", "--grace", 0.5, meddle=stop)
    assert (ended.code, ended.seconds < 30) == (143, True)
    assert "plcli: stopped by SIGTERM, 0.5 s after it, as the command hangs." in ended.said
    assert Path("run/checkpoints/last.ckpt").exists()


def test_a_grace_that_is_no_number_is_refused(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--grace", "soon")
    assert message(result) == (
        "plcli: --grace: got 'soon', expected a number of seconds, 0 or more.\n"
    )


def test_sighup_saves_like_sigterm() -> None:
    slow = ("--trainer.max_epochs", 1000, "--trainer.logger", "false")
    stop = send_once(signal.SIGHUP, "epoch 2 of")
    ended = fit_in_a_fork("MetricWithoutANumber", *slow, meddle=stop)
    assert ended.code == 143
    assert "plcli: stopped by SIGHUP. Saved after step" in ended.said


def test_sighup_of_a_terminal_that_has_gone_saves() -> None:
    config = write_linear_config(Path.cwd())
    process, terminal = pty.fork()
    if process == 0:
        from plcli.__main__ import entry

        words = (
            "--run",
            "run",
            "--trainer.max_epochs",
            "100000",
            "--checkpoint.every_minutes",
            "0",
        )
        sys.argv = ["plcli", "fit", "-c", str(config), *words]
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        try:
            entry()
        except SystemExit as end:
            os._exit(int(end.code or 0))
        os._exit(70)
    until = time.monotonic() + 60
    while time.monotonic() < until and not Path("run/checkpoints/last.ckpt").exists():
        os.read(terminal, 1000)
    os.close(terminal)  # the kernel sends SIGHUP, and writing is an error from now on
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 143


def test_sigterm_in_predict_is_not_swallowed(linear_run: FinishedRun) -> None:
    config = write_linear_config(Path.cwd())
    run = linear_run.copy("run")
    for path in (run / "config.yaml", run / "model" / "plcli.json"):
        path.write_text(
            path.read_text().replace(
                "plcli.tasks.linear_regression.SimpleLinearModel", "tests.ending.Swallows"
            )
        )
    signed(run / "model")
    stop = send_once(signal.SIGTERM, "<predicts>", after=0.1)
    words = ("--run", run, "--input", config.parent / "table.csv", "--output", "out.csv", *TRUSTED)
    ended = fork("predict", *words, folder=Path.cwd(), meddle=stop)
    assert (ended.code, "<swallowed>" in ended.said) == (143, True), ended.said
    assert not Path("out.csv").exists()


# the user's own code


def test_a_teacher_of_an_own_class_is_its_own(plcli: Command, linear_config: Path) -> None:
    words = ("--model", "tests.ending.Taught", "--model.teacher", "ada", "--run", "run", *TRUSTED)
    done = plcli("fit", "-c", linear_config, *words)
    assert done.code == 0, done.err
    table = linear_config.parent / "table.csv"
    again = plcli("predict", "--run", "run", "--input", table, "--output", "out.csv", *TRUSTED)
    assert (again.code, "<taught by ada>" in again.out) == (0, True), again.err


def test_an_argument_that_must_be_given_is_not_left_out(
    plcli: Command, linear_config: Path
) -> None:
    words = ("fit", "-c", linear_config, "--model", "tests.ending.Taught", "--run", "run", *TRUSTED)
    assert message(plcli(*words)) == (
        "plcli: model: 'teacher' is missing, and no fact of the data. Set it in a config, under "
        "model, or with --model.teacher VALUE.\n"
    )
    shown = plcli(*words, "--model.teacher", "ada", "--print_config")
    assert "    teacher: ada\n" in shown.out


def test_a_module_that_exits_has_not_finished_a_run(plcli: Command, linear_config: Path) -> None:
    words = ("--model", "tests.ending.Exits", "--run", "run", *TRUSTED)
    result = plcli("fit", "-c", linear_config, *words)
    assert (result.code, Path("run/model").exists()) == (1, False)
    assert "plcli: your own code ended the command with SystemExit(0): " in result.err
    assert ", in training_step. Nothing is finished" in result.err


def test_too_little_memory_ends_with_what_to_lower(plcli: Command, linear_config: Path) -> None:
    words = ("--model", "tests.ending.FillsMemory", "--run", "run", *TRUSTED)
    result = plcli("fit", "-c", linear_config, *words)
    assert (result.code, message(result)) == (
        5,
        "plcli: not enough memory on this machine or its GPU. Lower data.batch_size (with "
        "trainer.accumulate_grad_batches the steps stay the same) or data.max_length; "
        "trainer.precision: bf16-mixed and model.gradient_checkpointing: true save memory, too. A "
        "fit resumes from its last checkpoint.\n",
    )


# numbers


@pytest.mark.parametrize("name", ["WithoutLoss", "InfiniteLoss", "LossBesideAMetric"])
def test_a_loss_that_is_never_finite_gives_no_model(
    plcli: Command, linear_config: Path, name: str
) -> None:
    words = ("--model", f"tests.ending.{name}", "--run", "run", *TRUSTED)
    result = plcli("fit", "-c", linear_config, *words)
    assert (result.code, Path("run/model").exists()) == (3, False)
    assert "warning: epoch 1: val_loss is " in result.err
    assert "plcli: val_loss was not finite in any epoch, so that there is no best one" in result.err


def test_a_metric_that_is_never_a_number_names_no_best_epoch(
    plcli: Command, linear_config: Path
) -> None:
    words = ("--model", "tests.ending.MetricWithoutANumber", "--run", "run", *TRUSTED)
    result = plcli("fit", "-c", linear_config, *words)
    assert result.code == 0
    assert "warning: epoch 1: val_score is nan, so that this epoch cannot be the best" in result.err
    assert "last epoch (val_score was never finite, so that there is no best one)" in result.out


@pytest.mark.parametrize("value", ["1e39", "-4e38", "1e300"])
def test_a_target_beyond_32_bits_is_refused(
    plcli: Command, linear_config: Path, value: str
) -> None:
    rows = [{"a": n, "b": n, "y": value if n == 3 else n} for n in range(9)]
    write_rows(Path("large.csv"), rows)
    result = plcli("fit", "-c", linear_config, "--data.train", "large.csv", "--run", "run")
    assert (result.code, message(result)) == (
        3,
        f"plcli: large.csv, row 4: column 'y' contains '{value}', which is more than a 32-bit "
        "float can hold (3.4e38). Correct it, or scale the column.\n",
    )


# streams


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_closed_stream_is_no_error(linear_run: FinishedRun, number: int) -> None:
    run = linear_run.copy("run")
    process = os.fork()
    if process == 0:
        from plcli.__main__ import entry

        for each in range(3):
            os.dup2(os.open(f"stream-{each}", os.O_RDWR | os.O_CREAT), each)
        os.close(number)
        sys.stdin, sys.stdout, sys.stderr = (
            None if each == number else os.fdopen(each, "w" if each else "r", closefd=False)
            for each in range(3)
        )
        sys.argv = ["plcli", "predict", "--run", str(run), '{"a": 1, "b": 2}', "--output", "o.csv"]
        try:
            entry()
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        os._exit(70)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert Path("o.csv").read_text().startswith("id,")


def test_predictions_to_a_closed_stream_are_refused(
    plcli: Command, linear_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_closed", {"stdout"})
    result = plcli("predict", "--run", linear_run.folder, '{"a": 1, "b": 2}')
    assert (result.code, message(result)) == (
        2,
        "plcli: standard output is closed. Name a file with --output.\n",
    )


# folders


def test_a_current_folder_that_was_deleted_is_told(plcli: Command) -> None:
    folder = Path.cwd() / "gone"
    folder.mkdir()
    os.chdir(folder)
    folder.rmdir()
    result = plcli("fit", "-c", "x.yaml")
    os.chdir(folder.parent)
    assert (result.code, message(result)) == (
        5,
        "plcli: the current folder does not exist any more. Change to another one (cd) and run "
        "the command again.\n",
    )


def test_a_run_folder_that_is_renamed_while_training_is_told(
    plcli: Command, linear_config: Path
) -> None:
    callbacks = write_config(
        Path("renames.yaml"), trainer={"callbacks": [{"class_path": "tests.ending.Renames"}]}
    )
    result = plcli("fit", "-c", linear_config, "-c", callbacks, "--run", "run", *TRUSTED)
    assert (result.code, message(result).count("\n")) == (5, 1), result.err
    assert "is not there any more; it was renamed or removed" in message(result)
    assert "Traceback" not in result.err
    renamed = plcli("fit", "-c", linear_config, "--run", "run-renamed", *TRUSTED)
    assert renamed.code == 0


@pytest.mark.parametrize("name", ["[v2]", "[/x]", "[bold red]", "a b'c"])
def test_a_run_may_have_any_name(plcli: Command, linear_config: Path, name: str) -> None:
    assert plcli("fit", "-c", linear_config, "--run", name).code == 0
    again = plcli("fit", "-c", linear_config, "--run", name, "--resume", "auto")
    assert (again.code, again.out) == (0, f"{name}: done.\n")


def test_a_name_that_is_not_utf8_is_told(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--run", os.fsdecode(b"caf\xe9"))
    assert (result.code, message(result)) == (
        2,
        "plcli: 'caf\\xe9' is not UTF-8. Use a name that is, or rename the file.\n",
    )


def test_a_command_line_that_is_not_utf8_ends_with_a_message() -> None:
    command = [sys.executable, "-c", "from plcli.__main__ import entry; entry()", "fit", b"--run"]
    done = subprocess.run(
        [*command, b"caf\xe9"], capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, done.stderr) == (
        2,
        b"plcli: 'caf\\xe9' is not UTF-8. Use a name that is, or rename the file.\n",
    )


# processes of a loader


def children(process: int) -> list[int]:
    """Return the processes that a process has started and that are still there."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == process and fields[0] != "Z":
                found.append(int(folder.name))
    return found


def wait_until_gone(processes: list[int]) -> bool:
    """Wait for the end of processes, ten seconds at most."""
    until = time.monotonic() + 10
    while time.monotonic() < until and any(Path(f"/proc/{each}").exists() for each in processes):
        time.sleep(0.05)
    return not any(Path(f"/proc/{each}").exists() for each in processes)


def test_a_signal_to_all_processes_of_a_job_saves() -> None:
    config = write_noisy_config(Path("c.yaml"), model={"slow": 0.05}, data={"num_workers": 2})
    loaders: list[int] = []

    def stop(process: int, log: Path) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if log.exists() and "<training after 7>" in log.read_text():
                break
            time.sleep(0.01)
        loaders.extend(children(process))
        for each in (*loaders, process):
            os.kill(each, signal.SIGTERM)

    words = ("fit", "-c", config, "--run", "run", *TRUSTED)
    ended = fork(*words, folder=Path.cwd(), meddle=stop)
    assert (ended.code, len(loaders) >= 2) == (143, True), ended.said
    assert "plcli: stopped by SIGTERM. Saved after step" in ended.said
    assert wait_until_gone(loaders)


def test_no_process_of_a_loader_stays_after_kill_9() -> None:
    config = write_noisy_config(Path("c.yaml"), data={"num_workers": 2, "slow": 30})
    loaders: list[int] = []

    def kill(process: int, log: Path) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until and len(children(process)) < 2:
            time.sleep(0.05)
        time.sleep(1)  # until they hang in their rows
        loaders.extend(children(process))
        os.kill(process, signal.SIGKILL)

    words = ("fit", "-c", config, "--run", "run", "--trainer.num_sanity_val_steps", 0, *TRUSTED)
    assert fork(*words, folder=Path.cwd(), meddle=kill).code == -signal.SIGKILL
    assert (len(loaders), wait_until_gone(loaders)) == (2, True)
