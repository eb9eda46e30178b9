"""Questions with contexts: windows, labels and bad rows of SQuAD's form."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from plcli.data.encoders.contexts import ContextEncoder, Fate, parse
from plcli.errors import DataError, ModelError, UsageError
from tests.tiny import bert_tokenizer, word_tokenizer

LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{letter}" for letter in "abcdefghijk")]
LONG = "a b c d e f g h i j k l m n o p q r s t"  # twenty tokens
PLACE = "rows.jsonl, row 1"


def where(position: int) -> str:
    return f"rows.jsonl, row {position + 1}"


def tokenizer(**settings: Any) -> Any:
    """Build a tokenizer that knows letters."""
    return bert_tokenizer(words=LETTERS, **settings)


def squad(context: str, *answers: str) -> str:
    """Return answers as a column holds them."""
    return json.dumps({"text": answers, "answer_start": [context.index(a) for a in answers]})


def encoded(
    *rows: tuple[str, ...], max_length: int = 12, stride: int = 3, **settings: Any
) -> dict[str, Any]:
    """Encode rows of question, context and perhaps answers."""
    encoder = ContextEncoder(
        settings.pop("tokenizer", None) or tokenizer(),
        max_length=max_length,
        stride=stride,
        answers="answers" if len(rows[0]) == 3 else None,
    )
    return dict(encoder(list(zip(*rows, strict=True)), where))


# windows


def test_the_windows_are_those_of_the_tokenizers_own_call() -> None:
    own = tokenizer()(
        ["x y", "z"],
        [LONG, "a b"],
        truncation="only_second",
        max_length=12,
        stride=3,
        return_overflowing_tokens=True,
    )
    got = encoded(("x y", LONG), ("z", "a b"))
    assert (got["input_ids"], got["row"]) == (own["input_ids"], own["overflow_to_sample_mapping"])


@pytest.mark.parametrize(
    "make", [tokenizer, lambda: word_tokenizer(unk_token="<unk>", pad_token="</s>")]
)
def test_token_types_of_every_window_part_question_and_context(make: Callable[[], Any]) -> None:
    got = encoded(("x y", "the parcel is late " * 9), max_length=20, tokenizer=make())
    for types, starts in zip(got["token_type_ids"], got["char_starts"], strict=True):
        first = int(np.argmax(starts >= 0))
        assert types == [0] * first + [1] * (len(starts) - first)


def test_characters_of_tokens_outside_of_the_context_are_marked() -> None:
    got = encoded(("x y", "a bc"))
    assert (got["char_starts"][0].tolist(), got["char_ends"][0].tolist()) == (
        [-1, -1, -1, -1, 0, 2, 3, -1],
        [-1, -1, -1, -1, 1, 3, 4, -1],
    )


def test_blanks_before_a_question_change_nothing() -> None:
    assert encoded(("  x y", LONG))["input_ids"] == encoded(("x y", LONG))["input_ids"]


def test_a_question_is_cut_where_it_leaves_no_room() -> None:
    got = encoded((LONG, LONG), ("x y", LONG))
    assert got["input_ids"][0][:5] == encoded(("a b c", LONG))["input_ids"][0][:5]


def test_a_cut_question_is_counted() -> None:
    got = encoded((LONG, "a"), ("x y", "a"))
    assert got["question_cut"] == [True, False]


def test_an_empty_context_has_one_window() -> None:
    assert encoded(("x", ""))["char_starts"][0].tolist() == [-1, -1, -1, -1]


def test_a_stride_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^data\.stride: 8 tokens .* in 12 .* to 7 or less\.$"):
        encoded(("x", LONG), stride=8)


def test_a_length_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^data\.stride: 0 .* Raise data\.max_length\.$"):
        encoded(("x", LONG), max_length=4, stride=0)


def test_a_tokenizer_in_python_is_refused() -> None:
    from transformers import ByT5Tokenizer

    with pytest.raises(ModelError, match="windows of a context need a tokenizer with"):
        encoded(("x", "a"), tokenizer=ByT5Tokenizer())


# labels


def labels(context: str, text: str, **settings: Any) -> list[str | None]:
    """Return what the labels of each window cover."""
    got = encoded(("x y", context, squad(context, text)), **settings)
    columns = (got[name] for name in ("first_token", "last_token", "char_starts", "char_ends"))
    return [
        context[starts[first] : ends[last]] if (first, last) != (0, 0) else None
        for first, last, starts, ends in zip(*columns, strict=True)
    ]


def test_labels_cover_the_answer_in_every_window_that_holds_it() -> None:
    # Windows of seven tokens: a-g, e-k, i-o, m-s, q-t.
    assert labels(LONG, "f g") == ["f g", "f g", None, None, None]


def test_a_window_that_holds_a_part_of_the_answer_has_the_first_token() -> None:
    assert labels(LONG, "c d e f g h") == [None] * 5


def test_labels_hold_the_tokens_that_an_answer_begins_and_ends_inside() -> None:
    assert labels("a bzz c", "b") == ["bzz"]


def test_the_first_of_several_answers_is_learnt() -> None:
    got = encoded(("x", LONG, squad(LONG, "c", "a")), max_length=64)
    assert got["char_starts"][0][got["first_token"][0]] == LONG.index("c")


@pytest.mark.parametrize(
    ("context", "texts", "fate"),
    [
        (LONG, ["b"], Fate.WHOLE),
        (LONG, [], Fate.NO_ANSWER),
        ("a bzz c", ["b"], Fate.INSIDE_TOKENS),
        (LONG, ["c d e f g h i j k"], Fate.IN_NO_WINDOW),
    ],
)
def test_what_becomes_of_an_answer_is_noted(context: str, texts: list[str], fate: Fate) -> None:
    assert set(encoded(("x y", context, squad(context, *texts)))["fate"]) == {fate}


def test_the_tokens_of_an_answer_are_counted() -> None:
    assert set(encoded(("x y", LONG, squad(LONG, "b c d")))["answer_tokens"]) == {3}


# rows that are refused


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ('["b"]', r"contains \[\"b\"\], which is not in SQuAD format\. Write \{\"text\""),
        ('{"text": ["b"]}', "not in SQuAD format"),
        ('{"text": "b", "answer_start": 2}', "not in SQuAD format"),
        ('{"text": ["b"], "answer_start": []}', r"1 text and 0 answer_start\. Give one "),
        ('{"text": ["b"], "answer_start": [-2]}', "answer_start -2; expected a number from 0"),
        ('{"text": ["b"], "answer_start": [2.0]}', r"answer_start 2\.0; expected a number"),
        ('{"text": ["b"], "answer_start": [true]}', "answer_start True; expected a number"),
        ('{"text": [""], "answer_start": [2]}', "contains the answer '', which is not text"),
        ('{"text": [5], "answer_start": [2]}', "contains the answer 5, which is not text"),
        (
            '{"text": ["b c"], "answer_start": [4]}',
            r"'b c' is at 4 in the context, but 'c d' is there\. It is at 2\. Count char",
        ),
        ('{"text": ["x"], "answer_start": [900]}', r"but '' is there\. It is not in the"),
    ],
)
def test_bad_answers_are_refused_with_their_row(cell: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"^rows\.jsonl, row 2: column 'answers' .*{said}"):
        encoded(("x", LONG, squad(LONG, "a")), ("x", LONG, cell))


def test_offsets_are_counted_in_characters() -> None:
    context = "éé 😀 b"
    assert parse(squad(context, "b"), context, where=PLACE, column="a") == [(5, "b")]


# spans


def test_a_tokenizer_without_special_tokens_and_types_has_windows() -> None:
    words = word_tokenizer(unk_token="<unk>", pad_token="</s>")
    got = encoded(("thank you", "the parcel is late"), max_length=5, stride=1, tokenizer=words)
    assert [starts.tolist() for starts in got["char_starts"]] == [
        [-1, -1, 0, 4, 11],
        [-1, -1, 11, 14],
    ]
