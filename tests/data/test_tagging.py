"""Tags taken apart into spans and spelt, against seqeval; cells of spans that are read."""

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from plcli.data.tagging import Tagging
from plcli.data.tagging import read as read_spans
from plcli.errors import DataError

BIO = ["B-x", "B-y", "I-x", "I-y", "O"]
PLAIN = ["O", "x", "y"]


def rows_of(names: Sequence[str], *, rows: int = 300, seed: int = 0) -> list[list[str]]:
    """Return rows of random tags."""
    generator = random.Random(seed)
    return [generator.choices(names, k=generator.randrange(12)) for _ in range(rows)]


def named(tagging: Tagging, tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """Return the spans of tags as seqeval writes them."""
    found = tagging.spans([tagging.ids[tag] for tag in tags])
    return [(tagging.types[type_], start, end) for start, end, type_ in found]


# tags


def test_spans_of_bio_tags_are_those_of_seqeval_strict() -> None:
    tagging, rows = Tagging(BIO), rows_of(BIO)
    theirs = Entities(rows, IOB2).entities
    assert [named(tagging, row) for row in rows] == [
        [(entity.tag, entity.start, entity.end) for entity in row] for row in theirs
    ]


def test_spans_of_plain_tags_are_runs() -> None:
    tagging = Tagging(PLAIN)
    for row in rows_of(PLAIN):
        lenient = get_entities([tag if tag == "O" else f"I-{tag}" for tag in row])
        assert named(tagging, row) == [(name, start, end + 1) for name, start, end in lenient]


def test_a_type_without_an_inner_tag_has_the_first_for_all_words() -> None:
    tagging = Tagging(["O", "B-p"])
    assert [tagging.tag(0, first=True), tagging.tag(0, first=False)] == [1, 1]


def test_tags_outside_of_every_span_are_counted() -> None:
    tagging, tags = Tagging(BIO), ["I-x", "B-x", "I-x", "I-y", "O", "I-x"]
    assert tagging.strays([tagging.ids[tag] for tag in tags]) == 3


# cells of spans


TEXT = "from Köln to Bonn"


def spelt(*values: Any) -> str:
    """Return a cell."""
    return json.dumps(
        [dict(zip(("start", "end", "label"), v, strict=True)) if isinstance(v, tuple) else v
         for v in values]
    )  # fmt: skip


def test_blanks_around_a_label_are_no_part_of_it() -> None:
    assert read_spans(spelt((5, 9, " from ")), TEXT, "here", "s") == [(5, 9, "from")]


def test_spans_are_read_in_order() -> None:
    cell = spelt((13, 17, "to"), (5, 9, "from"))
    assert read_spans(cell, TEXT, "here", "s") == [(5, 9, "from"), (13, 17, "to")]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("{}", "contains {}, not a list of spans"),
        (spelt((5, 99, "x")), "from 5 to 99, but the text has 17 characters"),
        (spelt((5, 5, "x")), "from 5 to 5. Count the start from 0, and give an exclusive end"),
        (spelt((9, 5, "x")), "from 9 to 5. Count the start from 0, and give an exclusive end"),
        (spelt((-1, 5, "x")), "from -1 to 5. Count the start from 0"),
        (spelt((5, 9, "x"), (8, 17, "y")), "overlapping spans: x 5-9 and y 8-17"),
        (spelt((1.5, 9, "x")), "from 1.5 to 9. Write whole numbers of characters"),
        (spelt(("1", 9, "x")), "from '1' to 9. Write whole numbers of characters"),
        (spelt((True, 9, "x")), "from True to 9. Write whole numbers of characters"),
        (spelt((5, 9, "")), "the label ''. Write a name."),
        (spelt((5, 9, None)), "the label None. Write a name."),
        (spelt({"start": 5}), "the span {'start': 5}. Write an object with start, end and label"),
        (spelt("x"), "the span 'x'. Write an object with start, end and label"),
    ],
)
def test_a_span_that_cannot_be_is_refused(cell: str, said: str) -> None:
    with pytest.raises(DataError, match="^f.jsonl, row 3: column 's' contains ") as caught:
        read_spans(cell, TEXT, "f.jsonl, row 3", "s")
    assert said in str(caught.value)
