"""Sets up logging, and silences harmless warnings of libraries.

Log lines go to standard error and, once there is a run folder, also to its train.log.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from plcli.config import secrets
from plcli.errors import printable

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


def set_up() -> None:
    """Send plcli's log lines to standard error."""
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
    timestamp = "" if sys.stderr.isatty() else "%(asctime)s "
    handler.setFormatter(_Printable(f"{timestamp}%(message)s", "%H:%M:%S"))
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
