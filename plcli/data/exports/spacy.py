"""Training data of spaCy as JSON: pairs of a text and its annotations, or documents.

    ["...", {"entities": [[0, 5, "ORG"]]}]
    ["...", {"cats": {"POSITIVE": 1.0, "NEGATIVE": 0.0}}]
    {"text": "...", "entities": [[0, 5, "ORG"]]}
    {"text": "...", "ents": [{"start": 0, "end": 5, "label": "ORG"}]}   as Doc.to_json writes it

https://spacy.io/api/data-formats
"""

from collections.abc import Mapping
from typing import Any

from plcli.data.exports import shapes

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


def converted(row: Any, where: str) -> dict[str, Any]:
    """Return a row with text and spans, or with the categories that apply as label and labels."""
    if isinstance(row, list) and len(row) == 2 and isinstance(row[1], Mapping):
        row = {"text": row[0], **row[1]}
    found = shapes.mapping(row, where, "spaCy")
    cats = found.get("cats")
    if isinstance(cats, Mapping) and cats:
        names = [name for name, value in cats.items() if float(value) >= LEAST]
        found |= {"labels": names, "label": names[0] if len(names) == 1 else names}
    return {**found, "spans": found.get("entities", found.get("ents")) or []}


def is_answered(row: Any) -> bool:
    """Whether there is an answer: every row has one."""
    return True
