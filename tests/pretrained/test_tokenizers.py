"""Tokenizers are loaded with a padding token, and have a key that says how they encode."""

from typing import Any

import pytest

from plcli.pretrained import tokenizers
from tests.pretrained.conftest import refused
from tests.tiny import bert_tokenizer, save_tokenizer, word_tokenizer

# loading


def test_a_tokenizer_is_loaded(folder: str) -> None:
    tokenizer = tokenizers.load_tokenizer(folder)
    assert tokenizer.tokenize("the invoices") == ["the", "invoice", "##s"]


@pytest.mark.parametrize(("settings", "pad"), [({"eos_token": "</s>"}, "</s>"), ({}, "<unk>")])
def test_a_tokenizer_without_a_padding_token_takes_one_that_it_has(
    settings: dict[str, str], pad: str
) -> None:
    name = save_tokenizer(word_tokenizer(unk_token="<unk>", **settings))
    assert tokenizers.load_tokenizer(name).pad_token == pad


def test_a_tokenizer_with_nothing_to_pad_with_is_refused() -> None:
    name = save_tokenizer(word_tokenizer())
    message = "the tokenizer of named has no padding token and no token that could be used instead."
    with refused(message):
        tokenizers.load_tokenizer(name)


# keys


def test_tokenizers_that_encode_alike_have_one_key() -> None:
    first, second = bert_tokenizer(), bert_tokenizer()
    assert tokenizers.tokenizer_key(first) == tokenizers.tokenizer_key(second)


def test_using_a_tokenizer_does_not_change_its_key() -> None:
    tokenizer = bert_tokenizer()
    before = tokenizers.tokenizer_key(tokenizer)
    tokenizer("the invoice", truncation=True, max_length=3, padding="max_length")
    assert tokenizers.tokenizer_key(tokenizer) == before


def test_saving_and_loading_a_tokenizer_does_not_change_its_key() -> None:
    tokenizer = bert_tokenizer()
    loaded = tokenizers.load_tokenizer(save_tokenizer(tokenizer))
    assert tokenizers.tokenizer_key(loaded) == tokenizers.tokenizer_key(tokenizer)


@pytest.mark.parametrize(
    "settings",
    [{"words": ["the", "parcel"]}, {"do_lower_case": False}, {"truncation_side": "left"}],
    ids=["words", "capitals", "side that is cut"],
)
def test_tokenizers_that_encode_otherwise_have_another_key(settings: dict[str, Any]) -> None:
    other = bert_tokenizer(**settings)
    assert tokenizers.tokenizer_key(other) != tokenizers.tokenizer_key(bert_tokenizer())
