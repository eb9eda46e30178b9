"""Settings of a model or a tokenizer that name code, and which of them do no harm.

`auto_map` and `custom_pipelines` name Python files, `attn_implementation` may name a kernel on the
hub, and keys with a leading underscore set internal state of transformers. No such code is run. A
model that also ships the code of a class that transformers has itself is loaded with transformers'
own class.
"""

import functools
import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plcli.errors import ModelError, listed

logger = logging.getLogger(__name__)

UNSAFE_KEYS = ("auto_map", "custom_pipelines", "attn_implementation", "experts_implementation")
KNOWN_PRIVATE = (
    *("_name_or_path", "_commit_hash", "_num_labels", "_attn_implementation_autoset"),
    "_from_model_config",  # transformers writes it into generation_config.json of new models
)


def check_settings(values: Any, where: str) -> None:
    """Check that the settings of a model or a tokenizer need no code.

    Args:
        values: the content of a file of settings.
        where: the file, for messages.

    Raises:
        ModelError: if they do.
    """
    if isinstance(values, Mapping) and "auto_map" in values:
        _check_auto_map(values, where)
        values = {key: value for key, value in values.items() if key != "auto_map"}
    _check_keys(values, where)


def _check_keys(values: Any, where: str) -> None:
    if isinstance(values, list):
        for value in values:
            _check_keys(value, where)
    if not isinstance(values, Mapping):
        return
    known = (*KNOWN_PRIVATE, *_private_settings(values.get("model_type")))
    for key, value in values.items():
        name = str(key)
        if name in UNSAFE_KEYS or (name.startswith("_") and name not in known):
            raise ModelError(
                f"{where}: contains the key '{name}', which can make transformers run code from "
                "the model. Remove the key, or use another model."
            )
        _check_keys(value, where)


def _private_settings(model_type: Any) -> list[str]:
    """Return the settings of a model type whose names begin with an underscore.

    Such as `_remove_final_layer_norm` of OPT, which its config class names as an argument.
    """
    from transformers import CONFIG_MAPPING

    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return []
    names = inspect.signature(CONFIG_MAPPING[model_type].__init__).parameters
    return [name for name in names if name.startswith("_") and "implementation" not in name]


def _check_auto_map(values: Mapping[str, Any], where: str) -> None:
    """Check that transformers itself has every class that an auto_map names."""
    given = values["auto_map"]
    named = _class_names(list(given.values()) if isinstance(given, Mapping) else given)
    used = [values.get(key) for key in ("architectures", "tokenizer_class")]
    foreign = [
        name
        for name in [*named, *_class_names(used)]
        if not _is_own(name, values.get("model_type"))
    ]
    if foreign or not named:
        raise ModelError(
            f"{where}: contains the key 'auto_map', with which transformers would run code from "
            f"the model: it does not have {listed(foreign) or 'what the key names'} itself. "
            "Use another model."
        )
    _tell(str(Path(where.removeprefix("pretrained: ")).absolute()), where, listed(named))


def _class_names(value: Any) -> list[str]:
    """Return the names of classes, each once, from paths such as "code.Model" and lists of them."""
    if isinstance(value, list):
        return list(dict.fromkeys(name for part in value for name in _class_names(part)))
    return [] if value is None else [str(value).rpartition(".")[2]]


def _is_own(name: str, model_type: Any) -> bool:
    """Whether a class is one of transformers, and fits a model type if there is one."""
    import transformers
    from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

    if name.endswith(("Tokenizer", "TokenizerFast")):
        return tokenizer_class_from_name(name) is not None
    if model_type not in transformers.CONFIG_MAPPING or not name.isidentifier():
        return False
    config = transformers.CONFIG_MAPPING[model_type]
    if name == config.__name__:
        return True
    found: Any = getattr(transformers, name, None)
    is_model = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    return bool(is_model and found.config_class is config)


@functools.cache  # a folder is checked each time that something is loaded from it
def _tell(path: str, where: str, names: str) -> None:
    logger.warning(
        "%s: brings its own code for %s (auto_map); it is not run: the classes of transformers are "
        "used",
        where,
        names,
    )
