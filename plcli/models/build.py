"""Checks the settings of a TransformerModule and builds its network."""

import math
import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

from plcli.errors import MachineError, ModelError, UsageError, listed
from plcli.models import head_bias, kept_layers, layers, lora
from plcli.models.init_from import continue_from, with_labels
from plcli.pretrained import weights

MOST_LABELS = 250_000
LOSS_OPTIONS = ("class_weights", "focal", "label_smoothing", "huber", "r_drop")
RANGES: dict[str, tuple[str, Callable[[float], bool]]] = {  # the range in words, and its check
    "focal": ("0 or more", lambda value: 0 <= value < math.inf),
    "label_smoothing": ("0 to below 1", lambda value: 0 <= value < 1),
    "huber": ("more than 0", lambda value: 0 < value < math.inf),
    "r_drop": ("0 or more", lambda value: 0 <= value < math.inf),
    "head_lr": ("more than 0", lambda value: 0 < value < math.inf),
    "layer_decay": ("above 0, to 1", lambda value: 0 < value <= 1),
    "warmup": ("0 or more", lambda value: 0 <= value < math.inf),
}


def check(module: Any) -> None:
    """Check the settings of a module before anything is loaded.

    Raises:
        UsageError: if a value is out of range, or contradicts another one.
    """
    if [module.pretrained, module.architecture, module.init_from].count(None) != 2:
        raise UsageError(
            "model: give exactly one of pretrained (weights to start from), init_from (a run to "
            "start from) and architecture (a model_type and sizes)."
        )
    for name in LOSS_OPTIONS:
        if getattr(module, name) not in (None, 0) and name not in module.loss_options:
            supported = sorted(module.loss_options)
            raise UsageError(
                f"model.{name}: the loss of {type(module).__name__} does not support it here"
                f"{f'; it supports {listed(supported)}' if supported else ''}. Remove the key."
            )
    for name, (wanted, is_right) in RANGES.items():
        value = getattr(module, name)
        if value is not None and not is_right(value):
            raise UsageError(f"model.{name}: got {value}, expected {wanted}.")
    if module.plateau is not None and module.schedule != "plateau":
        raise UsageError(
            f"model.plateau: needs schedule: plateau, but schedule is {module.schedule}. "
            "Set model.schedule: plateau, or remove the key."
        )
    if module.keep_layers is not None and module.architecture is not None:
        raise UsageError(
            "model.keep_layers: needs pretrained weights, but architecture starts from random "
            "ones. Set num_hidden_layers in model.architecture instead."
        )
    if module.lora is not None:
        _check_lora(module)


def _check_lora(module: Any) -> None:
    assert module.lora is not None
    if module.architecture is not None:
        raise UsageError(
            "model.lora: needs pretrained weights, but architecture starts from random ones. "
            "Give pretrained instead of architecture."
        )
    if module.freeze is not None:
        raise UsageError(
            "model: lora already freezes everything except the head. Remove model.freeze."
        )
    if module.keep_layers is not None and module.lora.save == "adapter":
        raise UsageError(
            "model.lora.save: an adapter needs the pretrained weights with all their layers, "
            "without model.keep_layers. Set it to merged."
        )
    if module.init_from is not None and module.lora.save == "adapter":
        raise UsageError(
            "model.lora.save: adapter is not supported with init_from. Set it to merged."
        )


