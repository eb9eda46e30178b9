"""`init_from`: builds a network for a task from the weights of another run.

A new network is built and tensors are copied into it. From a run of the same task all tensors are
copied, and the rows of the head are matched by label name. From a run of another task the encoder
is copied; its tensor names are compared without their prefix, because an embedding model is an
encoder alone, while a classifier contains it as `bert.`.
"""

import copy
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from plcli.errors import ModelError, listed
from plcli.models import lora
from plcli.models.layers import Parts
from plcli.pretrained import weights
from plcli.runs import artefact

logger = logging.getLogger(__name__)


def artefact_folder(name: str) -> Path:
    """Return the model/ folder of a run, given either of the two folders, and verify it.

    Raises:
        ModelError: if the folder is neither of them, or is damaged.
    """
    return opened(name, "init_from", "Name one, or use pretrained for other weights.").folder


def opened(name: str, key: str, remedy: str = "Name one.") -> artefact.Artefact:
    """Return the verified artefact of a run or of its model/ folder.

    Args:
        name: either of the two folders.
        key: the key of the model that names it, for messages.
        remedy: what to do if it is neither, for messages.

    Raises:
        ModelError: if the folder is neither of them, is damaged, or has no transformer.
    """
    folder = Path(name).expanduser()
    if not artefact.exists(folder) and artefact.exists(folder / "model"):
        folder = folder / "model"
    if not artefact.exists(folder):
        raise ModelError(
            f"model.{key}: {name} is neither a finished run nor the model/ folder of one "
            f"({artefact.CARD}). {remedy}"
        )
    found = artefact.load(folder)
    if not found.loads_by_pretrained:
        raise ModelError(f"model.{key}: {folder} does not contain a transformer. Name another run.")
    return found


def continue_from(auto_class: Any, name: str, **settings: Any) -> tuple[Any, frozenset[str]]:
    """Build a network for a task from another run's weights.

    If the other run has the same task, the rows of the head are matched by label name and the
    generation config is kept. Otherwise the head is newly initialized.

    Args:
        auto_class: a class such as `transformers.AutoModelForSequenceClassification`.
        name: the run or model/ folder.
        settings: settings of the network's config, such as `id2label`.

    Returns:
        The network, in training mode, and the names of its newly initialized parameters.

    Raises:
        ModelError: if there is no such run, or none of its encoder's weights fit.
    """
    return _into(_load(artefact_folder(name)), auto_class, "init_from", name, settings)


def with_labels(auto_class: Any, name: str, **settings: Any) -> tuple[Any, frozenset[str]] | None:
    """Load pretrained weights whose head has other labels than the data, or another order of them.

    The rows of the head are matched by label name; from_pretrained alone would keep their places,
    under wrong names.

    Args:
        auto_class: a class such as `transformers.AutoModelForSequenceClassification`.
        name: a hub id, a folder, or `package:NAME/FOLDER`.
        settings: settings of the network's config, such as `id2label`.

    Returns:
        The network and the names of its newly initialized parameters; None if the labels are the
        same, or have no names.
    """
    if "id2label" not in settings:
        return None
    before = _in_order(weights.load_config(name).id2label)
    after = _in_order(settings["id2label"])
    if before == after or all(re.fullmatch(r"LABEL_\d+", label) for label in before):
        return None
    old = lora.load_model(auto_class, name)
    if old.fresh_names and all(key in old.fresh_names for key in _head(old)):
        return None  # the names are those of another task, whose head it does not have
    return _into(old, auto_class, "pretrained", name, settings)


def _head(model: Any) -> list[str]:
    parts = Parts(model, model.fresh_names)
    return [key for key in model.state_dict() if parts.in_head(key)]


def _into(
    old: Any, auto_class: Any, key: str, name: str, settings: Mapping[str, Any]
) -> tuple[Any, frozenset[str]]:
    """Build a network with other settings, and copy the weights of another one into it."""
    config = copy.deepcopy(old.config)
    for setting, value in settings.items():
        setattr(config, setting, value)
    new = auto_class.from_config(config)
    same_task = type(old) is type(new)
    before = old.state_dict() if same_task else _encoder(old, Parts(new).prefix)
    labels: tuple[list[str], list[str]] | None = None
    if same_task and "id2label" in settings:
        labels = _in_order(old.config.id2label), _in_order(settings["id2label"])
    fresh = _copy(before, new, labels)
    if not any(part not in fresh and not Parts(new).in_head(part) for part in new.state_dict()):
        raise ModelError(
            f"model.{key}: {name} contains a {type(old).__name__}. None of its encoder's "
            f"weights fit a {type(new).__name__}, so training would start from random weights. "
            "Name another run, or use pretrained for other weights."
        )
    if same_task and new.can_generate():
        new.generation_config = copy.deepcopy(old.generation_config)
    _log_copied(f"{key} {name}", labels, fresh)
    return new.train(), frozenset(fresh)


