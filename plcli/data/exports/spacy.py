"""Training data of spaCy as JSON: pairs of a text and its annotations, or documents.

    ["...", {"entities": [[0, 5, "ORG"]]}]
    ["...", {"cats": {"POSITIVE": 1.0, "NEGATIVE": 0.0}}]
    {"text": "...", "entities": [[0, 5, "ORG"]]}
    {"text": "...", "ents": [{"start": 0, "end": 5, "label": "ORG"}]}   as Doc.to_json writes it
    {"text": "...", "spans": {"sc": [{"start": 0, "end": 5, "label": "ORG"}]}}

https://spacy.io/api/data-formats
"""

from collections.abc import Mapping, Sequence
from typing import Any

from plcli.data.exports import shapes
from plcli.errors import DataError, listed

LEFT_OUT = ""
LEAST = 0.5  # the value of a category that applies


def recognises(row: Any) -> bool:
    """Whether a row is a text with its annotations, or a document."""
    if isinstance(row, list):
        return (
            len(row) == 2
            and isinstance(row[0], str)
            and isinstance(row[1], Mapping)
            and ("entities" in row[1] or "cats" in row[1])
        )
    if shapes.has(row, "text", "ents"):
        return True
    return shapes.has(row, "text") and shapes.are_spans(row.get("entities"))


def converted(row: Any, where: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row with spans, or with the categories that apply as label and labels.

    Raises:
        DataError: if there are spans in several places.
    """
    if isinstance(row, list) and len(row) == 2 and isinstance(row[1], Mapping):
        row = {"text": row[0], **row[1]}
    found = shapes.mapping(row, where, "spaCy")
    cats = found.get("cats")
    if isinstance(cats, Mapping) and cats:
        names = [name for name, value in cats.items() if float(value) >= LEAST]
        found |= {"labels": names, "label": names[0] if len(names) == 1 else names}
    if isinstance(found.get("spans"), list):  # a column of the user's own
        return found
    groups = found.get("spans") if isinstance(found.get("spans"), Mapping) else {}
    places = {"ents": found.get("ents"), "entities": found.get("entities"), **(groups or {})}
    filled = [name for name, spans in places.items() if spans]
    if len(filled) > 1 and "spans" in columns:
        raise DataError(
            f"{where}: has spans under {listed(filled)}. Export one of them, or name another "
            "column with data.spans and set data.format: rows."
        )
    return {**found, "spans": places[filled[0]] if len(filled) == 1 else []}


def is_answered(row: Any) -> bool:
    """Whether there is an answer: every row has one."""
    return True
