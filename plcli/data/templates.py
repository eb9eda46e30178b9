"""A text with {columns} in braces, such as "{lang}: {source}" -> one text a row.

Braces that are no column are written twice, as Python's `str.format` has it; but a column's name
may hold anything else, such as blanks and dots.
"""

import re
from collections.abc import Iterator, Sequence

from plcli.errors import UsageError

_PART = re.compile(r"(?P<twice>\{\{|\}\})|\{(?P<column>[^{}]*)\}|(?P<lone>[{}])")


def parse(template: str, *, key: str = "data.template") -> list[str]:
    """Return the columns that a template names, each once, in the order of their first place.

    Args:
        template: the text.
        key: of the config, for messages.

    Raises:
        UsageError: if a brace stands alone, a name is empty, or no column is named.
    """
    columns: dict[str, None] = {}
    for part in _PART.finditer(template):
        if part["lone"]:
            raise UsageError(
                f"{key}: {template!r} has a '{part['lone']}' alone, at character "
                f"{part.start() + 1}. Write a column as {{name}}, and a plain brace twice."
            )
        if part["column"] is None:
            continue
        name = part["column"]
        if not name.strip():
            raise UsageError(
                f"{key}: {template!r} has braces without a column, at character "
                f"{part.start() + 1}. Write the column's name into them, or plain braces twice."
            )
        columns[name] = None
    if not columns:
        raise UsageError(
            f"{key}: {template!r} names no column. Write its columns in braces, as in "
            "'{title}: {text}'."
        )
    return list(columns)


def render(template: str, cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the text of each row.

    Args:
        template: one that `parse` has accepted.
        cells: the cells of each column, [columns][rows], in the order that `parse` gives.
    """
    places = {column: index for index, column in enumerate(parse(template))}
    return list(map("".join(_format(template, places)).format, *cells))


def _format(template: str, places: dict[str, int]) -> Iterator[str]:
    """Yield the parts of a format string that names columns by their places, such as {0}."""
    end = 0
    for part in _PART.finditer(template):
        yield template[end : part.start()]
        end = part.end()
        yield part["twice"] or f"{{{places[part['column']]}}}"
    yield template[end:]
