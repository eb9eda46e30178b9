"""Tokenizers that are fitted on the data: what they know, and that they are made once."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from plcli.data import fitted_tokenizers
from plcli.pretrained import tokenizers
from tests.tiny import save_tokenizer


def fit(
    *texts: str, key: str = "rows", vocab_size: int = 100, max_length: int = 32, **kept: Path
) -> Any:
    """Fit a tokenizer on these texts."""
    return fitted_tokenizers.fit(
        "wordpiece",
        lambda: iter(texts),
        vocab_size=vocab_size,
        max_length=max_length,
        key=key,
        **kept,
    )


def test_a_fitted_tokenizer_knows_the_words_of_its_texts() -> None:
    assert fit("the invoice is wrong").tokenize("wrong invoice") == ["wrong", "invoice"]


def test_a_fitted_tokenizer_does_not_tell_capitals() -> None:
    assert fit("the invoice").tokenize("THE Invoice") == ["the", "invoice"]


def test_a_fitted_tokenizer_takes_unknown_words_apart() -> None:
    assert "[UNK]" not in fit("the invoice is wrong").tokenize("winner")


def test_a_fitted_tokenizer_puts_berts_special_tokens_around_a_pair() -> None:
    tokenizer = fit("the invoice")
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("the", "invoice")["input_ids"])
    assert pieces == ["[CLS]", "the", "[SEP]", "invoice", "[SEP]"]


def test_a_fitted_tokenizer_tells_the_texts_of_a_pair_apart() -> None:
    assert fit("the invoice")("the", "invoice")["token_type_ids"] == [0, 0, 0, 1, 1]


def test_a_fitted_tokenizer_keeps_to_its_number_of_pieces() -> None:
    texts = [f"{first}{second}" for first in "abcdef" for second in "abcdef"]
    assert len(fit(*texts, vocab_size=25)) == 25


def test_a_fitted_tokenizer_names_the_longest_row() -> None:
    assert fit("the invoice", max_length=17).model_max_length == 17


def test_a_fitted_tokenizer_is_the_same_once_saved_and_loaded() -> None:
    fitted = fit("the invoice is wrong")
    loaded = tokenizers.load_tokenizer(save_tokenizer(fitted))
    assert loaded("The invoices", "wrong")["input_ids"] == fitted("The invoices", "wrong").input_ids


def test_a_fitted_tokenizer_is_the_same_wherever_it_is_fitted() -> None:
    letters = "abcdefgh"
    texts = [f"{a}{b}{c} {c}{a}{b}" for a in letters for b in letters for c in letters]
    vocabularies = [fit(*texts, key=str(number), vocab_size=150).get_vocab() for number in range(4)]
    assert vocabularies.count(vocabularies[0]) == 4  # of pairs alike frequent, the same are taken


def test_a_fitted_tokenizer_takes_no_piece_within_a_word_for_a_special_token() -> None:
    assert "##n" not in fit("the invoice # n").tokenize("invoice ##n")[-2:]


def unread() -> Iterator[str]:
    """Texts that fail the test once they are read."""
    raise AssertionError("the texts were read")
    yield


def test_a_tokenizer_is_fitted_once_for_a_key() -> None:
    first = fit("the invoice is wrong")
    second = fitted_tokenizers.fit("wordpiece", unread, vocab_size=100, max_length=32, key="rows")
    assert second.get_vocab() == first.get_vocab()


def test_a_tokenizer_from_the_cache_names_the_longest_row_of_this_call() -> None:
    fit("the invoice", max_length=32)
    assert fit("the invoice", max_length=17).model_max_length == 17


@pytest.mark.parametrize("changes", [{"key": "other rows"}, {"vocab_size": 99}])
def test_another_key_or_size_is_fitted_anew(changes: dict[str, Any]) -> None:
    fit("the invoice")
    assert fit("parcel", **changes).tokenize("parcel") == ["parcel"]


def test_the_cache_of_fitted_tokenizers_may_be_named_in_the_call() -> None:
    fit("the invoice", cache=Path("elsewhere"))
    assert not Path("cache").exists()
