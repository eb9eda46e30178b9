"""Cells: texts, labels and numbers of all formats, and bad ones refused with their row."""

from typing import Any

import pytest

from plcli.data import rows
from plcli.data.cells import Kind
from tests.data.files import cells, column, refused, texts, write, write_parquet

# cells


def test_a_label_is_spelt_alike_in_csv_and_parquet() -> None:
    sources = [
        write("a.csv", "label\n1\n"),
        write_parquet("a.parquet", {"label": [1.0]}),
        write_parquet("b.parquet", {"label": [1]}),
    ]
    assert column(sources, "label", Kind.NAME) == ["1", "1", "1"]


def test_a_bool_label_is_spelt_alike_in_csv_and_parquet() -> None:
    sources = [write("a.csv", "label\nTrue\n"), write_parquet("a.parquet", {"label": [True]})]
    assert column(sources, "label", Kind.NAME) == ["True", "True"]


def test_a_fraction_is_no_label_name() -> None:
    with refused("typed, row 1: column 'x' contains 2.5, which is not a label name."):
        cells([2.5], Kind.NAME)


def test_spaces_around_a_label_are_no_part_of_it() -> None:
    assert cells([" billing "], Kind.NAME) == ["billing"]


@pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
def test_an_empty_label_is_refused(value: Any) -> None:
    with refused("typed, row 2: column 'x' is empty; a label is needed."):
        cells(["a", value], Kind.NAME)


def test_a_list_of_one_name_is_that_name() -> None:
    assert cells([["a"], "b"], Kind.NAME) == ["a", "b"]


def test_a_list_of_several_names_is_not_one_label() -> None:
    with refused(
        "typed, row 1: column 'x' contains ['a', 'b']; one label is needed. Correct the row, or "
        "set data.problem: multi_label for several."
    ):
        cells([["a", "b"]], Kind.NAME)


def test_label_names_come_from_a_list_or_from_text_with_commas() -> None:
    assert cells([["a", "b"], "a, , b", [], ""], Kind.NAMES) == [["a", "b"], ["a", "b"], [], []]


def test_a_cell_of_label_names_that_is_a_number_is_refused() -> None:
    with refused("typed, row 1: column 'x' contains 3, not a list of names."):
        cells([3], Kind.NAMES)


def test_an_empty_name_among_label_names_is_refused() -> None:
    with refused("typed, row 1: column 'x' is empty; a label is needed."):
        cells([["a", None]], Kind.NAMES)


def test_numbers_are_read_from_text_and_numbers() -> None:
    assert cells(["1.5", 2, " -3 ", True], Kind.NUMBER) == [1.5, 2.0, -3.0, 1.0]


@pytest.mark.parametrize("value", ["1,5", "", None, "many"])
def test_a_cell_that_is_no_number_is_refused(value: Any) -> None:
    with refused(f"typed, row 2: column 'x' contains {value!r}, which is not a number."):
        cells([1, value], Kind.NUMBER)


@pytest.mark.parametrize("value", ["nan", float("inf"), "-inf"])
def test_a_number_that_is_not_finite_is_refused(value: Any) -> None:
    with refused(f"typed, row 1: column 'x' contains {value!r}; a finite number is needed."):
        cells([value], Kind.NUMBER)


def test_a_whole_number_beyond_all_floats_is_refused() -> None:
    with refused("typed, row 1: column 'x' contains 1000"):
        cells([10**400], Kind.NUMBER)


# what else a cell or a file may hold


def test_a_file_of_another_encoding_is_read_when_it_is_named() -> None:
    path = write("a.csv", "text\ncafé\n".encode("cp1252"))
    loaded = rows.load(path, {"text": Kind.TEXT}, encoding="cp1252")
    assert loaded.table.column("text").to_pylist() == ["café"]


def test_a_file_of_utf16_is_recognised() -> None:
    with refused("a.csv: is not UTF-8; it looks like utf-16. Set data.encoding: utf-16"):
        texts(write("a.csv", "text\ncafé\n".encode("utf-16")))


def test_a_binary_file_is_not_taken_for_text() -> None:
    with refused("a.csv: is not text. Check that its ending matches its format."):
        texts(write("a.csv", bytes(range(128, 256)) + bytes(range(32)) * 9))


