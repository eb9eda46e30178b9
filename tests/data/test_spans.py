"""Spans: tags taken apart and spelt, cells read, scores against seqeval; windows and words."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from plcli.data.encoders.words import WordEncoder
from plcli.data.tagging import Tagging, tags_of
from plcli.data.tagging import read as read_spans
from plcli.errors import DataError, UsageError
from plcli.metrics import spans
from plcli.metrics.spans import SpanScores
from plcli.pretrained.label_ids import IGNORED
from tests.tiny import bert_tokenizer, word_tokenizer

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


def measured(true: Sequence[Sequence[str]], guessed: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Put tags through the running counts in parts, and return the scores."""
    tagging = Tagging(BIO)
    metric = SpanScores(len(tagging.types))
    for part in (slice(0, 7), slice(7, 8), slice(8, None)):
        both = [
            [tagging.spans([tagging.ids[tag] for tag in tags]) for tags in rows[part]]
            for rows in (true, guessed)
        ]
        pairs = [
            (a, b)
            for x, y in zip(true[part], guessed[part], strict=True)
            for a, b in zip(x, y, strict=True)
        ]
        metric.update(*both, sum(a == b for a, b in pairs), len(pairs))
    return spans.summary(metric.compute(), tagging.types)


@pytest.fixture(scope="module")
def tagged() -> tuple[list[list[str]], list[list[str]]]:
    """True tags, and guesses of which a part is wrong, stray I- among both."""
    true, generator = rows_of(BIO), random.Random(1)
    wrong = [
        [tag if generator.random() < 0.8 else generator.choice(BIO) for tag in row] for row in true
    ]
    return true, wrong


Tagged = tuple[list[list[str]], list[list[str]]]


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


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("precision", precision_score), ("recall", recall_score), ("f1", f1_score)],
)
def test_a_score_is_that_of_seqeval_strict(name: str, theirs: Any, tagged: Tagged) -> None:
    assert measured(*tagged)[name] == pytest.approx(theirs(*tagged, mode="strict", scheme=IOB2))


def test_the_table_of_types_is_that_of_seqeval_strict(tagged: Tagged) -> None:
    theirs = classification_report(*tagged, mode="strict", scheme=IOB2, output_dict=True)
    for name, row in measured(*tagged)["types"].items():
        assert {k.removesuffix("-score"): v for k, v in theirs[name].items()} == pytest.approx(row)


def test_the_accuracy_is_that_of_words(tagged: Tagged) -> None:
    pairs = [(a, b) for x, y in zip(*tagged, strict=True) for a, b in zip(x, y, strict=True)]
    assert measured(*tagged)["accuracy"] == np.mean([a == b for a, b in pairs])


def test_without_spans_scores_are_zero() -> None:
    assert measured([["O"]] * 9, [["O"]] * 9)["f1"] == 0


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
        ("{}", "holds {}, not a list of spans"),
        (spelt((5, 99, "x")), "from 5 to 99, but the text has 17 characters"),
        (spelt((5, 5, "x")), "from 5 to 5; the start is counted from 0, and the end"),
        (spelt((9, 5, "x")), "from 9 to 5; the start is counted from 0, and the end"),
        (spelt((-1, 5, "x")), "from -1 to 5; the start is counted from 0"),
        (spelt((5, 9, "x"), (8, 17, "y")), "spans that overlap: x 5-9 and y 8-17"),
        (spelt((1.5, 9, "x")), "from 1.5 to 9; whole numbers of characters are needed"),
        (spelt(("1", 9, "x")), "from '1' to 9; whole numbers of characters are needed"),
        (spelt((True, 9, "x")), "from True to 9; whole numbers of characters are needed"),
        (spelt((5, 9, "")), "the label ''; a name is needed"),
        (spelt((5, 9, None)), "the label None; a name is needed"),
        (spelt({"start": 5}), "the span {'start': 5}; an object with start, end and label"),
        (spelt("x"), "the span 'x'; an object with start, end and label"),
    ],
)
def test_a_span_that_cannot_be_is_refused(cell: str, said: str) -> None:
    with pytest.raises(DataError, match="^f.jsonl, row 3: column 's' holds ") as caught:
        read_spans(cell, TEXT, "f.jsonl, row 3", "s")
    assert said in str(caught.value)


# windows and words

PIECES = ["a", "b", "c", "##x", "##y", ".", "'"]
LETTERS = ["a", "b", "c"]


def encoded(source: Any, target: Any = None, *, length: int = 8, **settings: Any) -> dict[str, Any]:
    """Encode one row and return its columns, [windows]."""
    given = {"stride": 2, "words": isinstance(source, list), "column": "t", **settings}
    tokenizer = given.pop("tokenizer", None) or bert_tokenizer(words=PIECES)
    tagging = None if target is None else given.pop("tagging", Tagging(BIO))
    encoder = WordEncoder(tokenizer, max_length=length, tagging=tagging, **given)
    cells = [[source]] + ([] if target is None else [[target]])
    return dict(encoder(cells, lambda row: f"f, row {row + 1}"))


def counted(columns: dict[str, Any], name: str) -> list[int]:
    """Return what stands on words, in order."""
    return [int(value) for window in columns[name] for value in window if value != IGNORED]


