"""Commands that a launcher starts as several processes: forks with the launcher's environment."""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.killed_fits import Ended, start

LAUNCHERS = ("torchrun", "SLURM", "MPI", "Kubeflow")


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def environments(launcher: str, *, size: int = 2, port: int | None = None) -> list[dict[str, str]]:
    """Return the variables that a launcher sets for each process on one node.

    Kubeflow has a node for every process.
    """
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port or free_port())}
    found = []
    for rank in map(str, range(size)):
        world = {"WORLD_SIZE": str(size), "RANK": rank}
        own = {
            "torchrun": world
            | {"LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": str(size), "GROUP_RANK": "0"}
            | {"TORCHELASTIC_RUN_ID": "x"},
            "SLURM": {"SLURM_NTASKS": str(size), "SLURM_PROCID": rank, "SLURM_LOCALID": rank}
            | {"SLURM_NODEID": "0", "SLURM_NNODES": "1", "SLURM_JOB_ID": "17"}
            | {"SLURM_JOB_NAME": "fit", "SLURM_NODELIST": "127.0.0.1"},
            "MPI": {"OMPI_COMM_WORLD_SIZE": str(size), "OMPI_COMM_WORLD_RANK": rank}
            | {"OMPI_COMM_WORLD_LOCAL_SIZE": str(size), "OMPI_COMM_WORLD_LOCAL_RANK": rank},
            "Kubeflow": world,
        }[launcher]
        found.append(common | own)
    return found


def fork_ranks(
    *words: object,
    folder: Path,
    ranks: list[dict[str, str]],
    environment: Mapping[str, str] = {},
    meddle: Callable[[list[int], list[Path]], None] | None = None,
    grace: float = 5.0,
) -> list[Ended]:
    """Run a command in several forks, as the processes of one launcher.

    Once one has failed, the others are ended, as launchers do.

    Args:
        words: the command line.
        folder: where they run.
        ranks: the environment of each.
        environment: that of all.
        meddle: called with their ids and the files of what they say, while they run.
        grace: seconds that the others have after one has failed.
    """
    began = time.monotonic()
    logs = [folder / f"said-{time.monotonic_ns()}-{rank}.txt" for rank in range(len(ranks))]
    pids = [
        start(*words, folder=folder, environment={**environment, **own}, log=log)
        for own, log in zip(ranks, logs, strict=True)
    ]
    if meddle is not None:
        meddle(pids, logs)
    codes: dict[int, int] = {}
    seconds: dict[int, float] = {}
    failed = None
    while len(codes) < len(pids):
        for pid in [pid for pid in pids if pid not in codes]:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                codes[pid] = os.waitstatus_to_exitcode(status)
                seconds[pid] = time.monotonic() - began
                failed = failed or (time.monotonic() if codes[pid] else None)
        if failed is not None and time.monotonic() - failed > grace:
            for pid in [pid for pid in pids if pid not in codes]:
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() - began > 120:
            for pid in [pid for pid in pids if pid not in codes]:
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    ended_all = []
    for pid, log in zip(pids, logs, strict=True):
        ended_all.append(Ended(codes[pid], log.read_text(encoding="utf-8"), seconds[pid]))
        log.unlink()
    return ended_all
