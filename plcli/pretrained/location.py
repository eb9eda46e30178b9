"""Resolves the location of a pretrained model: a hub id, a folder, or a folder in a package.

The settings in a folder are checked before anything is loaded from it, and refused if they need
code of the model's own.
"""

import json
from pathlib import Path

from plcli.errors import DataError, ModelError
from plcli.packages import not_fetched, package_path
from plcli.pretrained import sizes
from plcli.pretrained.own_code import check_settings


def _check_folder(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        if pointer := not_fetched(path):
            raise ModelError(f"pretrained: {pointer}")
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
                f"pretrained: {path} is damaged ({problem}). Get the file from its source again, "
                "or correct it."
            ) from None
        if not isinstance(values, dict):
            raise ModelError(
                f"pretrained: {path} contains a {type(values).__name__}, not an object. "
                "Get the file from its source again, or name another model."
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
