"""Hides secrets where a config or a command line is saved, and finds the hidden values again.

A secret is known by the name of its key (token, password, api_key, authorization, ...), by its form
(the tokens of common services), or by its place in an address: credentials before the host, and
parameters such as `?sig=`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

from plcli.config.yaml_core import parse_value

HIDDEN = "***"  # replaces a secret where a config is saved
NAMES = (
    r"token|passw(or)?d|passphrase|pass|pwd|secret|api_?key|credentials?|auth|authorization|bearer|"
    r"cookie|signature|sig|sas|pat|pin|"
    r"(access|account|auth|aws|azure|client|comet|encryption|gcp|hf|huggingface|license|master|"
    r"neptune|openai|anthropic|private|secret|service|session|shared|signing|ssh|storage|"
    r"subscription|wandb)_key(_id)?"
)
SECRET = re.compile(rf"(^|_)({NAMES})s?$")
JOINED = re.compile(r"(password|passwd|passphrase|apikey|token|secret|accesskey|privatekey)$")
TOKEN = re.compile(  # of Hugging Face, GitHub, OpenAI, AWS, Slack; a JSON Web Token; a header
    r"(hf_|gh[pousr]_|github_pat_|glpat-|sk-|xox[abprs]-)[\w-]{16,}|(AKIA|ASIA)[0-9A-Z]{16}|"
    r"eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]+|(?i:(bearer|basic|token)\s+)(?![a-z]+(?![\w.~+/=-]))"
    r"[\w.~+/=-]{8,}"  # but not `token classification`
)
NOT_SECRET = re.compile(  # special tokens, sizes, and columns of words
    r"^((pad|eos|bos|unk|sep|cls|mask|image|audio|decoder_start|forced_[eb]os)_token(_id)?|"
    r"(max|min|num|number_of)_.*|tokens|pass|.*_pass)$"
)
NUMBERS = re.compile(r"(passw(or)?d|passphrase|pwd|pin|secret|key)s?$")  # may be numbers
SPECIAL_TOKEN = re.compile(r"<[^<>]*>|\[[^\[\]]*\]")  # such as </s> and [SEP]
RANDOM = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[\w.+/=-]{16,}")
GOT = re.compile(
    r"([\w.-]+)(: got |=)('[^']*'|\"[^\"]*\"|[^\s,]+)"
)  # a key and a value in a message
IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")  # user:password of a URL
PARAMETER = re.compile(r"(?<=[?&;])([\w.~%-]+)=([^&#;\s'\"]+)")  # of a URL
HEADER = re.compile(r"(?i)\b((?:proxy-)?authorization|x-api-key|cookie)(\s*[:=]\s*)(\S.*)")


def hide(values: Any) -> Any:
    """Return a config with its secrets hidden: values of keys such as token, passwords in URLs."""
    if isinstance(values, Mapping):
        return {key: _hide_value(str(key), value) for key, value in values.items()}
    if isinstance(values, list):
        return [hide(value) for value in values]
    return hide_text(values) if isinstance(values, str) else values


def _hide_value(key: str, value: Any) -> Any:
    if key == "tokens":  # may be the name of a column, or a number
        return hide(value) if isinstance(value, int) else _hide_random(value)
    if not is_secret(key) or value in (None, "") or isinstance(value, bool):
        return hide(value)
    if key.lower().endswith("tokens"):  # special tokens, or a list of secrets
        return _hide_random(value)
    if isinstance(value, (int, float)) and not NUMBERS.search(key.lower()):
        return value  # a size, such as prompt_token
    if isinstance(value, str) and SPECIAL_TOKEN.fullmatch(value):
        return value
    if isinstance(value, list) and all(isinstance(item, (str, int, float)) for item in value):
        return [HIDDEN] * len(value)
    return HIDDEN if isinstance(value, (str, int, float)) else hide(value)


def _hide_random(value: Any) -> Any:
    """Return a value without texts that look random."""
    if isinstance(value, list):
        return [_hide_random(item) for item in value]
    return HIDDEN if isinstance(value, str) and RANDOM.fullmatch(value) else hide(value)


def hide_message(text: str) -> str:
    """Return a message without what `hide_text` hides, and without values of secret keys."""
    return GOT.sub(lambda m: f"{m[1]}{m[2]}{HIDDEN}" if is_secret(m[1]) else m[0], hide_text(text))


def hide_text(text: str) -> str:
    """Return a text, such as a message, without tokens, headers and secrets of addresses."""
    if "://" in text:
        text = IN_ADDRESS.sub(HIDDEN, text)
        text = PARAMETER.sub(_parameter, text)
    return TOKEN.sub(HIDDEN, HEADER.sub(rf"\1\2{HIDDEN}", text))


def _parameter(found: re.Match[str]) -> str:
    name = unquote(found[1]).rpartition("-")[2]  # X-Amz-Signature
    return f"{found[1]}={HIDDEN}" if is_secret(name) else found[0]


def is_secret(key: str) -> bool:
    """Whether the name of a key suggests that its value is a secret."""
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key.rpartition(".")[2])  # apiKey
    name = name.lower().replace("-", "_").strip("_ ")
    return not NOT_SECRET.search(name) and bool(SECRET.search(name) or JOINED.search(name))


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
        elif "{" in word and isinstance(parsed := parse_value(value or word), (dict, list)):
            shown = json.dumps(hide(parsed))
            word = f"{name}={shown}" if equals and word.startswith("--") else shown
        else:
            word = hide_text(word)
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
    secret = isinstance(values, str) and (
        values == HIDDEN
        or f"://{HIDDEN}@" in values
        or ("://" in values and f"={HIDDEN}" in values)
    )
    return key[1:] if secret else None
