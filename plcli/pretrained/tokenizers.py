"""Tokenizers of pretrained models: loaded, and told apart."""

import hashlib
import json
from pathlib import Path
from typing import Any

from plcli.errors import ModelError
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
            f"pretrained: the folder {name} holds no tokenizer ({TOKENIZER_FILES[0]})."
        )
    with explained(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token_id is None:
        raise ModelError(
            f"pretrained: the tokenizer of {name} has no padding token "
            "and none that could serve as one. Set pad_token in its tokenizer_config.json."
        )
    return tokenizer


def tokenizer_key(tokenizer: Any) -> str:
    """Return a string that is equal for tokenizers that encode alike."""
    if tokenizer.is_fast:
        content = json.loads(tokenizer.backend_tokenizer.to_str())
        content.pop("truncation", None)  # set anew by every use
        content.pop("padding", None)
    else:
        content = sorted(tokenizer.get_vocab().items())
    key = [content, tokenizer.truncation_side]
    return hashlib.sha256(repr(key).encode()).hexdigest()
