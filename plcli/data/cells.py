"""Reads the cells of a column: converts raw values to the kind of the column, or refuses them."""

import functools
import json
import logging
import re
import unicodedata
from enum import Enum
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from plcli.errors import DataError

logger = logging.getLogger(__name__)

IGNORED_LABEL = "-100"  # torch's losses ignore this label id, so such a row would train nothing
MOST_FLOAT32 = 3.4028234e38  # networks compute with 32 bits
FLAGS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}
_FRACTION = re.compile(r"[-+]?\d*\.\d+")
_WHOLE = re.compile(r"([-+]?\d+)\.0+")
_GROUPED = {  # numbers with separated thousands, by their decimal separator
    ".": re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?"),
    ",": re.compile(r"[-+]?[1-9]\d{0,2}([. '\u00a0\u202f])\d{3}(\1\d{3})*(,\d+)?"),
}
_COMMA = re.compile(r"[-+]?\d*,\d+")


class Kind(Enum):
    """What a column contains, which decides the Arrow type of its cells."""

    TEXT = "text"
    NAME = "name"
    NAMES = "names"
    NUMBER = "number"
    FLAG = "flag"  # 0 or 1, true or false
    WORDS = "words"  # a list of texts; as text: a JSON list, or words separated by spaces
    TAGS = "tags"  # words that never begin with a bracket, so that a broken JSON list is refused
    EACH = "each"  # a text, or a list of texts of which each makes a row
    OBJECT = "object"  # a list or mapping, kept as JSON, whose content the task checks
    NAME_OR_NONE = "name or none"  # as NAME, or a missing cell; the others likewise
    NAMES_OR_NONE = "names or none"
    NUMBER_OR_NONE = "number or none"
    FLAG_OR_NONE = "flag or none"
    TAGS_OR_NONE = "tags or none"
    OBJECT_OR_NONE = "object or none"


ARROW_TYPES = {
    Kind.TEXT: pa.string(),
    Kind.NAME: pa.string(),
    Kind.NAMES: pa.list_(pa.string()),
    Kind.NUMBER: pa.float64(),
    Kind.FLAG: pa.bool_(),
    Kind.WORDS: pa.list_(pa.string()),
    Kind.TAGS: pa.list_(pa.string()),
    Kind.EACH: pa.string(),
    Kind.OBJECT: pa.string(),
}
REQUIRED = {
    kind: Kind(kind.value.removesuffix(" or none")) for kind in Kind if "none" in kind.value
}
OPTIONAL = {required: optional for optional, required in REQUIRED.items()}
ARROW_TYPES |= {optional: ARROW_TYPES[required] for optional, required in REQUIRED.items()}


def read_cell(
    value: Any, kind: Kind, where: str, column: str, *, decimal: str | None = None
) -> Any:
    """Convert a cell to the kind of its column.

    Args:
        value: the raw value.
        kind: the kind of the column.
        where: the source and row, for messages.
        column: the name of the column, for messages.
        decimal: the decimal separator of numbers that are text; None refuses unclear ones.

    Raises:
        DataError: if the value is not of this kind.
    """
    if kind in REQUIRED:
        if _is_missing(value, REQUIRED[kind]):
            return None
        kind = REQUIRED[kind]
    if kind in (Kind.TEXT, Kind.EACH):
        return _text(value, where, column)
    if kind is Kind.NAME:
        return _name(value, where, column)
    if kind is Kind.NUMBER:
        return _number(value, where, column, decimal)
    if kind is Kind.FLAG:
        return _flag(value, where, column)
    if kind in (Kind.WORDS, Kind.TAGS):
        return _words(value, kind, where, column)
    if kind is Kind.OBJECT:
        return _object(value, where, column)
    if isinstance(value, str):
        value = _names_in(value, where, column)
    if not isinstance(value, list):
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, not a list of names. "
            'Write "a, b", or a JSON list.'
        )
    return [_name(part, where, column) for part in value]


def _is_missing(value: Any, kind: Kind) -> bool:
    """Whether a cell is missing. Of names, an empty text is a row that has none of them."""
    if isinstance(value, str):
        return kind is not Kind.NAMES and not value.strip()
    return value is None or (isinstance(value, float) and value != value)


def _text(value: Any, where: str, column: str) -> str:
    if isinstance(value, (list, dict, bytes)):
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, which is not text. "
            "Name another column, or write text there."
        )
    text = "" if value is None or value != value else str(value)
    if "\0" in text:
        raise DataError(
            f"{where}: column '{column}' contains a NUL character, which is not text. "
            "Remove it, or set data.encoding if the file is UTF-16."
        )
    return text


def _names_in(text: str, where: str, column: str) -> list[Any]:
    """Split a cell of text into label names; it is a JSON list or separated by commas."""
    if text.lstrip().startswith(("[", "{")):
        names = _json(text)
        if isinstance(names, dict):  # as Label Studio writes several choices into csv
            names = names.get("choices")
        if not isinstance(names, list):
            raise DataError(
                f"{where}: column '{column}' contains {text!r:.60}, which is not a JSON list. "
                'Write "a, b", or ["a", "b"] with double quotes.'
            )
        return names
    names = [part.strip() for part in text.split(",") if part.strip()]
    if other := next((mark for mark in ";|" for name in names if mark in name), None):
        raise DataError(
            f"{where}: column '{column}' contains {text!r:.60} with {other!r}. "
            "Separate the names with commas."
        )
    return names


