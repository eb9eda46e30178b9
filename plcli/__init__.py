"""plcli: train, evaluate, run and share transformers and LightningModules from one YAML file."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plcli.cli.loaded import Model, load
    from plcli.data.split_data import SplitData
    from plcli.data.text_data import TextData
    from plcli.models.transformer_module import TransformerModule

__version__ = "0.1.0"
__all__ = ["Model", "SplitData", "TextData", "TransformerModule", "load"]

_MODULES = {
    "Model": "plcli.cli.loaded",
    "SplitData": "plcli.data.split_data",
    "TextData": "plcli.data.text_data",
    "TransformerModule": "plcli.models.transformer_module",
    "load": "plcli.cli.loaded",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so `plcli --help` loads no model library."""
    if name not in _MODULES:
        raise AttributeError(f"module 'plcli' has no attribute '{name}'")
    return getattr(importlib.import_module(_MODULES[name]), name)
