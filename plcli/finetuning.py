"""Where training starts and how deep it reaches: freezing by depth, another run's weights."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from plcli import adapters, artefact
from plcli import pretrained as loading
from plcli.errors import ModelError, UsageError, listed

logger = logging.getLogger(__name__)

Freeze = int | Literal["embeddings", "all"]
EMBEDDING_NAMES = ("embed", "wte", "wpe")


@dataclass(frozen=True)
class Parts:
    """The parts of a network from the bottom up: embeddings, layers, head.

    Attributes:
        model: the network, as transformers builds it.
        fresh: names of parameters that no pretrained weights were there for.
    """

    model: Any
    fresh: frozenset[str] = field(default_factory=frozenset)

    @property
    def _prefix(self) -> str:
        """What the names of the encoder's parameters begin with; empty where it is all there is."""
        name = getattr(self.model, "base_model_prefix", "")
        return f"{name}." if name and hasattr(self.model, name) else ""

    @cached_property
    def layers(self) -> list[str]:
        """The names of the layers from the bottom up; an encoder's, then its decoder's.

        Raises:
            ModelError: if the network has no list of layers.
        """
        stacks: dict[str, int] = {}
        for name, module in self.model.named_modules():
            inside = any(name.startswith(f"{stack}.") for stack in stacks)
            if isinstance(module, torch.nn.ModuleList) and not inside:
                stacks[name] = len(module)
        stacks = {name: size for name, size in stacks.items() if name.startswith(self._prefix)}
        if not any(stacks.values()):
            raise ModelError(
                f"{type(self.model).__name__}: its layers cannot be told apart, so that freeze, "
                "layer_decay and unfreezing do not work for it. Leave them away."
            )
        # beside the layers stand shorter lists, such as a pyramid's poolings
        kinds = {
            name.rpartition(".")[2] for name, size in stacks.items() if size == max(stacks.values())
        }
        return [
            f"{name}.{number}."
            for name, size in stacks.items()
            if name.rpartition(".")[2] in kinds
            for number in range(size)
        ]

    @cached_property
    def _first_layer(self) -> int:
        names = [name for name, _ in self.model.named_parameters()]
        return next(i for i, name in enumerate(names) if name.startswith(tuple(self.layers)))

    @cached_property
    def depths(self) -> dict[str, int]:
        """The depth of every parameter by name.

        0 is of the embeddings, 1 of the lowest layer, and one more than there are layers of the
        head and of all that is fresh.
        """
        number = {layer: depth for depth, layer in enumerate(self.layers, start=1)}
        found = {}
        for index, (name, _) in enumerate(self.model.named_parameters()):
            layer = next((layer for layer in self.layers if name.startswith(layer)), None)
            if self.in_head(name):
                found[name] = len(number) + 1
            elif layer is not None:
                found[name] = number[layer]
            elif index < self._first_layer or any(part in name for part in EMBEDDING_NAMES):
                found[name] = 0
            else:
                found[name] = len(number)  # a norm or a pooling above the layers
        return found

    def in_head(self, name: str) -> bool:
        """Whether a parameter is of the task's head, or fresh."""
        return name in self.fresh or not name.startswith(self._prefix)

    @property
    def names(self) -> list[str]:
        """The names of the parts by depth."""
        return ["embeddings", *(f"layer {n + 1}" for n in range(len(self.layers))), "head"]

    def place(self, name: str) -> str:
        """Return the name of the part that a parameter stands in."""
        return self.names[self.depths[name]]

    def trained_whole(self) -> set[str]:
        """Return the names of the parameters that low-rank updates cannot do for.

        These are the fresh ones and the head's, but for a language model's, which is pretrained.
        """
        output = getattr(self.model, "get_output_embeddings", lambda: None)()
        language = output is not None
        return {
            name
            for name, _ in self.model.named_parameters()
            if name in self.fresh or (not language and self.in_head(name))
        }

    def freeze(self, what: Freeze) -> None:
        """Leave the lowest parts as they are.

        Args:
            what: how many layers, with the embeddings; embeddings; or all but the head.

        Raises:
            UsageError: if there are not so many layers, or nothing would be left to train.
        """
        count = len(self.layers)
        if isinstance(what, int) and not 1 <= what <= count:
            raise UsageError(
                f"model.freeze: got {what}, but {type(self.model).__name__} has {count} layers. "
                f"Give 1 to {count}, embeddings or all."
            )
        highest = {"embeddings": 0, "all": count}.get(str(what), what)
        assert isinstance(highest, int)
        for name, parameter in self.model.named_parameters():
            if self.depths[name] <= highest:
                parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise UsageError(
                f"model.freeze: {what} leaves nothing to train: {type(self.model).__name__} has no "
                "head of its own. Freeze fewer layers."
            )


