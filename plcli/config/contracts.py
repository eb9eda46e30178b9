"""The members that plcli uses of a user's classes, in addition to those that Lightning requires.

Every member is optional. `module_contract` and `data_contract` return the class's own member if it
has the form that is defined here, and the default otherwise. A member with the same name and
another form is not used, and this is logged once.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, cast

logger = logging.getLogger(__name__)

Mode = Literal["min", "max"]
SPLITS = {"train": "train", "validation": "val", "test": "test", "predict": "predict"}


class ModuleContract(Protocol):
    """The members that plcli uses of a LightningModule.

    Attributes:
        task: its task; a data module of another task is refused. None fits any task.
        monitor: the validation metric that determines the best epoch, and its direction; None uses
            val_loss if it is logged.
        results: the numbers and tables of the last evaluation of `val` and `test`; the logged
            metrics are used if there are none.
        evaluated_rows: the rows of the last evaluation of `val` and `test`, with their intervals
            and baselines (plcli.metrics.row_scores.EvaluatedRows).
        wants_decisions: whether `decide` is to be called after training, between two validations.
        adapter_base: the base model of an adapter; None if the whole model is saved.
        parts: the parts of its network by depth, for gradual unfreezing; None if it has none.
    """

    task: str | None
    monitor: tuple[str, Mode] | None
    results: dict[str, dict[str, Any]]
    evaluated_rows: dict[str, Any]
    wants_decisions: bool
    adapter_base: Mapping[str, Any] | None
    parts: Any

    def offers(self, part: str) -> bool:
        """Whether the module defines a member itself."""

    def decide(self) -> Mapping[str, Any]:
        """Choose a temperature and thresholds on the rows of the last validation.

        Those called `temperature` and `thresholds` become facts, which are saved with the artefact.
        """

    def averaged(self, outputs: Sequence[Any], batch: Any, modules: Sequence[Any]) -> Any:
        """Return the outputs of several modules of its class as one, for an ensemble.

        Scores and predictions follow from it as from the module's own outputs.
        """

    def use_ensemble(self, modules: Sequence[Any]) -> None:
        """Prepare for predicting with the averaged outputs of modules, of which it is the first."""

    def artefact_facts(self) -> Mapping[str, Any]:
        """Return additional entries for the artefact's plcli.json."""

    def save_pretrained(self, folder: Path) -> None:
        """Write the weights and the files needed to load them; by default the state is saved."""

    def use_gradient_norm(self, norm: Any) -> None:
        """Receive the norm of this step's gradient, a scalar tensor, before it is clipped."""

    def use_tokenizer(self, tokenizer: Any) -> None:
        """Receive the tokenizer of the data, before anything is generated."""

    def use_seed(self, seed: int) -> None:
        """Receive the seed of the run, for sampling in prediction and generation."""

    def use_device(self, kind: str) -> bool:
        """Prepare for training on cpu, cuda, ...; return whether whole batches are fastest."""

    def choose_epochs(self, steps: float) -> int:
        """Return the number of epochs of a training without an end, given the steps of an epoch."""