def test_a_label_in_another_encoding_is_another_fingerprint() -> None:
    path = write("a.csv", "text\ncafe\n")
    prints = {
        rows.load(path, {"text": Kind.TEXT}, encoding=name).fingerprint for name in (None, "cp1252")
    }
    assert len(prints) == 2


def test_a_text_of_a_megabyte_is_read() -> None:
    assert len(texts(write("a.csv", f"text\n{'word ' * 200_000}\n"))[0]) == 1_000_000


@pytest.mark.parametrize("text", ['["a", "b"]', " a ,b", "a, b,"])
def test_label_names_in_a_cell_of_text_are_taken_apart(text: str) -> None:
    values = rows.from_values([{"tags": text}], {"tags": Kind.NAMES}, source="here")
    assert values.table.column("tags").to_pylist() == [["a", "b"]]


@pytest.mark.parametrize("kind", [Kind.WORDS, Kind.TAGS])
@pytest.mark.parametrize("text", ['["a", "b"]', " a  b "])
def test_words_in_a_cell_of_text_are_taken_apart(text: str, kind: Kind) -> None:
    assert cells([text], kind) == [["a", "b"]]


def test_words_may_begin_with_a_bracket() -> None:
    assert cells(["[ laughs ] she said"], Kind.WORDS) == [["[", "laughs", "]", "she", "said"]]


def test_whole_numbers_as_text_and_as_numbers_are_the_same_labels() -> None:
    values = [{"label": 1}, {"label": "1"}, {"label": 2.0}]
    typed = rows.from_values(values, {"label": Kind.NAME}, source="here")
    assert typed.table.column("label").to_pylist() == ["1", "1", "2"]


CELLS = {
    "a fraction as a label": (
        [{"c": "0.5"}],
        Kind.NAME,
        "row 1: column 'c' contains '0.5', which is not a label name.",
    ),
    "the label -100": (
        [{"c": -100}],
        Kind.NAME,
        "row 1: column 'c' contains -100, which marks rows without a label.",
    ),
    "words and numbers as labels": (
        [{"c": "spam"}, {"c": 3}],
        Kind.NAME,
        "row 2: column 'c' contains 3, but 'spam' in row 1: words and numbers. "
        "Write all labels the same way.",
    ),
    "names with semicolons": (
        [{"c": "a;b"}],
        Kind.NAMES,
        "row 1: column 'c' contains 'a;b' with ';'. Separate the names with commas.",
    ),
    "a list as Python writes it": (
        [{"c": "['a', 'b']"}],
        Kind.NAMES,
        "row 1: column 'c' contains \"['a', 'b']\", which is not a JSON list.",
    ),
    "words as Python writes them": (
        [{"c": "['Ann', 'Lee']"}],
        Kind.WORDS,
        "row 1: column 'c' contains \"['Ann', 'Lee']\", which is not a JSON list. "
        'Write ["a", "b"] with double quotes, or words separated by spaces.',
    ),
    "tags torn off": (
        [{"c": '["O", "B-x'}],
        Kind.TAGS,
        "row 1: column 'c' contains '[\"O\", \"B-x', which is not a JSON list.",
    ),
    "a NUL": ([{"c": "a\0b"}], Kind.TEXT, "row 1: column 'c' contains a NUL character"),
    "a decimal comma": (
        [{"c": "1,5"}],
        Kind.NUMBER,
        "row 1: column 'c' contains '1,5', which is not a number. "
        "Set data.decimal: ',' if the comma separates decimals, or '.' if it separates thousands.",
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_bad_cell_is_refused_with_its_row(name: str) -> None:
    values, kind, said = CELLS[name]
    with refused(f"here, {said}"):
        rows.from_values(values, {"c": kind}, source="here")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"text": ' + "9" * 5000 + "}"])
def test_json_beyond_what_python_reads_is_told_with_its_row(line: str) -> None:
    with refused("a.jsonl, row 2: is not JSON that can be read: "):
        texts(write("a.jsonl", '{"text": "a"}\n' + line + "\n"))
