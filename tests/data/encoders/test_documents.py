"""Documents in blocks: where they are cut, and what a token stands for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plcli.data.cells import Kind
from plcli.data.encoders.documents import (
    Blocks,
    DocumentEncoder,
    attention_mask,
    byte_counts,
    padded,
)
from plcli.data.fitted_tokenizers import fit
from plcli.data.rows import from_values, load
from plcli.data.token_cache import Encoded, encode
from plcli.errors import DataError, ModelError, UsageError
from tests.tiny import bert_tokenizer, word_tokenizer

LENGTHS = np.array([5, 0, 3, 1], np.int32)
TEXTS = ["the invoice is wrong", "", "parcel late thank", "you"]


@pytest.fixture
def encoded(tmp_path: Path) -> Encoded:
    """Documents of as many tokens as LENGTHS says, the end token included."""
    tokenizer = word_tokenizer(pad_token="</s>", eos_token="</s>")
    rows = from_values([{"text": text} for text in TEXTS], {"text": Kind.TEXT}, source="here")
    encoder = DocumentEncoder(tokenizer, special=False, end=None)
    return encode(rows, ["text"], tokenizer, encoder=encoder, cache=tmp_path)


def cut(lengths: np.ndarray[Any, Any] = LENGTHS, **settings: Any) -> list[tuple[int, int]]:
    """Return the row in which each block begins, and its length."""
    blocks = Blocks(lengths, settings.pop("rows", None), **settings)
    return list(zip(blocks.rows.tolist(), blocks.lengths.tolist(), strict=True))


def test_a_block_does_not_go_on_in_the_next_document() -> None:
    assert cut(size=2) == [(0, 2), (0, 2), (0, 1), (2, 2), (2, 1), (3, 1)]


def test_joined_documents_fill_their_blocks_but_for_the_last() -> None:
    assert cut(size=4, joined=True) == [(0, 4), (0, 4), (3, 1)]


def test_of_a_whole_document_the_first_block_is_used() -> None:
    assert cut(size=2, whole=True) == [(0, 2), (2, 2), (3, 1)]


def test_documents_whose_end_is_left_out_are_counted() -> None:
    assert Blocks(LENGTHS, None, size=4, whole=True).num_cut == 1


def test_what_is_too_short_is_left_out() -> None:
    assert cut(size=2, least=2) == [(0, 2), (0, 2), (2, 2)]


def test_a_block_of_which_nothing_but_the_first_token_is_learnt_is_left_out() -> None:
    learnt = np.zeros(LENGTHS.sum(), np.uint8)
    learnt[[2, 6]] = 1  # the first token of a block, and the second of another
    blocks = Blocks(LENGTHS, None, size=2, in_loss=learnt)
    assert (blocks.rows.tolist(), blocks.num_without_targets) == ([2], 5)


def test_only_the_rows_of_the_split_are_cut() -> None:
    assert cut(size=4, rows=np.array([2, 3])) == [(2, 3), (3, 1)]


def test_only_the_rows_of_the_split_are_joined(encoded: Encoded) -> None:
    blocks = Blocks(encoded.lengths, np.array([0, 3]), size=3, joined=True)
    taken = [blocks.take(encoded, "input_ids", number).tolist() for number in range(len(blocks))]
    assert taken == [
        encoded.numbers("input_ids", 0)[:3].tolist(),
        [*encoded.numbers("input_ids", 0)[3:], *encoded.numbers("input_ids", 3)],
    ]


@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_blocks_hold_every_token_once_and_in_order(
    encoded: Encoded, joined: bool, size: int
) -> None:
    blocks = Blocks(encoded.lengths, None, size=size, joined=joined)
    taken = [blocks.take(encoded, "input_ids", number) for number in range(len(blocks))]
    whole = [encoded.numbers("input_ids", row) for row in range(len(TEXTS))]
    assert np.concatenate(taken).tolist() == np.concatenate(whole).tolist()


def test_blocks_say_how_many_there_are() -> None:
    said = "4 rows in 3 blocks of at most 4 tokens, 9 in all"
    assert str(Blocks(LENGTHS, None, size=4, joined=True)) == said


# tokens and bytes


@pytest.mark.parametrize(
    "text", ["a plain text", "Käse für 5 €", "😀 twice 😀", "  blanks around \n", "日本語", "x", ""]
)
@pytest.mark.parametrize("kind", ["bytes", "wordpiece"])
def test_the_bytes_of_the_tokens_are_those_of_the_text(
    tmp_path: Path, kind: Any, text: str
) -> None:
    tokenizer = fit(
        kind,
        lambda: iter(["a text of words"]),
        vocab_size=300,
        max_length=9,
        key="k",
        cache=tmp_path,
    )
    offsets = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).offsets
    assert byte_counts(text, offsets).sum() == len(text.encode())


def test_a_character_of_several_tokens_counts_for_the_first() -> None:
    assert byte_counts("a€b", [(0, 1), (1, 2), (1, 2), (1, 2), (2, 3)]).tolist() == [1, 3, 0, 0, 1]


def test_special_tokens_stand_for_no_bytes() -> None:
    assert byte_counts("ab c", [(0, 0), (0, 2), (3, 4), (0, 0)]).tolist() == [0, 2, 2, 0]


def test_the_first_piece_of_a_word_begins_it(tmp_path: Path) -> None:
    encoder = DocumentEncoder(bert_tokenizer(), special=False, end=3)
    values = encoder([["parcels thank you"]], lambda row: "")
    assert np.asarray(values["begins"][0]).tolist() == [1, 0, 1, 1, 1]  # parcel ##s thank you end


def test_an_end_token_is_added_once() -> None:
    tokenizer = bert_tokenizer()
    encoder = DocumentEncoder(tokenizer, special=True, end=tokenizer.sep_token_id)
    assert encoder([["you"]], lambda row: "")["input_ids"][0].count(tokenizer.sep_token_id) == 1


def test_blocks_of_another_size_need_no_new_tokens(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(pad_token="</s>")
    rows = from_values([{"text": "the invoice"}], {"text": Kind.TEXT}, source="here")
    for length in (8, 16):
        tokenizer.model_max_length = length
        encoder = DocumentEncoder(tokenizer, special=False, end=1)
        encode(rows, ["text"], tokenizer, encoder=encoder, cache=tmp_path)
    assert len(list((tmp_path / "tokens").glob("*.arrow"))) == 1


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow:
        is_fast = False

    with pytest.raises(ModelError, match=r"language models need a tokenizer with a tokenizer.json"):
        DocumentEncoder(Slow(), special=True, end=None)


def test_cells_are_padded_at_the_right_or_left() -> None:
    cells = [np.array([5, 6]), np.array([7])]
    assert padded(cells, 0).tolist() == [[5, 6], [7, 0]]
    assert padded(cells, 0, left=True).tolist() == [[5, 6], [0, 7]]


def test_a_mask_says_where_tokens_stand() -> None:
    cells = [np.array([0, 0]), np.array([0])]
    assert attention_mask(cells, left=True).tolist() == [[1, 1], [0, 1]]


# documents of a text file

PROSE = "First line\nsecond line\n\n\n  \nAnother one\r\nends\n"


@pytest.mark.parametrize(
    ("documents", "texts"),
    [
        ("lines", ["First line", "second line", "", "", "  ", "Another one", "ends"]),
        ("paragraphs", ["First line\nsecond line", "Another one\r\nends"]),
        ("file", [PROSE]),
    ],
)
def test_a_text_file_is_taken_apart_as_it_is_asked_for(
    tmp_path: Path, documents: Any, texts: list[str]
) -> None:
    (tmp_path / "prose.txt").write_bytes(PROSE.encode())
    rows = load(str(tmp_path / "prose.txt"), {"text": Kind.TEXT}, documents=documents)
    assert rows.table.column("text").to_pylist() == texts


def test_a_paragraph_is_named_by_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "prose.txt").write_bytes(b"one\n\ntwo\nthr\0ee\n")
    with pytest.raises(DataError, match=r"prose.txt, line 3: column 'text' contains a NUL"):
        load(str(tmp_path / "prose.txt"), {"text": Kind.TEXT}, documents="paragraphs")


def test_rows_of_a_table_are_documents_already(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UsageError, match=r"data.documents: file is for .txt files; each row of"):
        load(str(tmp_path / "rows.jsonl"), {"text": Kind.TEXT}, documents="file")
