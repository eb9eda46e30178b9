"""Exports of annotation tools: recognised by their content, or named by data.format.

Each tool has a module with

- `recognises(row)`: whether a value of a JSON file can only come from this tool;
- `converted(row, where, columns)`: the row with the columns that tasks read: text, spans, label and
  labels; columns are those that are read;
- `is_answered(row)`: whether the annotator gave an answer; LEFT_OUT says of which rows that is not
  so;
- `has_several(row)`, if there can be several answers: whether there are.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, Literal, get_args

from plcli.data.exports import doccano, label_studio, prodigy, spacy
from plcli.errors import DataError, listed

logger = logging.getLogger(__name__)

Format = Literal["rows", "doccano", "label_studio", "prodigy", "spacy"]
TOOLS: dict[str, ModuleType] = {
    "doccano": doccano,
    "label_studio": label_studio,
    "prodigy": prodigy,
    "spacy": spacy,
}
LOOKED_AT = 200  # rows
ANSWERS = {"spans", "label", "labels", "accept"}  # columns that only annotated rows have


def convert(
    rows: Iterator[tuple[str, Any]], *, name: str, tool: Format | None, columns: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    """Yield the rows of a JSON file, converted if they are an export of a tool.

    Rows without an answer are left out, and counted in the log, where a column of answers is read.

    Args:
        rows: the location and the value of each row.
        name: the file, for messages.
        tool: the tool, or rows for none; None looks at the content.
        columns: the columns that are read.

    Raises:
        DataError: if the rows look like those of several tools, or one is not valid.
    """
    if tool == "rows":
        yield from rows
        return
    first = list(itertools.islice(rows, LOOKED_AT))
    chosen = tool or _recognised([row for _, row in first], name)
    if chosen is None:
        yield from itertools.chain(first, rows)
        return
    module, left_out, several = TOOLS[chosen], 0, 0
    for where, row in itertools.chain(first, rows):
        converted = module.converted(row, where, columns)
        if ANSWERS & set(columns) and not module.is_answered(row):
            left_out += 1
            continue
        several += hasattr(module, "has_several") and module.has_several(row)
        yield where, converted
    if left_out:
        logger.warning("%s: %d rows %s are left out (%s)", name, left_out, module.LEFT_OUT, chosen)
    if several and ANSWERS & set(columns):
        logger.warning(
            "%s: %d rows have several annotations; the ground truth or the first one is used (%s)",
            *(name, several, chosen),
        )


def _recognised(rows: Sequence[Any], name: str) -> str | None:
    """Return the tool that rows come from; None if they come from none."""
    found = [tool for tool, module in TOOLS.items() if any(map(module.recognises, rows))]
    if len(found) > 1:
        raise DataError(
            f"{name}: looks like an export of {listed(found)}. Set data.format to one of "
            f"{listed(get_args(Format))}; rows are read as they are."
        )
    return found[0] if found else None
