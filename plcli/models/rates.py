"""The learning rate and the number of epochs, where a config gives none.

Small networks, short trainings and many classes need a higher rate than large networks, long
trainings and two classes. The rule is fitted to trainings of a network of 10.7 million parameters
besides its embeddings (docs/fine-tuning.md has the table), and its slope by size to the rates that
are usual for BERT, 2e-5 to 5e-5 (Devlin et al. 2019, appendix A.3).
"""

import logging
import math
from typing import Any

from plcli.models import lora
from plcli.models.layers import EMBEDDING_NAMES

logger = logging.getLogger(__name__)

CHOSEN = math.nan  # as the learning rate of an optimizer: it is chosen here
USUAL = 2e-5  # of BERT, where the length of the training is not known
MIDDLE = 1.2e-4  # at SIZE parameters, STEPS steps and CLASSES classes
SIZE, STEPS, CLASSES = 10_700_000, 500, 2
BY_SIZE, BY_STEPS, BY_CLASSES = -2 / 3, -1 / 4, 1 / 3  # exponents
LOW_RANK, LEAST_LOW_RANK = 5.0, 2e-4  # times the rate of the whole network, and at least this
RANDOM, LEAST_RANDOM = 3.0, 3e-4  # likewise, of a network without pretrained weights
LOWEST, HIGHEST = 1e-5, 1e-3
WANTED_STEPS, FEWEST, MOST = 500, 3, 15  # steps of a training; epochs


def rate(
    *,
    steps: float,
    parameters: int,
    classes: int = CLASSES,
    low_rank: bool = False,
    pretrained: bool = True,
) -> float:
    """Return the learning rate of an Adam, with two significant digits.

    Args:
        steps: number of steps of the training; may be infinite.
        parameters: number of parameters of the network without its embeddings.
        classes: number of classes, labels or tags; 0 without them.
        low_rank: whether low-rank updates are trained instead of the network.
        pretrained: whether training starts from pretrained weights.
    """
    found = MIDDLE * (max(parameters, 1) / SIZE) ** BY_SIZE
    found *= (min(max(steps, 100.0), 10_000.0) / STEPS) ** BY_STEPS
    found *= (max(classes, CLASSES) / CLASSES) ** BY_CLASSES
    if low_rank:
        found = max(found * LOW_RANK, LEAST_LOW_RANK)
    elif not pretrained:
        found = max(found * RANDOM, LEAST_RANDOM)
    return float(f"{min(max(found, LOWEST), HIGHEST):.1e}")


def epochs(*, steps: float) -> int:
    """Return the number of epochs.

    Args:
        steps: number of steps of an epoch; may be infinite.
    """
    if not steps or math.isinf(steps):
        return FEWEST
    return min(max(round(WANTED_STEPS / steps), FEWEST), MOST)


def size(model: Any) -> int:
    """Return the number of parameters of a network without its embeddings."""
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if not any(part in name.lower() for part in EMBEDDING_NAMES)
    )


def is_chosen(make: Any) -> bool:
    """Whether an optimizer of a config has no learning rate of its own.

    Args:
        make: makes the optimizer; its arguments are those of the config.
    """
    given = make.get("init_args") if isinstance(make, dict) else getattr(make, "keywords", None)
    rate = (given or {}).get("lr")
    return isinstance(rate, float) and math.isnan(rate)


def choose(module: Any, *, steps: float) -> float:
    """Choose the learning rate of a module's network, and say so.

    Args:
        module: the TransformerModule.
        steps: number of steps of the training; may be infinite.
    """
    network = size(module.model)
    found = rate(
        steps=steps,
        parameters=network,
        classes=len(module.class_names),
        low_rank=lora.is_adapted(module.model),
        pretrained=module.architecture is None or module.has_loaded_weights,
    )
    module.chosen_rate = found
    if getattr(module.trainer, "ckpt_path", None) is not None:
        return found  # the checkpoint's own is restored
    length = "" if math.isinf(steps) else f" and {int(steps):,} steps"
    logger.info(
        "learning rate %.2g, chosen for %s parameters besides embeddings%s; --lr sets another",
        found,
        f"{network:,}",
        length,
    )
    return found
