"""Bounds on the sizes that a model's settings and its tokenizer's files may name.

A number in a small file can ask for more time and memory than any machine has.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plcli.errors import ModelError

MOST_BYTES = 100_000_000  # of a file of settings
MOST_LAYERS = 1000  # the deepest published models have a few hundred
MOST_LABELS = 250_000
MOST_TOKENS = 200_000  # added to a vocabulary
LONGEST_TOKEN = 10_000  # characters of an added token
LAYERS = re.compile(r"(^|_)n?(um)?_?([a-z]+_)*layers?$|^n_layers?$|^depths?$")
LABELS = ("num_labels", "_num_labels")
ADDED = re.compile(r'"added_tokens"\s*:\s*(?=\[)')


def check(values: Any, where: str) -> None:
    """Check the sizes in the settings of a model.

    Args:
        values: the settings, nested.
        where: the file or key that has them, for messages.

    Raises:
        ModelError: if a number of layers or labels is far beyond any model.
    """
    for key, value in _leaves(values):
        limit = MOST_LABELS if key in LABELS else MOST_LAYERS if LAYERS.search(key) else None
        if limit is not None and value > limit:
            what = "labels" if key in LABELS else "layers"
            raise ModelError(
                f"{where}: {key} is {value:,}, and plcli builds models of at most {limit:,} "
                f"{what}. Choose another size, or another model."
            )
    named = values.get("id2label") if isinstance(values, Mapping) else None
    if isinstance(named, Mapping) and len(named) > MOST_LABELS:
        raise ModelError(
            f"{where}: id2label has {len(named):,} labels, and plcli takes at most "
            f"{MOST_LABELS:,}. Use another model."
        )


def _leaves(values: Any) -> Iterator[tuple[str, int]]:
    if isinstance(values, Mapping):
        for key, value in values.items():
            if isinstance(value, int) and not isinstance(value, bool):
                yield str(key), value
            elif isinstance(value, Mapping):
                yield from _leaves(value)
            elif isinstance(value, list):
                yield from ((str(key), n) for n in value if type(n) is int)


def check_file(path: Path) -> None:
    """Check the size of a file of settings.

    Raises:
        ModelError: if it is too large.
    """
    if path.stat().st_size > MOST_BYTES:
        raise ModelError(
            f"pretrained: {path} has {path.stat().st_size / 1e6:,.0f} MB, and plcli reads at most "
            f"{MOST_BYTES / 1e6:,.0f} MB. Use another model."
        )


def check_tokens(folder: Path) -> None:
    """Check the tokens that the files of a tokenizer add to its vocabulary.

    Raises:
        ModelError: if there are too many, or one is too long.
    """
    for name in ("tokenizer.json", "tokenizer_config.json", "added_tokens.json"):
        path = folder / name
        if not path.is_file():
            continue
        check_file(path)
        tokens = _added(path)
        longest = max(map(len, tokens), default=0)
        if len(tokens) > MOST_TOKENS or longest > LONGEST_TOKEN:
            raise ModelError(
                f"pretrained: {path} adds {len(tokens):,} tokens of up to {longest:,} characters, "
                f"and plcli takes at most {MOST_TOKENS:,} of {LONGEST_TOKEN:,}. Use another model."
            )


def _added(path: Path) -> list[str]:
    """Return the added tokens in a file; the rest of a tokenizer.json is not parsed."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        if path.name == "tokenizer.json":
            found = ADDED.search(text)
            values = json.JSONDecoder().raw_decode(text, found.end())[0] if found else []
            return [str(token.get("content", "")) for token in values if isinstance(token, dict)]
        values = json.loads(text)
    except (ValueError, RecursionError):
        return []  # reported where the file is read
    if path.name == "added_tokens.json":
        return [str(token) for token in values] if isinstance(values, dict) else []
    added = values.get("added_tokens_decoder") if isinstance(values, dict) else None
    extra = values.get("extra_special_tokens") if isinstance(values, dict) else None
    parts = [*(added.values() if isinstance(added, dict) else []), *(extra or [])]
    return [str(each.get("content", "") if isinstance(each, dict) else each) for each in parts]
