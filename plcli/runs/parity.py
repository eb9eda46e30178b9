"""Compares predictions of the same rows by two forms of a model."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

ALTERNATIVES = ("n_best", "candidates")  # what a row lists beside its decision, in unstable order
CLOSE = 0.01  # absolute and relative: rows of numbers alone, such as vectors, agree within it
CONFIDENCE = 0.95
MOST_NAMED = 20  # rows that are listed


def compare(
    before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return how far predictions agree.

    Two rows agree if they decide the same: labels, spans, answers, filled tokens. Rows that have
    only numbers agree if all of them are close.

    Args:
        before: the rows of the original model.
        after: the rows of the same inputs by the other one.

    Returns:
        rows, agreement (the share of rows that agree), its 95 % interval (Wilson 1927), the largest
        difference between two scores, and the ids of the rows that disagree.
    """
    pairs = list(zip(before, after, strict=True))
    differing = [
        one.get("id", number) for number, (one, other) in enumerate(pairs) if not _agree(one, other)
    ]
    differences = [abs(a - b) for one, other in pairs for a, b in _numbers(one, other)]
    share = 1 - len(differing) / len(pairs)
    return {
        "rows": len(pairs),
        "agreement": share,
        "interval": wilson(len(pairs) - len(differing), len(pairs)),
        "largest_difference": max(differences, default=0.0),
        "disagreeing": differing[:MOST_NAMED],
    }


def wilson(successes: int, trials: int) -> list[float]:
    """Return Wilson's 95 % interval of a share, JASA 22 (1927), pages 209-212."""
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return [max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)]


def _agree(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    first, second = ({key: row[key] for key in row.keys() - {"id"}} for row in (one, other))
    decision = _decision(first)
    if decision is not _NOTHING:
        return bool(decision == _decision(second))
    values, others = list(_leaves(first)), list(_leaves(second))
    return len(values) == len(others) and all(
        math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE)
        for a, b in zip(values, others, strict=True)
    )


_NOTHING = object()


def _decision(value: Any) -> Any:
    """Return a value without numbers that have fractions, and without alternatives."""
    if isinstance(value, float):
        return _NOTHING
    if isinstance(value, Mapping):
        kept = {key: _decision(value[key]) for key in value.keys() - set(ALTERNATIVES)}
        kept = {key: inner for key, inner in kept.items() if inner is not _NOTHING}
        return kept or _NOTHING
    if isinstance(value, list):
        items = [_decision(inner) for inner in value]
        return _NOTHING if items and all(inner is _NOTHING for inner in items) else items
    return value


def _leaves(value: Any) -> Iterator[float]:
    """Yield the numbers in a value, mappings by their keys."""
    if isinstance(value, Mapping):
        for key in sorted(value):
            yield from _leaves(value[key])
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, float):
        yield value


def _numbers(one: Any, other: Any) -> Iterator[tuple[float, float]]:
    """Yield the pairs of numbers at the same place of two values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in one.keys() & other.keys() - set(ALTERNATIVES):
            yield from _numbers(one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for first, second in zip(one, other, strict=True):
            yield from _numbers(first, second)
    elif isinstance(one, float) and isinstance(other, float):
        yield one, other
