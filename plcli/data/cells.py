"""The cells of a column: as a file holds them -> as the kind of the column has them, or refused."""

import json
import re
from enum import Enum
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from plcli.errors import DataError

IGNORED = "-100"  # the label id that torch's losses leave out; it would train nothing in silence
_FRACTION = re.compile(r"[-+]?\d*\.\d+")


class Kind(Enum):
    """What a column holds: the Arrow type that its cells are turned into."""

    TEXT = "text"
    NAME = "name"
    NAMES = "names"
    NUMBER = "number"
    WORDS = "words"  # a list of texts; in a cell of text: a JSON list, or with blanks between them
    TAGS = "tags"  # words that never begin with a bracket, so that a torn JSON list is none
    TEXTS = "texts"  # a list of texts; in a cell of text: a JSON list
    OBJECT = "object"  # a list or mapping, kept as JSON; the task looks at what it holds


ARROW_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.NAME: pa.string(),
    Kind.NAMES: pa.list_(pa.string()),
    Kind.NUMBER: pa.float64(),
    Kind.WORDS: pa.list_(pa.string()),
    Kind.TAGS: pa.list_(pa.string()),
    Kind.TEXTS: pa.list_(pa.string()),
    Kind.OBJECT: pa.string(),
}


def read_cell(value: Any, kind: Kind, where: str, column: str) -> Any:
    if kind is Kind.TEXT:
        return _text(value, where, column)
    if kind is Kind.NAME:
        return _name(value, where, column)
    if kind is Kind.NUMBER:
        return _number(value, where, column)
    if kind in (Kind.WORDS, Kind.TAGS):
        return _words(value, kind, where, column)
    if kind is Kind.TEXTS:
        return _texts(value, where, column)
    if kind is Kind.OBJECT:
        return _object(value, where, column)
    if isinstance(value, str):
        value = _names_in(value, where, column)
    if not isinstance(value, list):
        raise DataError(
            f"{where}: column '{column}' holds {value!r:.60}, not a list of names. "
            'Write "a, b", or a JSON list.'
        )
    return [_name(part, where, column) for part in value]


def _text(value: Any, where: str, column: str) -> str:
    if isinstance(value, (list, dict, bytes)):
        raise DataError(
            f"{where}: column '{column}' holds {value!r:.60}, which is not text. "
            "Name another column, or write text there."
        )
    text = "" if value is None or value != value else str(value)
    if "\0" in text:
        raise DataError(
            f"{where}: column '{column}' holds a NUL character, which no text has. "
            "Remove it, or set data.encoding if the file is UTF-16."
        )
    return text


def _names_in(text: str, where: str, column: str) -> list[Any]:
    """Take the label names of a cell of text apart: with commas, or as a JSON list."""
    if text.lstrip().startswith("["):
        names = _json(text)
        if not isinstance(names, list):
            raise DataError(
                f"{where}: column '{column}' holds {text!r:.60}, which is no JSON list. "
                'Write "a, b", or ["a", "b"] with double quotes.'
            )
        return names
    names = [part.strip() for part in text.split(",") if part.strip()]
    if other := next((mark for mark in ";|" for name in names if mark in name), None):
        raise DataError(
            f"{where}: column '{column}' holds {text!r:.60} with {other!r}. "
            "Put commas between the names."
        )
    return names


def _words(value: Any, kind: Kind, where: str, column: str) -> list[str]:
    if isinstance(value, str):
        text = value.strip()
        found = _json(text) if text.startswith("[") else text.split()
        if found is None and (kind is Kind.TAGS or text.endswith("]")):
            raise DataError(
                f"{where}: column '{column}' holds {value!r:.60}, which is no JSON list. "
                'Write ["a", "b"] with double quotes, or words with blanks between them.'
            )
        value = text.split() if found is None else found  # a text that begins with a bracket
    if not isinstance(value, list):
        raise DataError(
            f"{where}: column '{column}' holds {value!r:.60}, not a list of words. "
            'Write ["a", "b"], or words with blanks between them.'
        )
    return [_text(word, where, column) for word in value]


def _texts(value: Any, where: str, column: str) -> list[str]:
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, list):
        raise DataError(
            f"{where}: column '{column}' holds {value!r:.60}, not a list of texts. "
            'Write a JSON list, ["a", "b"] with double quotes.'
        )
    return [_text(text, where, column) for text in found]


def _object(value: Any, where: str, column: str) -> str:
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, (list, dict)):
        raise DataError(
            f"{where}: column '{column}' holds {value!r:.60}, neither a list nor an object. "
            "Write it as JSON."
        )
    try:
        return json.dumps(found, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: column '{column}' holds {value!r:.60}, which is no JSON. "
            "Write lists, objects, texts and finite numbers there."
        ) from None


def _json(text: str) -> Any:
    """Return what a text means as JSON; None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _name(value: Any, where: str, column: str) -> str:
    """Return a label's name.

    1, 1.0 and True keep one spelling each, so that csv and parquet give the same names.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise DataError(
            f"{where}: column '{column}' is empty; a label is needed. Fill it, or remove the row."
        )
    if not isinstance(value, (str, int)) or _FRACTION.fullmatch(name := str(value).strip()):
        raise DataError(
            f"{where}: column '{column}' holds {value!r:.60}, which is not a label name. "
            "Write names; for numbers there is data.problem regression."
        )
    if name == IGNORED:
        raise DataError(
            f"{where}: column '{column}' holds {IGNORED}, which marks rows without a label. "
            "Fill in the label, or remove the row."
        )
    return name


def _number(value: Any, where: str, column: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        comma = isinstance(value, str) and value.count(",") == 1
        raise DataError(
            f"{where}: column '{column}' holds {value!r:.60}, which is not a number. "
            f"{'Write a decimal point, not a comma.' if comma else 'Write one, or remove the row.'}"
        ) from None
    if number != number or number in (float("inf"), float("-inf")):
        raise DataError(
            f"{where}: column '{column}' holds {value!r}; a finite number is needed. "
            "Fill it, or remove the row."
        )
    return number


class LabelTypes:
    """Refuses a column of labels that holds words in one row and numbers in another."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, Any]] = {}

    def check(self, value: Any, where: str, column: str) -> None:
        """Compare a cell, as it was read, with the first that was a number."""
        number = isinstance(value, (int, float))
        if number or not (isinstance(value, str) and value.strip().lstrip("-").isdigit()):
            first_where, first = self._first.setdefault(column, (where, value))
            if isinstance(first, (int, float)) != number:
                raise DataError(
                    f"{where}: column '{column}' holds {value!r:.60}, but {first!r:.60} in "
                    f"{first_where.rpartition(', ')[2]}: words and numbers. Write labels alike."
                )
