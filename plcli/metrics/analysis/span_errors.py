"""The analysis of spans: what kind of error each is."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from plcli.data.tagging import Span
from plcli.metrics.analysis import labelled
from plcli.metrics.analysis.details import Details, plain_text
from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.texts import SpanCounts

BOUNDARY, TYPE, BOTH = "wrong boundary", "wrong type", "wrong boundary and type"
MISSED, INVENTED, CORRECT = "missed", "invented", "correct"
KINDS = (BOUNDARY, TYPE, BOTH, MISSED, INVENTED, CORRECT)
Pair = tuple[str, Span | None, Span | None]  # the kind, the true span and the predicted one


def compared(true: Sequence[Span], predicted: Sequence[Span]) -> list[Pair]:
    """Return each true span of a row with the predicted one that stands for it, and the kind.

    Spans that are equal belong together, then those with equal ends, then those that overlap, of
    the same type first, and the most overlapping ones. What is left was missed or invented.

    Args:
        true: the true spans.
        predicted: the predicted spans.
    """
    found: list[Pair] = []
    left, others = list(dict.fromkeys(true)), list(dict.fromkeys(predicted))
    candidates = []
    for first in left:
        for second in others:
            overlap = min(first[1], second[1]) - max(first[0], second[0])
            if overlap <= 0:
                continue
            same_ends, same_type = first[:2] == second[:2], first[2] == second[2]
            candidates.append(
                ((not (same_ends and same_type), not same_ends, not same_type, -overlap),)
                + (first, second)
            )
    for _, one, two in sorted(candidates):
        if one not in left or two not in others:
            continue
        left.remove(one)
        others.remove(two)
        found.append((_kind(one, two), one, two))
    return found + [(MISSED, one, None) for one in left] + [(INVENTED, None, two) for two in others]


def _kind(true: Span, predicted: Span) -> str:
    if true[:2] == predicted[:2]:
        return CORRECT if true[2] == predicted[2] else TYPE
    return BOUNDARY if true[2] == predicted[2] else BOTH


def _pairs(rows: EvaluatedRows) -> list[list[Pair]]:
    """Return the spans of each row in pairs."""
    both = zip(rows.outputs["truth"], rows.outputs["prediction"], strict=True)
    return [compared(*([(s, e, t) for s, e, t in spans] for spans in each)) for each in both]


def details(rows: EvaluatedRows) -> Details:
    """Return the true and predicted spans of each row, and the number of errors by kind."""
    assert isinstance(rows.scoring, SpanCounts)
    types, pairs = rows.scoring.types, _pairs(rows)
    counts = np.array([sum(kind != CORRECT for kind, *_ in each) for each in pairs])
    loss = _losses(rows)

    def row(position: int, cells: Mapping[str, Any]) -> dict[str, Any]:
        source = next(iter(cells.values()), "")
        kinds = Counter(kind for kind, *_ in pairs[position] if kind != CORRECT)
        found: dict[str, Any] = {
            name: [shown(span, source, types) for span in rows.outputs[name][position]]
            for name in ("truth", "prediction")
        }
        found |= {"errors": int(counts[position]), "kinds": dict(kinds)}
        return found | ({} if loss is None else {"loss": float(loss[position])})

    # of rows with equally many errors, those with the larger loss first
    ties = np.zeros(len(counts)) if loss is None else loss / (1 + np.nanmax(loss, initial=0.0))
    return Details(counts + 0.5 * np.nan_to_num(ties), "errors", counts > 0, row)


def _losses(rows: EvaluatedRows) -> Any:
    """Return the mean loss of the words of each row, [rows]; None if it was not kept."""
    if "loss" not in rows.columns:
        return None
    sums, terms = rows.columns["loss"].astype(np.float64).T
    return sums / np.maximum(terms, 1)


def shown(span: Sequence[int], source: Any, types: Sequence[str]) -> dict[str, Any]:
    """Return a span as plain values, in characters of the text, or of the words joined by spaces.

    Args:
        span: start, end and type, in characters or words.
        source: the text, or the list of words.
        types: the names of the types.
    """
    start, end, type_ = span
    text = plain_text(source)
    if isinstance(source, list):
        words = [str(word) for word in source]
        start, end = len(" ".join([*words[:start], ""])), len(" ".join(words[:end]))
    return {"start": start, "end": end, "label": types[type_], "text": text[start:end]}


def parts(rows: EvaluatedRows, intervals: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of an analysis that only spans have.

    Args:
        rows: the rows.
        intervals: the intervals of their scores by name.
    """
    assert isinstance(rows.scoring, SpanCounts)
    types = rows.scoring.types
    sums = rows.columns["spans"].astype(np.int64).reshape(len(rows.index), -1, 3).sum(0)
    found: dict[str, Any] = {
        "labels": list(types),
        "classes": labelled.of_classes(
            sums[:, 0], sums[:, 1], sums[:, 2], list(types), intervals, prefix="types"
        ),
    }
    if "truth" not in rows.outputs:
        return found
    counts, of_types, confused = Counter[str](), dict[str, Counter[str]](), Counter[Any]()
    for pairs in _pairs(rows):
        for kind, true, predicted in pairs:
            span = predicted if true is None else true
            assert span is not None
            counts[kind] += 1
            of_types.setdefault(types[span[2]], Counter())[kind] += 1
            if true is not None and predicted is not None and true[2] != predicted[2]:
                confused[true[2], predicted[2]] += 1
    found["spans"] = {
        "counts": {kind: counts[kind] for kind in KINDS},
        "types": {
            name: {kind: each[kind] for kind in KINDS}
            for name in types
            if (each := of_types.get(name)) is not None
        },
    }
    pairs_of = np.array([*confused], np.int64).reshape(-1, 2)
    found["confused"] = labelled.confused_pairs(
        pairs_of[:, 0],
        pairs_of[:, 1],
        np.array([*confused.values()], np.int64),
        sums[:, 2],
        list(types),
    )
    return found
