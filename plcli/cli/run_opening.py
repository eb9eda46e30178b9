"""Creates the run folder before training, or checks the run to resume."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from plcli.cli import logs
from plcli.config.files import load_yaml
from plcli.errors import MachineError, ModelError, UsageError, below
from plcli.runs import atomic_files
from plcli.runs.folder import Run, differences
from plcli.training import checkpoint_io
from plcli.training.state import RunRecord

logger = logging.getLogger(__name__)

STATES = 3  # size of a checkpoint in weights: the weights and the two moments of AdamW
COPIES = 2  # minimum number of checkpoints: the current one, and the next while it is written


def resume(
    run: Run,
    checkpoint: Path,
    record: RunRecord,
    *,
    facts: Mapping[str, Any],
    config: Mapping[str, Any],
    allows_changes: bool,
) -> list[str]:
    """Check that the data of a resumed run are unchanged, and restore its metrics.csv.

    Args:
        run: the run folder.
        checkpoint: the checkpoint to resume from.
        record: the record of the run with the current data fingerprints.
        facts: the current facts.
        config: the resolved config.
        allows_changes: whether the data may have changed.

    Returns:
        The differences of data, facts and config since the run started.

    Raises:
        UsageError: if the data have changed and this is not allowed.
        ModelError: if best.ckpt is damaged, or metrics.csv has lost lines.
    """
    best = run.checkpoints / "best.ckpt"
    if best.exists() and (reason := atomic_files.damage(best)) is not None:
        raise ModelError(
            f"{best}: cannot be loaded as a checkpoint ({reason}). Remove it to resume the run, "
            "which then saves the best of the remaining epochs."
        )
    before = checkpoint_io.load(checkpoint)["plcli"]
    changed = [
        *_changes("data", before["data"], record.fingerprints),
        *_changes("facts", before["facts"], facts),
    ]
    if changed and not allows_changes:
        raise UsageError(
            f"{run.folder}: the data have changed since this run started. Use the same data, "
            f"another --run or --resume allow-changes.{below(changed)}"
        )
    assert record.metrics_csv is not None
    record.metrics_csv.resume(before["metrics_csv"])
    return changed + differences(load_yaml(run.config), config)


def make_folder(run: Run, *, weights: int) -> None:
    """Create the run folder, and check that its disk has enough space for checkpoints.

    Args:
        run: the run folder.
        weights: size of the weights in bytes.

    Raises:
        MachineError: if it cannot be created, or there is not enough space.
    """
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"--run {run.folder}: cannot be created ({error.strerror}). Name another folder."
        ) from None
    atomic_files.sweep(run.folder, run.checkpoints)
    needed = weights * STATES * COPIES + checkpoint_io.ROOM
    atomic_files.check_space(run.folder, needed, purpose="training with its checkpoints")
    logs.to_file(run.folder / "train.log")


def announce(
    run: Run, checkpoint: Path | None, *, again: bool, changed: Sequence[str], times: str
) -> None:
    """Log the run folder, the checkpoint to resume from, and which checkpoints are saved.

    Args:
        run: the run folder.
        checkpoint: the checkpoint to resume from.
        again: whether the folder already contains a run, without a checkpoint.
        changed: the differences since the run started.
        times: when last.ckpt is saved, in words.
    """
    logger.info("run folder: %s", run.folder)
    if checkpoint is not None:
        logger.info("%s: resuming from checkpoints/%s", run.folder, checkpoint.name)
    elif again:
        logger.info("%s: starting over, as no checkpoint was saved", run.folder)
    for difference in changed:
        logger.warning("changed since this run started: %s", difference)
    logger.info(
        "checkpoints in %s: best.ckpt, last.ckpt (%s) and, while training, previous.ckpt",
        run.checkpoints,
        times,
    )


def _changes(what: str, before: Any, now: Any) -> list[str]:
    """Return `what.key: before -> now` with shortened values for every key that differs."""
    return [
        f"{what}.{key}: {_short(before.get(key))} -> {_short(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
