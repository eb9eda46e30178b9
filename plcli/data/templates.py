"""Templates with {columns} in braces, such as "{lang}: {source}", which make one text per row.

A literal brace is doubled, as in `str.format`. Column names may contain any other character, such
as spaces and dots.
"""

import re
from collections.abc import Iterator, Sequence

from plcli.errors import UsageError

_PART = re.compile(r"(?P<doubled>\{\{|\}\})|\{(?P<column>[^{}]*)\}|(?P<lone>[{}])")


def parse(template: str, *, key: str = "data.template") -> list[str]:
    """Return the columns that a template names, without duplicates, in order of appearance.

    Args:
        template: the template.
        key: the config key, for messages.

    Raises:
        UsageError: if a brace is unpaired, a name is empty, or no column is named.
    """
    columns: dict[str, None] = {}
    for part in _PART.finditer(template):
        if part["lone"]:
            raise UsageError(
                f"{key}: {template!r} has an unpaired '{part['lone']}' at character "
                f"{part.start() + 1}. Write a column as {{name}}, and a literal brace twice."
            )
        if part["column"] is None:
            continue
        name = part["column"]
        if not name.strip():
            raise UsageError(
                f"{key}: {template!r} has braces without a column at character "
                f"{part.start() + 1}. Write a column name into them, or literal braces twice."
            )
        columns[name] = None
    if not columns:
        raise UsageError(
            f"{key}: {template!r} names no column. Write columns in braces, as in "
            "'{title}: {text}'."
        )
    return list(columns)


def render(template: str, cells: Sequence[Sequence[str]]) -> list[str]:
    """Return the text of each row.

    Args:
        template: a template that `parse` accepts.
        cells: the cells of each column, [columns][rows], in the order of `parse`.
    """
    places = {column: index for index, column in enumerate(parse(template))}
    return list(map("".join(_format(template, places)).format, *cells))


def _format(template: str, places: dict[str, int]) -> Iterator[str]:
    """Yield the parts of a format string that names columns by index, such as {0}."""
    end = 0
    for part in _PART.finditer(template):
        yield template[end : part.start()]
        end = part.end()
        yield part["doubled"] or f"{{{places[part['column']]}}}"
    yield template[end:]