def build(module: Any) -> tuple[Any, frozenset[str]]:
    """Load or build a module's network.

    Returns:
        The network, in training mode, and the names of the newly initialized parameters. There are
        none if all weights are random.
    """
    import transformers

    auto_class = getattr(transformers, module.auto_class)
    fresh: frozenset[str] = frozenset()
    if module.init_from is not None:
        model, fresh = continue_from(auto_class, module.init_from, **module.settings())
    elif (
        module.pretrained is not None
        and not (module.lora and module.lora.quantize)
        and (matched := with_labels(auto_class, module.pretrained, **module.settings()))
    ):
        model, fresh = matched
    elif module.pretrained is not None:
        more = lora.prepare_four_bits() if module.lora and module.lora.quantize else {}
        model = lora.load_model(auto_class, module.pretrained, **module.settings(), **more)
        fresh = model.fresh_names
    else:
        known = {"vocab_size": module.vocab_size, "pad_token_id": module.pad_token_id}
        sizes = {key: value for key, value in known.items() if value is not None}
        model = weights.build_model(
            auto_class, module.architecture or {}, **{**sizes, **module.settings()}
        )
    if module.keep_layers is not None:
        model, fresh = kept_layers.cut(model, module.keep_layers, fresh)
    texts = "SequenceClassification" in module.auto_class  # for tags it was not measured
    if texts and module.label_frequencies and module.class_weights is None:
        random = module.init_from is None and module.pretrained is None
        head_bias.start(
            *(model, module.label_frequencies),
            several=module.several_labels,
            fresh=None if random else fresh,
        )
    _set_padding(model, module.pad_token_id)
    if module.r_drop:
        _check_dropout(model)
    if module.lora is not None:
        lora.add(model, module.lora, layers.Parts(model, fresh).trained_whole())
    if module.freeze is not None:
        layers.Parts(model, fresh).freeze(module.freeze)
    if module.gradient_checkpointing:
        _checkpoint_gradients(model)
    if module.compile:
        check_compiler()
        model.compile(dynamic=True)
    return model, fresh


def _set_padding(model: Any, token: int | None) -> None:
    """Set the padding token of a model to that of the data.

    Decoders find the last token of a row by it, so that another one, such as Gemma's default beside
    a tokenizer that pads with its end token, would make them classify the padding. That of an
    encoder-decoder also begins its targets, and is only set if it has none.
    """
    if token is None:
        return
    if model.config.pad_token_id is None or not model.config.is_encoder_decoder:
        model.config.pad_token_id = token


def _checkpoint_gradients(model: Any) -> None:
    if not model.supports_gradient_checkpointing:
        raise UsageError(
            f"model.gradient_checkpointing: transformers does not support it for a "
            f"{model.config.model_type}. Remove the key; a smaller data.batch_size with "
            "trainer.accumulate_grad_batches needs less memory as well."
        )
    new_name = getattr(model, "activation_checkpointing_enable", None)
    (new_name or model.gradient_checkpointing_enable)()


def _check_dropout(model: Any) -> None:
    settings = model.config.to_dict()
    if not any(value for key, value in settings.items() if "drop" in key):
        raise UsageError(
            f"model.r_drop: this {model.config.model_type} has no dropout, so that two passes do "
            "not differ. Remove the key, or use a model with dropout."
        )


def check_sizes(model: Any, *, longest: int | None, vocab_size: int | None) -> None:
    """Check that a network can take the data's tokens.

    Args:
        model: the network.
        longest: the maximum number of tokens in a row.
        vocab_size: the vocabulary size of the tokenizer.

    Raises:
        ModelError: if the network has too few positions or too few token embeddings.
    """
    limit = weights.most_positions(model)
    if limit is not None and longest is not None and longest > limit:
        raise ModelError(
            f"data.max_length: {longest} tokens are more than the model's {limit} positions. "
            f"Set it to {limit} or less."
        )
    known = weights.vocabulary(model)
    if known is not None and vocab_size is not None and vocab_size > known:
        raise ModelError(
            f"data.tokenizer: its {vocab_size} tokens are more than the {known} tokens of the "
            "model. Remove the key to use the model's own tokenizer."
        )


def label_settings(names: Sequence[str]) -> dict[str, Any]:
    """Return the label settings of a model's config, for label names in order.

    Raises:
        UsageError: if there are too many.
    """
    if len(names) > MOST_LABELS:
        raise UsageError(
            f"model.labels: {len(names):,} labels are more than the {MOST_LABELS:,} that plcli "
            "takes. Is data.label a column of numbers or texts? For numbers set data.problem: "
            "regression."
        )
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: index for index, name in enumerate(names)},
    }


def check_compiler() -> None:
    """Check that torch.compile finds a compiler for its kernels' host code.

    Raises:
        MachineError: if it does not.
    """
    names = (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")
    if not any(shutil.which(name) for name in names):
        raise MachineError(
            "model.compile: needs a C++ compiler, but none was found. Install g++, or set "
            "model.compile: false."
        )
