"""Exports of Label Studio: JSON with all annotations, and JSON-MIN.

    {"id": 1, "data": {"text": "..."}, "annotations": [{"result": [{"type": "labels", "to_name":
     "text", "value": {"start": 0, "end": 5, "text": "...", "labels": ["PER"]}}]}]}
    {"id": 1, "text": "...", "label": [{"start": 0, "end": 5, "labels": ["PER"]}],
     "annotator": 1, "annotation_id": 1}

Of several annotations of a task, the one that is marked as ground truth is used, or the first one
that was not cancelled. https://labelstud.io/guide/export
"""

from typing import Any

from plcli.data.exports import shapes
from plcli.errors import DataError


def recognises(row: Any) -> bool:
    """Whether a row is a task with its data and annotations, or one of JSON-MIN."""
    if shapes.has(row, "data", "annotations"):
        return isinstance(row["data"], dict) and isinstance(row["annotations"], list)
    return shapes.has(row, "annotation_id", "annotator")


def converted(row: Any, where: str) -> dict[str, Any]:
    """Return a row with the data of its task and spans, or label and labels."""
    found = shapes.mapping(row, where, "Label Studio")
    if "annotations" not in found:
        return _of_min(found)
    data = found.get("data")
    if not isinstance(data, dict):
        raise DataError(f"{where}: its data are {data!r:.60}, not an object. Export it again.")
    columns = {"id": found.get("id"), **data}
    chosen = _chosen(found)
    result = [] if chosen is None else chosen.get("result") or []
    texts = {item.get("to_name") for item in result if item.get("type") == "labels"}
    if len(texts) > 1:
        raise DataError(
            f"{where}: has spans in several texts, {sorted(map(str, texts))}. Export one of them."
        )
    if "text" not in columns:
        strings = [value for value in data.values() if isinstance(value, str)]
        named = data.get(next(iter(texts), ""), strings[0] if len(strings) == 1 else None)
        columns |= {} if named is None else {"text": named}
    values = [item.get("value") or {} for item in result]
    spans = [value for value in values if "start" in value and value.get("labels")]
    choices = [name for value in values for name in value.get("choices", [])]
    if choices:
        columns |= {"labels": choices, "label": choices[0] if len(choices) == 1 else choices}
    ratings = [value["rating"] for value in values if "rating" in value]
    return columns | {"spans": spans} | ({"rating": ratings[0]} if len(ratings) == 1 else {})


def _of_min(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of JSON-MIN, whose columns have the names of the labelling config."""
    spans = [
        value
        for value in row.values()
        if isinstance(value, list) and value and all(shapes.has(v, "start", "end") for v in value)
    ]
    choices = [value["choices"] for value in row.values() if shapes.has(value, "choices")]
    found = {"spans": spans[0] if len(spans) == 1 else [], **row}
    return found | ({"labels": choices[0]} if len(choices) == 1 else {})


def is_answered(row: Any) -> bool:
    """Whether there is an annotation that was not cancelled; rows of JSON-MIN have one."""
    return "annotations" not in row or _chosen(row) is not None


def _chosen(row: Any) -> Any:
    given = [each for each in row["annotations"] if not each.get("was_cancelled")]
    return next((each for each in given if each.get("ground_truth")), given[0] if given else None)
