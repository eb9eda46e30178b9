"""Short forms of options that every fit has: --lr, --epochs, --batch_size and --seed."""

from plcli.cli.arguments import SHORT_FORMS
from plcli.cli.plan import Plan
from plcli.config.classes import parameters
from plcli.config.marks import class_of
from plcli.errors import UsageError


def expand(plan: Plan) -> None:
    """Replace short forms by the keys that they stand for, in the plan.

    Raises:
        UsageError: if the model has no learning rate that is known.
    """
    plan.arguments.overrides = [
        (_lr(plan) if key == "lr" else SHORT_FORMS.get(key) or key, value)
        for key, value in plan.arguments.overrides
    ]


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
