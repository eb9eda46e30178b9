"""How far predictions of two forms of a model agree."""

from typing import Any

import pytest

from plcli.runs.parity import compare, wilson

LABEL = {"id": 0, "label": "a", "score": 0.9, "probability": {"a": 0.9, "b": 0.1}}
SPANS = {"id": 0, "spans": [{"label": "x", "start": 0, "end": 3, "score": 0.5}]}
ANSWER = {"id": 0, "answer": "yes", "start": 0, "n_best": [{"answer": "yes", "score": 0.5}]}
FILLS = {"id": 0, "fills": [{"token": "a", "score": 0.5, "candidates": [{"token": "a"}]}]}
VECTOR = {"id": 0, "embedding": [0.5, -0.5]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LABEL, LABEL | {"score": 0.8, "probability": {"a": 0.8, "b": 0.2}}),
        (SPANS, {"id": 0, "spans": [{"label": "x", "start": 0, "end": 3, "score": 0.4}]}),
        (ANSWER, ANSWER | {"n_best": []}),
        (FILLS, {"id": 0, "fills": [{"token": "a", "score": 0.4, "candidates": []}]}),
        (VECTOR, {"id": 0, "embedding": [0.5001, -0.5]}),
        ({"id": 0, "score": 100.0}, {"id": 0, "score": 100.5}),
        ({"id": 0, "labels": []}, {"id": 0, "labels": []}),
    ],
)
def test_rows_that_decide_the_same_agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert compare([one], [other])["agreement"] == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (LABEL, LABEL | {"label": "b"}),
        (SPANS, {"id": 0, "spans": []}),
        (SPANS, {"id": 0, "spans": [{"label": "x", "start": 0, "end": 4, "score": 0.5}]}),
        (ANSWER, ANSWER | {"answer": ""}),
        (FILLS, {"id": 0, "fills": [{"token": "b", "score": 0.5, "candidates": []}]}),
        (VECTOR, {"id": 0, "embedding": [0.6, -0.5]}),
        (VECTOR, {"id": 0, "embedding": [0.5]}),
        ({"id": 0, "score": 100.0}, {"id": 0, "score": 102.0}),
        ({"id": 0, "labels": ["a"]}, {"id": 0, "labels": ["a", "b"]}),
        ({"id": 0, "index": 0}, {"id": 0, "index": 1}),
    ],
)
def test_rows_that_decide_otherwise_disagree(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert compare([one], [other])["agreement"] == 0


def test_rows_that_disagree_are_named() -> None:
    rows = [LABEL | {"id": name} for name in "xyz"]
    assert compare(rows, [rows[0], rows[1] | {"label": "b"}, rows[2]])["disagreeing"] == ["y"]


def test_the_largest_difference_is_that_of_scores() -> None:
    found = compare([LABEL], [LABEL | {"score": 0.85}])
    assert found["largest_difference"] == pytest.approx(0.05)


def test_the_interval_is_wilsons() -> None:
    assert wilson(81, 263) == pytest.approx([0.2553, 0.3662], abs=1e-4)  # Newcombe 1998, table I