# another run's weights


def artefact_folder(name: str) -> Path:
    """Return the model/ folder of a run folder, or of a model/ folder itself, and verify it.

    Raises:
        ModelError: if it is neither, or damaged.
    """
    folder = Path(name).expanduser()
    if not artefact.exists(folder) and artefact.exists(folder / "model"):
        folder = folder / "model"
    if not artefact.exists(folder):
        raise ModelError(
            f"model.init_from: {name} is neither a finished run nor its model/ folder "
            f"({artefact.CARD}). Name one, or use pretrained for other weights."
        )
    artefact.load(folder)
    if not (folder / "config.json").exists():
        raise ModelError(f"model.init_from: {folder} holds no transformer.")
    return folder


def continue_from(auto_class: Any, name: str, **settings: Any) -> tuple[Any, frozenset[str]]:
    """Build a network for a task from another run's weights.

    The head's rows follow the names of the labels where the other run was of the same task; else
    the head is fresh.

    Args:
        auto_class: such as `transformers.AutoModelForSequenceClassification`.
        name: the run or model/ folder.
        settings: of the network's config, such as `id2label`.

    Returns:
        The network, in training mode, and the names of its fresh parameters.

    Raises:
        ModelError: if there is no such run, or its network is of another kind.
    """
    import copy

    import transformers

    folder = artefact_folder(name)
    config = transformers.AutoConfig.from_pretrained(folder)
    loading.check_settings(config.to_dict(), str(folder / "config.json"))
    old = adapters.load_model(
        getattr(transformers, config.architectures[0], auto_class), str(folder)
    )
    config = copy.deepcopy(old.config)
    for key, value in settings.items():
        setattr(config, key, value)
    new = auto_class.from_config(config)
    before, fresh = old.state_dict(), set()
    same_task = type(old) is type(new)
    parts = Parts(new)
    labels: tuple[list[str], list[str]] | None = None
    if same_task and "id2label" in settings:
        labels = _in_order(old.config.id2label), _in_order(settings["id2label"])
    with torch.no_grad():
        for key, tensor in new.state_dict().items():
            was = before.get(key)
            if was is None or (parts.in_head(key) and not same_task):
                fresh.add(key)
            elif labels and parts.in_head(key) and _is_by_label(was, tensor, labels):
                _copy_rows(was, tensor, labels)
            elif was.shape == tensor.shape:
                tensor.copy_(was)
            else:
                fresh.add(key)
    _say(name, labels, fresh)
    return new.train(), frozenset(fresh)


def _in_order(names: Mapping[Any, str]) -> list[str]:
    return [names[key] for key in sorted(names, key=int)]


def _is_by_label(was: Any, now: Any, labels: tuple[list[str], list[str]]) -> bool:
    """Whether a tensor has a row for each label, before and now."""
    rows = was.ndim and (len(was), len(now)) == (len(labels[0]), len(labels[1]))
    return bool(rows and was.shape[1:] == now.shape[1:] and labels[0] != labels[1])


def _copy_rows(was: Any, now: Any, labels: tuple[list[str], list[str]]) -> None:
    for row, label in enumerate(labels[1]):
        if label in labels[0]:
            now[row] = was[labels[0].index(label)]


def _say(name: str, labels: tuple[list[str], list[str]] | None, fresh: set[str]) -> None:
    said = ""
    if labels is not None:
        kept = [label for label in labels[1] if label in labels[0]]
        new = [label for label in labels[1] if label not in labels[0]]
        gone = [label for label in labels[0] if label not in labels[1]]
        said = ", ".join(
            f"{what} {listed(some)}"
            for what, some in (("known labels", kept), ("new", new), ("gone", gone))
            if some
        )
    if fresh:
        said += f"{'; ' if said else ''}fresh: {listed(sorted(fresh))}"
    logger.info("init_from %s%s", name, f": {said}" if said else "")
