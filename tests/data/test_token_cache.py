"""encoding: the tokens of the tokenizer's own call, made once, padded to a batch's longest row."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from plcli.data import rows
from plcli.data.cells import Kind
from plcli.data.rows import Rows
from plcli.data.token_cache import Encoded, encode
from tests.tiny import bert_tokenizer, word_tokenizer

FIRST = ["the invoices is wrong", "", "late", "thank you the parcel is late late late", "THE é xyz"]
SECOND = ["thank you", "the parcel is late", "", "wrong invoice the parcel", "you"]


def byte_tokenizer() -> Any:
    """Build a tokenizer that transformers runs in Python."""
    from transformers import ByT5Tokenizer

    return ByT5Tokenizer()


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "BERT": bert_tokenizer,
    "BERT, cut left": lambda: bert_tokenizer(truncation_side="left"),
    "without special tokens": lambda: word_tokenizer(unk_token="<unk>", pad_token="</s>"),
    "in Python": byte_tokenizer,
}
EVERY_TOKENIZER = pytest.mark.parametrize("name", list(TOKENIZERS))


def make_rows(first: Sequence[str] = FIRST, second: Sequence[str] | None = None) -> Rows:
    """Make rows of a column first and a column second."""
    values = [
        {"first": a, "second": b} for a, b in zip(first, second or [""] * len(first), strict=True)
    ]
    return rows.from_values(values, {"first": Kind.TEXT, "second": Kind.TEXT}, source="typed")


def encode_texts(
    texts: Sequence[str] = FIRST, *, tokenizer: Any = None, max_length: int = 8
) -> Encoded:
    """Encode the column first."""
    return encode(make_rows(texts), ["first"], tokenizer or bert_tokenizer(), max_length=max_length)


def as_lists(batch: dict[str, torch.Tensor]) -> dict[str, list[list[int]]]:
    return {name: tensor.tolist() for name, tensor in batch.items()}


def own_call(tokenizer: Any, *texts: Sequence[str], max_length: int) -> dict[str, Any]:
    return dict(tokenizer(*texts, truncation=True, max_length=max_length, padding=True))


# the same tokens


@EVERY_TOKENIZER
@pytest.mark.parametrize("max_length", [5, 64])
def test_the_tokens_of_a_text_are_those_of_the_tokenizers_own_call(
    name: str, max_length: int
) -> None:
    batch = encode_texts(tokenizer=TOKENIZERS[name](), max_length=max_length).batch(range(5))
    assert as_lists(batch) == own_call(TOKENIZERS[name](), FIRST, max_length=max_length)


@EVERY_TOKENIZER
@pytest.mark.parametrize("max_length", [7, 64])
def test_the_tokens_of_a_pair_are_those_of_the_tokenizers_own_call(
    name: str, max_length: int
) -> None:
    pairs = make_rows(FIRST, SECOND)
    encoded = encode(pairs, ["first", "second"], TOKENIZERS[name](), max_length=max_length)
    expected = own_call(TOKENIZERS[name](), FIRST, SECOND, max_length=max_length)
    assert as_lists(encoded.batch(range(5))) == expected


def test_the_columns_of_a_pair_stand_in_the_order_that_is_asked_for() -> None:
    encoded = encode(
        make_rows(["late"], ["wrong"]), ["second", "first"], bert_tokenizer(), max_length=8
    )
    expected = bert_tokenizer()("wrong", "late")["input_ids"]
    assert encoded.batch([0])["input_ids"][0].tolist() == expected


def test_a_model_that_takes_no_token_types_gets_none_for_a_pair() -> None:
    tokenizer = word_tokenizer(unk_token="<unk>", pad_token="</s>")
    encoded = encode(make_rows(FIRST, SECOND), ["first", "second"], tokenizer, max_length=8)
    assert set(encoded.batch([0])) == {"input_ids", "attention_mask"}


def test_all_tensors_are_of_whole_numbers_of_64_bits() -> None:
    batch = encode(
        make_rows(FIRST, SECOND), ["first", "second"], bert_tokenizer(), max_length=8
    ).batch([0, 1])
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_rows_beyond_the_first_stored_piece_are_found() -> None:
    texts = ["the"] * 9000  # a piece holds 8192
    texts[8192], texts[8999] = "invoice", "parcel"
    ids = encode_texts(texts).batch([8999, 8191, 8192])["input_ids"]
    expected = own_call(bert_tokenizer(), ["parcel", "the", "invoice"], max_length=8)
    assert ids.tolist() == expected["input_ids"]


def test_encoding_leaves_the_tokenizers_own_call_as_it_was() -> None:
    tokenizer = bert_tokenizer()
    encode_texts(tokenizer=tokenizer, max_length=3)
    assert tokenizer(FIRST[0]) == bert_tokenizer()(FIRST[0])


def test_a_tokenizer_that_was_set_to_pad_does_not_pad_the_stored_rows() -> None:
    tokenizer = bert_tokenizer()
    tokenizer(["late"], padding="max_length", truncation=True, max_length=6)
    assert encode_texts(["late"], tokenizer=tokenizer).lengths.tolist() == [3]


# lengths and padding


def test_lengths_are_tokens_a_row() -> None:
    assert encode_texts(["late", "the invoice is late"]).lengths.tolist() == [3, 6]


def test_a_row_is_a_length() -> None:
    assert len(encode_texts(["late", "the"])) == 2


@pytest.mark.parametrize(("indices", "width"), [([0, 2], 4), ([1, 0], 7), ([2], 3)])
def test_a_batch_is_as_wide_as_its_own_longest_row(indices: list[int], width: int) -> None:
    encoded = encode_texts(["the invoice", "the invoice is wrong late", "the"])
    assert encoded.batch(indices)["input_ids"].shape == (len(indices), width)


def test_the_mask_covers_the_tokens_alone() -> None:
    mask = encode_texts(["the", "the invoice is"]).batch([0, 1])["attention_mask"]
    assert mask.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]


def classified_last(**settings: Any) -> Any:
    """Build a tokenizer with [CLS] at the end of a text, as XLNet's."""
    tokenizer = bert_tokenizer(**settings)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A [SEP] [CLS]",
        pair="$A [SEP] $B [SEP] [CLS]",
        special_tokens=[("[SEP]", 3), ("[CLS]", 2)],
    )
    return tokenizer


