"""Files that are not as they have to be: refused in one message with the row."""

from pathlib import Path

import pytest

from plcli.errors import DataError
from tests.data.files import WRITERS, refused, texts, write, write_parquet


def test_an_empty_csv_is_refused() -> None:
    with refused("a.csv: is empty."):
        texts(write("a.csv", ""))


@pytest.mark.parametrize("content", ["text\n", "text"])
def test_a_header_without_rows_is_refused(content: str) -> None:
    with refused("a.csv: has no rows."):
        texts(write("a.csv", content))


@pytest.mark.parametrize(("ending", "content"), [("jsonl", ""), ("txt", ""), ("json", "[]")])
def test_a_file_without_rows_is_refused(ending: str, content: str) -> None:
    with refused(f"a.{ending}: has no rows."):
        texts(write(f"a.{ending}", content))


def test_an_empty_list_of_sources_is_refused() -> None:
    with refused("the list of files is empty."):
        texts([])


def test_a_quote_that_is_not_closed_is_told_with_the_row_where_it_begins() -> None:
    with refused("a.csv, row 2: a cell begins with a quote that is not closed."):
        texts(write("a.csv", 'text\na\n"b\n'))


def test_a_bad_line_of_jsonl_is_told_with_its_row() -> None:
    with refused("a.jsonl, row 2: is not JSON: Expecting property name enclosed in double quotes"):
        texts(write("a.jsonl", '{"text": "a"}\n{text: "b"}\n'))


def test_bad_json_is_told_with_its_line() -> None:
    with refused("a.json, line 2: is not JSON: Expecting value."):
        texts(write("a.json", '[{"text": "a"},\n]'))


def test_json_that_is_no_list_is_refused() -> None:
    with refused("a.json: is a dict, not a list of rows."):
        texts(write("a.json", '{"data": []}'))


def test_a_row_of_jsonl_that_is_no_object_is_refused() -> None:
    with refused("a.jsonl, row 1: is a list, not an object with named columns."):
        texts(write("a.jsonl", '["a"]\n'))


def test_a_row_of_json_that_is_a_text_is_refused_as_that() -> None:
    with refused("a.json, row 1: is a str, not an object with named columns."):
        texts(write("a.json", '["a"]'))


@pytest.mark.parametrize("name", ["parquet", "arrow file", "arrow stream"])
@pytest.mark.parametrize("part", [0.0, 0.5, 0.95])
def test_a_torn_file_is_told(name: str, part: float) -> None:
    file = Path(WRITERS[name]())
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(DataError, match=rf"^{file.name}: is not a whole {file.suffix[1:]} file: "):
        texts(file.name)


def test_a_damaged_page_of_parquet_is_told_as_the_files_fault() -> None:
    file = Path(write_parquet("a.parquet", {"text": ["hello"] * 100}))
    whole = bytearray(file.read_bytes())
    whole[4:40] = bytes(byte ^ 0xFF for byte in whole[4:40])
    file.write_bytes(whole)
    with refused("a.parquet: is not a whole parquet file: "):
        texts("a.parquet")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "text\ncafé\n"),
        ("a.jsonl", '{"text": "café"}\n'),
        ("a.json", '[{"text": "café"}]'),
        ("a.txt", "café\n"),
    ],
)
def test_a_file_that_is_not_utf8_is_told(name: str, content: str) -> None:
    with pytest.raises(
        DataError, match=rf"^{name}: is not UTF-8; it looks like cp1252\. .*UTF-8\.$"
    ):
        texts(write(name, content.encode("latin-1")))
