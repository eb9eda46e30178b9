"""What plcli asks of the classes that a config names, beside what Lightning asks.

Every part is optional: `module_contract` and `data_contract` give a class's own member where it has
one of the form that is written here, and else the default, so that nobody else has to look. A
member of that name and another form is the user's own business: it is left alone, and a line says
so once.
"""

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

logger = logging.getLogger(__name__)

Mode = Literal["min", "max"]
SPLITS = {"train": "train", "validation": "val", "test": "test", "predict": "predict"}


class ModuleContract(Protocol):
    """What plcli asks of a LightningModule.

    Attributes:
        task: what it is for; a data module of another task is refused. None fits any.
        monitor: the validation metric that chooses the best epoch, and its direction; None takes
            val_loss where it is logged.
        results: the numbers and tables of the last evaluation of `val` and `test`; without them the
            logged metrics are taken.
        adapter_base: what a model that is saved as an adapter stands on; None where it is whole.
        parts: the parts of its network by depth, for gradual unfreezing; None where there are none.
    """

    task: str | None
    monitor: tuple[str, Mode] | None
    results: dict[str, dict[str, Any]]
    adapter_base: Mapping[str, Any] | None
    parts: Any

    def offers(self, part: str) -> bool:
        """Whether the module has a part of its own."""

    def artefact_facts(self) -> Mapping[str, Any]:
        """Return what else the artefact's plcli.json says of the model."""

    def save_pretrained(self, folder: Path) -> None:
        """Write the weights and what others need to load them; else the state is saved."""

    def use_gradient_norm(self, norm: Any) -> None:
        """Take the norm of this step's gradient, a scalar tensor, before it is clipped."""

    def use_tokenizer(self, tokenizer: Any) -> None:
        """Take the data's tokenizer, before anything is generated."""

    def use_seed(self, seed: int) -> None:
        """Take the run's seed, for what is drawn while predicting or generating."""


class DataContract(Protocol):
    """What plcli asks of a LightningDataModule.

    Attributes:
        task: what it has rows for; None fits any model.
        shares_rows_out: whether it shares rows out among processes itself.
        loaded_tokenizer: its tokenizer, which the model is given; None where it has none.
    """

    task: str | None
    shares_rows_out: bool
    loaded_tokenizer: Any

    def offers(self, part: str) -> bool:
        """Whether the data module has a part of its own."""

    def facts(self) -> Mapping[str, Any]:
        """Return plain values by the names of the model's constructor arguments."""

    def has(self, split: str) -> bool:
        """Whether there is a train, validation, test or predict split."""

    def columns(self, split: str) -> Mapping[str, Any]:
        """Return the columns of a split; those to predict are the inputs."""

    def fingerprints(self) -> Mapping[str, str]:
        """Return a fingerprint of the source of each split that was read."""

    def predict_values(self, texts: Sequence[str], *, source: str) -> None:
        """Predict texts that were typed, or JSON objects, instead of a file."""

    def first_batch(self, split: str) -> Any:
        """Return a batch of a split's first rows, to try it."""

    def describe(self, split: str) -> str:
        """Return a line on a split for the log."""

    def leaks(self) -> Sequence[str]:
        """Return warnings about rows that stand in several splits."""

    def save_pretrained(self, folder: Path) -> None:
        """Write what belongs to the artefact, such as a tokenizer."""


class _Missing:
    """Stands for a part that a class does not have."""


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


MODULE_FORMS: dict[str, tuple[Callable[[Any], bool], Any]] = {  # the form, and the default
    "task": (_plain(str), None),
    "monitor": (_is_monitor, None),
    "results": (_are_results, {}),
    "adapter_base": (_plain(Mapping), None),
    "parts": (lambda value: callable(getattr(value, "freeze", None)), None),
    "artefact_facts": (_method(), dict),
    "save_pretrained": (_method(Path()), lambda folder: None),
    "use_gradient_norm": (_method(None), lambda norm: None),
    "use_tokenizer": (_method(None), lambda tokenizer: None),
    "use_seed": (_method(0), lambda seed: None),
}
DATA_FORMS: dict[str, tuple[Callable[[Any], bool], Any]] = {
    "task": (_plain(str), None),
    "shares_rows_out": (lambda value: isinstance(value, bool), False),
    "loaded_tokenizer": (lambda value: callable(value) or value is None, None),
    "facts": (_method(), dict),
    "has": (_method("train"), None),  # see `data_contract`
    "columns": (_method("train"), lambda split: {}),
    "fingerprints": (_method(), dict),
    "predict_values": (_method([], source=""), lambda texts, source: None),
    "first_batch": (_method("train"), lambda split: None),
    "describe": (_method("train"), lambda split: ""),
    "leaks": (_method(), list),
    "save_pretrained": (_method(Path()), lambda folder: None),
}
_told: set[tuple[str, str]] = set()


class _Filled:
    """A module or data module whose missing parts are filled with the defaults."""

    def __init__(
        self, owner: Any, forms: Mapping[str, tuple[Callable[[Any], bool], Any]], **defaults: Any
    ) -> None:
        self._owner, self._forms, self._defaults = owner, forms, defaults

    def _own(self, part: str) -> Any:
        value = getattr(self._owner, part, _Missing)
        if value is _Missing or self._forms[part][0](value):
            return value
        owner = self._owner if isinstance(self._owner, type) else type(self._owner)
        if (owner.__qualname__, part) not in _told:
            _told.add((owner.__qualname__, part))
            logger.info(
                "%s.%s is not of the form that plcli would use, so that it is left alone",
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
    """Return a LightningModule, or a class of one, by what plcli asks of it."""
    return cast(ModuleContract, _Filled(module, MODULE_FORMS))


def data_contract(data: Any, module: Any = None) -> DataContract:
    """Return a LightningDataModule, or a class of one, by what plcli asks of it.

    Args:
        data: the data module; None where the module brings its own data.
        module: the LightningModule.
    """
    owner = module if data is None else data

    def has(split: str) -> bool:
        from lightning.pytorch.utilities.model_helpers import is_overridden

        return is_overridden(f"{SPLITS[split]}_dataloader", owner)

    return cast(DataContract, _Filled(data, DATA_FORMS, has=has))
