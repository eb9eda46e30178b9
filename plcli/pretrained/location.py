"""Where a pretrained model is: a hub id, a folder, or a folder inside an installed package.

A folder is looked at before anything is loaded from it: what could run code is refused."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plcli.errors import DataError, ModelError
from plcli.packages import package_path

UNSAFE_KEYS = ("auto_map", "custom_pipelines", "attn_implementation", "experts_implementation")
KNOWN_PRIVATE = (
    *("_name_or_path", "_commit_hash", "_num_labels", "_attn_implementation_autoset"),
    "_from_model_config",  # what transformers writes into the generation_config.json of a new model
)


def check_settings(values: Any, where: str) -> None:
    """Check that a model's config.json, or its tokenizer's, names no code.

    `auto_map` and `custom_pipelines` name Python files, `attn_implementation` may name a kernel of
    the hub, and keys that begin with an underscore reach into transformers' own state.

    Raises:
        ModelError: if it does.
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
                f"{where}: holds the key '{name}', which can make transformers run code that comes "
                "with the model. Remove the key, or use another model."
            )
        check_settings(value, where)


def _check_folder(folder: Path) -> None:
    for file in ("config.json", "tokenizer_config.json", "generation_config.json"):
        path = folder / file
        if not path.is_file():
            continue
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            said = str(error).splitlines()[0][:120]
            raise ModelError(
                f"pretrained: {path} is damaged ({said}). Copy the folder again."
            ) from None
        if not isinstance(values, dict):
            raise ModelError(
                f"pretrained: {path} holds a {type(values).__name__}, not an object. "
                "Copy the folder again."
            )
        check_settings(values, f"pretrained: {path}")


def resolve(name: str) -> str:
    """Return the folder that `package:NAME/PATH` or a path means; a hub id stays as it is.

    Raises:
        ModelError: if a package or a folder is not there, or the folder holds no model.
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
                f"pretrained: the folder {name} holds no config.json, so no model. "
                "Name the folder that has one."
            )
        _check_folder(path)
        return str(path)
    if path.is_file() or name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"pretrained: no folder {name}. "
            "Give a folder with a config.json, a hub id or package:NAME/FOLDER."
        )
    return name
