"""Reads and writes the additional files of a sentence-transformers model.

A sentence-transformers model is a transformer, a pooling of its token vectors and, optionally,
their normalization. modules.json names these parts. None of the classes it names is imported.
"""

import json
from pathlib import Path
from typing import Any

from plcli.errors import ModelError
from plcli.packages import need

OLD_KEYS = {  # before sentence-transformers 5
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read(name: str) -> tuple[str | None, bool | None]:
    """Return the pooling of a pretrained model and whether it normalizes; None if not specified.

    Args:
        name: a folder, or a hub id.

    Raises:
        ModelError: if it has parts that plcli does not support, or is damaged.
    """
    parts = _json(name, "modules.json")
    if parts is None:
        return None, None
    try:
        kinds = {part["type"].rsplit(".", 1)[-1]: str(part["path"]) for part in parts}
    except (TypeError, KeyError, AttributeError):
        raise ModelError(
            f"pretrained: the modules.json of {name} is damaged. Copy it again."
        ) from None
    if other := sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"}):
        raise ModelError(
            f"pretrained: {name} has a sentence-transformers module '{other[0]}'; plcli supports "
            "Transformer, Pooling and Normalize. Name another model."
        )
    settings: dict[str, Any] = {}
    if "Pooling" in kinds:
        settings = _json(name, f"{Path(kinds['Pooling']).name}/config.json") or {}
    modes = settings.get("pooling_mode") or [m for key, m in OLD_KEYS.items() if settings.get(key)]
    modes = [modes] if isinstance(modes, str) else list(modes) or ["mean"]
    return " and ".join(map(str, modes)), "Normalize" in kinds


def longest(name: str) -> int | None:
    """Return the maximum number of tokens of a pretrained sentence model; None if it sets none."""
    found = (_json(name, "sentence_bert_config.json") or {}).get("max_seq_length")
    return found if isinstance(found, int) else None


def default_prompt(name: str) -> str | None:
    """Return the text that sentence-transformers puts before every text; None if there is none."""
    settings = _json(name, "config_sentence_transformers.json") or {}
    prompts = settings.get("prompts")
    found = prompts.get(settings.get("default_prompt_name")) if isinstance(prompts, dict) else None
    return found if isinstance(found, str) and found else None


def _json(name: str, file: str) -> Any:
    """Return the content of a file of a model, or None if it does not exist."""
    path: Any = Path(name) / file
    if not Path(name).is_dir():
        from transformers.utils import cached_file

        path = cached_file(
            name,
            file,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    if path is None or not Path(path).is_file():
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"pretrained: {path} is damaged ({error}). Copy it again.") from None


def write(folder: Path, *, pooling: Any, normalize: bool, max_length: int | None) -> None:
    """Add the files that `SentenceTransformer(folder)` reads in addition to the transformer.

    Args:
        folder: the folder of the model.
        pooling: the Pooling module of sentence-transformers.
        normalize: whether vectors are normalized to length 1.
        max_length: maximum number of tokens per text.
    """
    (folder / "1_Pooling").mkdir()
    pooling.save(str(folder / "1_Pooling"))
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    parts += [("2_Normalize", "Normalize")] if normalize else []
    modules = [
        {"idx": index, "name": str(index), "path": path}
        | {"type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(parts)
    ]
    version = need("sentence_transformers", extra="embedding", purpose="saving").__version__
    files = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": max_length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "__version__": {"sentence_transformers": version},
            "similarity_fn_name": "cosine",
        },
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
