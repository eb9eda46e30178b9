"""Reads rows to predict from standard input: texts, JSON lines or csv.

The first line decides, unless --input-format does. A mixture is refused, as rows of one kind would
be taken for another.
"""

import codecs
import csv
import io
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from plcli.cli import streams
from plcli.errors import DataError, UsageError, did_you_mean, listed

logger = logging.getLogger(__name__)

OBJECT = re.compile(r'\{\s*("|\}|$)')  # how an object begins; {name} is a text
FORMATS = {"text": "one text per line", "jsonl": "JSON lines", "csv": "csv with a header"}
SOURCE = "standard input"
HOW = "Give --input-format text, jsonl or csv to say what it is."


def lines() -> list[str]:
    """Return the lines of standard input.

    Raises:
        UsageError: if it is closed or empty.
        DataError: if it is not UTF-8.
    """
    if streams.is_closed("stdin"):
        raise UsageError("--input -: standard input is closed. Give --input FILE, or texts.")
    raw = getattr(sys.stdin, "buffer", None)
    text = sys.stdin.read() if raw is None else _decoded(raw.read())
    found = [line.rstrip("\r\n") for line in io.StringIO(text.removeprefix("\ufeff"))]
    if not any(line.strip() for line in found):
        raise UsageError("--input -: standard input is empty.")
    return found


def _decoded(content: bytes) -> str:
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if is_wide or b"\0" in content[:1000]:
        raise DataError(
            f"{SOURCE}: looks like UTF-16, not UTF-8. Convert it, for example with "
            "`iconv -f UTF-16 -t UTF-8`."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = content[: error.start].count(b"\n") + 1
        raise DataError(
            f"{SOURCE}, line {number}: is not UTF-8 (byte 0x{content[error.start]:02x}). Convert "
            "it, for example with `iconv -f LATIN1 -t UTF-8`."
        ) from None


def rows(found: Sequence[str], columns: Sequence[str], wanted: str | None) -> list[str]:
    """Return the rows of lines, each as text that a data module reads.

    Args:
        found: the lines.
        columns: the columns that the data module needs.
        wanted: the value of --input-format; None to look at the first line.

    Raises:
        DataError: if a line is of another kind than the first one, or lacks a column.
    """
    kind = wanted or _kind(found, columns)
    logger.info(
        "%s: reading %s%s", SOURCE, FORMATS[kind], "" if wanted else " (--input-format changes it)"
    )
    if kind == "text":
        return list(_texts(found, columns, is_sure=wanted is not None))
    read = _objects(found) if kind == "jsonl" else _table(found)
    return [json.dumps(_checked(row, number, columns)) for number, row in read]


def check_format(given: str | None) -> None:
    """Check the value of --input-format.

    Raises:
        UsageError: if it is none of the formats.
    """
    if given is not None and given not in FORMATS:
        raise UsageError(
            f"--input-format: got '{given}', expected text, jsonl or csv."
            f"{did_you_mean(given, FORMATS)}"
        )


def _kind(found: Sequence[str], columns: Sequence[str]) -> str:
    full = [line.strip() for line in found if line.strip()]
    if full[0].startswith("[{") or (full[0] == "[" and full[1:2] and full[1].startswith("{")):
        raise DataError(
            f"{SOURCE}: looks like a JSON array. Write one object per line, as "
            "`jq -c '.[]'` does, or give --input-format text."
        )
    if OBJECT.match(full[0]):
        return "jsonl"
    header = _cells(full[0])
    return "csv" if columns and set(columns) <= set(header) else "text"


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter="\t" if "\t" in line else ","), [])
    except csv.Error:
        return []


def _texts(found: Sequence[str], columns: Sequence[str], *, is_sure: bool) -> Iterator[str]:
    for number, line in enumerate(found, start=1):
        if not is_sure and line.lstrip().startswith("{") and isinstance(_json(line), dict):
            raise DataError(
                f"{SOURCE}, line {number}: is a JSON object, but line 1 is plain text. {HOW}"
            )
        yield json.dumps({columns[0]: line}) if len(columns) == 1 else line


def _objects(found: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(found, start=1):
        if not line.strip():
            continue
        value = _json(line)
        if not isinstance(value, dict):
            reason = f"({value})" if isinstance(value, ValueError) else "but another JSON value"
            raise DataError(f"{SOURCE}, line {number}: is not a JSON object {reason}. {HOW}")
        yield number, value


def _json(line: str) -> Any:
    """Parse a line as JSON; the error if it is not JSON."""
    try:
        return json.loads(line)
    except ValueError as error:
        return error
    except RecursionError:
        return ValueError("it is nested too deeply")


def _table(found: Sequence[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    first = next(line for line in found if line.strip())
    reader = csv.reader(
        (f"{line}\n" for line in found), delimiter="\t" if "\t" in first else ",", strict=True
    )
    header: list[str] = []
    try:
        for cells in reader:
            if not header:
                header = cells
            elif len(cells) == len(header):
                yield reader.line_num, dict(zip(header, cells, strict=True))
            elif cells:
                raise DataError(
                    f"{SOURCE}, line {reader.line_num}: has {len(cells)} cells, the header has "
                    f"{len(header)}. {HOW}"
                )
    except csv.Error as error:
        raise DataError(f"{SOURCE}, line {reader.line_num}: {error}. {HOW}") from None


def _checked(row: dict[str, Any], number: int, columns: Sequence[str]) -> dict[str, Any]:
    for column in columns:
        if column not in row and column.split(".")[0] not in row:
            raise DataError(
                f"{SOURCE}, line {number}: has no column '{column}'.{did_you_mean(column, row)} "
                f"It has {listed(row)}."
            )
    return row
