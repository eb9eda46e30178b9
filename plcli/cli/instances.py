"""Makes the objects of a config's sections, and tells the user's errors from those of libraries."""

import re
from collections.abc import Callable
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters_context

from plcli.cli import loggers, user_errors
from plcli.config import yaml_core
from plcli.config.classes import parameters, takes_any
from plcli.errors import MachineError, PlcliError, UsageError

MODULES = {"model": LightningModule, "data": LightningDataModule}
INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"  # for `load_from_checkpoint`


def make(section: str, values: Namespace, parser: LightningArgumentParser) -> Any:
    """Make the object, or the arguments, of a section.

    Args:
        section: the section, such as model.
        values: the parsed config, which has it.
        parser: the parser of the config.

    Raises:
        PlcliError: if a constructor raised it.
        UsageError: if a library's constructor refuses a value.
        MachineError: if there is not enough memory.
    """
    part = Namespace(**{section: values[section]})  # type: ignore[no-untyped-call]  # jsonargparse
    instantiators = []
    if section in MODULES:
        hyperparameters = _hyperparameters(section, values, parser)
        instantiators = [(_with(hyperparameters), MODULES[section], True)]
    try:
        return parser.instantiate(part, instantiators=instantiators)[section]
    except Exception as error:  # libraries of loggers raise their own; others are raised again
        if section == "trainer" and loggers.is_of_a_logger(error):
            raise loggers.refused(error) from error
        if not isinstance(error, ValueError):
            raise
        for cause in user_errors.chain_of(error):
            if isinstance(cause, PlcliError):
                raise cause from None
        if "can't allocate memory" in str(error):
            raise MachineError(
                f"{section}: not enough memory on this machine. Choose smaller sizes."
            ) from None
        if said := user_errors.refused_by_a_library(error):
            named = re.findall(r"given class_path '([\w.]+)'", str(error))
            where = f"{named[-1]}: " if named else ""
            raise UsageError(f"{section}: {where}{said}") from error
        raise


def _with(hyperparameters: dict[str, Any]) -> Callable[..., Any]:
    """Return a function that makes a class whose `save_hyperparameters` saves its config.

    As with LightningCLI, the config is saved rather than the objects made from it, so that
    `load_from_checkpoint` can make them again. If a base has arguments that are not in the config,
    its own values are kept; with LightningCLI they are missing. `load_from_checkpoint` drops them,
    but not for a class that takes any argument: that one is to be given its objects.
    """

    def instantiate(cls: type, /, *args: Any, **kwargs: Any) -> Any:  # a class may take a `cls`
        if _names_of_constructors(cls) <= hyperparameters.keys():
            with _given_hyperparameters_context(hyperparameters, INSTANTIATOR):
                return cls(*args, **kwargs)
        made: Any = cls(*args, **kwargs)
        saved = made.hparams.keys() & hyperparameters.keys()
        for name in saved:
            made.hparams[name] = hyperparameters[name]
        if saved and not takes_any(cls):
            made.hparams["_instantiator"] = INSTANTIATOR
        return made

    return instantiate


def _names_of_constructors(cls: type) -> set[str]:
    """Return the arguments of the constructors of a class and of the user's bases."""
    users = [
        base
        for base in cls.__mro__
        if "__init__" in vars(base) and base.__module__.split(".")[0] not in ("lightning", "torch")
    ]
    return {name for base in users if base is not object for name in parameters(base)}


def _hyperparameters(
    section: str, values: Namespace, parser: LightningArgumentParser
) -> dict[str, Any]:
    """Return the config of a section, with the facts that are known."""
    part = Namespace(**{section: values[section]})  # type: ignore[no-untyped-call]  # jsonargparse
    dumped: Any = parser.dump(
        part, format="plain", skip_unset=False, skip_validation=True, skip_link_targets=False
    )
    found = yaml_core.without_objects(dumped[section])
    inside = {**(found.get("init_args") or {}), **(found.get("dict_kwargs") or {})}
    return {"_class_path": found["class_path"], **inside}
