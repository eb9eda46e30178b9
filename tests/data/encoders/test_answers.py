"""answers: windows, labels and bad rows of SQuAD's form; the best spans over all windows."""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from plcli.data.encoders.contexts import ContextEncoder, Fate, parse
from plcli.errors import DataError, ModelError, UsageError
from plcli.metrics.answers import Span as Found
from plcli.metrics.answers import best_spans, choose, no_answer_scores
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
        ('["b"]', r"holds \[\"b\"\], which is not in the form of SQuAD\. Write \{\"text\""),
        ('{"text": ["b"]}', "not in the form of SQuAD"),
        ('{"text": "b", "answer_start": 2}', "not in the form of SQuAD"),
        ('{"text": ["b"], "answer_start": []}', r"1 text and 0 answer_start\. Give one "),
        ('{"text": ["b"], "answer_start": [-2]}', "answer_start -2; expected a number from 0"),
        ('{"text": ["b"], "answer_start": [2.0]}', r"answer_start 2\.0; expected a number"),
        ('{"text": ["b"], "answer_start": [true]}', "answer_start True; expected a number"),
        ('{"text": [""], "answer_start": [2]}', "holds the answer '', which is no text"),
        ('{"text": [5], "answer_start": [2]}', "holds the answer 5, which is no text"),
        (
            '{"text": ["b c"], "answer_start": [4]}',
            r"'b c' stands at 4 in the context, where 'c d' stands\. It stands at 2\. Count char",
        ),
        ('{"text": ["x"], "answer_start": [900]}', r"where '' stands\. It stands nowhere in the"),
    ],
)
def test_bad_answers_are_refused_with_their_row(cell: str, said: str) -> None:
    with pytest.raises(DataError, match=rf"^rows\.jsonl, row 2: column 'answers' .*{said}"):
        encoded(("x", LONG, squad(LONG, "a")), ("x", LONG, cell))


def test_offsets_are_counted_in_characters() -> None:
    context = "éé 😀 b"
    assert parse(squad(context, "b"), context, where=PLACE, column="a") == [(5, "b")]


# spans


def brute_force(
    start: np.ndarray, end: np.ndarray, got: dict[str, Any], *, max_answer: int
) -> list[tuple[int, int]]:
    """Return all spans of one row by their best score, with nothing of plcli."""
    best: dict[tuple[int, int], float] = {}
    for window, (starts, ends) in enumerate(zip(got["char_starts"], got["char_ends"], strict=True)):
        for i in range(len(starts)):
            for j in range(i, min(i + max_answer, len(starts))):
                if starts[i] >= 0 and starts[j] >= 0:
                    span = (int(starts[i]), int(ends[j]))
                    score = float(start[window, i] + end[window, j])
                    best[span] = max(score, best.get(span, -math.inf))
    return sorted(best, key=lambda span: -best[span])


def stacked(cells: Sequence[Any]) -> torch.Tensor:
    """Pad lists on the right with -1."""
    width = max(map(len, cells))
    return torch.tensor([[*map(int, cell), *[-1] * (width - len(cell))] for cell in cells])


@pytest.mark.parametrize("max_answer", [1, 3, 50])
def test_the_best_spans_are_those_of_a_search_of_all(max_answer: int) -> None:
    got = encoded(("x y", LONG))
    starts, ends = stacked(got["char_starts"]), stacked(got["char_ends"])
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, *starts.shape, generator=generator)
    spans = best_spans(
        *logits,
        char_starts=starts,
        char_ends=ends,
        owners=torch.zeros(len(starts), dtype=torch.long),
        contexts=[LONG],
        n_best=9,
        max_answer=max_answer,
    )[0]
    expected = brute_force(*logits.numpy(), got, max_answer=max_answer)[:9]
    assert [(span.start, span.end) for span in spans] == expected


def test_every_row_has_the_spans_of_its_own_windows() -> None:
    got = encoded(("x y", LONG), ("x", "b"))
    starts, ends = stacked(got["char_starts"]), stacked(got["char_ends"])
    spans = best_spans(
        torch.zeros(starts.shape),
        torch.zeros(starts.shape),
        char_starts=starts,
        char_ends=ends,
        owners=torch.tensor(got["row"]),
        contexts=[LONG, "b"],
        n_best=3,
        max_answer=2,
    )
    assert [(span.start, span.end) for span in spans[1]] == [(0, 1)]


def test_a_span_has_no_blanks_at_its_ends() -> None:
    spans = best_spans(
        torch.zeros(1, 1),
        torch.zeros(1, 1),
        char_starts=torch.tensor([[1]]),
        char_ends=torch.tensor([[4]]),
        owners=torch.tensor([0]),
        contexts=["a b c"],
        n_best=3,
        max_answer=2,
    )
    assert spans == [[Found(2, 3, 0.0)]]


@pytest.mark.parametrize("mask", [[1, 1, 0], [0, 1, 1]])
def test_no_answer_has_the_lowest_score_of_a_rows_first_tokens(mask: list[int]) -> None:
    position = mask.index(1)
    logits = torch.zeros(3, 3)
    logits[:, position] = torch.tensor([1.0, 0.5, 7.0])
    scores = no_answer_scores(
        logits,
        2 * logits,
        attention_mask=torch.tensor([mask] * 3),
        owners=torch.tensor([0, 0, 1]),
        rows=2,
    )
    assert scores == [1.5, 21.0]


SPANS = [Found(0, 1, 2.0), Found(2, 3, 1.0)]


def test_probabilities_are_shared_out_among_the_best_spans() -> None:
    row = choose("a b c", SPANS, None, threshold=0.0)
    expected = torch.tensor([2.0, 1.0]).softmax(0).tolist()
    assert [entry["score"] for entry in row["n_best"]] == pytest.approx(expected)


@pytest.mark.parametrize(("threshold", "text"), [(0.4, ""), (0.6, "a")])
def test_no_answer_is_given_from_a_difference_of_scores(threshold: float, text: str) -> None:
    row = choose("a b c", SPANS, 2.5, threshold=threshold)
    assert row["answer"] == text


def test_an_empty_context_has_the_empty_answer() -> None:
    row = choose("", [], None, threshold=0.0)
    assert (row["answer"], row["start"], row["end"], row["score"]) == ("", 0, 0, 1.0)


def test_a_tokenizer_without_special_tokens_and_types_has_windows() -> None:
    words = word_tokenizer(unk_token="<unk>", pad_token="</s>")
    got = encoded(("thank you", "the parcel is late"), max_length=5, stride=1, tokenizer=words)
    assert [starts.tolist() for starts in got["char_starts"]] == [
        [-1, -1, 0, 4, 11],
        [-1, -1, 11, 14],
    ]
