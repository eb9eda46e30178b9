"""Reads and writes YAML with the core schema of YAML 1.2 and unique keys.

jsonargparse reads YAML 1.1, in which words such as `no` and `12:30` are not text.
"""

import enum
import io
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import yaml

from plcli.errors import UsageError

NOT_DUMPED = "Unable to serialize instance"  # how jsonargparse dumps an object


class Loader(yaml.SafeLoader):
    """SafeLoader with the core schema of YAML 1.2; duplicate keys are an error.

    https://yaml.org/spec/1.2.2/#103-core-schema
    """

    yaml_implicit_resolvers: dict[str, Any] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping; a duplicate key is an error."""
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    None, None, "a key is a list or a mapping, not a name", key_node.start_mark
                )
            if key_node.value in seen:
                raise UsageError(
                    f"{self.name}, line {key_node.start_mark.line + 1}: "
                    f"duplicate key '{key_node.value}'. Keep one of them."
                )
            seen.add(key_node.value)
        self.flatten_mapping(node)
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.construct_object(key_node, deep=True)
            name = key if isinstance(key, str) else str(key_node.value)
            mapping[name] = self.construct_object(value_node, deep=deep)
        return mapping

    def construct_int(self, node: yaml.ScalarNode) -> int:
        """Construct an integer; a leading zero is ignored, as in the core schema."""
        text = str(self.construct_scalar(node))
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        try:
            return int(text, base)
        except ValueError:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{text[:40]}' is not a valid integer", node.start_mark
            ) from None

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """Construct a float."""
        text = (
            str(self.construct_scalar(node)).lower().replace(".inf", "inf").replace(".nan", "nan")
        )
        try:
            return float(text)
        except ValueError:
            raise yaml.constructor.ConstructorError(
                None, None, f"'{text[:40]}' is not a number", node.start_mark
            ) from None


class Dumper(yaml.SafeDumper):
    """SafeDumper that quotes text which Loader would read as another type."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Represent text; rare line breaks are escaped, because YAML reads them as a newline."""
        style = '"' if set(text) & set("\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Dumper.add_representer(str, Dumper.represent_text)
Dumper.add_multi_representer(
    enum.Enum,
    lambda dumper, member: dumper.represent_text(
        member.value if isinstance(member.value, str) and isinstance(member, str) else member.name
    ),
)
Dumper.add_multi_representer(
    pathlib.PurePath, lambda dumper, path: dumper.represent_text(str(path))
)
# the core schema only: dates, sets, binary and other types are read as text or refused
Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "str", "seq", "map")
} | {
    "tag:yaml.org,2002:int": Loader.construct_int,
    "tag:yaml.org,2002:float": Loader.construct_number,
}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    for _class in (Loader, Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
        )


def parse_value(text: str) -> Any:
    """Parse a command-line value like a value of a config file; invalid YAML is read as text."""
    try:
        return yaml.load(text, Loader=Loader)  # a SafeLoader
    except yaml.YAMLError:
        return text


def plain(values: Any) -> Any:
    """Return what `load_yaml` would read of `dump(values)`, without the text in between."""
    node = Dumper(io.StringIO(), sort_keys=False).represent_data(values)
    try:
        return Loader("").construct_document(node)
    except (yaml.YAMLError, AttributeError):  # a date is text only there, and a mark has a line
        return parse_value(dump(values))


def without_objects(values: Any) -> Any:
    """Return values without those that jsonargparse cannot dump, such as a default `Identity()`."""
    if isinstance(values, Mapping):
        return {
            key: without_objects(value)
            for key, value in values.items()
            if not (isinstance(value, str) and value.startswith(NOT_DUMPED))
        }
    return [without_objects(value) for value in values] if isinstance(values, list) else values


def resolvers() -> dict[str, Any]:
    """Return PyYAML's table of patterns for plain scalars that are not text."""
    return Loader.yaml_implicit_resolvers


def dump(values: Mapping[str, Any]) -> str:
    """Write values as YAML; `load_yaml` reads back equal values."""
    return yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True)


def without_none(values: Any) -> Any:
    """Return nested mappings without the keys whose value is None."""
    if isinstance(values, dict):
        return {key: without_none(value) for key, value in values.items() if value is not None}
    return values
