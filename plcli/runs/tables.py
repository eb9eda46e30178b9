"""Tables and names for a terminal or a chart that has little room, without losing a difference."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from plcli.errors import printable

MARK = "…"
ON_ONE_LINE = 20  # characters of a name in the first column


def table(*columns: str, numbers: bool = False) -> Table:
    """Return a table whose cells are continued on the next line where they would be cut.

    Args:
        columns: the names of the columns, with rich's markup.
        numbers: whether all columns but the first hold numbers, which are aligned at the right.
    """
    made = _Continued()
    for place, column in enumerate(columns):
        side: Literal["left", "right"] = "right" if numbers and place else "left"
        made.add_column(column, justify=side, overflow="fold")
    return made


class _Continued(Table):
    """A table of which the first column stays on one line, unless its names are long."""

    def add_row(self, *cells: RenderableType | None, **settings: Any) -> None:
        """Add a row."""
        super().add_row(*cells, **settings)
        first = self.columns[0]
        first.no_wrap = all(_width(cell) <= ON_ONE_LINE for cell in first.cells)


def _width(cell: RenderableType) -> int:
    return (Text.from_markup(cell) if isinstance(cell, str) else Text(str(cell))).cell_len


def shortened(names: Iterable[str], longest: int) -> dict[str, str]:
    """Return a form of each name of at most so many characters; no two names have the same one.

    Long names are cut in their middle. Of those that then look the same, what follows their common
    beginning is kept, or else what precedes their common end, or else they are numbered.

    Args:
        names: the names.
        longest: the number of characters, 12 or more.
    """
    plain = {name: printable(name) for name in names}
    found = {name: _middle(text, longest) for name, text in plain.items()}
    for cut in (_after_beginning, _before_end):
        for group in _alike(found):
            texts = [plain[name] for name in group]
            made = dict(zip(group, cut(texts, longest), strict=True))
            others = {found[name] for name in found if name not in made}
            if len({*made.values()} - others) == len(made):
                found |= made
    for group in _alike(found):
        for number, name in enumerate(group, start=1):
            end = f"{MARK}({number})"
            found[name] = plain[name][: longest - len(end)] + end
    return found


def _alike(found: Mapping[str, str]) -> list[list[str]]:
    """Return the names that have the same form, in groups of two or more."""
    groups: dict[str, list[str]] = {}
    for name, form in found.items():
        groups.setdefault(form, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def _middle(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    end = longest // 2 - 1
    return f"{text[: longest - end - 1]}{MARK}{text[-end:]}"


def _after_beginning(texts: list[str], longest: int) -> list[str]:
    """Return texts as their first characters, and what follows their common beginning."""
    start = len(os.path.commonprefix(texts))
    few = longest // 3
    return [_joined(text, few, start, longest) for text in texts]


def _before_end(texts: list[str], longest: int) -> list[str]:
    """Return texts as their first characters, and what precedes their common end."""
    end = len(os.path.commonprefix([text[::-1] for text in texts]))
    few = longest // 3
    return [
        _joined(text, few, max(0, len(text) - end - (longest - few - 2)), longest) for text in texts
    ]


def _joined(text: str, few: int, start: int, longest: int) -> str:
    """Return the first characters of a text, and those from a place on."""
    if start <= few + 1:
        return text if len(text) <= longest else f"{text[: longest - 1]}{MARK}"
    rest, room = text[start:], longest - few - 1
    return f"{text[:few]}{MARK}" + (rest if len(rest) <= room else f"{rest[: room - 1]}{MARK}")
