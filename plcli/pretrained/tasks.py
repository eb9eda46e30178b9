"""The tasks that a model type can do: those for whose Auto class transformers has a class of it."""

from typing import Any

from plcli.errors import ModelError, listed
from plcli.pretrained import weights

NAMES = {  # of tasks, by the Auto class of their models
    "AutoModelForSequenceClassification": "text_classification",
    "AutoModelForTokenClassification": "token_classification",
    "AutoModelForQuestionAnswering": "question_answering",
    "AutoModelForMultipleChoice": "multiple_choice",
    "AutoModelForMaskedLM": "masked_lm",
    "AutoModelForCausalLM": "causal_lm",
    "AutoModelForSeq2SeqLM": "seq2seq",
    "AutoModel": "sentence_embedding",
}
ENCODER = "AutoModelForTextEncoding"  # such as T5EncoderModel
BIDIRECTIONAL = ("xlnet", "bert-generation")  # besides the types with a masked language model


def check(auto_class: str, name: str) -> None:
    """Check that transformers has a class for a task and the type of a pretrained model.

    Args:
        auto_class: a key of NAMES; others are not checked.
        name: a hub id, a folder, or `package:NAME/FOLDER`.

    Raises:
        ModelError, MachineError: if it has none, or the config of the model cannot be loaded.
    """
    if auto_class not in NAMES:
        return
    config = weights.load_config(name)
    if builds(auto_class, config):
        return
    if auto_class == "AutoModelForCausalLM" and _has(auto_class, config):
        raise ModelError(f"pretrained: {name}: {bidirectional(config)}")
    if auto_class == "AutoModel" and _has(auto_class, config):
        raise ModelError(f"pretrained: {name}: {without_encoder(config)}")
    raise ModelError(
        f"pretrained: {name} is a {config.model_type} model, for which transformers has no "
        f"{auto_class}. {remedy(config)}"
    )


def builds(auto_class: str, config: Any) -> bool:
    """Whether the model type of a config has a network for the task of an Auto class."""
    if auto_class == "AutoModel":
        return encoder_class(config) is not None
    if auto_class == "AutoModelForCausalLM" and is_bidirectional(config):
        return False
    return _has(auto_class, config)


def encoder_class(config: Any) -> str | None:
    """Return the Auto class that builds an encoder from a config; None if there is none."""
    with_decoder = getattr(type(config), "is_encoder_decoder", False)  # a saved encoder says False
    auto_class = ENCODER if with_decoder else "AutoModel"
    return auto_class if _has(auto_class, config) else None


def without_encoder(config: Any) -> str:
    """Return why a model gives no embeddings, and what to do."""
    return (
        f"a {config.model_type} has a decoder, and transformers has no class for its encoder "
        f"alone. {remedy(config)}"
    )


def is_bidirectional(config: Any) -> bool:
    """Whether the language model of a config sees the tokens that it would have to predict."""
    if config.is_encoder_decoder or getattr(config, "is_decoder", False):
        return False
    return config.model_type in BIDIRECTIONAL or _has("AutoModelForMaskedLM", config)


def bidirectional(config: Any) -> str:
    """Return why a bidirectional model is no causal language model, and what to do."""
    return (
        f"a {config.model_type} is bidirectional, so it would see the tokens that it has to "
        f"predict. {remedy(config)}"
    )


def remedy(config: Any) -> str:
    """Return which tasks a model type can do, as an advice."""
    possible = [name for auto_class, name in NAMES.items() if builds(auto_class, config)]
    if not possible:
        return "Name a model of another type."
    return (
        f"A {config.model_type} can do: {listed(possible)}. Choose one of these tasks, or a model "
        "of another type."
    )


def _has(auto_class: str, config: Any) -> bool:
    import transformers

    return type(config) in getattr(transformers, auto_class)._model_mapping
