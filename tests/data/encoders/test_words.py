"""Words and texts with spans: windows, and which token stands for a word."""

from pathlib import Path
from typing import Any

import pytest

from plcli.data.encoders.words import WordEncoder
from plcli.data.tagging import Tagging, tags_of
from plcli.errors import UsageError
from plcli.pretrained.label_ids import IGNORED
from tests.data.test_tagging import BIO, spelt
from tests.tiny import bert_tokenizer, word_tokenizer

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
