"""Spans of words or characters: their tags, and their form in a column.

A span is (start, end, type), with an exclusive end. As in the scheme IOB2, a tag I-x that follows
neither B-x nor I-x does not begin a span.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from plcli.data.cells import normalized
from plcli.errors import DataError, listed

OUTSIDE = "O"
KEYS = ("start", "end", "label")  # of a span
Span = tuple[int, int, int]  # start, end, index of the type


class Tagging:
    """A tag set, and the spans that its tags represent.

    If every tag is B-x, I-x or O, a span is B-x and the I-x that follow. Other tags are plain: each
    run of the same tag, except O, is a span.

    Args:
        names: the tags; the index of a tag is its label id.

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
        self._continues = [not self.bio or name.startswith("I-") for name in names]

    def spans(self, label_ids: Iterable[int]) -> list[Span]:
        """Return the spans of a row's tags, in words."""
        found: list[Span] = []
        start, open_type, position = 0, -1, -1
        for position, label in enumerate(label_ids):
            type_ = self._types[label]
            if type_ == open_type and self._continues[label]:
                continue
            if open_type >= 0:
                found.append((start, position, open_type))
            start, open_type = position, type_ if self._begins[label] else -1
        if open_type >= 0:
            found.append((start, position + 1, open_type))
        return found

    def strays(self, label_ids: Sequence[int]) -> int:
        """Return the number of I-x tags outside of any span."""
        inside = sum(end - start for start, end, _ in self.spans(label_ids))
        return sum(self._types[label] >= 0 for label in label_ids) - inside

    def tag(self, type_: int, *, first: bool) -> int:
        """Return the label id of the first word of a span, or of its other words.

        If the tag set has only one of B-x and I-x, all words have this tag.
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
    """Return the tags for spans of these types, sorted."""
    return sorted([OUTSIDE, *(f"{mark}-{name}" for name in set(types) for mark in "BI")])


def of_labels(found: Iterable[str], where: str) -> Tagging:
    """Return the tag set for spans with these labels.

    Args:
        found: the labels.
        where: the source and column, for messages.

    Raises:
        DataError: if there are no labels.
    """
    if not set(found):
        raise DataError(
            f"{where} has no spans. Name another column with data.spans, or label some rows."
        )
    return Tagging(tags_of(found))


def of_tags(found: Iterable[str], where: str) -> Tagging:
    """Return the tag set of the tags of words, with both B-x and I-x for BIO tags.

    Args:
        found: the tags of all words.
        where: the source and column, for messages.

    Raises:
        DataError: if there are fewer than two tags, or they are numbers, or BIO and plain tags.
    """
    names = sorted(set(found))
    if len(names) < 2:
        raise DataError(
            f"{where} contains {len(names)} tag ({listed(names)}); two or more are needed. "
            "Name another column with data.tags, or add rows."
        )
    if all(name.lstrip("-").isdigit() for name in names):
        raise DataError(
            f"{where} contains numbers ({listed(names)}), none of which means 'outside'. "
            f"Write the names of the tags, such as B-person and {OUTSIDE}."
        )
    types = {name[2:] for name in names if is_bio(name)}
    plain = [name for name in names if name != OUTSIDE and not is_bio(name)]
    if types and plain:
        raise DataError(
            f"{where} contains '{plain[0]}' beside B- and I-, so that its tags are neither BIO nor "
            "plain. Write B-x, I-x and O (not BIOES or BILOU), or names without B- and I-."
        )
    return Tagging(tags_of(types) if types else names)


def read(cell: str, text: str, where: str, column: str) -> list[tuple[int, int, str]]:
    """Read the character spans of a cell, sorted.

    Args:
        cell: a JSON list of objects with start, end (exclusive) and label, or of lists [start, end,
            label].
        text: the text of the row.
        where: the source and row, for messages.
        column: the column of the cell, for messages.

    Raises:
        DataError: if a span is not valid, or two spans overlap.
    """
    values = json.loads(cell)
    if not isinstance(values, list):
        raise DataError(
            f"{where}: column '{column}' contains {cell:.60}, not a list of spans. "
            'Write [{"start": 0, "end": 5, "label": "name"}], or [] for none.'
        )
    found = sorted(_span(value, text, where, column) for value in values)
    for (start, end, label), (next_start, next_end, next_label) in zip(
        found, found[1:], strict=False
    ):
        if next_start < end:
            raise DataError(
                f"{where}: column '{column}' contains overlapping spans: {label} {start}-{end} and "
                f"{next_label} {next_start}-{next_end}. Keep one of them."
            )
    return found


def _span(value: Any, text: str, where: str, column: str) -> tuple[int, int, str]:
    parts = _parts(value)
    if parts is None:
        raise DataError(
            f"{where}: column '{column}' contains the span {value!r:.80}. "
            "Write an object with start, end and label."
        )
    start, end, label = parts
    if any(isinstance(number, bool) or not isinstance(number, int) for number in (start, end)):
        raise DataError(
            f"{where}: column '{column}' contains a span from {start!r:.40} to {end!r:.40}. "
            "Write whole numbers of characters."
        )
    if not isinstance(label, str) or not label.strip():
        raise DataError(
            f"{where}: column '{column}' contains a span with the label {label!r:.40}. "
            "Write a name."
        )
    if not 0 <= start < end:
        raise DataError(
            f"{where}: column '{column}' contains a span from {start} to {end}. "
            "Count the start from 0, and give an exclusive end greater than the start."
        )
    wanted = value.get("text") if isinstance(value, Mapping) else None
    if isinstance(wanted, str) and wanted != text[start:end]:
        raise DataError(
            f"{where}: column '{column}' contains a span from {start} to {end} whose text is "
            f"{wanted!r:.60}, but these characters are {text[start:end]!r:.60}."
            f"{offsets_hint(text, start, end, wanted)}"
        )
    if end > len(text):
        raise DataError(
            f"{where}: column '{column}' contains a span from {start} to {end}, but the text has "
            f"{len(text)} characters. Count characters, not bytes."
        )
    return start, end, normalized(label.strip(), column)


def _parts(value: Any) -> list[Any] | None:
    """Return start, end and label of a span; None if it lacks one of them."""
    if isinstance(value, list):
        return value if len(value) == 3 else None
    if not isinstance(value, Mapping) or any(name not in value for name in KEYS):
        return None
    return [value[name] for name in KEYS]


def offsets_hint(text: str, start: int, end: int, wanted: str) -> str:
    """Return in what the offsets of a span seem to be counted, given the text of the span."""
    for unit, encoding, size in (("UTF-16 code units", "utf-16-le", 2), ("bytes", "utf-8", 1)):
        part = text.encode(encoding)[start * size : end * size]
        if part.decode(encoding, "replace") == wanted:
            return f" The offsets seem to be {unit}. Convert them to characters."
    if text[start : end + 1] == wanted:
        return " The end seems to be inclusive. Add 1 to it."
    return " Correct the offsets, or remove the row."


def is_iob1(rows: Iterable[Sequence[str]]) -> bool:
    """Return whether the tags of rows follow the scheme IOB1.

    There I-x begins a span, and B-x only one that follows another span of the same type.
    """
    begun_by_inside = False
    for tags in rows:
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False):
            if not is_bio(tag):
                continue
            follows = before[2:] == tag[2:] if is_bio(before) else False
            if tag.startswith("B-") and not follows:
                return False
            begun_by_inside |= tag.startswith("I-") and not follows
    return begun_by_inside


def to_iob2(tags: Sequence[str]) -> list[str]:
    """Return tags of the scheme IOB1 in the scheme IOB2, in which every span begins with B-x."""
    return [
        f"B-{tag[2:]}" if is_bio(tag) and not (is_bio(before) and before[2:] == tag[2:]) else tag
        for before, tag in zip([OUTSIDE, *tags], tags, strict=False)
    ]
