"""Hides secrets where a config or a command line is saved, and finds the hidden values again.

A secret is known by the name of its key (token, password, api_key, ...), by its form (the tokens of
common services), or as the credentials in an address.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from plcli.config.yaml_core import parse_value

HIDDEN = "***"  # replaces a secret where a config is saved
SECRET = re.compile(
    r"(^|_)(token|password|passwd|passphrase|secret|api_?key|credentials?|"
    r"(access|account|auth|aws|azure|client|comet|encryption|gcp|hf|huggingface|license|master|"
    r"neptune|openai|anthropic|private|secret|service|session|shared|signing|ssh|storage|"
    r"subscription|wandb)_key)$"
)
TOKEN = re.compile(  # of Hugging Face, GitHub, OpenAI, AWS, Slack; a JSON Web Token
    r"(hf_|gh[pousr]_|sk-|xox[abprs]-)[\w-]{16,}|AKIA[0-9A-Z]{16}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+"
)
SPECIAL = re.compile(r"^(pad|eos|bos|unk|sep|cls|mask)_token$")  # special tokens, not secrets
IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")  # user:password of a URL


def hide(values: Any) -> Any:
    """Return a config with its secrets hidden: values of keys such as token, passwords in URLs."""
    if isinstance(values, Mapping):
        return {
            key: HIDDEN if isinstance(value, str) and value and is_secret(str(key)) else hide(value)
            for key, value in values.items()
        }
    if isinstance(values, list):
        return [hide(value) for value in values]
    return _hide_text(values) if isinstance(values, str) else values


def _hide_text(text: str) -> str:
    return HIDDEN if TOKEN.fullmatch(text) else IN_ADDRESS.sub(HIDDEN, text)


def is_secret(key: str) -> bool:
    """Whether the name of a key suggests that its value is a secret."""
    name = key.rpartition(".")[2].lower()
    return bool(SECRET.search(name)) and not SPECIAL.search(name)


def hide_words(words: Sequence[str]) -> list[str]:
    """Return a command line with its secrets hidden."""
    hidden: list[str] = []
    secret = False
    for word in words:
        name, equals, value = word.partition("=")
        if secret:
            word = HIDDEN
        elif name.startswith("--") and equals and is_secret(name[2:]):
            word = f"{name}={HIDDEN}"
        elif "{" in word and isinstance(parsed := parse_value(value or word), dict):
            shown = json.dumps(hide(parsed))
            word = f"{name}={shown}" if equals and word.startswith("--") else shown
        else:
            word = f"{name}={HIDDEN}" if TOKEN.fullmatch(value) else _hide_text(word)
        secret = word.startswith("--") and "=" not in word and is_secret(word[2:])
        hidden.append(word)
    return hidden


def hidden_key(values: Any, key: str = "") -> str | None:
    """Return the dotted key of the first value that was hidden when the config was saved."""
    if isinstance(values, Mapping):
        found = (hidden_key(value, f"{key}.{name}") for name, value in values.items())
        return next((each for each in found if each), None)
    if isinstance(values, list):
        return next((each for value in values if (each := hidden_key(value, key))), None)
    secret = isinstance(values, str) and (values == HIDDEN or f"://{HIDDEN}@" in values)
    return key[1:] if secret else None