def _words(value: Any, kind: Kind, where: str, column: str) -> list[str]:
    if isinstance(value, str):
        text = value.strip()
        found = _json(text) if text.startswith("[") else text.split()
        if found is None and (kind is Kind.TAGS or text.endswith("]")):
            raise DataError(
                f"{where}: column '{column}' contains {value!r:.60}, which is not a JSON list. "
                'Write ["a", "b"] with double quotes, or words separated by spaces.'
            )
        value = (
            text.split() if found is None else found
        )  # plain words, the first of which has a bracket
    if not isinstance(value, list):
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, not a list of words. "
            'Write ["a", "b"], or words separated by spaces.'
        )
    words = [_text(word, where, column) for word in value]
    return [normalized(word, column) for word in words] if kind is Kind.TAGS else words


def _object(value: Any, where: str, column: str) -> str:
    found = _json(value) if isinstance(value, str) else value
    if not isinstance(found, (list, dict)):
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, neither a list nor an object. "
            "Write it as JSON."
        )
    try:
        return json.dumps(found, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, which is not JSON. "
            "Write lists, objects, strings and finite numbers."
        ) from None


def listed_texts(value: Any) -> Any:
    """Return a cell that is a JSON list of texts as a list; another cell as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    found = _json(value)
    is_list = isinstance(found, list) and all(isinstance(text, str) for text in found)
    return found if is_list else value


def _json(text: str) -> Any:
    """Parse a text as JSON; None if it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _name(value: Any, where: str, column: str) -> str:
    """Return the name of a label.

    A whole float has the spelling of an int, so that csv and parquet give the same names. A list of
    one name is that name.
    """
    if isinstance(value, list):
        if len(value) != 1:
            raise DataError(
                f"{where}: column '{column}' contains {value!r:.60}; one label is needed. Correct "
                "the row, or set data.problem: multi_label for several."
            )
        value = value[0]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, str) and (whole := _WHOLE.fullmatch(value.strip())):
        value = whole[1]
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        raise DataError(
            f"{where}: column '{column}' is empty; a label is needed. Fill it in, or remove "
            "the row."
        )
    if not isinstance(value, (str, int)) or _FRACTION.fullmatch(name := str(value).strip()):
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, which is not a label name. "
            "Write names, or set data.problem: regression for numbers."
        )
    if name == IGNORED_LABEL:
        raise DataError(
            f"{where}: column '{column}' contains {IGNORED_LABEL}, which marks rows without a "
            "label. Fill in the label, or remove the row."
        )
    return normalized(name, column)


def normalized(name: str, column: str) -> str:
    """Return a label name in Unicode's form NFC, so that é as one and as two characters are equal.

    https://unicode.org/reports/tr15/
    """
    if unicodedata.is_normalized("NFC", name):
        return name
    _say_normalized(column)
    return unicodedata.normalize("NFC", name)


@functools.cache
def _say_normalized(column: str) -> None:
    logger.info("column '%s': label names are normalized to Unicode's form NFC", column)


def _number(value: Any, where: str, column: str, decimal: str | None) -> float:
    try:
        number = float(_plain(value.strip(), decimal) if isinstance(value, str) else value)
    except (TypeError, ValueError, OverflowError):
        remedy = "Write a number, or remove the row."
        if isinstance(value, str) and (_COMMA.fullmatch(value.strip()) or _thousands(value)):
            remedy = (
                "Set data.decimal: ',' if the comma separates decimals, or '.' if it separates "
                "thousands."
            )
        if decimal is not None:
            remedy = f"Correct it, or data.decimal, which is {decimal!r}."
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, which is not a number. {remedy}"
        ) from None
    if number != number or number in (float("inf"), float("-inf")):
        raise DataError(
            f"{where}: column '{column}' contains {value!r}; a finite number is needed. "
            "Correct it, or remove the row."
        )
    if abs(number) > MOST_FLOAT32:
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, which is more than a 32-bit float "
            "can hold (3.4e38). Correct it, or scale the column."
        )
    return number


def _plain(text: str, decimal: str | None) -> str:
    """Return a number as Python writes it.

    Args:
        text: the number.
        decimal: its decimal separator. If it is None, separated thousands are only accepted where
            they cannot be decimals: 1,234,567 and 1,234.5, but neither 1,234 nor 1.234.567,5.

    Raises:
        ValueError: if the text is not a number with this separator.
    """
    if "_" in text:  # which Python allows between digits
        raise ValueError(text)
    if decimal is None:
        clear = _GROUPED["."].fullmatch(text) and (text.count(",") > 1 or "." in text)
        return text.replace(",", "") if clear else text
    if _GROUPED[decimal].fullmatch(text):
        text = re.sub(r"[. '\u00a0\u202f]" if decimal == "," else ",", "", text)
    elif decimal == "," and "." in text:
        raise ValueError(text)
    return text.replace(",", ".") if decimal == "," else text


def _thousands(text: str) -> bool:
    return any(pattern.fullmatch(text.strip()) for pattern in _GROUPED.values())


def _flag(value: Any, where: str, column: str) -> bool:
    flag = FLAGS.get(str(value).strip().lower())
    if flag is None:
        raise DataError(
            f"{where}: column '{column}' contains {value!r:.60}, which is neither 0 nor 1. Write "
            "0 or 1, or name one column of label names with data.label."
        )
    return flag


class LabelTypes:
    """Refuses a column of labels with words in one row and numbers in another."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[str, Any]] = {}

    def check(self, value: Any, where: str, column: str) -> None:
        """Compare the type of a raw cell with that of the first cell of its column.

        Digits in text count as neither a word nor a number.
        """
        number = isinstance(value, (int, float))
        if number or not (isinstance(value, str) and value.strip().lstrip("-").isdigit()):
            first_where, first = self._first.setdefault(column, (where, value))
            if isinstance(first, (int, float)) != number:
                raise DataError(
                    f"{where}: column '{column}' contains {value!r:.60}, but {first!r:.60} in "
                    f"{first_where.rpartition(', ')[2]}: words and numbers. Write "
                    "all labels the same way."
                )
