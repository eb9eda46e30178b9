"""What plcli loses when it is killed, stopped, or given damaged files and a full disk: a table.

scripts/chaos               everything, about half an hour
scripts/chaos --part 10     a tenth of everything
scripts/chaos --only locks  the groups whose name holds this; launch, locks, caches, permissions and
                            hooks are what neighbours, bad disks and other processes do
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

import plcli.cli.lightning_cli  # so that forks have it
from plcli.runs import atomic_files
from tests.chaos_neighbours import Neighbours
from tests.killed_fits import fork, result_of, send, send_once, write_config

TRUSTED = ("--allow-import", "tests")  # the model and the data of tests/killed_fits.py
FIT = ("fit", *TRUSTED, "-c", "config.yaml", "--resume", "auto", "--run")
Row = tuple[str, int, int, str]


class Chaos:
    """Runs everything in one folder.

    Args:
        folder: for the runs.
        part: how many times less than everything.
    """

    def __init__(self, folder: Path, part: int) -> None:
        self.folder, self.part = folder, part
        self.random = random.Random(7)
        self.unreadable = 0

    def times(self, number: int) -> int:
        """Return how often something is done."""
        return max(1, round(number / self.part))

    @contextlib.contextmanager
    def setting(self, name: str, **config: object) -> Iterator[tuple[Path, float]]:
        """Make a folder with a config and an uninterrupted run; yield it and the run's seconds."""
        folder = self.folder / name
        folder.mkdir()
        write_config(folder / "config.yaml", **config)  # type: ignore[arg-type]
        whole = fork(*FIT, "whole", folder=folder)
        assert whole.code == 0, whole.said
        yield folder, whole.seconds
        shutil.rmtree(folder)

    def same(self, folder: Path, run: str) -> bool:
        """Whether a run's weights and metrics are those of the uninterrupted one."""
        return result_of(folder / run) == result_of(folder / "whole")

    def look(self, run: Path) -> None:
        """Count files that stand under a final name and are not whole."""
        checkpoints = [
            run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best", "previous")
        ]
        for path in filter(Path.exists, checkpoints):
            self.unreadable += atomic_files.damage(path) is not None

    def finish(self, folder: Path, run: str) -> bool:
        """Let a run go on to its end; return whether it is as if nothing had happened."""
        ended = fork(*FIT, run, folder=folder)
        if ended.code:
            print(ended.said[-3000:])
        return ended.code == 0 and self.same(folder, run)

    # what is done

    def kills(self, workers: int) -> Row:
        """Kill runs at random moments."""
        runs, kills, exact = 0, 0, 0
        with self.setting(f"kills{workers}", data={"num_workers": workers}) as (folder, seconds):
            while runs < self.times(8) or kills < self.times(50):
                run, runs = str(runs), runs + 1
                for _ in range(self.random.randint(6, 8)):
                    moment = self.random.uniform(0.02, seconds)
                    kill = send(signal.SIGKILL, after=moment)
                    ended = fork(*FIT, run, folder=folder, meddle=kill)
                    kills += ended.code == -signal.SIGKILL
                    self.look(folder / run)
                exact += self.finish(folder, run)
        return f"kill -9, {kills} times, {workers} workers", runs, exact, "runs bit-identical"

    def signals(self) -> Row:
        """Stop runs at random moments by each signal, also within validations."""
        number, good = self.times(30), 0
        slow = {"model": {"slow": 0.01}}
        with self.setting("signals", **slow, checkpoint={}) as (folder, _):
            for run in range(number):
                kind = (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)[run % 4]
                place = self.random.choice(("training", "validation"))
                meddle = send_once(kind, f"<{place} after", after=self.random.uniform(0, 0.4))
                ended = fork(*FIT, str(run), folder=folder, meddle=meddle)
                wanted = 130 if kind == signal.SIGINT else 143
                good += (
                    ended.code == wanted
                    and "Saved after step" in ended.said
                    and (folder / str(run) / "checkpoints" / "last.ckpt").exists()
                    and self.finish(folder, str(run))
                )
                self.look(folder / str(run))
        return f"SIGTERM, SIGUSR1, Ctrl-C, {number} times", number, good, "saved and bit-identical"

    def saves(self) -> Row:
        """Kill runs while they save, with TMPDIR on another file system."""
        number, exact = self.times(30), 0
        with self.setting("saves", model={"width": 100_000}) as (folder, _):
            for run in map(str, range(number)):

                def meddle(process: int, log: Path, run: str = run) -> None:
                    wanted, until = self.random.randint(1, 5), time.monotonic() + 5
                    seen: set[str] = set()
                    while len(seen) < wanted and time.monotonic() < until:
                        for path in (folder / run / "checkpoints").glob(f"{atomic_files.PREFIX}*"):
                            seen.add(path.name)
                    time.sleep(self.random.uniform(0, 0.02))
                    os.kill(process, signal.SIGKILL)

                other = {"TMPDIR": "/dev/shm"}
                fork(*FIT, run, folder=folder, environment=other, meddle=meddle)
                self.look(folder / run)
                exact += self.finish(folder, run)
                shutil.rmtree(folder / run)
        return f"kill -9 in a save, {number} times", number, exact, "runs bit-identical"

    def damage(self, name: str, number: int, harm: Callable[[bytes], bytes]) -> Row:
        """Damage last.ckpt; the one before it has to be used, and the damage to be named."""
        good, number = 0, self.times(number)
        with self.setting("damage", model={"slow": 0.005}) as (folder, _):
            stop = send_once(signal.SIGTERM, "<training after 7>")
            fork(*FIT, "stopped", folder=folder, meddle=stop)
            for run in map(str, range(number)):
                shutil.copytree(folder / "stopped", folder / run)
                last = folder / run / "checkpoints" / "last.ckpt"
                last.write_bytes(harm(last.read_bytes()))
                ended = fork(*FIT, run, folder=folder)
                said = "last.ckpt: is damaged" in ended.said and "previous.ckpt" in ended.said
                good += ended.code == 0 and said and self.same(folder, run)
                shutil.rmtree(folder / run)
        return f"{name} of last.ckpt, {number} times", number, good, "named, bit-identical"

    def truncate(self, content: bytes) -> bytes:
        """Cut a file off."""
        return content[: self.random.randrange(len(content))]

    def flip(self, content: bytes) -> bytes:
        """Turn one bit over."""
        place = self.random.randrange(len(content))
        flipped = content[place] ^ (1 << self.random.randrange(8))
        return content[:place] + bytes([flipped]) + content[place + 1 :]

    def full_disk(self) -> Row:
        """Let files grow only so far."""
        number, good = self.times(10), 0
        with self.setting("disk", model={"slow": 0.005}) as (folder, _):
            stop = send_once(signal.SIGTERM, "<training after 5>")
            fork(*FIT, "stopped", folder=folder, meddle=stop)
            size = (folder / "stopped" / "checkpoints" / "last.ckpt").stat().st_size
            for run in map(str, range(number)):
                shutil.copytree(folder / "stopped", folder / run)
                limit = self.random.randrange(3000, size - 1)
                ended = fork(*FIT, run, folder=folder, file_size=limit)
                self.look(folder / run)
                told = ended.code == 5 and "Traceback" not in ended.said
                if not told:
                    print(ended.said[-3000:])
                good += told and self.finish(folder, run)
        return f"full disk in a save, {number} times", number, good, "exit 5, bit-identical"

    def ranks(self, number: int, name: str) -> Row:
        """Send a signal to the second of two ranks under torchrun."""
        times, good = self.times(3), 0
        folder = self.folder / "ranks"
        folder.mkdir()
        trainer = {"accumulate_grad_batches": 1}
        write_config(folder / "config.yaml", model={"slow": 0.05}, trainer=trainer)
        torchrun(folder, "whole")
        for run in map(str, range(times)):
            after = self.random.uniform(0.1, 1.5)
            code, said, seconds = torchrun(folder, run, number, after=after)
            self.look(folder / run)
            stopped = code != 0 and seconds < 90 and not orphans(folder)
            code, more, _ = torchrun(folder, run)
            exact = code == 0 and self.same(folder, run)
            if not (stopped and exact):
                print(stopped, exact, seconds, said[-2000:], more[-2000:])
            good += stopped and exact
        shutil.rmtree(folder)
        return f"{name} to one of 2 ranks, {times} times", times, good, "no hang, bit-identical"


