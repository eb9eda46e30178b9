"""Sets up logging, and silences harmless warnings of libraries.

Log lines go to standard error and, once there is a run folder, also to its train.log.
"""

import logging
import os
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from plcli.config import secrets
from plcli.errors import printable

EPOCHS, FIT = "plcli.callbacks.progress", "plcli.cli.fit"  # loggers of a training and its results
CAMPAIGN = "plcli.cli.campaign_fit"
OPENING = ("_open", "_opened")  # functions of FIT that run before the training
LOUD = (
    "bitsandbytes",
    "lightning.pytorch",
    "lightning.fabric",
    "pytorch_lightning",
    "datasets",
    "httpx",
    "fsspec",
    "filelock",
    "huggingface_hub",
)
HARMLESS = (  # (message, why it is harmless)
    (
        r".*`SpearmanCorrcoef` will save all targets.*",
        "two numbers per row, as documented in scores.py",
    ),
    (
        r".*does not have many workers.*",
        "batches come from a memory map, so workers would not help",
    ),
    (
        r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*",
        "Lightning uses a deprecated name of torch",
    ),
    (
        r".*The number of training batches .* is smaller than the logging interval.*",
        "small data; metrics.csv still has every epoch",
    ),
    (
        r".*Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",
        "gradient scaling skipped a step",
    ),
    (r".*Checkpoint directory .* exists and is not empty.*", "a resumed run"),
    (
        r".*The given buffer is not writable.*",
        "rows are copied from a read-only memory map",
    ),
    (
        r".*`weights_only` was not set, defaulting to.*",
        "plcli loads its own files with weights_only=True",
    ),
    (r".*Precision 16-mixed is not supported by the model summary.*", "the summary is not shown"),
    (r".*`training_step` returned `None`.*", "the user's own module may do so"),
    (
        r".*Found \d+ module\(s\) in eval mode at the start of training.*",
        "frozen parts are in eval mode on purpose",
    ),
)


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # no arguments on Python 3.10
    """Writes to the current sys.stderr.

    A progress bar replaces sys.stderr, and then prints log lines above itself.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class _Printable(logging.Formatter):
    """Escapes line ends and control characters, which the data may have, and hides secrets."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # of the base
        record.message = secrets.hide_message(printable(record.message))
        return super().formatMessage(record)


class SaidOnce(logging.Filter):
    """Leaves out opening lines that an earlier sub-run of a campaign has said.

    Lines are the same if they differ in numbers or the folder of the sub-run alone, and warnings if
    they differ in that folder alone. The first line of a run's training or results ends its
    opening. Files get all lines, as the log of a sub-run is that of a run of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder, self._opening = "", False
        self._before: set[str] = set()
        self._now: set[str] = set()

    def begin(self, folder: Path) -> None:
        """Expect the opening of the next sub-run."""
        self._folder, self._opening = str(folder), True
        self._before, self._now = self._before | self._now, set()

    def end(self) -> None:
        """Let all lines pass, as what follows is of the campaign."""
        self._opening = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown."""
        said = record.getMessage()
        trains = record.name == EPOCHS and said.startswith("epoch ")
        if trains or (record.name == FIT and record.funcName not in OPENING):
            self._opening = False
        if not self._opening or record.name == CAMPAIGN:
            return True
        same = said.replace(self._folder, "")
        same = same if record.levelno >= logging.WARNING else re.sub(r"[\d.,]+", "#", same)
        self._now.add(same)
        return same not in self._before


def set_up(*, quiet: bool = False, once: SaidOnce | None = None) -> None:
    """Send plcli's log lines to standard error, or only warnings and errors.

    Args:
        quiet: whether to send only warnings and errors.
        once: what leaves out the lines that earlier runs of this process have said.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    for name in LOUD:  # some log while they are imported
        logging.getLogger(name).setLevel(logging.ERROR)
    own = logging.getLogger("plcli")
    own.setLevel(logging.INFO)
    own.propagate = False
    for handler in own.handlers:
        handler.close()
    handler = _Stderr()
    handler.setLevel(logging.WARNING if quiet else logging.INFO)
    timestamp = "" if sys.stderr.isatty() else "%(asctime)s "
    handler.setFormatter(_Printable(f"{timestamp}%(message)s", "%H:%M:%S"))
    if once is not None:
        handler.addFilter(once)
    own.handlers = [handler]


def quiet_libraries() -> None:
    """Silence the loggers and harmless warnings of libraries.

    Call this after they are imported, because they set their own levels on import.
    """
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern, _ in HARMLESS:
        warnings.filterwarnings("ignore", message=pattern)


def to_file(path: Path) -> None:
    """Append plcli's log lines to a file as well."""
    logging.raiseExceptions = (
        False  # a full disk is reported once, by the file that could not be saved
    )
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("plcli").addHandler(handler)


def silence() -> None:
    """Log only warnings and errors, on every rank except rank 0."""
    logging.getLogger("plcli").setLevel(logging.WARNING)