class DataContract(Protocol):
    """The members that plcli uses of a LightningDataModule.

    Attributes:
        task: the task of its rows; None fits any model.
        distributes_rows: whether it distributes the rows over processes itself.
        loaded_tokenizer: its tokenizer, which is passed to the model; None if it has none.
        id_name: the column that predictions have instead of `id`.
        group: the column whose equal values mark rows that belong together; None without one.
    """

    task: str | None
    distributes_rows: bool
    loaded_tokenizer: Any
    id_name: str
    group: str | None

    def offers(self, part: str) -> bool:
        """Whether the data module defines a member itself."""

    def facts(self) -> Mapping[str, Any]:
        """Return plain values, keyed by the names of constructor arguments of the model."""

    def has(self, split: str) -> bool:
        """Whether there is a train, validation, test or predict split."""

    def columns(self, split: str) -> Mapping[str, Any]:
        """Return the columns of a split; those of the predict split are the inputs."""

    def ids(self, split: str, indices: Any) -> Sequence[Any]:
        """Return the ids of rows of a split, given their numbers; by default the numbers."""

    def inputs_of(self, split: str, indices: Any) -> Sequence[Mapping[str, Any]]:
        """Return the input cells of rows of a split by column, given their numbers."""

    def lengths_of(self, split: str, indices: Any) -> Mapping[str, Any]:
        """Return the lengths of rows in tokens: `values`, `truncated` and `limit`; or nothing."""

    def cells_of(
        self, split: str, names: Sequence[str], *, option: str
    ) -> Mapping[str, Sequence[Any]]:
        """Return the cells of any columns of a split's source, for scores of slices."""

    def texts_and_targets(self, split: str) -> tuple[Sequence[str], Any, Any]:
        """Return the text and the target of each row of a split, and the kind of problem."""

    def fingerprints(self) -> Mapping[str, str]:
        """Return a fingerprint of the source of each split that was read."""

    def row_digests(self) -> Mapping[str, str]:
        """Return the sha256 of the rows of each split, as they are trained on."""

    def predict_values(self, texts: Sequence[str], *, source: str) -> None:
        """Use texts or JSON objects from the command line as the rows to predict."""

    def with_rows(self, split: str, values: Sequence[Mapping[str, Any]], *, source: str) -> Any:
        """Return a data module like it with these rows as a split, for predictions in Python."""

    def with_source(self, split: str, source: Any) -> Any:
        """Return a data module like it that reads a split from another source."""

    def further_columns(self, names: Sequence[str] | None, *, truth: bool) -> Any:
        """Return further columns of the rows to predict, all if names is None, and the truth.

        The object's `at(index)` returns two mappings of a row, from ascending indices: the true
        values and the cells to keep.
        """

    def first_batch(self, split: str) -> Any:
        """Return a batch of the first rows of a split, for a check before training."""

    def use_whole_batches(self) -> None:
        """Make no micro-batches by default."""

    def describe(self, split: str) -> str:
        """Return a description of a split, one line for the log."""

    def leaks(self) -> Sequence[str]:
        """Return warnings about rows that are in several splits."""

    def save_pretrained(self, folder: Path) -> None:
        """Write the files of the data that belong to the artefact, such as a tokenizer."""


class _Missing:
    """Sentinel for a member that a class does not have."""


def _plain(kind: type | tuple[type, ...]) -> Callable[[Any], bool]:
    return lambda value: value is None or isinstance(value, kind)


def _method(*arguments: Any, **named: Any) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        try:
            inspect.signature(value).bind(*arguments, **named)
        except (TypeError, ValueError):
            return False
        return True

    return fits


def _is_monitor(value: Any) -> bool:
    pair = isinstance(value, (tuple, list)) and len(value) == 2
    return pair and isinstance(value[0], str) and value[1] in ("min", "max")


def _are_results(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, dict) for each in value.values())


def _are_evaluated(value: Any) -> bool:
    return isinstance(value, dict) and all(
        callable(getattr(each, name, None))
        for each in value.values()
        for name in ("intervals", "baselines", "calibration")
    )


