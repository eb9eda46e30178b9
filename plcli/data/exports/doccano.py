"""Exports of doccano in JSONL: sequence labelling and classification of texts.

    {"id": 1, "text": "...", "label": [[0, 5, "person"]]}
    {"id": 1, "text": "...", "entities": [{"start_offset": 0, "end_offset": 5, "label": "person"}]}
    {"id": 1, "text": "...", "label": ["positive"]}

https://doccano.github.io/doccano/
"""

from collections.abc import Sequence
from typing import Any

from plcli.data.exports import shapes

LEFT_OUT = ""


def recognises(row: Any) -> bool:
    """Whether spans have doccano's form: triples under label, or offsets by its names."""
    if not shapes.has(row, "text"):
        return False
    if "entities" in row:
        return _are_entities(row["entities"]) and bool(row["entities"])
    return any(shapes.are_spans(row.get(name)) for name in ("label", "labels"))


def converted(row: Any, where: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row with spans, or with label and labels; none of them means an empty list."""
    found = shapes.mapping(row, where, "doccano")
    if _are_entities(found.get("entities")):
        spans = [
            {"start": each["start_offset"], "end": each["end_offset"], "label": each.get("label")}
            for each in found["entities"]
        ]
        return {"spans": spans, **found}
    given = found.get("label", found.get("labels", []))
    if shapes.are_spans(given) or given == []:
        return {"spans": given, **found}
    names = given if isinstance(given, list) else [given]
    return {**found, "labels": names, "label": names[0] if len(names) == 1 else names}


def is_answered(row: Any) -> bool:
    """Whether there is an answer: every exported row has one."""
    return True


def _are_entities(value: Any) -> bool:
    return isinstance(value, list) and all(
        shapes.has(each, "start_offset", "end_offset") for each in value
    )
