"""rows: every format gives the same rows; what a column, a typed text and a row may hold."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from plcli.data import rows
from plcli.data.cells import Kind
from tests.data.files import (
    TEXT,
    TEXT_AND_LABEL,
    WORDS,
    WRITERS,
    refused,
    texts,
    twice,
    write,
    write_binary,
    write_parquet,
)

# sources


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_format_gives_the_same_words(name: str) -> None:
    assert texts(WRITERS[name]()) == WORDS


# what a file may hold


def test_a_byte_order_mark_is_no_part_of_the_first_column() -> None:
    assert texts(write("a.csv", b"\xef\xbb\xbftext\na\n")) == ["a"]


def test_a_byte_order_mark_before_json_is_skipped() -> None:
    assert texts(write("a.jsonl", b'\xef\xbb\xbf{"text": "a"}\n')) == ["a"]


def test_a_newline_in_a_quoted_cell_stays_in_it() -> None:
    assert texts(write("a.csv", 'text\n"one\ntwo"\nthree\n')) == ["one\ntwo", "three"]


def test_a_windows_line_end_in_a_quoted_cell_stays_as_it_is() -> None:
    assert texts(write("a.csv", 'text\r\n"one\r\ntwo"\r\n')) == ["one\r\ntwo"]


def test_a_cell_may_be_longer_than_the_csv_module_allows() -> None:
    long = "word " * 50_000
    assert texts(write("a.csv", f"text\n{long}\n")) == [long]


def test_windows_line_ends_are_no_part_of_a_text() -> None:
    assert texts(write("a.txt", "one\r\ntwo\r\n")) == ["one", "two"]


def test_a_line_separator_inside_a_text_does_not_end_a_line() -> None:
    content = json.dumps({"text": "one\u2028two"}, ensure_ascii=False)
    assert texts(write("a.jsonl", content)) == ["one\u2028two"]


def test_an_empty_line_of_a_text_file_stays_a_row() -> None:
    assert texts(write("a.txt", "one\n\ntwo\n")) == ["one", "", "two"]


def test_an_empty_line_of_jsonl_is_skipped() -> None:
    assert texts(write("a.jsonl", '{"text": "a"}\n\n{"text": "b"}\n')) == ["a", "b"]


def test_a_missing_text_is_an_empty_text() -> None:
    assert texts(write("a.jsonl", '{"text": null}\n{"text": NaN}\n{"text": ""}\n')) == ["", "", ""]


def test_a_number_in_a_text_column_is_its_digits() -> None:
    assert texts(write("a.jsonl", '{"text": 7}\n')) == ["7"]


def test_a_parquet_column_of_categories_is_text() -> None:
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    assert texts(write_parquet("a.parquet", {"text": words})) == ["a", "b", "a"]


def test_a_text_cell_that_is_a_list_is_refused() -> None:
    with refused("a.jsonl, row 1: column 'text' contains ['a', 'b'], which is not text."):
        texts(write("a.jsonl", '{"text": ["a", "b"]}\n'))


def test_a_text_cell_of_bytes_is_not_spelt_as_a_python_literal() -> None:
    with refused("a.parquet, row 1: column 'text' contains b'hello', which is not text."):
        texts(write_parquet("a.parquet", {"text": [b"hello"]}))


def test_half_a_character_is_refused_with_its_row() -> None:
    with refused("a.jsonl, row 2: column 'text' contains half a character, '\\ud83d'."):
        texts(write("a.jsonl", '{"text": "a"}\n{"text": "\\ud83d"}\n'))


# columns


@pytest.mark.parametrize("name", ["csv", "jsonl", "json", "parquet", "arrow file"])
def test_a_missing_column_is_named_with_the_nearest_and_all_others(name: str) -> None:
    with refused("has no column 'txet'. Did you mean 'text'? It has text. Name one of these."):
        rows.load(WRITERS[name](), {"txet": Kind.TEXT})


def test_a_missing_column_without_a_near_one_is_named_without_a_guess() -> None:
    with refused("a.csv: has no column 'label'. It has text. Name one of these."):
        rows.load(write("a.csv", "text\na\n"), TEXT_AND_LABEL)


def test_a_column_that_one_row_of_jsonl_lacks_is_told_with_the_row() -> None:
    with refused("a.jsonl, row 2: has no column 'text'."):
        texts(write("a.jsonl", '{"text": "a"}\n{"message": "b"}\n'))


def test_a_duplicate_column_is_refused() -> None:
    with refused("a.csv: the column 'text' is 2 times in the header."):
        texts(write("a.csv", "text,label,text\na,b,c\n"))


def test_a_duplicate_of_a_column_that_is_not_asked_for_does_no_harm() -> None:
    assert texts(write("a.csv", "x,text,x\n1,a,2\n")) == ["a"]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_duplicate_column_of_a_binary_file_is_refused(ending: str) -> None:
    with refused(f"a.{ending}: the column 'text' is 2 times"):
        texts(write_binary(f"a.{ending}", twice("text")))


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_missing_column_is_named_though_another_stands_twice(ending: str) -> None:
    with refused("has no column 'txet'. Did you mean 'text'?"):
        rows.load(write_binary(f"a.{ending}", twice("x")), {"txet": Kind.TEXT})


def test_a_text_file_has_one_column_and_no_label() -> None:
    with refused("a.txt: a text file has one column, its lines, but text, label are needed."):
        rows.load(write("a.txt", "one\ntwo\n"), TEXT_AND_LABEL)


def test_a_ragged_row_is_refused_with_its_number() -> None:
    message = (
        "a.csv, row 2: has 3 cells, the header has 2. "
        "Put quotes around cells that contain the separator."
    )
    with refused(message):
        rows.load(write("a.csv", "text,label\na,x\nb,c,y\n"), TEXT_AND_LABEL)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_guessed_in_the_message(separator: str) -> None:
    with refused(f"Is its separator {separator!r}? Save it with ','."):
        rows.load(write("a.csv", f"text{separator}label\na{separator}x\n"), TEXT_AND_LABEL)


def test_an_empty_line_of_csv_is_not_counted_as_a_row() -> None:
    with refused("a.csv, row 2: column 'label' is empty"):
        rows.load(write("a.csv", "text,label\na,x\n\nb,\n"), TEXT_AND_LABEL)


# what is typed


def test_values_are_checked_like_files() -> None:
    with refused(
        "typed, row 2: has no column 'text'. Did you mean 'txt'? It has txt. Name one of these."
    ):
        rows.from_values([{"text": "a"}, {"txt": "b"}], TEXT, source="typed")


def test_no_values_are_refused() -> None:
    with refused("typed: has no rows."):
        rows.from_values([], TEXT, source="typed")


def test_a_plain_text_is_the_one_column() -> None:
    assert rows.from_texts(["hello"], ["text"]) == [{"text": "hello"}]


def test_a_json_object_is_a_row() -> None:
    assert rows.from_texts(['{"a": "x", "b": "y"}'], ["a", "b"]) == [{"a": "x", "b": "y"}]


def test_a_json_object_with_the_one_column_is_a_row() -> None:
    assert rows.from_texts(['{"text": "x", "id": 1}'], ["text"]) == [{"text": "x", "id": 1}]


@pytest.mark.parametrize("text", ["{not JSON", '{"other": 1}', "[1]"])
def test_braces_in_a_plain_text_are_text(text: str) -> None:
    assert rows.from_texts([text], ["text"]) == [{"text": text}]


def test_plain_text_where_two_columns_are_read_is_refused_with_an_example() -> None:
    message = (
        "text 1: this model reads 2 columns. "
        'Give a JSON object such as {"premise": "...", "hypothesis": "..."}.'
    )
    with refused(message):
        rows.from_texts(["hello"], ["premise", "hypothesis"])


def test_broken_json_where_two_columns_are_read_is_told() -> None:
    with refused("text 2: is not JSON: "):
        rows.from_texts(['{"a": 1, "b": 2}', "{oops"], ["a", "b"])


# start-up and memory


def test_reading_and_encoding_import_no_pandas() -> None:
    Path("rows.jsonl").write_text('{"a": "x", "b": 1, "c": ["y"], "d": "z"}\n')
    code = (
        "import sys; from plcli.data.rows import Kind, load; "
        "kinds = {'a': Kind.TEXT, 'b': Kind.NUMBER, 'c': Kind.NAMES, 'd': Kind.NAME}; "
        "print(load('rows.jsonl', kinds).table.to_pylist(), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[{'a': 'x', 'b': 1.0, 'c': ['y'], 'd': 'z'}] False\n", done.stderr


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_rows_come_in_parts_and_the_pages_of_a_part_are_let_go() -> None:
    """Resident pages of files in kB, before and after 40,000 rows of 1,000 characters."""
    texts = [f"{number:06d}" * 170 for number in range(40_000)]
    Path("rows.txt").write_text("\n".join(texts))
    loaded = rows.load("rows.txt", {"text": Kind.TEXT})

    def resident() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))

    before, most, found = resident(), 0, []
    for (part,) in loaded.parts(["text"]):
        most = max(most, resident() - before)
        found += [text[:6] for text in part]
    assert found == [text[:6] for text in texts]
    assert most < 20_000  # a part is 8 MB, all rows are 40 MB
