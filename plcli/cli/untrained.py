"""validate, test and predict with pretrained weights as they are, named by --model.pretrained.

Where fit or an artefact would give facts, the model's own config.json gives them: its labels and
the kind of its problem. Without a config file, it also names the task.
"""

import importlib
import logging
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from plcli.cli.arguments import Arguments
from plcli.cli.fragments import entered
from plcli.config import yaml_core
from plcli.config.files import Fragment
from plcli.errors import ModelError, UsageError
from plcli.runs import artefact
from plcli.runs.artefact import Artefact

logger = logging.getLogger(__name__)

AS_IT_IS = "pretrained"  # the value of --ckpt_path that asks for pretrained weights themselves
PROBLEMS = {  # of config.json, which need not name one
    "regression": "regression",
    "multi_label_classification": "multi_label",
    "single_label_classification": "single_label",
}
UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls labels without a name


def named(arguments: Arguments) -> str | None:
    """Return the pretrained weights that the command line names; None if it names none."""
    for key, value in reversed(arguments.overrides):
        if key in ("model.pretrained", "model.init_args.pretrained"):
            found = yaml_core.parse_value(value)
            return None if found is None else str(found)
    return None


def check_name(name: str) -> None:
    """Refuse a run or an artefact, which has more than weights.

    Raises:
        UsageError: if the name is one.
    """
    folder = Path(name).expanduser()
    for each in (folder, folder / "model"):
        if artefact.exists(each):
            raise UsageError(
                f"--model.pretrained {name}: is a model of plcli, with thresholds and columns of "
                f"its own. Name it with --run {name}."
            )
    if folder.exists() or name.count("/") != 1 or ":" in name:
        return
    from plcli.runs import hub  # a fit does not need it

    if hub.has_card(name):
        raise UsageError(
            f"--model.pretrained {name}: is a model of plcli, with thresholds and columns of its "
            f"own. Get it with `hf download {name} --local-dir model`, and name it: --run model."
        )


def sections(name: str) -> Fragment:
    """Return the model and data sections for pretrained weights, from the class of their config.

    Raises:
        ModelError: if config.json names no class of a task.
    """
    from plcli.pretrained import weights

    config = weights.load_config(name)
    written = (config.architectures or ["no class"])[0]
    for model, data in _tasks():
        if written in _networks(model.auto_class, config):
            return entered(
                f"pretrained: {name}",
                {
                    section: {"class_path": f"{cls.__module__}.{cls.__qualname__}"}
                    for section, cls in (("model", model), ("data", data))
                },
            )
    raise ModelError(
        f"pretrained: the config.json of {name} names {written}, which is the model of no task. "
        "Name the task with --config FILE, such as configs/sentence_embedding.yaml for an encoder "
        "of sentences, or train a model with `plcli fit`."
    )


def _tasks() -> Iterator[tuple[Any, Any]]:
    """Yield the model class and the data class of every task of transformers."""
    from plcli import tasks
    from plcli.data.split_data import SplitData
    from plcli.models.transformer_module import TransformerModule

    for found in pkgutil.iter_modules(tasks.__path__):
        module = importlib.import_module(f"plcli.tasks.{found.name}")
        for model in _classes(module, TransformerModule):
            for data in _classes(module, SplitData):
                if getattr(data, "task", None) == model.task:
                    yield model, data


def _classes(module: ModuleType, base: type) -> list[Any]:
    """Return the classes that a module defines itself."""
    return [
        cls
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, base) and cls.__module__ == module.__name__
    ]


def _networks(auto_class: str, config: Any) -> list[str]:
    """Return the names of the networks that an auto class makes of a config."""
    import transformers

    mapping = getattr(transformers, auto_class)._model_mapping
    if auto_class == "AutoModel" or type(config) not in mapping:
        return []
    found = mapping[type(config)]
    return [cls.__name__ for cls in (found if isinstance(found, tuple) else (found,))]


