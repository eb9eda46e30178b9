"""Tells exceptions of the user's code, of Lightning and of missing packages from bugs of plcli.

An exception is the user's if a frame of it is in a file of the user: in a package that
`--allow-import` names, or in a file outside of Python, its installed packages and plcli. Such an
exception is shown with the traceback from the user's first frame.
"""

import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from traceback import FrameSummary
from typing import NamedTuple

import plcli
from plcli.config import allowlist
from plcli.errors import MachineError, PlcliError, UsageError, printable

USER_ERROR = 1  # exit code of an exception in the user's own code
LAST_FRAMES = 4  # shown of an exception that a library raised for the user's classes
WORKER = re.compile(r"Caught (\w+) in DataLoader worker process (\d+)\.")
LOST_WORKER = re.compile(
    r"DataLoader worker \(pid.*?\) (?:is killed by signal|exited unexpectedly)"
)
KILLED = re.compile(r"DataLoader worker \(pid.*?\) is killed by signal: (?:Killed|Bus error)")
OUT_OF_MEMORY = (
    "not enough memory on this machine or its GPU. Lower data.batch_size (with "
    "trainer.accumulate_grad_batches the steps stay the same) or data.max_length; "
    "trainer.precision: bf16-mixed and model.gradient_checkpointing: true save memory, too. "
    "A fit resumes from its last checkpoint."
)
FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$')
ABSENT = (  # how libraries say that a package is not installed
    re.compile(r"pip install (?:-U )?[\"'`]?([\w.\-]*\w)"),
    re.compile(
        r"[`'\"]?([\w\-]+)[\w<>=!~., ]*[`'\"]? (?:is not|not) (?:available|installed|found)"
    ),
)
PIP_NAMES = {  # packages whose name differs from that of their module
    "cv2": "opencv-python",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
    "comet_ml": "comet-ml",
    "lightning_fabric": "lightning",
    "pytorch_lightning": "lightning",
}


class Report(NamedTuple):
    """What a user sees of an exception, and the exit code."""

    text: str
    exit_code: int


def report(error: BaseException) -> Report | None:
    """Return what to show of an exception; None if it is a bug of plcli.

    Args:
        error: an exception that no part of plcli has handled.
    """
    chain = list(chain_of(error))
    for each in chain:
        if isinstance(each, PlcliError):
            return Report(f"plcli: {each}", each.exit_code)
    if any(map(_is_out_of_memory, chain)):
        return Report(f"plcli: {MachineError(OUT_OF_MEMORY)}", MachineError.exit_code)
    for each in chain:
        for kind in (_of_lightning, _of_a_worker, _missing_package, _of_the_user):
            if (told := kind(each)) is not None:
                return told
    return _of_a_library(error)


def report_exit(end: SystemExit) -> Report | None:
    """Return what to show of a SystemExit that the user's code raised; None if plcli raised it."""
    users = [frame for frame in traceback.extract_tb(end.__traceback__) if _is_the_users(frame)]
    if not users:
        return None
    last = users[-1]
    place = printable(f"{last.filename}, line {last.lineno}, in {last.name}")
    return Report(
        f"plcli: your own code ended the command with SystemExit({end.code!r:.80}): {place}. "
        "Nothing is finished; what was saved before can be resumed.",
        USER_ERROR,
    )


def is_lost_worker(error: BaseException) -> bool:
    """Whether an exception is about a process of a loader that was killed."""
    return any(LOST_WORKER.search(str(each)) for each in chain_of(error))


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, from the last to the first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def refused_by_a_library(error: BaseException) -> str | None:
    """Return the text of the first cause if a library's constructor raised it; None otherwise.

    A callback of Lightning is named by its module.
    """
    first = list(chain_of(error))[-1]
    frames = traceback.extract_tb(first.__traceback__)
    ours = not frames or _is_of_plcli(frames[-1]) or any(map(_is_the_users, frames))
    if ours or isinstance(first, ImportError):
        return None
    callback = _callback_in(frames)
    return f"{callback}: {_one_line(first)}" if callback else _one_line(first)


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True  # torch's own, without importing torch
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in text
        or "CUDA out of memory" in text
        or KILLED.search(text) is not None
    )


def _one_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines) or type(error).__name__
    text = re.sub(r"(\w+)=None\b", r"\1: null", text)  # as a config has it
    return re.sub(r"<([\w.]+)(?: object)? at 0x[0-9a-f]+>", r"\1", text)


