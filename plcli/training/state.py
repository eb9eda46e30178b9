"""The typed state that a fit, its checkpoints and its loops pass to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypedDict

from typing_extensions import NotRequired

from plcli.training.csv_logger import MetricsCsv


class RankState(TypedDict):
    """The state of one process in a checkpoint.

    Attributes:
        metrics: the states of running metrics, by module name.
        sums: the sums so far of the means of the current epoch, by key.
        attributes: the attributes of the user's objects that have changed; absent in checkpoints of
            version 0.5.
        epoch_start: what the hooks at the start of the epoch have done; absent in checkpoints of
            earlier versions.
    """

    metrics: dict[str, Any]
    sums: dict[str, Any]
    attributes: NotRequired[dict[str, Any]]
    epoch_start: NotRequired[Any]


@dataclass(frozen=True)
class LoopState:
    """The state of the loops that Lightning's checkpoint does not contain.

    Attributes:
        batch: number of batches of the epoch that are done; 0 between two epochs.
        within_validation: whether the validation after that batch must be repeated.
        should_stop: whether a callback has requested the end of the fit.
        metrics: the metrics that callbacks see.
        ranks: the state of each process.
        accumulate: number of batches whose gradients are accumulated, which callbacks may change;
            0 in checkpoints of earlier versions.
    """

    batch: int
    within_validation: bool
    should_stop: bool
    metrics: dict[str, Any]
    ranks: list[RankState]
    accumulate: int = 0

    def plain(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, as a checkpoint contains it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def of(cls, plain: Mapping[str, Any] | None) -> "LoopState | None":
        """Return the state in a checkpoint; None if it has none, such as one from another tool."""
        return None if plain is None else cls(**plain)


@dataclass(frozen=True)
class RunRecord:
    """Where the checkpoints of a fit are saved, and what they record about its data.

    Attributes:
        folder: the folder of the checkpoints.
        metrics_csv: the logger of the run's metrics.csv.
        fingerprints: the fingerprints of the training and validation sources, by split.
    """

    folder: Path
    metrics_csv: MetricsCsv | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)


class Keeper(Protocol):
    """What the loops call as they proceed; it may save checkpoints, and may end the fit."""

    @property
    def keeps(self) -> bool:
        """Whether checkpoints are saved, so a signal waits for the next save."""

    @property
    def resumed(self) -> LoopState | None:
        """The state to resume from; None for a new run."""

    def is_in_use(self, trainer: Any) -> bool:
        """Whether this is the training itself, and not the search of a LearningRateFinder."""

    def restore_modules(self) -> None:
        """Called before a resumed training goes on, when everything else is restored."""

    def training_has_started(self) -> None:
        """Called after the hooks `on_train_start`, which also run when a training is resumed."""

    def before_epoch_start(self) -> None:
        """Called before the hooks `on_train_epoch_start`."""

    def epoch_has_started(self, *, resumed: bool) -> None:
        """Called after these hooks; or instead of them, when an epoch is resumed."""

    def before_validation(self) -> None:
        """Called after a batch, before its validation."""

    def batch_is_done(self, trainer: Any) -> None:
        """Called after a batch and its validation.

        Not after the last batch of an epoch, and not while gradients are accumulated.
        """

    def epoch_is_done(self, trainer: Any) -> None:
        """Called after an epoch."""

    def validation_was_left(self, trainer: Any) -> None:
        """Called after a validation was interrupted."""
