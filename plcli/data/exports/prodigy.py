"""Exports of Prodigy in JSONL: spans, choices and binary decisions.

    {"text": "...", "spans": [{"start": 0, "end": 5, "label": "ORG"}], "answer": "accept",
     "_input_hash": 1, "_task_hash": 2}
    {"text": "...", "options": [{"id": "A"}, {"id": "B"}], "accept": ["A"], "answer": "accept", ...}
    {"text": "...", "label": "SPAM", "answer": "reject", ...}

Examples whose answer is reject or ignore say nothing about which label or spans are right, and are
left out. https://prodi.gy/docs/api-interfaces
"""

from collections.abc import Sequence
from typing import Any

from plcli.data.exports import shapes

LEFT_OUT = "whose answer is reject or ignore"


def recognises(row: Any) -> bool:
    """Whether a row has Prodigy's hashes."""
    return shapes.has(row, "text") and ("_input_hash" in row or "_task_hash" in row)


def converted(row: Any, where: str, columns: Sequence[str]) -> dict[str, Any]:
    """Return a row with its spans, or the chosen options as label and labels."""
    found = shapes.mapping(row, where, "Prodigy")
    if "options" in found or "accept" in found:
        names = list(found.get("accept") or [])
        return {**found, "labels": names, "label": names[0] if len(names) == 1 else names}
    return {**found, "spans": found.get("spans") or []}


def is_answered(row: Any) -> bool:
    """Whether the answer is accept."""
    answer: str = row.get("answer", "accept")
    return answer == "accept"
