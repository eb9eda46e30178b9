"""Resolves `${...}` in configs with OmegaConf, where it is switched on.

It is switched on by `parser_mode: omegaconf` in a config, or by `--parser_mode omegaconf`. A
reference such as `${data.init_args.num_classes}` has the value that all config files together give,
and `${oc.env:NAME}` that of an environment variable. Where it is off, `${...}` is plain text, and a
warning says so.

https://omegaconf.readthedocs.io/
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

from plcli.config import yaml_core
from plcli.config.files import Fragment, merge
from plcli.config.keys import BLOCKS, PARSER_MODE
from plcli.errors import UsageError

logger = logging.getLogger(__name__)

MOST_CHARACTERS = 1_000_000  # of all resolved references
USUAL = 100  # characters, for a reference whose length is not known
REFERENCE = re.compile(r"\$\{([\w.]+)\}")
ENVIRONMENT = re.compile(r"oc\.env:\s*(\w+)")
SECRET_WORDS = {"key", "token", "secret", "password", "passwd", "credentials", "auth"}
MODES = ("omegaconf", "omegaconf+", "yaml")


def is_on(fragments: list[Fragment], typed: str | None) -> bool:
    """Return whether interpolation is on.

    Args:
        fragments: the config files.
        typed: the value of --parser_mode; None if it was not given.

    Raises:
        UsageError: for an unknown mode.
    """
    modes = [(f"--{PARSER_MODE}", typed)] if typed is not None else []
    modes += [
        (f"{fragment.source}: {PARSER_MODE}", fragment.values[PARSER_MODE])
        for fragment in reversed(fragments)
        if PARSER_MODE in fragment.values
    ]
    for where, mode in modes:
        if mode not in MODES:
            raise UsageError(f"{where}: got '{mode}', expected omegaconf or yaml.")
    return bool(modes) and str(modes[0][1]).startswith("omegaconf")


def resolve(
    fragments: list[Fragment], overrides: list[tuple[str, str]], *, on: bool, trusted: bool
) -> tuple[list[Fragment], list[tuple[str, str]]]:
    """Return fragments and overrides with every `${...}` replaced by its value.

    Args:
        fragments: the config files, lowest precedence first.
        overrides: (dotted key, value) pairs of the command line, which take precedence.
        on: whether interpolation is on; otherwise nothing is replaced.
        trusted: whether configs may read secrets of the environment.

    Raises:
        UsageError: if a reference cannot be resolved.
    """
    if not on:
        _warn(fragments, overrides)
        return fragments, overrides
    for fragment in [] if trusted else fragments:
        _check_environment(fragment.values, fragment.source)
    whole = merge(
        [fragment.values for fragment in fragments]
        + [_nested(key, yaml_core.parse_value(value)) for key, value in overrides]
    )
    resolved = [
        Fragment(fragment.source, _replaced(fragment.values, whole, fragment.source))
        for fragment in fragments
    ]
    typed = [
        (key, _typed(key, value, whole) if "${" in value else value) for key, value in overrides
    ]
    return resolved, typed


def _nested(key: str, value: Any) -> dict[str, Any]:
    """Return {"a": {"b": value}} for a.b; `model.x` is short for `model.init_args.x`."""
    names = _names(key)
    if len(names) == 1 and names[0] in ("model", "data"):
        names.append("class_path")
    for name in reversed(names):
        value = {name: value}
    return value  # type: ignore[no-any-return]  # a key has at least one name


def _names(key: str) -> list[str]:
    names = key.rstrip("+").split(".")
    inside = ("class_path", "init_args", "dict_kwargs")
    if names[0] in ("model", "data") and len(names) > 1 and names[1] not in inside:
        names.insert(1, "init_args")
    return names


def _typed(key: str, value: str, whole: Mapping[str, Any]) -> str:
    """Return the value of an override with its references replaced."""
    nested = _nested(key, value)
    found: Any = _replaced(nested, whole, f"--{key}")
    while isinstance(nested, Mapping):  # as deep as the key
        name = next(iter(nested))
        nested, found = nested[name], found[name]
    return found if isinstance(found, str) else json.dumps(found)


def _replaced(values: dict[str, Any], whole: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the values with references replaced; other values stay as they are."""
    part = _with_references(values)
    if part is None:
        return values
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    context = _overlaid(whole, part)
    _check_length(context, source)
    try:
        config = OmegaConf.create({**context, **dict.fromkeys(BLOCKS, context)})
        found = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UsageError(
            f"{source}: {error.full_key or '${...}'}: cannot be resolved ({reason}). Correct the "
            f"reference, or set {PARSER_MODE}: yaml to keep it as text."
        ) from None
    replaced: dict[str, Any] = _overlaid(values, _picked(part, found))
    return replaced


def _overlaid(values: Any, part: Any) -> Any:
    """Return values with those of a part in their places; no class drops its arguments here."""
    if isinstance(values, Mapping) and isinstance(part, Mapping):
        inner = {key: _overlaid(values.get(key), value) for key, value in part.items()}
        return {**values, **inner}
    return part


def _check_length(context: Mapping[str, Any], source: str) -> None:
    """Refuse references that multiply: ten texts of ten references each would fill the memory.

    Raises:
        UsageError: if all references together are longer than MOST_CHARACTERS.
    """
    texts = dict(_leaves(context, ""))
    lengths: dict[str, int] = {}

    def length(key: str, seen: tuple[str, ...]) -> int:
        if key in seen or key not in texts:
            return USUAL  # a circle, which OmegaConf refuses; or a mapping, or an unknown form
        if key not in lengths:
            names = REFERENCE.findall(texts[key])
            inside = sum(length(name, (*seen, key)) for name in names)
            lengths[key] = min(len(texts[key]) + inside, MOST_CHARACTERS + 1)
        return lengths[key]

    if sum(length(key, ()) for key in texts) > MOST_CHARACTERS:
        raise UsageError(f"{source}: its references are too long together. Write values instead.")


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, (Mapping, list)):
        pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, inner in pairs:
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))


def _check_environment(value: Any, source: str) -> None:
    """Refuse secrets of the environment in a config, which a stranger may have written.

    Raises:
        UsageError: for the first one.
    """
    for text in _texts(value):
        for name in ENVIRONMENT.findall(text):
            words = set(re.split(r"[^a-z]+", name.lower()))
            if words & SECRET_WORDS:
                raise UsageError(
                    f"{source}: ${{oc.env:{name}}} may be a secret. If you trust this config, add "
                    f"--{PARSER_MODE} omegaconf to the command."
                )


def _with_references(value: Any) -> Any:
    """Return the part of a config that has references; None if it has none."""
    if isinstance(value, Mapping):
        parts = {key: _with_references(inner) for key, inner in value.items()}
        return {key: part for key, part in parts.items() if part is not None} or None
    return value if any("${" in text for text in _texts(value)) else None


def _picked(part: Any, found: Any) -> Any:
    if isinstance(part, Mapping):
        return {key: _picked(inner, found[key]) for key, inner in part.items()}
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _warn(fragments: list[Fragment], overrides: list[tuple[str, str]]) -> None:
    for source, value in [
        *((fragment.source, fragment.values) for fragment in fragments),
        *((f"--{key}", value) for key, value in overrides),
    ]:
        text = next((text for text in _texts(value) if "${" in text), None)
        if text is not None:
            logger.warning(
                "warning: %s: '%.60s' is kept as text; add `%s: omegaconf` to resolve it",
                source,
                text,
                PARSER_MODE,
            )
            return