def _load(folder: Path) -> Any:
    """Load a run's network as the class it was saved as; if no class is named, the encoder alone.

    Raises:
        ModelError: if it is damaged, or names a class that transformers does not have for its
            model type.
    """
    import transformers

    try:
        config = weights.load_config(str(folder))
        kind = (config.architectures or [""])[0]
        if not kind:
            return lora.load_model(transformers.AutoModel, str(folder))
        if kind not in (known := _classes(type(config))):
            raise ModelError(
                f"{folder / 'config.json'} names the architecture '{kind}', which transformers "
                f"does not have for a {config.model_type}. Copy the folder again, or name another "
                "run."
            )
        return lora.load_model(known[kind], str(folder))
    except ModelError as error:
        message = str(error).removeprefix("pretrained: ")
        raise ModelError(f"model.init_from: {message}") from error


def _classes(config: type) -> dict[str, Any]:
    """Return the network classes that transformers' Auto classes build from a config, by name.

    A class name from a file is looked up only among these, not in everything that transformers
    exports.
    """
    import transformers

    found = {}
    for name in dir(transformers):
        if name.startswith("AutoModel"):
            mapping = getattr(transformers, name)._model_mapping
            models = mapping.get(config, ())
            for model in models if isinstance(models, tuple) else (models,):
                found[model.__name__] = model
    return found


def _encoder(old: Any, prefix: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a network's encoder under the names they have in another network.

    Args:
        old: the network; tensors that were not in its file are left out.
        prefix: the prefix of the encoder's names in the other network.
    """
    own = Parts(old).prefix
    return {
        prefix + key.removeprefix(own): tensor
        for key, tensor in old.state_dict().items()
        if key.startswith(own) and key not in old.fresh_names
    }


def _copy(
    before: Mapping[str, torch.Tensor], new: Any, labels: tuple[list[str], list[str]] | None
) -> set[str]:
    """Copy tensors into a network where they fit, and return the names of those not copied."""
    parts, fresh = Parts(new), set()
    with torch.no_grad():
        for key, tensor in new.state_dict().items():
            was = before.get(key)
            if was is None:
                fresh.add(key)
            elif labels and parts.in_head(key) and _is_by_label(was, tensor, labels):
                if set(labels[0]) & set(labels[1]):
                    _copy_rows(was, tensor, labels)
                else:
                    fresh.add(key)
            elif was.shape == tensor.shape:
                tensor.copy_(was)
            else:
                fresh.add(key)
    return fresh


def _in_order(names: Mapping[Any, str]) -> list[str]:
    return [names[key] for key in sorted(names, key=int)]


def _is_by_label(was: Any, now: Any, labels: tuple[list[str], list[str]]) -> bool:
    """Whether a tensor has a row for each label, in both networks."""
    rows = was.ndim and (len(was), len(now)) == (len(labels[0]), len(labels[1]))
    return bool(rows and was.shape[1:] == now.shape[1:] and labels[0] != labels[1])


def _copy_rows(was: Any, now: Any, labels: tuple[list[str], list[str]]) -> None:
    for row, label in enumerate(labels[1]):
        if label in labels[0]:
            now[row] = was[labels[0].index(label)]


def _log_copied(name: str, labels: tuple[list[str], list[str]] | None, fresh: set[str]) -> None:
    found: list[tuple[str, list[str]]] = []
    if labels is not None:
        found = [
            ("kept labels", [label for label in labels[1] if label in labels[0]]),
            ("new labels", [label for label in labels[1] if label not in labels[0]]),
            ("dropped labels", [label for label in labels[0] if label not in labels[1]]),
        ]
    found.append(("newly initialized", sorted(fresh)))
    details = "; ".join(f"{what}: {listed(names)}" for what, names in found if names)
    logger.info("%s%s", name, f": {details}" if details else "")