def facts(name: str, *, model: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """Return the facts that the config of pretrained weights gives, and leave out training rows.

    Args:
        name: the name of the weights.
        model: the arguments of the model that may be set.
        data: the arguments of the data section, whose `labels` may name those of the model and
            whose `train` is set to None.

    Raises:
        UsageError: if the labels of the data are not as many as those of the model.
    """
    from plcli.pretrained import weights

    if "train" in data:
        data.train = None
    config = weights.load_config(name)
    found: dict[str, Any] = {}
    own = [config.id2label[index] for index in sorted(config.id2label)]
    if "problem" in model:
        single = "regression" if len(own) == 1 else "single_label"
        found["problem"] = PROBLEMS.get(str(config.problem_type)) or (
            "multi_label" if data.get("problem") == "multi_label" else single
        )
    if found.get("problem") == "regression" and "sigmoid" in model:
        found["sigmoid"] = _has_sigmoid(config)
    if "labels" in model and found.get("problem") != "regression":
        found["labels"] = own
        if all(UNNAMED.fullmatch(label) for label in own):
            found["labels"] = _named_by_user(own, data.get("labels"), name)
    return found


def _has_sigmoid(config: Any) -> bool:
    """Whether a model with one output gives a probability: as in transformers and CrossEncoder."""
    if config.problem_type == "regression":
        return False
    settings = getattr(config, "sentence_transformers", None) or {}
    return not str(settings.get("activation_fn", "")).endswith("Identity")


def _named_by_user(own: list[str], given: list[str] | None, name: str) -> list[str]:
    """Return the names that the user gives to labels that have none."""
    if given is None:
        logger.warning(
            "the labels of %s have no names, only %s and so on. Name them in the model's order "
            "with --data.labels '[NAME, ...]'",
            name,
            own[0],
        )
        return own
    if len(given) != len(own):
        raise UsageError(
            f"data.labels: got {len(given)} labels, but {name} has {len(own)}. Give one for each, "
            "in the model's order."
        )
    return [str(label) for label in given]


def check_weights(
    model: Any, *, pretrained: str | None, found: Artefact | None, tokenizer: Any
) -> None:
    """Check that a model has exactly the weights that are used as they are, for its tokenizer.

    Pretrained weights may have more than a model needs, such as the head of another task, but not
    more layers.

    Args:
        model: the module.
        pretrained: the weights that it was made from; None if they are those of an artefact.
        found: that artefact.
        tokenizer: the tokenizer of the data; None without one.

    Raises:
        ModelError: if the tokenizer has more tokens than the model, if a part of the model would
            have random weights, such as the head of a model for another task, or if weights would
            be left out.
    """
    fresh = sorted(getattr(model, "fresh_names", ()))
    network = getattr(model, "model", None)
    _check_tokens(network, tokenizer, where=pretrained or str(found and found.folder))
    unused = sorted(getattr(network, "unused_names", ()))
    if pretrained is not None:
        unused = [name for name in unused if _is_of_a_layer(name, network)]
        if fresh:
            raise ModelError(
                f"{pretrained}: has no weights for {_first(fresh)}, so that {type(model).__name__} "
                "would predict at random. Train it with `plcli fit`, or name weights that were "
                "trained for this task and these labels."
            )
        if unused:
            raise ModelError(
                f"{pretrained}: has weights for {_first(unused)}, for which its config.json has no "
                "layer. Get the folder from its source again."
            )
    if found is None or found.is_adapter:  # an adapter is checked where it is merged
        return
    if fresh:
        raise ModelError(
            f"{found.folder}: lacks {len(fresh)} of the model's weights, such as {fresh[0]}. Its "
            "weights or its config.json are not those that were saved; get the folder from its "
            "source again."
        )
    if unused:
        raise ModelError(
            f"{found.folder}: has {len(unused)} weights that the model does not have, such as "
            f"{unused[0]}. Its weights or its config.json are not those that were saved; get the "
            "folder from its source again."
        )


def _check_tokens(network: Any, tokenizer: Any, *, where: str) -> None:
    from plcli.pretrained import weights

    known = None if tokenizer is None or network is None else weights.vocabulary(network)
    if known is not None and len(tokenizer) > known:
        raise ModelError(
            f"{where}: its tokenizer has {len(tokenizer)} tokens, but its weights are for {known}. "
            "They do not belong together; get the folder from its source again."
        )


def _first(names: list[str]) -> str:
    return f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}"


def _is_of_a_layer(name: str, network: Any) -> bool:
    """Whether weights belong to a numbered layer of a list that a network has."""
    lists = {path for path, _ in network.named_modules()}
    numbered = re.finditer(r"\.\d+\.", name)
    return any(name[: match.start()] in lists for match in numbered)
