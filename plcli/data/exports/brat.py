"""Annotations of brat: NAME.ann beside NAME.txt, with offsets in characters.

    T1	Person 0 5	Alice

https://brat.nlplab.org/standoff.html
"""

import re
from typing import Any

from plcli.errors import DataError

LINE = re.compile(r"(T\d+)\t(\S+) (\d+) (\d+)\t(.*)")


def row(annotations: str, text: str, *, name: str) -> dict[str, Any]:
    """Return the row of a document: its text, and the spans of its text-bound annotations.

    Args:
        annotations: the content of the .ann file.
        text: the content of the .txt file.
        name: the .ann file, for messages.

    Raises:
        DataError: if an annotation cannot be read, or consists of several parts.
    """
    spans = []
    for number, line in enumerate(annotations.splitlines(), start=1):
        if not line.startswith("T"):  # relations, events, attributes and notes
            continue
        found = LINE.fullmatch(line)
        if found is None:
            several = ";" in line.split("\t")[1] if line.count("\t") else False
            reason = "a span of several parts" if several else "no text-bound annotation"
            raise DataError(
                f"{name}, line {number}: {line!r:.60} is {reason}. Write T1, a tab, the type, "
                "start and end, a tab and the text."
            )
        start, end = int(found[3]), int(found[4])
        span = {"start": start, "end": end, "label": found[2]}
        if "\n" not in text[start:end]:  # brat writes line ends as blanks
            span["text"] = found[5]
        spans.append(span)
    return {"text": text, "spans": spans}