def _of_lightning(error: BaseException) -> Report | None:
    """Report a wrong use of Lightning; where it is raised by a line of the user, name the line."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    frames = traceback.extract_tb(error.__traceback__)
    refused = isinstance(error, MisconfigurationException)
    callback = _callback_in(frames)
    if (
        not refused
        and callback is None
        and not (
            isinstance(error, (ValueError, TypeError, RuntimeError))
            and frames
            and _is_of_lightning(frames[-1])
        )
    ):
        return None
    users = [frame for frame in frames if _is_the_users(frame)]
    if not refused and users:
        return None  # a traceback says more about a wrong value that the user's code passed
    key = "trainer" if callback is None else f"trainer.callbacks: {callback}"
    where = f" ({users[-1].filename}, line {users[-1].lineno})" if users else ""
    told = UsageError(f"{key}: {_one_line(error)}{where}")
    return Report(f"plcli: {told}", UsageError.exit_code)


def _callback_in(frames: Sequence[FrameSummary]) -> str | None:
    """Return the module of Lightning's callback that has raised; None if none has.

    A frame of plcli after that of the callback means that the callback called plcli.
    """
    import lightning.pytorch.callbacks as callbacks

    folder = Path(callbacks.__file__).parent
    for frame in reversed(frames):
        if _is_of_plcli(frame):
            return None
        if Path(frame.filename).is_relative_to(folder):
            return Path(frame.filename).stem
    return None


def _of_the_user(error: BaseException) -> Report | None:
    """Report an exception with the traceback from the user's first frame."""
    frames = traceback.extract_tb(error.__traceback__)
    users = [number for number, frame in enumerate(frames) if _is_the_users(frame)]
    if not users:
        return None
    last = frames[users[-1]]
    said = "".join(traceback.format_exception_only(error))
    return _shown(frames[users[0] :], said, type(error).__name__, last)


def _of_a_worker(error: BaseException) -> Report | None:
    """Report an exception that a DataLoader's worker has passed on as text."""
    text = str(error)
    found = WORKER.search(text)
    if found is None or "Traceback (most recent call last)" not in text:
        return None
    lines = text.splitlines()
    starts = [
        number
        for number, line in enumerate(lines)
        if (match := FRAME.match(line))
        and _is_the_users(FrameSummary(match[1], int(match[2]), match[3], lookup_line=False))
    ]
    if not starts:
        return None
    place = FRAME.match(lines[starts[-1]])
    assert place is not None
    shown = "\n".join(["Traceback (from your code on):", *lines[starts[0] :]])
    where = f"{place[1]}, line {place[2]}, in {place[3]}, in worker {found[2]} of a DataLoader"
    return Report(f"{shown}\nplcli: your own code raised this {found[1]}: {where}.", USER_ERROR)


def _of_a_library(error: BaseException) -> Report | None:
    """Report an exception of a library that works with the user's classes."""
    frames = traceback.extract_tb(error.__traceback__)
    if not allowlist.added() or not frames or _is_of_plcli(frames[-1]):
        return None
    said = "".join(traceback.format_exception_only(error))
    return _shown(frames[-LAST_FRAMES:], said, type(error).__name__, None)


def _shown(frames: list[FrameSummary], said: str, name: str, user: FrameSummary | None) -> Report:
    lines = ["Traceback (from your code on):\n" if user else "Traceback (its last frames):\n"]
    lines += traceback.format_list(frames)
    lines.append(said)
    if user is None:
        end = f"plcli: a library raised this {name} while it worked with your classes."
    else:
        end = (
            f"plcli: your own code raised this {name}: {user.filename}, line {user.lineno}, "
            f"in {user.name}."
        )
    return Report("".join(lines) + printable(end), USER_ERROR)


def _missing_package(error: BaseException) -> Report | None:
    """Report a package that is not installed, with the command that installs it."""
    if not isinstance(error, ImportError):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    users = [frame for frame in frames if _is_the_users(frame)]
    where = f"{users[-1].filename}, line {users[-1].lineno}: " if users else ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        name: str | None = error.name.split(".")[0]
        package = PIP_NAMES.get(str(name), name)
    elif users and frames[-1] == users[-1]:
        return None  # the user's code raised it, and says what it is about
    else:
        found = next(filter(None, (form.search(str(error)) for form in ABSENT)), None)
        name = package = found[1] if found else None
    if package is None:
        return None
    message = f"{where}needs the package {name}, which is not installed. "
    told = MachineError(f"{message}Install it: pip install {package}")
    return Report(f"plcli: {told}", MachineError.exit_code)


def _is_the_users(frame: FrameSummary) -> bool:
    """Whether a frame is in a file of the user."""
    name = frame.filename
    if name.startswith("<") or _is_of_plcli(frame):
        return False
    path = Path(name)
    if any(_belongs(path, package) for package in allowlist.added()):
        return True
    return not any(path.is_relative_to(folder) for folder in _installed())


def _belongs(path: Path, package: str) -> bool:
    """Whether a file is one of a package that is imported."""
    module = sys.modules.get(package)
    if module is None:
        return False
    folders = [Path(folder) for folder in getattr(module, "__path__", [])]
    own = getattr(module, "__file__", None)
    return (own is not None and Path(own) == path) or any(
        path.is_relative_to(folder) for folder in folders
    )


def _is_of_plcli(frame: FrameSummary) -> bool:
    return Path(frame.filename).is_relative_to(Path(plcli.__file__).parent)


def _is_of_lightning(frame: FrameSummary) -> bool:
    import lightning

    return Path(frame.filename).is_relative_to(Path(lightning.__file__).parent)


def _installed() -> list[Path]:
    """Return the folders of Python and of installed packages."""
    paths = sysconfig.get_paths()
    folders = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib", "scripts")}
    folders |= {*site.getsitepackages(), site.getusersitepackages()}
    return [Path(folder) for folder in folders]
