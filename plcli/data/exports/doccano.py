"""Exports of doccano in JSONL: sequence labelling and classification of texts.

    {"id": 1, "text": "...", "label": [[0, 5, "person"]]}
    {"id": 1, "text": "...", "entities": [{"start_offset": 0, "end_offset": 5, "label": "person"}]}
    {"id": 1, "text": "...", "label": ["positive"]}

https://doccano.github.io/doccano/
"""

from typing import Any

from plcli.data.exports import shapes


def recognises(row: Any) -> bool:
    """Whether spans have doccano's form: triples under label, or offsets by its names."""
    if shapes.has(row, "text") and "entities" in row:
        entities = row["entities"]
        return (
            isinstance(entities, list)
            and bool(entities)
            and all(shapes.has(entity, "start_offset", "end_offset") for entity in entities)
        )
    return shapes.has(row, "text") and any(
        shapes.are_spans(row.get(name)) for name in ("label", "labels")
    )


def converted(row: Any, where: str) -> dict[str, Any]:
    """Return a row with spans, or with label and labels; none of them means an empty list."""
    found = shapes.mapping(row, where, "doccano")
    given = found.get("label", found.get("labels", found.get("entities", [])))
    if shapes.are_spans(given) or given == [] or "entities" in found:
        return {**found, "spans": given}
    names = given if isinstance(given, list) else [given]
    return {**found, "labels": names, "label": names[0] if len(names) == 1 else names}


def is_answered(row: Any) -> bool:
    """Whether there is an answer: every exported row has one."""
    return True
