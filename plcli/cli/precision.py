"""trainer.precision: auto, which takes bf16-mixed where this machine computes it clearly faster."""

import logging
from typing import Any

from plcli.cli import processes
from plcli.cli.plan import Plan
from plcli.config import yaml_core
from plcli.config.files import Fragment, load_yaml
from plcli.errors import UsageError
from plcli.training import hardware

logger = logging.getLogger(__name__)

CLEARLY = 0.67  # of the time in fp32
DEFAULTS = (None, "32-true", "32", 32)
ADVISED_AGAINST = "bf16-true"  # for training


def resolve(plan: Plan) -> None:
    """Replace `auto` in the plan, and say where it would choose another precision.

    A run that is resumed keeps its precision.

    Raises:
        UsageError: if a fit would train in bf16-true, and this is not confirmed.
    """
    fitting = plan.arguments.command == "fit"
    given = _given(plan)
    if given == "auto":
        if processes.is_one_of_several():
            raise UsageError(
                "trainer.precision: auto is measured by one process, but a launcher has started "
                "several. Name a precision, such as bf16-mixed or 32-true."
            )
        _replace(plan, _saved(plan) or _chosen(plan))
    elif given == ADVISED_AGAINST and fitting:
        if plan.arguments.options.get("confirm") != ADVISED_AGAINST:
            raise UsageError(
                f"trainer.precision: {ADVISED_AGAINST} keeps the weights themselves in 16 bits, so "
                "that small updates are lost: it cost 3 points of accuracy where it was measured. "
                f"Use bf16-mixed, or confirm it with --confirm {ADVISED_AGAINST}."
            )
    elif given in DEFAULTS and fitting and plan.checkpoint is None and not _on_gpu(plan):
        ratio = hardware.time_of_bf16()
        if ratio < CLEARLY:
            logger.info(
                "this machine multiplies matrices %.1f times as fast in bf16; "
                "--trainer.precision auto uses it",
                1 / ratio,
            )


def _replace(plan: Plan, chosen: str) -> None:
    """Put a precision in the place of every `auto`, which the parser does not know."""
    for fragment in (*plan.base, *plan.fragments):
        trainer = fragment.values.get("trainer")
        if isinstance(trainer, dict) and trainer.get("precision") == "auto":
            trainer["precision"] = chosen
    plan.arguments.overrides = [
        (key, chosen if key == "trainer.precision" and value == "auto" else value)
        for key, value in plan.arguments.overrides
    ]


def _given(plan: Plan) -> Any:
    layers: list[Any] = [_of(fragment, "precision") for fragment in (*plan.base, *plan.fragments)]
    layers += [
        yaml_core.parse_value(value)
        for key, value in plan.arguments.overrides
        if key == "trainer.precision"
    ]
    return next((value for value in reversed(layers) if value is not None), None)


def _of(fragment: Fragment, key: str) -> Any:
    """Return a key of the trainer in a fragment, whose section is not checked yet."""
    trainer = fragment.values.get("trainer")
    return trainer.get(key) if isinstance(trainer, dict) else None


def _saved(plan: Plan) -> str | None:
    """Return the precision of the run that is resumed; None if there is none."""
    if plan.run is None or not plan.run.config.exists():
        return None
    found = (load_yaml(plan.run.config).get("trainer") or {}).get("precision")
    return None if found is None else str(found)


def _chosen(plan: Plan) -> str:
    if _on_gpu(plan):
        chosen = "bf16-mixed" if hardware.gpu_has_bf16() else "32-true"
        logger.info("trainer.precision: auto is %s on this GPU", chosen)
        return chosen
    ratio = hardware.time_of_bf16()
    chosen = "bf16-mixed" if ratio < CLEARLY else "32-true"
    logger.info(
        "trainer.precision: auto is %s, as a matrix product in bf16 takes %.2f times the time of "
        "one in fp32 on this CPU",
        chosen,
        ratio,
    )
    return chosen


def _on_gpu(plan: Plan) -> bool:
    wanted = [_of(fragment, "accelerator") for fragment in plan.fragments]
    wanted += [value for key, value in plan.arguments.overrides if key == "trainer.accelerator"]
    last = next((value for value in reversed(wanted) if value is not None), "auto")
    return last != "cpu" and hardware.has_gpu()