def torchrun(
    folder: Path, run: str, number: int | None = None, *, after: float = 0.0
) -> tuple[int, str, float]:
    """Fit with two ranks; send a signal to the second once it trains."""
    root = str(Path(__file__).resolve().parent.parent)
    environment = os.environ | {
        "PYTHONPATH": root,
        "OMP_NUM_THREADS": "1",
        "PLCLI_CACHE": str(folder / "cache"),
    }
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    log = folder / "said.txt"
    start = time.monotonic()
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, *words, "-m", "--", "plcli", *FIT, run],  # --: it knows a --run, too
            cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if number is not None:
            while process.poll() is None and "<training after" not in log.read_text():
                time.sleep(0.02)
            time.sleep(after)
            start = time.monotonic()
            second = [pid for pid in processes(folder) if b"LOCAL_RANK=1\0" in environ(pid)]
            for pid in second[:1]:
                os.kill(pid, number)
        try:
            code = process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.terminate()
            code = -1
    return code, log.read_text(), time.monotonic() - start


def environ(pid: int) -> bytes:
    """Return the environment of a process; nothing where it has gone."""
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def processes(folder: Path) -> list[int]:
    """Return the processes that fit in a folder."""
    mark = f"PLCLI_CACHE={folder / 'cache'}\0".encode()
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return sorted(pid for pid in pids if mark in environ(pid))


