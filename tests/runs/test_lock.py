"""One process trains in a run folder; a dead one does not keep it from others."""

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from plcli.errors import MachineError
from plcli.runs import atomic_files, lock, process
from plcli.runs.lock import RunLock
from tests.conftest import Command, message
from tests.killed_fits import fork, send, start, write_config

TRUSTED = ("--allow-import", "tests")
FIT = ("fit", *TRUSTED, "-c", "config.yaml")
SLOW = {"slow": 0.05}


def dead_process() -> process.Process:
    """Return a process that has ended."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return process.Process(socket.gethostname(), pid, 1)


def lock_of(folder: Path, owner: process.Process, *, touched: float = 0.0) -> None:
    """Write a lock file as another process does, touched so many seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = lock.Holder(owner, "2026-01-02 03:04:05+00:00", "fit")
    (folder / ".lock").write_text(json.dumps(holder.plain()))
    then = time.time() - touched
    os.utime(folder / ".lock", (then, then))


def test_a_lock_is_gone_when_it_is_released() -> None:
    RunLock(Path("runs/a"), command="fit").release()
    assert not Path("runs").exists()


def test_what_was_saved_beside_a_lock_stays() -> None:
    held = RunLock(Path("runs/a"), command="fit")
    Path("runs/a/config.yaml").touch()
    held.release()
    assert [path.name for path in Path("runs/a").iterdir()] == ["config.yaml"]


def test_a_process_does_not_take_its_own_lock_twice() -> None:
    held = RunLock(Path("runs/a"), command="fit")
    with pytest.raises(MachineError, match=f"runs/a: is in use by `plcli fit`, .* {os.getpid()} "):
        RunLock(Path("runs/a"), command="fit")
    held.release()


def test_a_lock_of_a_dead_process_is_taken_over() -> None:
    lock_of(Path("runs/a"), dead_process())
    RunLock(Path("runs/a"), command="fit").release()


def test_a_reused_process_id_does_not_keep_a_lock() -> None:
    lock_of(Path("runs/a"), process.Process(socket.gethostname(), os.getppid(), 1))
    RunLock(Path("runs/a"), command="fit").release()


def test_another_machine_keeps_its_lock_while_its_heart_beats() -> None:
    lock_of(Path("runs/a"), process.Process("node7", 17, 1), touched=20)
    said = r"in use by `plcli fit`, process 17 on node7, since 2026-01-02 03:04:05\+00:00\. Wait"
    with pytest.raises(MachineError, match=said):
        RunLock(Path("runs/a"), command="fit")


def test_another_machine_loses_its_lock_when_its_heart_has_stopped() -> None:
    lock_of(Path("runs/a"), process.Process("node7", 17, 1), touched=lock.DEAD_AFTER + 5)
    RunLock(Path("runs/a"), command="fit").release()


def test_a_damaged_lock_file_is_taken_over() -> None:
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/.lock").write_text("{")
    RunLock(Path("runs/a"), command="fit").release()


def test_the_heart_of_a_holder_beats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT", 0.02)
    held = RunLock(Path("runs/a"), command="fit")
    os.utime("runs/a/.lock", (0, 0))
    until = time.monotonic() + 5
    while not (beats := Path("runs/a/.lock").stat().st_mtime > 0) and time.monotonic() < until:
        time.sleep(0.02)
    held.release()
    assert beats


def test_free_folders_go_to_one_process_each() -> None:
    taken = [lock.claim_free(Path("runs"), "a", command="fit") for _ in range(3)]
    assert [held.folder.name for held in taken] == ["a-1", "a-2", "a-3"]
    for held in taken:
        held.release()


def test_a_folder_in_which_a_killed_process_saved_nothing_is_taken_over() -> None:
    lock_of(Path("runs/a-1"), dead_process())
    held = lock.claim_free(Path("runs"), "a", command="fit")
    assert held.folder == Path("runs/a-1")
    held.release()


# temporary files


def test_the_temporary_file_of_a_dead_process_is_swept(tmp_path: Path) -> None:
    owner = dead_process()
    left = tmp_path / f".tmp-0.{owner.pid}.1@{owner.host}"
    left.touch()
    atomic_files.sweep(tmp_path)
    assert not left.exists()


@pytest.mark.parametrize("host", [None, "node7"])
def test_the_temporary_file_of_a_living_process_stays(host: str | None, tmp_path: Path) -> None:
    name = process.temporary_name(".tmp-")
    if host is not None:
        name = f"{name.partition('@')[0]}@{host}"
    (tmp_path / name).touch()
    atomic_files.sweep(tmp_path)
    assert (tmp_path / name).exists()


def test_the_temporary_file_of_another_machine_is_swept_after_a_day(tmp_path: Path) -> None:
    left = tmp_path / ".tmp-0.17.1@node7"
    left.touch()
    os.utime(left, (0, 0))
    atomic_files.sweep(tmp_path)
    assert not left.exists()


# through the command


@pytest.fixture
def slow_fit(tmp_path: Path) -> Callable[..., int]:
    """Start a fit that takes a while; return its process id once it trains."""
    write_config(tmp_path / "config.yaml", model=SLOW)

    def begin(run: str, *, number: int = 0) -> int:
        log = tmp_path / f"log-{number}"
        pid = start(*FIT, "--run", run, folder=tmp_path, environment={}, log=log)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if log.exists() and "<training after 1>" in log.read_text():
                break
            time.sleep(0.01)
        return pid

    return begin


def end(pid: int) -> None:
    """Kill a process and wait for it."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_a_second_fit_in_a_folder_is_refused_and_told_who_holds_it(
    slow_fit: Callable[..., int], tmp_path: Path
) -> None:
    pid = slow_fit("here")
    second = fork(*FIT, "--run", "here", folder=tmp_path)
    end(pid)
    assert second.code == 5
    assert f"plcli: here: is in use by `plcli fit`, process {pid} of this machine" in second.said
    assert second.said.endswith("until it has ended, or name another folder with --run.\n")


def test_predict_in_a_folder_in_which_a_fit_trains_is_refused(
    slow_fit: Callable[..., int], tmp_path: Path
) -> None:
    pid = slow_fit("here")
    predicted = fork("predict", *TRUSTED, "--run", "here", folder=tmp_path)
    end(pid)
    assert predicted.code == 5
    assert f"plcli: here: is being trained by `plcli fit`, process {pid} of" in predicted.said


def test_a_killed_fit_does_not_keep_its_folder(
    slow_fit: Callable[..., int], tmp_path: Path
) -> None:
    end(slow_fit("here"))
    assert fork(*FIT, "--run", "here", folder=tmp_path, meddle=send(15, after=1.5)).code == 143


def test_fits_that_start_together_take_a_folder_each(tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", trainer={"max_epochs": 1})
    logs = [tmp_path / f"log-{number}" for number in range(3)]
    pids = [start(*FIT, folder=tmp_path, environment={}, log=log) for log in logs]
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    assert codes == [0, 0, 0], [log.read_text() for log in logs]
    runs = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert runs == ["config-1", "config-2", "config-3"]
    assert all((tmp_path / "runs" / run / "model" / "plcli.json").exists() for run in runs)


def test_a_refused_fit_leaves_no_folder(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--trainer.accelerator", "nothing")
    assert result.code == 2, message(result)
    assert not Path("runs").exists()


def test_showing_a_config_makes_no_folder(plcli: Command, linear_config: Path) -> None:
    Path("runs").write_text("no folder can be made here")
    assert plcli("fit", "-c", linear_config, "--print_config").code == 0
