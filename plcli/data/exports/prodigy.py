"""Exports of Prodigy in JSONL: spans, choices and binary decisions.

    {"text": "...", "spans": [{"start": 0, "end": 5, "label": "ORG"}], "answer": "accept"}
    {"text": "...", "options": [{"id": "A"}, {"id": "B"}], "accept": ["A"], "answer": "accept"}
    {"text": "...", "label": "SPAM", "answer": "reject"}

Examples whose answer is reject or ignore say nothing about which label or spans are right, and are
left out. https://prodi.gy/docs/api-interfaces
"""

from typing import Any

from plcli.data.exports import shapes

HASHES = ("_input_hash", "_task_hash")
DECISIONS = ("accept", "reject", "ignore")


def recognises(row: Any) -> bool:
    """Whether a row has Prodigy's hashes, or its answer beside what was asked."""
    if shapes.has(row, "text") and any(name in row for name in HASHES):
        return True
    asked = ("spans", "options", "tokens", "label")
    return (
        shapes.has(row, "text", "answer")
        and row["answer"] in DECISIONS
        and any(name in row for name in asked)
    )


def converted(row: Any, where: str) -> dict[str, Any]:
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