def orphans(folder: Path) -> list[int]:
    """Return the processes that are still there a while after the fit ended."""
    until = time.monotonic() + 10
    while (left := processes(folder)) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def main() -> int:
    """Run everything and print a table; return whether something was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--part", type=int, default=1, help="how many times less")
    parser.add_argument("--only", help="only steps whose name holds this, or one of A,B")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    chaos = Chaos(folder, arguments.part)
    steps: dict[str, Callable[[], Row]] = {
        "kills-0": lambda: chaos.kills(0),
        "kills-2": lambda: chaos.kills(2),
        "signals": chaos.signals,
        "saves": chaos.saves,
        "truncate": lambda: chaos.damage("truncation", 20, chaos.truncate),
        "flip": lambda: chaos.damage("a bit flipped", 20, chaos.flip),
        "disk": chaos.full_disk,
        "ranks-kill": lambda: chaos.ranks(signal.SIGKILL, "kill -9"),
        "ranks-term": lambda: chaos.ranks(signal.SIGTERM, "SIGTERM"),
        **Neighbours(folder, arguments.part).groups(),
    }
    table = Table("what was done", "of", "held", "what held", "seconds")
    lost = False
    for name, step in steps.items():
        if arguments.only and not any(part in name for part in arguments.only.split(",")):
            continue
        start = time.monotonic()
        what, number, good, held = step()
        lost |= good < number
        table.add_row(what, str(number), str(good), held, f"{time.monotonic() - start:.0f}")
        print(f"{name}: {good} of {number}", flush=True)
    table.add_row("unreadable files under a final name", "", str(chaos.unreadable), "0 wanted", "")
    Console(width=110).print(table)
    shutil.rmtree(folder, ignore_errors=True)
    return int(lost or chaos.unreadable > 0)


if __name__ == "__main__":
    assert plcli.cli.lightning_cli
    sys.exit(main())
