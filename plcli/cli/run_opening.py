"""Before a fit trains: the run folder is made, or that of the run that is resumed is checked."""

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

STATES = 3  # of the weights' size: the weights and AdamW's two means
COPIES = 2  # of a state at least: the one that stands, and the next one


def resume(
    run: Run,
    checkpoint: Path,
    record: RunRecord,
    *,
    facts: Mapping[str, Any],
    config: Mapping[str, Any],
    allows_changes: bool,
) -> list[str]:
    """Check that a run that is resumed has the same data, and take its metrics over.

    Args:
        run: the run folder.
        checkpoint: what is resumed from.
        record: what the data are now.
        facts: what they tell the model now.
        config: the resolved config.
        allows_changes: whether the data may be others.

    Returns:
        What has changed, where that is allowed.

    Raises:
        UsageError: if the data have changed and may not.
        ModelError: if best.ckpt is damaged, or metrics.csv has lost lines.
    """
    best = run.checkpoints / "best.ckpt"
    if best.exists() and (said := atomic_files.damage(best)) is not None:
        raise ModelError(
            f"{best}: cannot be loaded as a checkpoint ({said}). Remove it: the run then goes "
            "on, and keeps the best of the epochs that follow."
        )
    before = checkpoint_io.load(checkpoint)["plcli"]
    changed = [
        *_changes("data", before["data"], record.fingerprints),
        *_changes("facts", before["facts"], facts),
    ]
    if changed and not allows_changes:
        raise UsageError(
            f"{run.folder}: the data are others than when this run began. Give the same data, "
            f"another --run, or --resume allow-changes.{below(changed)}"
        )
    assert record.metrics_csv is not None
    record.metrics_csv.resume(before["metrics_csv"])
    return changed + differences(load_yaml(run.config), config)


def make_folder(run: Run, *, weights: int) -> None:
    """Make the run folder, and check that its disk has room for checkpoints.

    Args:
        run: the run folder.
        weights: bytes of the weights.

    Raises:
        MachineError: if it cannot be made, or there is no room.
    """
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"--run {run.folder}: cannot be made ({error.strerror}). Name another folder."
        ) from None
    atomic_files.sweep(run.folder, run.checkpoints)
    needed = weights * STATES * COPIES + checkpoint_io.ROOM
    atomic_files.check_space(run.folder, needed, purpose="training with its checkpoints")
    logs.to_file(run.folder / "train.log")


def announce(
    run: Run, checkpoint: Path | None, *, again: bool, changed: Sequence[str], times: str
) -> None:
    """Say where the run stands, what it is resumed from, and what it keeps.

    Args:
        run: the run folder.
        checkpoint: what is resumed from.
        again: whether a run without a checkpoint stood there.
        changed: what has changed since it began.
        times: when it saves.
    """
    logger.info("run folder: %s", run.folder)
    if checkpoint is not None:
        logger.info("%s: goes on from checkpoints/%s", run.folder, checkpoint.name)
    elif again:
        logger.info("%s: starts again, no checkpoint was saved", run.folder)
    for difference in changed:
        logger.warning("changed since this run began: %s", difference)
    logger.info(
        "keeps in %s: best.ckpt, last.ckpt (%s) and, until the run is finished, the one before it",
        run.checkpoints,
        times,
    )


def _changes(what: str, before: Any, now: Any) -> list[str]:
    """Return `what.key: before -> now` for every key that differs, values shortened."""
    return [
        f"{what}.{key}: {_short(before.get(key))} -> {_short(now.get(key))}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
