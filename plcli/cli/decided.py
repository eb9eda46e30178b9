"""After a fit: a temperature and thresholds, chosen on the validation rows by the best weights."""

import logging
from typing import Any

from plcli.cli import scored
from plcli.config.contracts import data_contract, module_contract
from plcli.errors import UsageError

logger = logging.getLogger(__name__)

FACTS = ("temperature", "thresholds")  # of what was chosen; the model has arguments of these names


def check(model: Any, datamodule: Any) -> None:
    """Check, before training, that there are validation rows to choose on.

    Raises:
        UsageError: if there are none.
    """
    if not module_contract(model).wants_decisions:
        return
    if not data_contract(datamodule, model).has("validation"):
        raise UsageError(
            "model.goal, model.calibrate: a temperature and thresholds are chosen on validation "
            "rows, but there are none. Give data.validation, or a data.validation_fraction above 0."
        )


def decide(trainer: Any, model: Any, datamodule: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Choose them, and return what was chosen and the results of the validation with it.

    Both are empty if nothing was to be chosen. The test split is never looked at.
    """
    if not module_contract(model).wants_decisions:
        return {}, {}
    trainer.validate(model, datamodule=datamodule, verbose=False)
    chosen = dict(module_contract(model).decide())
    trainer.validate(model, datamodule=datamodule, verbose=False)
    for name in FACTS:
        if name in chosen:
            value = chosen[name]
            told = (
                f"{value:.4g}"
                if isinstance(value, float)
                else ", ".join(f"{key} {each:.4g}" for key, each in value.items())
            )
            logger.info("%s, chosen on the validation rows: %s", name, told)
    return chosen, scored.found(trainer, model, datamodule, "validation", baseline=None)
