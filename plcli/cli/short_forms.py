"""Short forms: --lr, --epochs, --batch_size and --seed of every fit, and a teacher's run alone."""

from typing import Any

from plcli.cli.arguments import SHORT_FORMS
from plcli.cli.plan import Plan
from plcli.config import yaml_core
from plcli.config.classes import nested, parameters
from plcli.config.marks import class_of
from plcli.errors import UsageError

TEACHER = ("model.teacher", "model.init_args.teacher")


def expand(plan: Plan) -> None:
    """Replace short forms by the keys that they stand for, in the plan.

    Raises:
        UsageError: if the model has no learning rate that is known.
    """
    plan.arguments.overrides = [
        (_lr(plan) if key == "lr" else SHORT_FORMS.get(key) or key, value)
        for key, value in plan.arguments.overrides
    ]
    _expand_teacher(plan)


def _expand_teacher(plan: Plan) -> None:
    """Write `model.teacher: RUN` as its setting `run`, where another one is given beside it."""
    beside = tuple(f"{key}." for key in TEACHER)
    if not any(key.startswith(beside) for key, _ in plan.arguments.overrides):
        return
    names = parameters(class_of(plan.merged.get("model")) or object)
    if "teacher" not in names or nested(names["teacher"]) is None:  # of a user's own class
        return
    for fragment in (*plan.base, *plan.fragments):
        model: Any = fragment.values.get("model")
        arguments = model.get("init_args") if isinstance(model, dict) else None
        if isinstance(arguments, dict) and isinstance(arguments.get("teacher"), str):
            arguments["teacher"] = {"run": arguments["teacher"]}
    plan.arguments.overrides = [
        (f"{key}.run" if key in TEACHER and _is_text(value) else key, value)
        for key, value in plan.arguments.overrides
    ]


def _is_text(value: str) -> bool:
    return not isinstance(yaml_core.parse_value(value), (dict, type(None)))


def _lr(plan: Plan) -> str:
    """Return the key of the learning rate: of the model, of its optimizer, or of the section."""
    cls = class_of(plan.merged.get("model"))
    names = parameters(cls) if cls is not None else {}
    if plan.has_section("optimizer"):
        return "optimizer.init_args.lr"
    if "lr" in names:
        return "model.init_args.lr"
    if "optimizer" in names:
        return "model.optimizer.lr"
    raise UsageError(
        "--lr: the model has neither an argument lr nor an optimizer. Name the whole key, such as "
        "--model.learning_rate."
    )
