"""Loads and identifies the tokenizers of pretrained models."""

import hashlib
import json
from pathlib import Path
from typing import Any

from plcli.errors import ModelError, UsageError
from plcli.pretrained.location import resolve
from plcli.pretrained.weights import explained

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def load_tokenizer(name: str) -> Any:
    """Load the tokenizer of a pretrained model.

    Raises:
        ModelError, MachineError: if there is none, or the hub cannot be reached.
    """
    from transformers import AutoTokenizer

    folder = resolve(name)
    if Path(folder).is_dir() and not any(
        (Path(folder) / file).exists() for file in TOKENIZER_FILES
    ):
        raise ModelError(
            f"pretrained: the folder {name} contains no tokenizer ({TOKENIZER_FILES[0]}). Add its "
            "files, or name another folder or hub id with data.tokenizer."
        )
    with explained(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"pretrained: the tokenizer of {name} has no padding token "
            "and no token that could be used instead. Set pad_token in its tokenizer_config.json."
        )
    return tokenizer


def of_model(pretrained: str | None, model: str) -> Any:
    """Return the tokenizer of the pretrained weights of a model that decodes tokens to text.

    Args:
        pretrained: the weights; None if there are none.
        model: the name of the model's class, for messages.

    Raises:
        UsageError: if there are none.
    """
    if pretrained is None:
        raise UsageError(
            f"model: {model} decodes tokens to text, but has no tokenizer. Set model.pretrained, "
            "or give the data module a tokenizer as its attribute loaded_tokenizer."
        )
    return load_tokenizer(pretrained)


def tokenizer_key(tokenizer: Any) -> str:
    """Return a key that is equal for tokenizers that encode texts in the same way."""
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content.pop("truncation", None)  # set again by every use
        content.pop("padding", None)
    else:
        content = sorted(tokenizer.get_vocab().items())
    key = [content, tokenizer.truncation_side]
    return hashlib.sha256(repr(key).encode()).hexdigest()
