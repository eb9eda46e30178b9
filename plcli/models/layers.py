"""The parts of a network by depth, and freezing the lowest of them."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import torch

from plcli.errors import ModelError, UsageError

Freeze = int | Literal["embeddings", "all"]
EMBEDDING_NAMES = ("embed", "wte", "wpe")


@dataclass(frozen=True)
class Parts:
    """The parts of a network from the bottom up: embeddings, layers, head.

    Attributes:
        model: the network, as transformers builds it.
        fresh: names of newly initialized parameters, which have no pretrained weights.
    """

    model: Any
    fresh: frozenset[str] = field(default_factory=frozenset)

    @property
    def prefix(self) -> str:
        """The prefix of the encoder's parameter names; empty if the network is only an encoder."""
        name = getattr(self.model, "base_model_prefix", "")
        return f"{name}." if name and hasattr(self.model, name) else ""

    @cached_property
    def layers(self) -> list[str]:
        """The names of the layers from the bottom up; those of an encoder before its decoder's.

        Raises:
            ModelError: if the network has no list of layers.
        """
        stacks: dict[str, int] = {}
        for name, module in self.model.named_modules():
            inside = any(name.startswith(f"{stack}.") for stack in stacks)
            if isinstance(module, torch.nn.ModuleList) and not inside:
                stacks[name] = len(module)
        stacks = {name: size for name, size in stacks.items() if name.startswith(self.prefix)}
        if not any(stacks.values()):
            raise ModelError(
                f"{type(self.model).__name__}: has no list of layers, so freeze, layer_decay and "
                "unfreezing do not work with it. Remove these keys."
            )
        # besides the layers there are shorter lists, such as the poolings of a pyramid
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

        The embeddings have depth 0 and the lowest layer has depth 1. The head and all newly
        initialized parameters have the number of layers plus 1.
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
        """Whether a parameter belongs to the task's head or is newly initialized."""
        return name in self.fresh or not name.startswith(self.prefix)

    @property
    def names(self) -> list[str]:
        """The names of the parts by depth."""
        return ["embeddings", *(f"layer {n + 1}" for n in range(len(self.layers))), "head"]

    def place(self, name: str) -> str:
        """Return the name of the part that a parameter belongs to."""
        return self.names[self.depths[name]]

    def trained_whole(self) -> set[str]:
        """Return the names of the parameters that LoRA has to train in full.

        These are the newly initialized ones and those of the head. The head of a language model is
        pretrained and not among them.
        """
        output = getattr(self.model, "get_output_embeddings", lambda: None)()
        language = output is not None
        return {
            name
            for name, _ in self.model.named_parameters()
            if name in self.fresh or (not language and self.in_head(name))
        }

    def freeze(self, what: Freeze) -> None:
        """Freeze the lowest parts.

        Args:
            what: the number of layers to freeze together with the embeddings; or `embeddings`; or
                `all` for everything except the head.

        Raises:
            UsageError: if there are fewer layers, or nothing would be left to train.
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
