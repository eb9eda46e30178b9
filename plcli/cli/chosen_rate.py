"""Optimizers without a learning rate: its place in the plan is left to the rule of models/rates.

Without this, a config that names AdamW and no lr would train at the default of torch, 1e-3, which
ruins pretrained weights.
"""

from collections.abc import Mapping
from typing import Any

from plcli.cli.plan import Plan
from plcli.config import yaml_core
from plcli.config.classes import import_class, parameters
from plcli.config.marks import class_of
from plcli.errors import UsageError

RULED = {f"torch.optim.{name}" for name in ("Adam", "AdamW", "NAdam", "RAdam")}
AUTO = "auto"
KEY = "model.init_args.optimizer.init_args.lr"


def resolve(plan: Plan) -> None:
    """Give an optimizer that has no lr, or `lr: auto`, the rate that stands for a chosen one."""
    if plan.arguments.command != "fit" or not _chooses(plan):
        return
    path, rate = _given(plan)
    if path is not None and "." not in path:  # a short name, as the parser takes them
        path = f"torch.optim.{path}"
    if rate is None and path is not None and path not in RULED:
        if (own := _own_rate(path)) is not None:  # else the one of the default optimizer is kept
            plan.arguments.overrides.append((KEY, own))
    elif rate in (None, AUTO):
        for fragment in (*plan.base, *plan.fragments):
            _remove_auto(fragment.values)
        plan.arguments.overrides = [
            (key, value)
            for key, value in plan.arguments.overrides
            if not (_name(key) == "lr" and value == AUTO)
        ]
        from plcli.models.rates import CHOSEN

        plan.arguments.overrides.append((KEY, str(CHOSEN)))


def _own_rate(path: str) -> str | None:
    """Return the default rate of an optimizer that the rule does not know; None if it has no lr.

    Raises:
        UsageError: if it has none of its own.
    """
    found = parameters(import_class(path, "model.optimizer")).get("lr")
    if found is None:
        return None
    if found.default is found.empty:
        raise UsageError(
            f"model.optimizer: {path} needs a learning rate; one is only chosen for Adam and "
            "its kin. Set it with --lr."
        )
    return yaml_core.dump(found.default).removesuffix("...\n").strip()


def _chooses(plan: Plan) -> bool:
    """Whether the model is one whose rates plcli knows."""
    from plcli.models.transformer_module import TransformerModule

    cls = class_of(plan.merged.get("model"))
    return cls is not None and issubclass(cls, TransformerModule)


def _given(plan: Plan) -> tuple[str | None, Any]:
    """Return the class of the optimizer and its lr, None without them; the last ones count."""
    path: str | None = None
    rate: Any = None
    section = plan.merged.get("model")
    arguments = section.get("init_args") if isinstance(section, dict) else None
    value = (arguments or {}).get("optimizer")
    if isinstance(value, str):
        path = value
    elif isinstance(value, Mapping):
        path, rate = value.get("class_path"), (value.get("init_args") or {}).get("lr")
    for key, text in plan.arguments.overrides:
        name = _name(key)
        if name == "class_path":
            path = text
        elif name == "lr":
            rate = AUTO if text == AUTO else yaml_core.parse_value(text)
    return path, rate


def _name(key: str) -> str | None:
    """Return which part of the optimizer a key of the command line is; None if it is none."""
    plain = key.replace(".init_args.", ".")
    return {
        "model.optimizer": "class_path",
        "model.optimizer.class_path": "class_path",
        "model.optimizer.lr": "lr",
    }.get(plain)


def _remove_auto(values: dict[str, Any]) -> None:
    section = values.get("model")
    arguments = section.get("init_args") if isinstance(section, dict) else None
    value = (arguments or {}).get("optimizer")
    given = value.get("init_args") if isinstance(value, dict) else None
    if isinstance(given, dict) and given.get("lr") == AUTO:
        del given["lr"]