MODULE_FORMS: dict[str, tuple[Callable[[Any], bool], Any]] = {  # check of the form, and default
    "task": (_plain(str), None),
    "monitor": (_is_monitor, None),
    "results": (_are_results, {}),
    "evaluated_rows": (_are_evaluated, {}),
    "wants_decisions": (lambda value: isinstance(value, bool), False),
    "decide": (_method(), dict),
    "adapter_base": (_plain(Mapping), None),
    "parts": (lambda value: callable(getattr(value, "freeze", None)), None),
    "averaged": (_method([], {}, []), None),
    "use_ensemble": (_method([]), lambda modules: None),
    "artefact_facts": (_method(), dict),
    "save_pretrained": (_method(Path()), lambda folder: None),
    "use_gradient_norm": (_method(None), lambda norm: None),
    "use_tokenizer": (_method(None), lambda tokenizer: None),
    "use_seed": (_method(0), lambda seed: None),
    "use_device": (_method("cpu"), lambda kind: False),
    "choose_epochs": (_method(1), None),
}
DATA_FORMS: dict[str, tuple[Callable[[Any], bool], Any]] = {
    "task": (_plain(str), None),
    "distributes_rows": (lambda value: isinstance(value, bool), False),
    "loaded_tokenizer": (lambda value: callable(value) or value is None, None),
    "id_name": (lambda value: isinstance(value, (str, property)), "id"),
    "facts": (_method(), dict),
    "has": (_method("train"), None),  # see `data_contract`
    "columns": (_method("train"), lambda split: {}),
    "ids": (_method("test", []), lambda split, indices: list(indices)),
    "inputs_of": (_method("test", []), lambda split, indices: [{} for _ in indices]),
    "lengths_of": (_method("test", []), lambda split, indices: {}),
    "cells_of": (_method("test", [], option=""), None),
    "group": (_plain(str), None),
    "texts_and_targets": (_method("train"), None),
    "fingerprints": (_method(), dict),
    "row_digests": (_method(), dict),
    "predict_values": (_method([], source=""), lambda texts, source: None),
    "with_rows": (_method("predict", [], source=""), lambda split, values, source: None),
    "with_source": (_method("predict", ""), lambda split, source: None),
    "further_columns": (_method([], truth=True), lambda names, truth: None),
    "first_batch": (_method("train"), lambda split: None),
    "use_whole_batches": (_method(), lambda: None),
    "describe": (_method("train"), lambda split: ""),
    "leaks": (_method(), list),
    "save_pretrained": (_method(Path()), lambda folder: None),
}
_logged: set[tuple[str, str]] = set()


class _Filled:
    """A module or data module with defaults for its missing members."""

    def __init__(
        self, owner: Any, forms: Mapping[str, tuple[Callable[[Any], bool], Any]], **defaults: Any
    ) -> None:
        self._owner, self._forms, self._defaults = owner, forms, defaults

    def _own(self, part: str) -> Any:
        value = getattr(self._owner, part, _Missing)
        is_class = isinstance(self._owner, type)
        bound = partial(value, None) if is_class and inspect.isfunction(value) else value
        if value is _Missing or self._forms[part][0](bound):
            return value
        owner = self._owner if isinstance(self._owner, type) else type(self._owner)
        if (owner.__qualname__, part) not in _logged:
            _logged.add((owner.__qualname__, part))
            logger.info(
                "%s.%s does not have the form that plcli expects, so it is not used",
                owner.__qualname__,
                part,
            )
        return _Missing

    def offers(self, part: str) -> bool:
        return self._own(part) is not _Missing

    def __getattr__(self, part: str) -> Any:
        if part not in self._forms:
            raise AttributeError(part)
        value = self._own(part)
        if value is not _Missing:
            return value
        return self._defaults.get(part, self._forms[part][1])


def module_contract(module: Any) -> ModuleContract:
    """Return the contract of a LightningModule or of its class, with defaults filled in."""
    return cast(ModuleContract, _Filled(module, MODULE_FORMS))


def data_contract(data: Any, module: Any = None) -> DataContract:
    """Return the contract of a LightningDataModule or of its class, with defaults filled in.

    Args:
        data: the data module; None if the module has its own data.
        module: the LightningModule.
    """
    owner = module if data is None else data

    def has(split: str) -> bool:
        from lightning.pytorch.utilities.model_helpers import is_overridden

        return is_overridden(f"{SPLITS[split]}_dataloader", owner)

    return cast(DataContract, _Filled(data, DATA_FORMS, has=has))
