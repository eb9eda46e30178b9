"""Rows that stand in training and in another split are counted."""

from pathlib import Path

from plcli.data import leakage as overlap
from plcli.data import rows
from plcli.data.cells import Kind
from tests.conftest import write_rows


def loaded(path: str, texts: list[str]) -> rows.Rows:
    """Write texts and read them."""
    write_rows(Path(path), [{"text": text} for text in texts])
    return rows.load(path, {"text": Kind.TEXT})


def test_rows_of_another_split_that_stand_in_training_are_counted() -> None:
    train, other = loaded("train.csv", ["a", "b", "c", "a"]), loaded("test.csv", ["a", "x", "a"])
    hashes = {"test": overlap.hashes(other, ["text"], None)}
    assert overlap.counted(train, ["text"], None, hashes) == {"test": 2}


def test_rows_of_words_are_counted_too() -> None:
    both = [
        rows.from_values([{"w": words.split()} for words in texts], {"w": Kind.WORDS}, source="w")
        for texts in (["a b", "c"], ["a b", "ab"])
    ]
    hashes = {"test": overlap.hashes(both[1], ["w"], None)}
    assert overlap.counted(both[0], ["w"], None, hashes) == {"test": 1}


def test_many_rows_are_counted_over_all_parts() -> None:
    texts = [f"row {number}" for number in range(20_000)]
    train, other = loaded("train.csv", texts), loaded("test.csv", texts[::2] + ["x"] * 5)
    hashes = {"test": overlap.hashes(other, ["text"], None)}
    assert overlap.counted(train, ["text"], None, hashes) == {"test": 10_000}
