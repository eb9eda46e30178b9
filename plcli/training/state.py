"""What a fit, its checkpoints and its loops hand one another, each made by its owner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict

from plcli.training.csv_logger import MetricsCsv


class RankState(TypedDict):
    """What one process adds to a checkpoint.

    Attributes:
        metrics: the states of running metrics, by the name of their module.
        sums: what the means of the running epoch are made of so far, by their key.
    """

    metrics: dict[str, Any]
    sums: dict[str, Any]


@dataclass(frozen=True)
class LoopState:
    """Where the loops stood when a checkpoint was saved, as far as Lightning's leaves it out.

    Attributes:
        batch: batches of the epoch that are done; 0 between two epochs.
        within_validation: whether the validation after that batch is to be repeated.
        should_stop: whether a callback has asked for the end.
        metrics: the metrics that callbacks see.
        ranks: of each process.
    """

    batch: int
    within_validation: bool
    should_stop: bool
    metrics: dict[str, Any]
    ranks: list[RankState]

    def plain(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, as a checkpoint holds it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def of(cls, plain: Mapping[str, Any] | None) -> "LoopState | None":
        """Return the state of a checkpoint; None where it has none, as one of other tools."""
        return None if plain is None else cls(**plain)


@dataclass(frozen=True)
class RunRecord:
    """Where a fit is kept, and what its checkpoints say of its data.

    Attributes:
        folder: of the checkpoints.
        metrics_csv: the run's metrics.csv.
        fingerprints: of the sources of training and validation, by split.
    """

    folder: Path
    metrics_csv: MetricsCsv | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)


class Keeper(Protocol):
    """What the loops tell of what is done; it may save, and may end the fit."""

    @property
    def keeps(self) -> bool:
        """Whether anything is kept, so that a signal waits for the next save."""

    @property
    def resumed(self) -> LoopState | None:
        """What is resumed from; None at a run's beginning."""

    def batch_ends(self) -> None:
        """Hear that a batch is done but for its validation."""

    def batch_is_done(self, trainer: Any) -> None:
        """Hear that a batch is done."""

    def epoch_is_done(self, trainer: Any) -> None:
        """Hear that an epoch is done."""

    def validation_was_left(self, trainer: Any) -> None:
        """Hear that a validation was broken off."""
