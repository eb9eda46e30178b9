"""The arguments of a TransformerModule in a checkpoint, for Lightning's `load_from_checkpoint`.

They describe the network by its sizes instead of the pretrained weights that it started from, so
that a checkpoint can be loaded on a machine without these weights.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any

from plcli.config.classes import nested, parameters
from plcli.models.distillation import Teacher

UNUSED = (
    "transformers_version",
    "_name_or_path",
    "architectures",
    "dtype",
    "torch_dtype",
)  # of a config
SOURCES = ("pretrained", "init_from")  # of weights; the checkpoint has the trained ones


def of(module: Any) -> dict[str, Any]:
    """Return the plain arguments of a module, with mappings instead of dataclasses."""
    found = {}
    for field in fields(module):
        value = getattr(module, field.name)
        if not callable(value):
            found[field.name] = asdict(value) if is_dataclass(value) else value  # type: ignore[arg-type]  # no class
    found["teacher"] = None  # which the trained weights do not need
    if module.lora is not None:
        return found  # LoRA is only added to pretrained weights
    found["keep_layers"] = None  # the sizes below are those of the network without the others
    config = module.model.config
    known = type(config)().to_dict().keys() - set(UNUSED)
    sizes = {key: value for key, value in config.to_diff_dict().items() if key in known}
    found["architecture"] = {"model_type": config.model_type, **sizes}
    return {**found, **dict.fromkeys(SOURCES)}


def complete(module: Any) -> None:
    """Convert mappings among the arguments of a module to the dataclasses of their fields.

    A teacher may be given by its run alone.
    """
    if isinstance(module.teacher, str):
        module.teacher = Teacher(run=module.teacher)
    for name, parameter in parameters(type(module)).items():
        value, cls = getattr(module, name), nested(parameter)
        if isinstance(value, Mapping) and cls is not None:
            setattr(module, name, cls(**value))
