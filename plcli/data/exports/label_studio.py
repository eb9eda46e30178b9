"""Exports of Label Studio: JSON with all annotations, and JSON-MIN.

    {"id": 1, "data": {"text": "..."}, "annotations": [{"result": [{"type": "labels", "to_name":
     "text", "value": {"start": 0, "end": 5, "text": "...", "labels": ["PER"]}}]}]}
    {"id": 1, "text": "...", "label": [{"start": 0, "end": 5, "labels": ["PER"]}],
     "annotator": 1, "annotation_id": 1}

A row has a column for each control of the labelling config that chooses, and spans. Of several
annotations of a task, the one that is marked as ground truth is used, or the first one that was not
cancelled. https://labelstud.io/guide/export
"""

from collections.abc import Mapping, Sequence
from typing import Any

from plcli.data.exports import shapes
from plcli.errors import DataError, listed

LEFT_OUT = "without an annotation"
OWN = ("spans", "label", "labels")  # columns that come from annotations alone


def recognises(row: Any) -> bool:
    """Whether a row is a task with its data and annotations, or one of JSON-MIN."""
    if shapes.has(row, "data") and isinstance(row["data"], dict):
        return any(isinstance(row.get(name), list) for name in ("annotations", "completions"))
    return shapes.has(row, "annotation_id", "annotator")


def converted(row: Any, where: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row with the data of its task, spans, and a column for each choice.

    Raises:
        DataError: if spans have no offsets in characters, or are in several texts or columns.
    """
    found = shapes.mapping(row, where, "Label Studio")
    if _annotations(found) is None:
        return _of_min(found, where, columns)
    data = found["data"]
    if not isinstance(data, dict):
        raise DataError(f"{where}: its data are {data!r:.60}, not an object. Export it again.")
    kept = {name: value for name, value in data.items() if name not in OWN}
    columns_ = {"id": found.get("id"), **kept, "data": data}
    chosen = _chosen(found)
    result = [] if chosen is None else chosen.get("result") or []
    regions = [item for item in result if "start" in (item.get("value") or {})]
    spans = [span for item in regions if (span := _span(item, where)) is not None]
    texts = {item.get("to_name") for item in regions}
    if len(texts) > 1 and spans:
        raise DataError(
            f"{where}: has spans in several texts, {listed(sorted(map(str, texts)))}. Export one "
            "of them."
        )
    if "text" not in columns_:
        strings = [value for value in kept.values() if isinstance(value, str)]
        named = kept.get(next(iter(texts), ""), strings[0] if len(strings) == 1 else None)
        columns_ |= {} if named is None else {"text": named}
    return columns_ | {"spans": spans} | _choices([i for i in result if i not in regions])


def is_answered(row: Any) -> bool:
    """Whether there is an annotation that was not cancelled; rows of JSON-MIN have one."""
    return _annotations(row) is None or _chosen(row) is not None


def has_several(row: Any) -> bool:
    """Whether a task has several annotations, of which one is used."""
    return len([each for each in _annotations(row) or [] if not each.get("was_cancelled")]) > 1


def _annotations(row: Mapping[str, Any]) -> list[Any] | None:
    """Return the annotations of a task; they were called completions before version 1.0."""
    found = row.get("annotations", row.get("completions"))
    return found if isinstance(found, list) and "data" in row else None


def _chosen(row: Any) -> Any:
    given = [each for each in _annotations(row) or [] if not each.get("was_cancelled")]
    return next((each for each in given if each.get("ground_truth")), given[0] if given else None)


def _span(item: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """Return the span of a region; None if the item only describes a region of another item."""
    value, kind = item["value"], str(item.get("type"))
    names = value.get("labels", value.get(kind))
    if not kind.lower().endswith("labels") or not isinstance(names, list):
        return None
    if kind != "labels" or type(value["start"]) is not int:
        raise DataError(
            f"{where}: has spans of the type {kind}, whose offsets are not characters of a text. "
            "Label a Text, not HTML or paragraphs, or set data.format: rows."
        )
    return _with_one_label(value, names, where)


def _with_one_label(value: Mapping[str, Any], names: list[Any], where: str) -> dict[str, Any]:
    if len(names) != 1:
        raise DataError(
            f"{where}: has a span with {len(names)} labels ({listed(map(str, names))}); one is "
            "needed. Correct the annotation."
        )
    text = {"text": value["text"]} if isinstance(value.get("text"), str) else {}
    return {"start": value["start"], "end": value["end"], "label": names[0], **text}


def _choices(result: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a column for each control; label and labels too, if there is a single one."""
    found: dict[str, Any] = {}
    lists = 0
    for item in result:
        value = item.get("value") or {}
        name = str(item.get("from_name"))
        if isinstance(value.get("choices"), list):
            found[name] = value["choices"]
            lists += 1
        elif "rating" in value or "number" in value:
            found[name] = value.get("rating", value.get("number"))
    if lists == 1:
        names = next(each for each in found.values() if isinstance(each, list))
        found |= {"labels": names, "label": names[0] if len(names) == 1 else names}
    return found


def _of_min(row: Mapping[str, Any], where: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row of JSON-MIN, whose columns have the names of the labelling config.

    A control without an annotation is missing there; it is an empty list here.
    """
    found: dict[str, Any] = {}
    spans = []
    for name, value in row.items():
        if shapes.has(value, "choices"):
            value = value["choices"]
        elif isinstance(value, list) and value and all(shapes.has(v, "labels") for v in value):
            value = [_with_one_label(each, each["labels"], where) for each in value]
            spans.append(name)
        found[name] = value
    if "spans" in columns and "spans" not in row:
        if len(spans) > 1:
            raise DataError(
                f"{where}: has spans in the columns {listed(spans)}. Name one with data.spans."
            )
        found["spans"] = found[spans[0]] if spans else []
    return {name: [] for name in columns if name not in found} | found
