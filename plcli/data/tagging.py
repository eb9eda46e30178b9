"""Spans of words or characters: how tags spell them, and how a column holds them.

A span is (start, end, type), its end exclusive. A tag I-x that follows neither B-x nor I-x of a
span begins none, as in the scheme IOB2.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plcli.errors import DataError, listed

OUTSIDE = "O"
Span = tuple[int, int, int]  # start, end, the number of its type


class Tagging:
    """How tags spell spans.

    Where every tag is B-x, I-x or O, a span is B-x and the I-x that follow. Other tags are plain:
    each run of one tag but O is a span.

    Args:
        names: the tags; a tag's place is its label id.

    Attributes:
        bio: whether the tags are B-x, I-x and O.
        types: the names of the types, sorted.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        inner = [name for name in names if name != OUTSIDE]
        self.bio = bool(inner) and all(map(is_bio, inner))
        self.types = sorted({name[2:] if self.bio else name for name in inner})
        self.ids = {name: index for index, name in enumerate(names)}
        numbers = {name: index for index, name in enumerate(self.types)}
        self._types = [numbers.get(name[2:] if self.bio else name, -1) for name in names]
        self._begins = [not self.bio or name.startswith("B-") for name in names]
        self._goes_on = [not self.bio or name.startswith("I-") for name in names]

    def spans(self, label_ids: Iterable[int]) -> list[Span]:
        """Return the spans of a row's tags, in words."""
        found: list[Span] = []
        start, open_type, position = 0, -1, -1
        for position, label in enumerate(label_ids):
            type_ = self._types[label]
            if type_ == open_type and self._goes_on[label]:
                continue
            if open_type >= 0:
                found.append((start, position, open_type))
            start, open_type = position, type_ if self._begins[label] else -1
        if open_type >= 0:
            found.append((start, position + 1, open_type))
        return found

    def strays(self, label_ids: Sequence[int]) -> int:
        """Count the tags I-x that belong to no span."""
        inside = sum(end - start for start, end, _ in self.spans(label_ids))
        return sum(self._types[label] >= 0 for label in label_ids) - inside

    def tag(self, type_: int, *, first: bool) -> int:
        """Return the label id of a span's first word, or of another.

        Where the tags have one mark of a type only, it is that of all its words.
        """
        name = self.types[type_]
        if not self.bio:
            return self.ids[name]
        tags = [f"{mark}-{name}" for mark in ("BI" if first else "IB")]
        return next(self.ids[tag] for tag in tags if tag in self.ids)


def is_bio(name: str) -> bool:
    """Whether a tag is B-x or I-x."""
    return len(name) > 2 and name[:2] in ("B-", "I-")


def tags_of(types: Iterable[str]) -> list[str]:
    """Return the tags that spell spans of some types, sorted."""
    return sorted([OUTSIDE, *(f"{mark}-{name}" for name in set(types) for mark in "BI")])


def of_labels(found: Iterable[str], where: str) -> Tagging:
    """Return the tags of spans with some labels; `where` names the column for messages.

    Raises:
        DataError: if there are none.
    """
    if not set(found):
        raise DataError(
            f"{where} holds no span. Name another column with data.spans, or label some rows."
        )
    return Tagging(tags_of(found))


def of_tags(found: Iterable[str], where: str) -> Tagging:
    """Return the tags of words, sorted; of BIO tags both marks of each type.

    Args:
        found: the tags that were found.
        where: names their column, for messages.

    Raises:
        DataError: if they are fewer than two, numbers, or of two kinds.
    """
    names = sorted(set(found))
    if len(names) < 2:
        raise DataError(
            f"{where} holds {len(names)} tag ({listed(names)}); two or more are needed. "
            "Name another column with data.tags, or add rows."
        )
    if all(name.lstrip("-").isdigit() for name in names):
        raise DataError(
            f"{where} holds numbers ({listed(names)}), so that none says 'outside'. "
            f"Write the tags' names, such as B-person and {OUTSIDE}."
        )
    types = {name[2:] for name in names if is_bio(name)}
    plain = [name for name in names if name != OUTSIDE and not is_bio(name)]
    if types and plain:
        raise DataError(
            f"{where} holds '{plain[0]}' beside B- and I-: neither BIO nor plain tags. "
            "Write B-x, I-x and O (not BIOES or BILOU), or names without B- and I-."
        )
    return Tagging(tags_of(types) if types else names)


def read(cell: str, text: str, where: str, column: str) -> list[tuple[int, int, str]]:
    """Take the spans of characters out of a cell, sorted.

    Args:
        cell: a JSON list of objects with start, end (exclusive) and label.
        text: what they are spans of.
        where: the source and row, for messages.
        column: the cell's column, for messages.

    Raises:
        DataError: if one is not as it has to be, or two overlap.
    """
    values = json.loads(cell)
    if not isinstance(values, list):
        raise DataError(
            f"{where}: column '{column}' holds {cell:.60}, not a list of spans. "
            'Write [{"start": 0, "end": 5, "label": "name"}], or [] for none.'
        )
    found = sorted(_span(value, text, where, column) for value in values)
    for (start, end, label), (next_start, next_end, next_label) in zip(
        found, found[1:], strict=False
    ):
        if next_start < end:
            raise DataError(
                f"{where}: column '{column}' holds spans that overlap: {label} {start}-{end} and "
                f"{next_label} {next_start}-{next_end}. Keep one of them."
            )
    return found


def _span(value: Any, text: str, where: str, column: str) -> tuple[int, int, str]:
    keys = ("start", "end", "label")
    if not isinstance(value, Mapping) or any(key not in value for key in keys):
        raise DataError(
            f"{where}: column '{column}' holds the span {value!r:.80}; "
            "an object with start, end and label is needed."
        )
    start, end, label = (value[key] for key in keys)
    if any(isinstance(number, bool) or not isinstance(number, int) for number in (start, end)):
        raise DataError(
            f"{where}: column '{column}' holds a span from {start!r:.40} to {end!r:.40}; "
            "whole numbers of characters are needed."
        )
    if not isinstance(label, str) or not label.strip():
        raise DataError(
            f"{where}: column '{column}' holds a span with the label {label!r:.40}; "
            "a name is needed."
        )
    if not 0 <= start < end:
        raise DataError(
            f"{where}: column '{column}' holds a span from {start} to {end}; "
            "the start is counted from 0, and the end, which is exclusive, stands behind it."
        )
    if end > len(text):
        raise DataError(
            f"{where}: column '{column}' holds a span from {start} to {end}, but the text has "
            f"{len(text)} characters. Count characters, not bytes."
        )
    return start, end, label.strip()
