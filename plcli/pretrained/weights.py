"""Loads pretrained models from a hub id, a folder, or a folder inside an installed package.

Models are loaded with plain `from_pretrained`, with safetensors only and without remote code. Any
failure is reported in one message.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plcli.errors import MachineError, ModelError, PlcliError, did_you_mean, listed
from plcli.pretrained import file_formats
from plcli.pretrained import sizes as sizes_of_settings
from plcli.pretrained.location import resolve
from plcli.pretrained.own_code import check_settings

logger = logging.getLogger(__name__)
UNFIT = re.compile(  # the message of transformers if a model type has no head for a task
    r"Unrecognized configuration class <class '.*\.(\w+?)Config'> for this kind of AutoModel: (\w+)"
)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn exceptions of transformers for a missing or broken model into one message."""
    try:
        yield
    except PlcliError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise many kinds
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:240]
        if unfit := UNFIT.search(first):
            raise ModelError(
                f"pretrained: {name} is a {unfit[1]} model, which {unfit[2]} does not support. "
                "Name a model of another type."
            ) from error
        if Path(name).exists():
            if "ignore_mismatched_sizes" in first:
                first = "its weights have other sizes than the config, such as for other labels"
            raise ModelError(
                f"pretrained: {name} cannot be loaded: {first.rstrip('.')}. "
                "Copy the folder again, or name another."
            ) from error
        raise MachineError(
            f"pretrained: '{name}' is not in the local cache and cannot be downloaded from the hub "
            f"({first}). Check the name and the connection, or give a folder."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Hide messages of transformers below the level of an error."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)


def load_config(name: str) -> Any:
    """Load the config of a pretrained model in a folder.

    Raises:
        ModelError: if it does not exist, is damaged, names code, or has an unknown model type.
    """
    from transformers import AutoConfig

    folder = resolve(name)
    with explained(folder):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def load_model(auto_class: Any, name: str, **settings: Any) -> Any:
    """Load a pretrained model, in training mode.

    `from_pretrained` returns a model in evaluation mode, in which dropout is off.

    Args:
        auto_class: such as `transformers.AutoModelForSequenceClassification`.
        name: a hub id, a folder, or `package:NAME/FOLDER`.
        settings: overrides of the model's config, such as `num_labels`.

    Returns:
        The model; `fresh_names` contains the names of the parameters without pretrained weights,
        `unused_names` those of pretrained weights that it has no parameter for.

    Raises:
        ModelError, MachineError: if there is no such model, or the hub cannot be reached.
    """
    folder = resolve(name)
    file_formats.check(name, Path(folder))
    with quiet(), explained(folder):  # hides the report of missing keys of a new head
        if not Path(folder).is_dir():
            from transformers import PretrainedConfig

            settings_of_hub, _ = PretrainedConfig.get_config_dict(folder)
            check_settings(settings_of_hub, f"pretrained: {folder}, config.json")
            sizes_of_settings.check(settings_of_hub, f"pretrained: {folder}, config.json")
        model, report = auto_class.from_pretrained(
            folder,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype="float32",  # weights may be stored in half precision; the trainer sets precision
            **settings,
        )
        model.fresh_names = frozenset(report["missing_keys"])
        model.unused_names = frozenset(report["unexpected_keys"])
    return model.train()


def warn_of_random_weights(model: Any, name: str | None) -> None:
    """Warn about parts of a loaded model with random weights, where none are expected."""
    if parts := sorted({key.rpartition(".")[0] for key in getattr(model, "fresh_names", ())}):
        logger.warning(
            "pretrained: %s has no weights for %s; they are initialized randomly and need training",
            name,
            listed(parts),
        )


def most_positions(model: Any, *, decoder: bool = False) -> int | None:
    """Return the maximum number of tokens of a model; None if its config sets no limit.

    RoBERTa and similar models number positions from the padding id + 1.

    Args:
        model: the model.
        decoder: whether the limit of the decoder is meant, where it has one of its own.
    """
    part = "decoder" if decoder else "encoder"
    settings = ("max_position_embeddings", f"max_{part}_position_embeddings")  # LED has the second
    found = [getattr(model.config, setting, None) for setting in settings]
    limit = next((int(number) for number in found if number is not None), None)
    if limit is None or limit < 1:  # -1 stands for no limit in XLNet
        return None
    for name, module in model.named_modules():
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            return limit - int(module.padding_idx) - 1
    return limit


def vocabulary(model: Any) -> int | None:
    """Return the number of token embeddings of a model; None if it has no such table."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:  # raised by transformers for models with other inputs
        return None
    return getattr(table, "num_embeddings", None)


def build_model(auto_class: Any, architecture: Mapping[str, Any], **settings: Any) -> Any:
    """Build a model with random weights from a model type and sizes, named as in its config class.

    Raises:
        ModelError: if the model type or a size is not known.
    """
    from transformers import AutoConfig

    sizes = dict(architecture)
    model_type = sizes.pop("model_type", None)
    if not isinstance(model_type, str):
        near = next((size for size in sizes if did_you_mean(size, ["model_type"])), None)
        raise ModelError(
            "architecture: needs a model_type, such as bert."
            + (f" Did you mean 'model_type'? It has '{near}'." if near else " Add one.")
        )
    sizes_of_settings.check(sizes, "architecture")
    with _explained_sizes(model_type):
        config = AutoConfig.for_model(model_type, **{**sizes, **settings})
        known = type(config)().to_dict()
        if unknown := [size for size in sizes if size not in known]:
            near = did_you_mean(unknown[0], known)
            raise ModelError(
                f"architecture: {model_type} has no '{unknown[0]}'.{near or ' Remove it.'}"
            )
        return auto_class.from_config(config).train()


@contextmanager
def _explained_sizes(model_type: str) -> Iterator[None]:
    """Turn exceptions of transformers for invalid sizes into one message."""
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        near = did_you_mean(model_type, CONFIG_MAPPING.keys())
        raise ModelError(
            f"architecture: transformers has no model_type '{model_type}'."
            f"{near or ' Name another, such as bert or gpt2.'}"
        )
    try:
        yield
    except PlcliError:
        raise
    except Exception as error:  # configs and models check their sizes in many ways
        lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
        first = " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:240]
        if unfit := UNFIT.search(first):
            raise ModelError(
                f"architecture: {model_type} is not a model type that {unfit[2]} supports. "
                "Choose another model_type."
            ) from error
        raise ModelError(
            f"architecture: {model_type} cannot be built: {first.rstrip('.')}. Choose other sizes."
        ) from error
