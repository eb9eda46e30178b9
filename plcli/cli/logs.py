"""Where log lines go, and what is kept out of sight.

They go to standard error and, once there is a run folder, to its train.log.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

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
    (r".*`SpearmanCorrcoef` will save all targets.*", "two numbers a row; scores.py says so"),
    (
        r".*does not have many workers.*",
        "batches come from a memory map; workers would not speed them up",
    ),
    (r".*`isinstance\(treespec, LeafSpec\)` is deprecated.*", "lightning calls torch's older name"),
    (
        r".*The number of training batches .* is smaller than the logging interval.*",
        "small data; metrics.csv has the epochs",
    ),
    (
        r".*Detected call of `lr_scheduler.step\(\)` before `optimizer.step\(\)`.*",
        "a step that gradient scaling skipped",
    ),
    (r".*Checkpoint directory .* exists and is not empty.*", "a run that goes on"),
    (
        r".*The given buffer is not writable.*",
        "rows are read from a read-only memory map and copied",
    ),
    (
        r".*`weights_only` was not set, defaulting to.*",
        "our own files are read with weights_only=True",
    ),
    (r".*Precision 16-mixed is not supported by the model summary.*", "the summary is not shown"),
    (r".*`training_step` returned `None`.*", "a module of the user's own may do so"),
    (
        r".*Found \d+ module\(s\) in eval mode at the start of training.*",
        "frozen parts are meant to be in eval mode",
    ),
)


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # no arguments on Python 3.10
    """Writes to what sys.stderr is now.

    So lines stand above a progress bar that captures it.
    """

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


def set_up() -> None:
    """Send plcli's log lines to standard error."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    for name in LOUD:  # some speak while they are imported
        logging.getLogger(name).setLevel(logging.ERROR)
    own = logging.getLogger("plcli")
    own.setLevel(logging.INFO)
    own.propagate = False
    for handler in own.handlers:
        handler.close()
    handler = _Stderr()
    timestamp = "" if sys.stderr.isatty() else "%(asctime)s "
    handler.setFormatter(logging.Formatter(f"{timestamp}%(message)s", "%H:%M:%S"))
    own.handlers = [handler]


def quiet_libraries() -> None:
    """Silence what the libraries below repeat.

    Called once they are imported, as they set their own levels then.
    """
    for name in LOUD:
        logging.getLogger(name).setLevel(logging.ERROR)
    for pattern, _ in HARMLESS:
        warnings.filterwarnings("ignore", message=pattern)


def to_file(path: Path) -> None:
    """Append plcli's log lines to a file as well."""
    logging.raiseExceptions = False  # a full disk is told once, by what could not be saved
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("plcli").addHandler(handler)


def silence() -> None:
    """Say warnings and errors only, on a rank other than the first."""
    logging.getLogger("plcli").setLevel(logging.WARNING)
