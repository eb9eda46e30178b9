"""Predicting in parts: one of them by `--part 2/8`, or all at once by `--processes 4`.

A part is a range of rows, so that none is missing or doubled. The processes of one command write
their rows to files of their own, which are joined when all have ended; killed, the same command
continues each part where it was.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from plcli.cli.arguments import Arguments
from plcli.errors import MachineError, Terminated, UsageError

logger = logging.getLogger(__name__)

MOST = 1000  # parts
PARENT = "PLCLI_PARENT"  # in the environment of the processes of one command; their input is a pipe
ALIKE = 3.0  # seconds in which the first process ends by a mistake that another one has found
OWN = ("processes", "output")  # options that the processes do not get


@dataclass(frozen=True)
class Part:
    """One of several parts of the rows.

    Attributes:
        number: which one, from 1.
        of: the number of parts.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def rows(self, count: int, *, together: int) -> slice:
        """Return the rows of the part.

        Args:
            count: number of all rows.
            together: number of rows that are sorted by length together. Where there are enough
                rows, parts begin at its multiples, so that they are those of a whole prediction.

        Raises:
            UsageError: if there are fewer rows than parts.
        """
        if count < self.of:
            raise UsageError(
                f"the input has {count} rows, which are not {self.of} parts. Give at most {count}."
            )
        unit = together if count >= self.of * together else 1
        units = -(-count // unit)
        first, last = (
            units * number // self.of * unit for number in (self.number - 1, self.number)
        )
        return slice(first, min(last, count))


def asked(arguments: Arguments) -> Part | None:
    """Return the part that the command line asks for; None for all rows.

    Raises:
        UsageError: if it is not I/N.
    """
    given = arguments.options.get("part")
    if given is None:
        return None
    first, _, last = given.partition("/")
    if not all(word.isascii() and word.isdigit() for word in (first, last)):
        raise UsageError(f"--part: got '{given}', expected a part such as 2/8.")
    if not 1 <= int(first) <= int(last) <= MOST:
        raise UsageError(f"--part: got '{given}', expected 1/{last} to {last}/{last}, to {MOST}.")
    return Part(int(first), int(last))


def is_joined() -> bool:
    """Whether this process predicts a part of a command that joins the parts."""
    return PARENT in os.environ


def end_with_parent() -> None:
    """End this process when the command that started it has ended, even by kill -9."""
    if not is_joined():
        return

    def wait() -> None:
        with contextlib.suppress(OSError):
            os.read(0, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def number_of_processes(arguments: Arguments) -> int:
    """Return the number of --processes; 1 without it.

    Raises:
        UsageError: if it is no number, or something else does not go with it.
    """
    given = arguments.options.get("processes")
    if given is None:
        return 1
    if not given.isascii() or not given.isdigit() or not 1 <= int(given) <= MOST:
        raise UsageError(f"--processes: got '{given}', expected 1 to {MOST}.")
    for option in ("part", *(["input"] * (arguments.options.get("input") == "-"))):
        if option in arguments.options:
            raise UsageError(
                f"--processes {given} and --{option} {arguments.options[option]} do not go "
                "together; give one of them."
            )
    if arguments.texts:
        raise UsageError(f"--processes {given}: predicts files. Give --input FILE, or remove it.")
    if "output" not in arguments.options:
        raise UsageError(f"--processes {given}: needs --output FILE.")
    return int(given)


def predict(arguments: Arguments, words: Sequence[str], count: int) -> int:
    """Predict in several processes, and join what they have written.

    Args:
        arguments: the parsed command line.
        words: the same as words.
        count: number of processes.

    Returns:
        The exit code: that of a process which has failed, and has said why.

    Raises:
        UsageError: if the output cannot be written, or there are parts of another number.
        Terminated: if a signal has ended the command.
    """
    from plcli.runs import atomic_files, predictions

    output = Path(arguments.options["output"])
    predictions.check_output(output)
    names = [_path(output, Part(number, count)) for number in range(1, count + 1)]
    for path in predictions.partial_files(output.parent, f"{output.stem}.part-", output.suffix):
        if path not in names:
            raise UsageError(
                f"--output {output}: {path.name}.partial is of an interrupted prediction with "
                "another number of processes. Give that number, or remove these files."
            )
    if code := _Processes(_without(words), names).wait():
        return code
    with atomic_files.disk_errors_explained():
        rows, path = predictions.join(names, output)
    logger.info("%d rows written to %s", rows, path)
    return 0


def name(stem: str, part: Part) -> str:
    """Return the name of the file of a part, without its extension."""
    return f"{stem}.part-{part.number}-of-{part.of}"


def _path(output: Path, part: Part) -> Path:
    return output.with_name(name(output.stem, part) + output.suffix)


def _without(words: Sequence[str]) -> list[str]:
    """Return a command line without the options that are not for its processes."""
    kept, remaining = [], list(reversed(words))
    while remaining:
        word = remaining.pop()
        name, equals, _ = word.removeprefix("--").partition("=")
        if word.startswith("--") and name in OWN:
            if not equals:
                remaining.pop()
        else:
            kept.append(word)
    return kept


class _Processes:
    """The processes of one command. What the first one says is shown, as all say the same.

    Args:
        words: the command line of each, without its part and output.
        names: the file that each writes.
    """

    def __init__(self, words: Sequence[str], names: Sequence[Path]) -> None:
        environment = {**os.environ, PARENT: str(os.getpid())}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // len(names))))
        self.running: list[subprocess.Popen[bytes]] = []
        self.said: list[IO[bytes] | None] = [None]
        for number, name in enumerate(names, start=1):
            own = ["--part", f"{number}/{len(names)}", "--output", str(name)]
            if number > 1:
                own.append("--quiet")
                self.said.append(tempfile.TemporaryFile())  # noqa: SIM115  # until the end
            self.running.append(
                subprocess.Popen(
                    [sys.executable, "-m", "plcli", "predict", *own, *words],
                    env=environment,
                    stdin=subprocess.PIPE,  # which closes when this process ends
                    stderr=self.said[-1],
                    start_new_session=True,  # Ctrl-C comes to this process alone
                )
            )

    def wait(self) -> int:
        """Wait for all of them, and return 0; when one fails, end the others, and return its code.

        Raises:
            Terminated: if a signal comes, after all have ended.
            MachineError: if one is killed.
        """
        try:
            return self._code()
        finally:
            for file in self.said:
                if file is not None:
                    file.close()

    def _code(self) -> int:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, _raise) for number in numbers}
        failed = None
        try:
            while failed is None and any(process.poll() is None for process in self.running):
                time.sleep(0.1)
                failed = next((each for each in self.running if each.poll()), None)
            if failed is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    failed = self.running[0] if self.running[0].wait(ALIKE) else failed
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)
        failed = failed or next((each for each in self.running if each.returncode), None)
        if failed is None:
            return 0
        said = self.said[self.running.index(failed)]
        if said is not None:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace"))
        if failed.returncode > 0:
            return failed.returncode
        part = Part(self.running.index(failed) + 1, len(self.running))
        raise MachineError(
            f"--processes: part {part} was ended by signal "
            f"{-failed.returncode}, for example for lack of memory. What is predicted is kept; the "
            "same command continues after it."
        )

    def _end(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            process.wait()
            assert process.stdin is not None
            process.stdin.close()


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _raise(number: int, frame: object) -> None:
    raise Terminated(number, "What is predicted is kept; the same command continues after it.")
