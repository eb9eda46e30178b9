"""Optimizers without a learning rate, which is left to models/rates until the length is known.

NaN stands for such a rate. It is the default of a TransformerModule, which the parser carries over
to any optimizer that a config names without lr. A config may also say `lr: auto`.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from plcli.cli.plan import Plan
from plcli.config.classes import import_class, parameters
from plcli.config.files import load_yaml
from plcli.errors import UsageError

logger = logging.getLogger(__name__)

RULED = {f"torch.optim.{name}" for name in ("Adam", "AdamW", "NAdam", "RAdam")}
AUTO = "auto"
KEY = "model.init_args.optimizer.init_args.lr"
NAN = ".nan"  # for the parser
UNKNOWN = "a learning rate is only chosen for the transformers of plcli. Set it with --lr."
UNRULED = "a learning rate is only chosen for Adam and its kin. Set it with --lr."


def replace_auto(plan: Plan) -> None:
    """Replace `lr: auto` by NaN in the plan, as the parser wants a number."""
    given: list[Any] = []
    for fragment in (*plan.base, *plan.fragments):
        for arguments in _arguments(fragment.values):
            given.append(arguments["lr"])
            if arguments["lr"] == AUTO:
                del arguments["lr"]
    kept = []
    for key, value in plan.arguments.overrides:
        is_rate = key.replace(".init_args.", ".") == "model.optimizer.lr"
        given += [value] if is_rate else []
        if not (is_rate and value == AUTO):
            kept.append((key, value))
    if AUTO in given:
        plan.arguments.overrides = kept
        if given[-1] == AUTO:
            plan.arguments.overrides.append((KEY, NAN))


def _arguments(values: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the arguments of the optimizer in a fragment, if lr is among them."""
    part: Any = values
    for name in ("model", "init_args", "optimizer", "init_args"):
        part = part.get(name) if isinstance(part, Mapping) else None
    if isinstance(part, dict) and "lr" in part:
        yield part


def settle(plan: Plan, model: Any, cls: type | None) -> None:
    """Decide over a rate that the config does not give, in the parsed section of the model.

    That of Adam and its kin is chosen when the length of the training is known; another optimizer
    has its own default. A run that began when there was a default goes on with it.

    Args:
        plan: the plan.
        model: the parsed section, changed in place.
        cls: the model's class.

    Raises:
        UsageError: if the optimizer needs a rate.
    """
    optimizer: Any = (model.get("init_args") or {}).get("optimizer")
    arguments = getattr(optimizer, "init_args", None)
    if arguments is not None and arguments.get("lr") == 0 and plan.arguments.command == "fit":
        raise UsageError(
            "model.optimizer: lr is 0, with which nothing is trained. Set another, or auto."
        )
    if arguments is None or not _is_chosen(arguments.get("lr")):
        return
    asked = (KEY, NAN) in plan.arguments.overrides
    if not _is_plclis(cls):
        raise UsageError(f"model.optimizer: {UNKNOWN}")
    if asked and optimizer.class_path not in RULED:
        raise UsageError(f"model.optimizer: {optimizer.class_path}: {UNRULED}")
    if (before := _saved(plan)) is not None:
        arguments.lr = before
    elif optimizer.class_path not in RULED:
        found = parameters(import_class(optimizer.class_path, "model.optimizer")).get("lr")
        default = None if found is None else found.default
        if not isinstance(default, (int, float)):
            raise UsageError(f"model.optimizer: {optimizer.class_path}: {UNRULED}")
        arguments.lr = float(default)
    elif not _configures(cls):
        from plcli.models.rates import USUAL

        arguments.lr = USUAL
        if plan.arguments.command != "fit":
            return
        logger.info(
            "learning rate %.2g, the usual one, as %s makes its optimizer; --lr sets another",
            USUAL,
            getattr(cls, "__name__", "the model"),
        )


def _is_plclis(cls: type | None) -> bool:
    """Whether a class is a TransformerModule, whose rates are known."""
    from plcli.models.transformer_module import TransformerModule

    return cls is not None and issubclass(cls, TransformerModule)


def _is_chosen(rate: Any) -> bool:
    return isinstance(rate, float) and math.isnan(rate)


def _configures(cls: type | None) -> bool:
    """Whether the optimizer is made by TransformerModule."""
    from plcli.models.transformer_module import TransformerModule

    own = TransformerModule.configure_optimizers
    return getattr(cls, "configure_optimizers", None) is own


def _saved(plan: Plan) -> float | None:
    """Return the rate in the config of the run that is resumed; None if it was chosen."""
    if plan.checkpoint is None or plan.run is None or not plan.run.config.exists():
        return None
    rates = [arguments["lr"] for arguments in _arguments(load_yaml(plan.run.config))]
    return rates[0] if rates and isinstance(rates[0], float) else None


def written(resolved: dict[str, Any]) -> dict[str, Any]:
    """Return a resolved config that says auto where the rate is chosen."""
    for arguments in _arguments(resolved):
        if _is_chosen(arguments["lr"]):
            arguments["lr"] = AUTO
    return resolved