@pytest.mark.parametrize(
    ("build", "first"), [(bert_tokenizer, [1, 1, 1, 0, 0]), (classified_last, [0, 0, 1, 1, 1])]
)
def test_padding_goes_left_only_where_the_last_token_is_classified(
    build: Callable[..., Any], first: list[int]
) -> None:
    encoded = encode_texts(["the", "the invoice is"], tokenizer=build(padding_side="left"))
    assert encoded.batch([0, 1])["attention_mask"].tolist() == [first, [1, 1, 1, 1, 1]]


def test_padding_is_the_tokenizers_padding_token() -> None:
    tokenizer = bert_tokenizer(pad_token="[MASK]")
    ids = encode_texts(["the", "the invoice"], tokenizer=tokenizer).batch([0, 1])["input_ids"]
    assert ids[0, -1] == tokenizer.mask_token_id


# truncation


@EVERY_TOKENIZER
def test_no_row_is_longer_than_max_length(name: str) -> None:
    assert encode_texts(tokenizer=TOKENIZERS[name](), max_length=4).lengths.max() == 4


@EVERY_TOKENIZER
def test_the_rows_that_were_cut_are_counted(name: str) -> None:
    whole = [len(ids) for ids in TOKENIZERS[name]()(FIRST)["input_ids"]]
    encoded = encode_texts(tokenizer=TOKENIZERS[name](), max_length=6)
    assert encoded.truncated.sum() == sum(length > 6 for length in whole)


def test_a_row_of_just_max_length_is_not_counted_as_cut() -> None:
    assert encode_texts(["the invoice is", "the"], max_length=5).truncated.sum() == 0


def test_a_pair_whose_second_text_is_cut_is_counted() -> None:
    pairs = make_rows(["the", "the"], ["late", "the parcel is late you"])
    encoded = encode(pairs, ["first", "second"], bert_tokenizer(), max_length=6)
    assert encoded.truncated.sum() == 1


def test_the_count_of_cut_rows_comes_from_the_cache_too() -> None:
    encode_texts(max_length=4)
    assert encode_texts(max_length=4).truncated.sum() == 3


# once


class Counting:
    """An object that counts the calls of its encode methods, its backend's among them."""

    def __init__(self, inner: Any, calls: list[str]) -> None:
        self._inner, self._calls = inner, calls

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if name == "backend_tokenizer":
            return Counting(value, self._calls)
        if name.startswith(("encode", "batch_encode")):
            self._calls.append(name)
        return value

    def __call__(self, *texts: Any, **settings: Any) -> Any:
        self._calls.append("__call__")
        return self._inner(*texts, **settings)


def calls_of_second_encode(
    *,
    texts: Sequence[str] = FIRST,
    columns: Sequence[str] = ("first",),
    max_length: int = 8,
    **tokenizer_settings: Any,
) -> int:
    """Encode FIRST with BERT's tokenizer, then this; return how often the second one tokenises."""
    encode_texts()
    calls: list[str] = []
    counting = Counting(bert_tokenizer(**tokenizer_settings), calls)
    encode(make_rows(texts), columns, counting, max_length=max_length)
    return len(calls)


def test_a_second_encode_does_not_tokenise() -> None:
    assert calls_of_second_encode() == 0


def test_a_tokenizer_that_was_used_meanwhile_does_not_tokenise_again() -> None:
    encode_texts()
    calls: list[str] = []
    tokenizer = bert_tokenizer()
    tokenizer("the", truncation=True, max_length=3)
    encode_texts(tokenizer=Counting(tokenizer, calls))
    assert calls == []


def test_padding_on_the_other_side_does_not_tokenise_again() -> None:
    assert calls_of_second_encode(padding_side="left") == 0


def test_a_tokenizer_in_python_tokenises_once_too() -> None:
    encode_texts(tokenizer=byte_tokenizer())
    calls: list[str] = []
    encode_texts(tokenizer=Counting(byte_tokenizer(), calls))
    assert calls == []


CHANGES: dict[str, dict[str, Any]] = {
    "row": {"texts": [*FIRST[:-1], "the"]},
    "order of rows": {"texts": FIRST[::-1]},
    "column": {"columns": ["second"]},
    "second column": {"columns": ["first", "second"]},
    "max_length": {"max_length": 9},
    "word of the tokenizer": {"words": ["the", "late"]},
    "capitals of the tokenizer": {"do_lower_case": False},
    "side that is cut": {"truncation_side": "left"},
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_a_change_is_tokenised(what: str) -> None:
    assert calls_of_second_encode(**CHANGES[what]) > 0


def test_the_other_side_is_cut_though_the_cache_holds_the_first() -> None:
    text = ["the invoice is wrong"]
    encode_texts(text, max_length=4)
    ids = encode_texts(text, tokenizer=bert_tokenizer(truncation_side="left"), max_length=4)
    expected = own_call(bert_tokenizer(truncation_side="left"), text, max_length=4)["input_ids"]
    assert ids.batch([0])["input_ids"].tolist() == expected


def test_the_cache_may_be_named_in_the_call() -> None:
    encode(make_rows(), ["first"], bert_tokenizer(), max_length=8, cache=Path("elsewhere"))
    assert not Path("cache").exists()
