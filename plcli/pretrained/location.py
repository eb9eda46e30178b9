"""Resolves the location of a pretrained model: a hub id, a folder, or a folder in a package.

The settings in a folder are checked before anything is loaded from it, and refused if they could
run code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plcli.errors import DataError, ModelError
from plcli.packages import package_path
from plcli.pretrained import sizes

UNSAFE_KEYS = ("auto_map", "custom_pipelines", "attn_implementation", "experts_implementation")
KNOWN_PRIVATE = (
    *("_name_or_path", "_commit_hash", "_num_labels", "_attn_implementation_autoset"),
    "_from_model_config",  # transformers writes it into generation_config.json of new models
)


def check_settings(values: Any, where: str) -> None:
    """Check that the settings of a model or a tokenizer name no code.

    `auto_map` and `custom_pipelines` name Python files, `attn_implementation` may name a kernel on
    the hub, and keys with a leading underscore set internal state of transformers.

    Raises:
        ModelError: if they do.
    """
    if isinstance(values, list):
        for value in values:
            check_settings(value, where)
    if not isinstance(values, Mapping):
        return
    for key, value in values.items():
        name = str(key)
        if name in UNSAFE_KEYS or (name.startswith("_") and name not in KNOWN_PRIVATE):
            raise ModelError(
                f"{where}: contains the key '{name}', which can make transformers run code from "
                "the model. Remove the key, or use another model."
            )
        check_settings(value, where)


def _check_folder(folder: Path) -> None:
    for file in ("config.json", "tokenizer_config.json", "generation_config.json"):
        path = folder / file
        if not path.is_file():
            continue
        sizes.check_file(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            problem = str(error).splitlines()[0][:120]
            raise ModelError(
                f"pretrained: {path} is damaged ({problem}). Copy the folder again."
            ) from None
        if not isinstance(values, dict):
            raise ModelError(
                f"pretrained: {path} contains a {type(values).__name__}, not an object. "
                "Copy the folder again."
            )
        check_settings(values, f"pretrained: {path}")
        sizes.check(values, f"pretrained: {path}")
    sizes.check_tokens(folder)


def resolve(name: str) -> str:
    """Return the folder for a path or `package:NAME/PATH`; a hub id is returned unchanged.

    Raises:
        ModelError: if a package or a folder does not exist, or the folder contains no model.
    """
    if name.startswith("package:"):
        try:
            name = str(package_path(name))
        except DataError as error:
            raise ModelError(f"pretrained: {error}") from None
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").exists():
            raise ModelError(
                f"pretrained: the folder {name} is not a model; it contains no config.json. "
                "Name a folder that does."
            )
        _check_folder(path)
        return str(path)
    if path.is_file() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"pretrained: no folder {name}. "
            "Give a folder with a config.json, a hub id or package:NAME/FOLDER."
        )
    return name