@pytest.mark.parametrize("stride", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 30])
def test_every_word_counts_once_however_windows_overlap(count: int, stride: int) -> None:
    words = [LETTERS[number % 3] + "xy"[: number % 3] for number in range(count)]
    columns = encoded(words, stride=stride)
    assert counted(columns, "start") == list(range(count))


def test_a_word_counts_where_it_has_most_context() -> None:
    columns = encoded(["a"] * 10)  # six tokens a window, two of them again: 0-5, 4-9
    assert [[v for v in window if v != IGNORED] for window in columns["start"]] == [
        [0, 1, 2, 3, 4],
        [5, 6, 7, 8, 9],
    ]


def test_a_longer_overlap_gives_a_word_more_context() -> None:
    short, long = (encoded(["a"] * 20, stride=stride) for stride in (0, 4))
    assert len(long["input_ids"]) > len(short["input_ids"])


def test_a_word_longer_than_a_window_counts_at_its_first_piece() -> None:
    columns = encoded(["a", "b" + "x" * 20, "c"])
    assert counted(columns, "start") == [0, 1, 2]


def test_labels_stand_on_first_pieces() -> None:
    columns = encoded(["axy", "b"], ["B-x", "I-x"])
    ids = [Tagging(BIO).ids[tag] for tag in ("B-x", "I-x")]
    assert columns["labels"][0].tolist() == [
        IGNORED, ids[0], IGNORED, IGNORED, ids[1], IGNORED,
    ]  # fmt: skip


def test_a_word_without_a_token_is_counted() -> None:
    assert encoded(["a", "", "b"])["tokenless"] == [1]


def test_words_of_a_text_have_their_characters() -> None:
    columns = encoded("axy  b.c", length=20)
    assert counted(columns, "start") == [0, 5, 6, 7]


def test_words_of_a_text_end_after_their_last_piece() -> None:
    columns = encoded("axy  b.c", length=20)
    assert counted(columns, "end") == [3, 6, 7, 8]


def test_punctuation_is_a_word_where_the_tokenizer_parts_at_blanks_alone() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {name: number for number, name in enumerate(["<unk>", "▁", *LETTERS, ".", "▁a"])}
    backend = Tokenizer(models.BPE(pieces, [("▁", "a")], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<unk>")
    columns = encoded("ab. ba", length=20, tokenizer=tokenizer)
    assert list(zip(counted(columns, "start"), counted(columns, "end"), strict=True)) == [
        (0, 2), (2, 3), (4, 6),
    ]  # fmt: skip


def test_a_text_without_a_token_has_one_entry() -> None:
    columns = encoded("", tokenizer=word_tokenizer(pad_token="</s>"))
    assert [len(ids) for ids in columns["input_ids"]] == [1]


def text_labels(text: str, *found: tuple[int, int, str]) -> dict[str, Any]:
    """Encode a text with spans."""
    return encoded(text, spelt(*found), tagging=Tagging(tags_of(["x", "y"])), length=20)


def test_words_that_a_span_covers_are_tagged() -> None:
    columns = text_labels("a bx c b", (2, 6, "x"), (7, 8, "y"))
    names = tags_of(["x", "y"])
    assert [names[label] for label in counted(columns, "labels")] == ["O", "B-x", "I-x", "B-y"]


def test_spans_that_end_inside_a_word_are_counted() -> None:
    assert text_labels("a bx c", (0, 1, "x"), (2, 3, "y"))["unaligned"] == [1]


def test_the_words_of_a_span_that_ends_inside_one_are_tagged() -> None:
    names, columns = tags_of(["x", "y"]), text_labels("a bx c", (2, 3, "y"))
    assert [names[label] for label in counted(columns, "labels")] == ["O", "B-y", "O"]


def test_the_second_of_two_spans_in_a_word_is_lost_and_counted() -> None:
    columns = text_labels("bx", (0, 1, "x"), (1, 2, "y"))
    assert (len(counted(columns, "labels")), columns["unaligned"]) == (1, [2])


def test_true_spans_are_kept_as_they_were_given() -> None:
    assert text_labels("a bx c", (2, 3, "y"))["spans"] == [[2, 3, 1]]


@pytest.mark.parametrize("stride", [-1, 6])
def test_a_stride_that_does_not_move_on_is_refused(stride: int) -> None:
    with pytest.raises(UsageError, match=f"data.stride: got {stride}, expected 0 .* below 6"):
        encoded(["a"], stride=stride)


def test_a_tokenizer_of_bytes_takes_a_word_as_after_a_blank(tmp_path: Path) -> None:
    from plcli.tasks.token_classification import TokenClassificationData

    tokenizer = byte_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    data = TokenClassificationData(
        train="x.jsonl", words="w", tags="t", tokenizer=str(tmp_path), labels=BIO
    )
    encoder = data.encoder("predict")
    ids = encoder([[["ab", "ab"]]], str)["input_ids"][0]
    assert ids == [tokenizer.convert_tokens_to_ids("Ġab")] * 2


def byte_tokenizer() -> Any:
    """Build a fast tokenizer of bytes that puts no blank before a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = {name: number for number, name in enumerate(["</s>", "a", "b", "Ġ", "ab", "Ġab"])}
    backend = Tokenizer(models.BPE(pieces, [("a", "b"), ("Ġ", "ab")]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="</s>", model_max_length=20)
