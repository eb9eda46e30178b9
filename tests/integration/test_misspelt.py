"""Every key of every shipped config, misspelt by one letter, is told with the right name."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT, Command

CONFIGS = ROOT / "configs"
FILES = sorted(CONFIGS.rglob("*.yaml"))
WAYS = ("left out", "twice", "another", "swapped")


def keys(values: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every key in nested values."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield (*path, key)
            yield from keys(value, (*path, key))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from keys(value, (*path, index))


def misspelt(name: str, way: str, chance: random.Random) -> str:
    """Return a name with one letter wrong."""
    at = chance.randrange(len(name) - 1)
    letter = chance.choice("abcdefghijklmnopqrstuvwxyz".replace(name[at], ""))
    return {
        "left out": name[:at] + name[at + 1 :],
        "twice": name[:at] + name[at] + name[at:],
        "another": name[:at] + letter + name[at + 1 :],
        "swapped": name[:at] + name[at + 1] + name[at] + name[at + 2 :],
    }[way]


def renamed(values: Any, path: tuple[Any, ...], name: str) -> Any:
    """Return nested values with one key renamed, in its place."""
    first, *rest = path
    if isinstance(values, list):
        return [
            renamed(value, tuple(rest), name) if index == first else value
            for index, value in enumerate(values)
        ]
    return {
        (name if key == first and not rest else key): renamed(value, tuple(rest), name)
        if key == first and rest
        else value
        for key, value in values.items()
    }


EVERY = 3  # key is tried; all of them take half a minute


def mistakes() -> Iterator[tuple[Path, tuple[Any, ...], str]]:
    """Yield (file, path of a key, its misspelling), every third key in one of four ways in turn."""
    chance = random.Random(0)
    for file in FILES:
        for number, path in enumerate(keys(yaml.safe_load(file.read_text(encoding="utf-8")))):
            name = misspelt(path[-1], WAYS[number % len(WAYS)], chance)
            if name != path[-1] and number % EVERY == 0:
                yield file, path, name


def test_a_misspelt_key_is_told_with_the_right_one(plcli: Command) -> None:
    wrong, tried = [], 0
    for file, path, name in mistakes():
        values = renamed(yaml.safe_load(file.read_text(encoding="utf-8")), path, name)
        for key in ("config", name):  # the base, by a path that holds from here
            if path[-1] == "config" or key == "config":
                values |= {key: str(file.parent / values[key])} if key in values else {}
        Path("misspelt.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
        overlay = file.parent.name == "hardware"
        base = ("-c", CONFIGS / "linear.yaml") if overlay else ()
        result = plcli("fit", *base, "-c", "misspelt.yaml", "--run", "here")
        tried += 1
        if result.code not in (2, 4) or f"Did you mean '{path[-1]}'?" not in result.err:
            wrong.append((file.name, ".".join(map(str, path)), name, result.err))
    assert tried >= 140
    assert len(wrong) <= tried * 0.05, wrong
