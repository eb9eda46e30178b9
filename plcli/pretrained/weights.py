"""Pretrained models and tokenizers: a hub id, a folder, or a folder inside an installed package.

Nothing else is loaded. Loading is plain `from_pretrained`, with safetensors only and no remote
code; what goes wrong is told in one message.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plcli.errors import MachineError, ModelError, PlcliError, did_you_mean, listed
from plcli.pretrained.location import check_settings, resolve

logger = logging.getLogger(__name__)
UNFIT = re.compile(  # what transformers says where a model's kind does not have a task's head
    r"Unrecognized configuration class <class '.*\.(\w+?)Config'> for this kind of AutoModel: (\w+)"
)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn what transformers raises for a missing or broken model into one message."""
    try:
        yield
    except PlcliError:
        raise
    except Exception as error:  # transformers, tokenizers and safetensors raise many kinds
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:240]
        if unfit := UNFIT.search(first):
            raise ModelError(
                f"pretrained: {name} is of the kind {unfit[1]}, which {unfit[2]} does not load. "
                "Name a model of another kind."
            ) from error
        if Path(name).exists():
            if "ignore_mismatched_sizes" in first:
                first = "its weights are not of the sizes that are asked for, as for other labels"
            raise ModelError(
                f"pretrained: {name} cannot be loaded: {first.rstrip('.')}. "
                "Copy the folder again, or name another."
            ) from error
        raise MachineError(
            f"pretrained: '{name}' is not in the local cache and cannot be had from the hub "
            f"({first}). Check the name and the connection, or give a folder."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what transformers says below an error out of the user's sight."""
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
        ModelError: if there is none, it is damaged or names code, or its kind is not known.
    """
    from transformers import AutoConfig

    folder = resolve(name)
    with explained(folder):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)


def load_model(auto_class: Any, name: str, **settings: Any) -> Any:
    """Load a pretrained model, in training mode.

    `from_pretrained` leaves evaluation mode, so dropout would be off.

    Args:
        auto_class: such as `transformers.AutoModelForSequenceClassification`.
        name: a hub id, a folder, or `package:NAME/FOLDER`.
        settings: of the model's config, such as `num_labels`.

    Returns:
        The model; its `fresh_names` are those of the parameters that no weights were there for.

    Raises:
        ModelError, MachineError: if there is no such model, or the hub cannot be reached.
    """
    folder = resolve(name)
    with quiet(), explained(folder):  # no report of the fresh head's missing keys
        if not Path(folder).is_dir():
            from transformers import PretrainedConfig

            settings_of_hub, _ = PretrainedConfig.get_config_dict(folder)
            check_settings(settings_of_hub, f"pretrained: {folder}, config.json")
        model, report = auto_class.from_pretrained(
            folder,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype="float32",  # weights may be stored in half; precision is the trainer's choice
            **settings,
        )
        model.fresh_names = frozenset(report["missing_keys"])
    return model.train()


def tell_of_fresh_weights(model: Any, name: str | None) -> None:
    """Say which parts of a loaded model have random weights, where one expects none."""
    if parts := sorted({key.rpartition(".")[0] for key in getattr(model, "fresh_names", ())}):
        logger.warning(
            "pretrained: %s holds no weights of %s; they begin at random and have to be learnt",
            name,
            listed(parts),
        )


def most_positions(model: Any) -> int | None:
    """Return how many tokens a model can take; None where its config sets no limit.

    Models of RoBERTa's kind number positions from behind the padding id on.
    """
    limit = getattr(model.config, "max_position_embeddings", None)
    for name, module in model.named_modules():
        if (
            name.endswith("position_embeddings")
            and getattr(module, "padding_idx", None) is not None
        ):
            return limit and limit - module.padding_idx - 1
    return limit


def vocabulary(model: Any) -> int | None:
    """Return how many token ids a model has vectors for; None where it has no such table."""
    try:
        table = model.get_input_embeddings()
    except NotImplementedError:  # what transformers raises for models of other inputs
        return None
    return getattr(table, "num_embeddings", None)


def build_model(auto_class: Any, architecture: Mapping[str, Any], **settings: Any) -> Any:
    """Build a model of random weights from a model type and sizes, as its config class names them.

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
            + (f" Did you mean 'model_type'? It holds '{near}'." if near else " Add one.")
        )
    with _explained_sizes(model_type):
        config = AutoConfig.for_model(model_type, **{**sizes, **settings})
        known = type(config)().to_dict()
        if unknown := [size for size in sizes if size not in known]:
            near = did_you_mean(unknown[0], known)
            raise ModelError(f"architecture: {model_type} has no '{unknown[0]}'.{near}")
        return auto_class.from_config(config).train()


@contextmanager
def _explained_sizes(model_type: str) -> Iterator[None]:
    """Turn what transformers raises for sizes that make no model into one message."""
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        near = did_you_mean(model_type, CONFIG_MAPPING.keys())
        raise ModelError(f"architecture: no model_type '{model_type}'.{near}")
    try:
        yield
    except PlcliError:
        raise
    except Exception as error:  # configs and models check their sizes in many ways
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:240]
        if unfit := UNFIT.search(said):
            raise ModelError(
                f"architecture: {model_type} is no kind that {unfit[2]} builds. "
                "Choose another model_type."
            ) from error
        raise ModelError(
            f"architecture: {model_type} cannot be built: {said.rstrip('.')}. Choose other sizes."
        ) from error
