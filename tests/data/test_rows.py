"""rows: every source gives the same rows, a bad file one message, a cache file is made once."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from plcli.data import rows
from plcli.data.cells import Kind
from plcli.errors import DataError, MachineError

TEXT = {"text": Kind.TEXT}
TEXT_AND_LABEL = {"text": Kind.TEXT, "label": Kind.NAME}
WORDS = ["a café", "NA", "null", "None", "nan", '"quoted"', "1", "x, y"]


def write(name: str, content: str | bytes) -> str:
    """Write a file into the test's folder and return its name."""
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def write_parquet(name: str, columns: Mapping[str, Sequence[Any]]) -> str:
    pa.parquet.write_table(pa.table(dict(columns)), name)
    return name


def write_arrow(name: str, table: pa.Table, *, open_writer: Callable[..., Any]) -> str:
    with pa.OSFile(name, "wb") as file, open_writer(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    return name


def csv_cell(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


def twice(column: str) -> pa.Table:
    """Make a table that holds a column two times, and a column text."""
    names = [column, *dict.fromkeys([column, "text"])]
    return pa.Table.from_arrays([pa.array([name]) for name in names], names=names)


def table_of_words() -> pa.Table:
    return pa.table({"text": WORDS})


def texts(source: str | Sequence[str]) -> list[str]:
    """Read the column text."""
    return column(source, "text", Kind.TEXT)


def column(source: str | Sequence[str], name: str, kind: Kind) -> list[Any]:
    """Read one column."""
    got: list[Any] = rows.load(source, {name: kind}).table.column(name).to_pylist()
    return got


def cells(values: Sequence[Any], kind: Kind) -> list[Any]:
    """Turn values in memory into the cells of one column."""
    table = rows.from_values([{"x": value} for value in values], {"x": kind}, source="typed").table
    got: list[Any] = table.column("x").to_pylist()
    return got


def refused(message: str) -> Any:
    """Expect a DataError that says this, word by word."""
    return pytest.raises(DataError, match=re.escape(message))


def files_with_times(folder: str) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in Path(folder).rglob("*") if p.is_file()}


WRITERS: dict[str, Callable[[], str]] = {
    "csv": lambda: write("a.csv", "text\n" + "".join(csv_cell(w) + "\n" for w in WORDS)),
    "tsv": lambda: write("a.tsv", "text\n" + "".join(csv_cell(w) + "\n" for w in WORDS)),
    "jsonl": lambda: write("a.jsonl", "".join(json.dumps({"text": w}) + "\n" for w in WORDS)),
    "json": lambda: write("a.json", json.dumps([{"text": w} for w in WORDS])),
    "txt": lambda: write("a.txt", "".join(word + "\n" for word in WORDS)),
    "parquet": lambda: write_parquet("a.parquet", {"text": WORDS}),
    "arrow file": lambda: write_arrow("a.arrow", table_of_words(), open_writer=pa.ipc.new_file),
    "arrow stream": lambda: write_arrow("a.arrow", table_of_words(), open_writer=pa.ipc.new_stream),
}


# sources


@pytest.mark.parametrize("name", list(WRITERS))
def test_every_format_gives_the_same_words(name: str) -> None:
    assert texts(WRITERS[name]()) == WORDS


def test_a_list_is_read_in_its_order_whatever_the_formats() -> None:
    files = [write("b.jsonl", '{"text": "b"}\n'), write("a.csv", "text\na\n")]
    assert texts(files) == ["b", "a"]


def test_a_glob_is_read_in_the_order_of_names() -> None:
    for name in ("c", "a", "b"):
        write(f"{name}.csv", f"text\n{name}\n")
    assert texts("*.csv") == ["a", "b", "c"]


def test_a_glob_of_two_stars_goes_into_folders() -> None:
    write("data/deep/deeper/a.csv", "text\na\n")
    write("data/z.csv", "text\nz\n")
    assert texts("data/**/*.csv") == ["a", "z"]


def test_a_file_whose_name_looks_like_a_glob_is_read() -> None:
    assert texts(write("part[1].csv", "text\na\n")) == ["a"]


def test_an_ending_in_capitals_is_known() -> None:
    assert texts(write("A.CSV", "text\na\n")) == ["a"]


def test_a_file_inside_a_package_is_read() -> None:
    source = "package:plcli/examples/tickets/train.jsonl"
    assert column(source, "id", Kind.TEXT)[:2] == ["t0001", "t0002"]


def test_a_package_is_not_imported_for_its_files(monkeypatch: pytest.MonkeyPatch) -> None:
    write("lib/sleeping/__init__.py", "raise SystemExit('imported')")
    write("lib/sleeping/a.csv", "text\na\n")
    monkeypatch.syspath_prepend("lib")
    assert texts("package:sleeping/a.csv") == ["a"]


def test_a_file_url_is_read(tmp_path: Path) -> None:
    write("a.csv", "text\na\n")
    assert texts(f"file://{tmp_path}/a.csv") == ["a"]


def write_to_memory(content: bytes) -> str:
    import fsspec

    fsspec.filesystem("memory").pipe("/plcli/a.csv", content)
    return "memory://plcli/a.csv"


def test_a_remote_file_is_read() -> None:
    assert texts(write_to_memory(b"text\na\n")) == ["a"]


def test_a_remote_file_that_changed_is_read_anew() -> None:
    texts(write_to_memory(b"text\na\n"))
    assert texts(write_to_memory(b"text\nb\n")) == ["b"]


def test_more_rows_than_one_batch_keep_their_order() -> None:
    numbers = [str(i) for i in range(9000)]  # a batch holds 8192
    assert texts(write("a.txt", "\n".join(numbers))) == numbers


def test_rows_are_counted() -> None:
    assert len(rows.load(write("a.csv", "text\na\nb\n"), TEXT)) == 2


def test_only_the_named_columns_are_kept() -> None:
    source = write("a.csv", "id,text,label\n1,a,x\n")
    assert rows.load(source, TEXT_AND_LABEL).table.column_names == ["text", "label"]


# the hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A hub of one data set; gives the list of what was asked for."""
    import datasets

    asked: list[tuple[Any, ...]] = []
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["negative", "positive"]),
        }
    )
    dataset = datasets.Dataset.from_list(
        [{"text": "good", "label": 1}, {"text": "bad", "label": 0}], features=features
    )

    def load_dataset(name: str, config: str | None = None, *, split: str) -> Any:
        asked.append((name, config, split))
        return dataset

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


@pytest.mark.usefixtures("hub")
def test_a_hub_data_set_is_read() -> None:
    assert texts("hf:owner/films") == ["good", "bad"]


@pytest.mark.usefixtures("hub")
def test_class_labels_of_a_hub_data_set_keep_their_names() -> None:
    assert column("hf:owner/films", "label", Kind.NAME) == ["positive", "negative"]


@pytest.mark.usefixtures("hub")
def test_a_missing_column_of_a_hub_data_set_is_named() -> None:
    with refused("hf:owner/films, row 1: has no column 'txt'. Did you mean 'text'?"):
        rows.load("hf:owner/films", {"txt": Kind.TEXT})


@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("hf:films", ("films", None, "train")),
        ("hf:owner/films", ("owner/films", None, "train")),
        ("hf:owner/films:test", ("owner/films", None, "test")),
        ("hf:owner/films/short", ("owner/films", "short", "train")),
        ("hf:owner/films/short:test", ("owner/films", "short", "test")),
    ],
)
def test_config_and_split_of_a_hub_data_set_are_named_in_the_source(
    hub: list[tuple[Any, ...]], source: str, asked: tuple[Any, ...]
) -> None:
    rows.load(source, TEXT)
    assert hub[0] == asked


def test_a_hub_data_set_that_cannot_be_had_is_the_environments_error() -> None:
    message = "^hf:no-such/thing: the hub has no such data set or cannot be reached"
    with pytest.raises(MachineError, match=message):
        texts("hf:no-such/thing")


@pytest.mark.parametrize(
    ("ending", "wording"), [(":tset", "tset.*train"), ("/no_such_config", "no_such_config")]
)
def test_an_unknown_split_or_config_of_a_hub_data_set_is_named(
    ending: str, wording: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hub")
    write("owner/films/train.csv", "text\na\n")
    with pytest.raises(DataError, match=f"^hf:owner/films{ending}: .*{wording}"):
        texts(f"hf:owner/films{ending}")


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
    with refused("a.jsonl, row 1: column 'text' holds ['a', 'b'], which is not text."):
        texts(write("a.jsonl", '{"text": ["a", "b"]}\n'))


def test_a_text_cell_of_bytes_is_not_spelt_as_a_python_literal() -> None:
    with refused("a.parquet, row 1: column 'text' holds b'hello', which is not text."):
        texts(write_parquet("a.parquet", {"text": [b"hello"]}))


def test_half_a_character_is_refused_with_its_row() -> None:
    with refused("a.jsonl, row 2: column 'text' holds half a character, '\\ud83d'."):
        texts(write("a.jsonl", '{"text": "a"}\n{"text": "\\ud83d"}\n'))


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
    with refused("typed, row 1: column 'x' holds 2.5, which is not a label name."):
        cells([2.5], Kind.NAME)


def test_spaces_around_a_label_are_no_part_of_it() -> None:
    assert cells([" billing "], Kind.NAME) == ["billing"]


@pytest.mark.parametrize("value", [None, "", "  ", float("nan")])
def test_an_empty_label_is_refused(value: Any) -> None:
    with refused("typed, row 2: column 'x' is empty; a label is needed."):
        cells(["a", value], Kind.NAME)


def test_a_label_that_is_a_list_is_refused() -> None:
    with refused("typed, row 1: column 'x' holds ['a'], which is not a label name."):
        cells([["a"]], Kind.NAME)


def test_label_names_come_from_a_list_or_from_text_with_commas() -> None:
    assert cells([["a", "b"], "a, , b", [], ""], Kind.NAMES) == [["a", "b"], ["a", "b"], [], []]


def test_a_cell_of_label_names_that_is_a_number_is_refused() -> None:
    with refused("typed, row 1: column 'x' holds 3, not a list of names."):
        cells([3], Kind.NAMES)


def test_an_empty_name_among_label_names_is_refused() -> None:
    with refused("typed, row 1: column 'x' is empty; a label is needed."):
        cells([["a", None]], Kind.NAMES)


def test_numbers_are_read_from_text_and_numbers() -> None:
    assert cells(["1.5", 2, " -3 ", True], Kind.NUMBER) == [1.5, 2.0, -3.0, 1.0]


@pytest.mark.parametrize("value", ["1,5", "", None, "many"])
def test_a_cell_that_is_no_number_is_refused(value: Any) -> None:
    with refused(f"typed, row 2: column 'x' holds {value!r}, which is not a number."):
        cells([1, value], Kind.NUMBER)


@pytest.mark.parametrize("value", ["nan", float("inf"), "-inf"])
def test_a_number_that_is_not_finite_is_refused(value: Any) -> None:
    with refused(f"typed, row 1: column 'x' holds {value!r}; a finite number is needed."):
        cells([value], Kind.NUMBER)


def test_a_whole_number_beyond_all_floats_is_refused() -> None:
    with refused("typed, row 1: column 'x' holds 1000"):
        cells([10**400], Kind.NUMBER)


# columns


@pytest.mark.parametrize("name", ["csv", "jsonl", "json", "parquet", "arrow file"])
def test_a_missing_column_is_named_with_the_nearest_and_all_others(name: str) -> None:
    with refused("has no column 'txet'. Did you mean 'text'? It has text; name one of these."):
        rows.load(WRITERS[name](), {"txet": Kind.TEXT})


def test_a_missing_column_without_a_near_one_is_named_without_a_guess() -> None:
    with refused("a.csv: has no column 'label'. It has text; name one of these."):
        rows.load(write("a.csv", "text\na\n"), TEXT_AND_LABEL)


def test_a_column_that_one_row_of_jsonl_lacks_is_told_with_the_row() -> None:
    with refused("a.jsonl, row 2: has no column 'text'."):
        texts(write("a.jsonl", '{"text": "a"}\n{"message": "b"}\n'))


def test_a_duplicate_column_is_refused() -> None:
    with refused("a.csv: the column 'text' stands 2 times in the header."):
        texts(write("a.csv", "text,label,text\na,b,c\n"))


def test_a_duplicate_of_a_column_that_is_not_asked_for_does_no_harm() -> None:
    assert texts(write("a.csv", "x,text,x\n1,a,2\n")) == ["a"]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_duplicate_column_of_a_binary_file_is_refused(ending: str) -> None:
    with refused(f"a.{ending}: the column 'text' stands 2 times"):
        texts(write_binary(f"a.{ending}", twice("text")))


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_missing_column_is_named_though_another_stands_twice(ending: str) -> None:
    with refused("has no column 'txet'. Did you mean 'text'?"):
        rows.load(write_binary(f"a.{ending}", twice("x")), {"txet": Kind.TEXT})


def write_binary(name: str, table: pa.Table) -> str:
    if name.endswith(".arrow"):
        return write_arrow(name, table, open_writer=pa.ipc.new_file)
    pa.parquet.write_table(table, name)
    return name


def test_a_text_file_has_one_column_and_no_label() -> None:
    with refused("a.txt: a text file has one column, its lines, but text, label are asked for."):
        rows.load(write("a.txt", "one\ntwo\n"), TEXT_AND_LABEL)


def test_a_ragged_row_is_refused_with_its_number() -> None:
    message = (
        "a.csv, row 2: has 3 cells, the header has 2. "
        "Put quotes around cells that hold the separator."
    )
    with refused(message):
        rows.load(write("a.csv", "text,label\na,x\nb,c,y\n"), TEXT_AND_LABEL)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_guessed_in_the_message(separator: str) -> None:
    with refused(f"Is its separator {separator!r}? Here it is ','; save it with that."):
        rows.load(write("a.csv", f"text{separator}label\na{separator}x\n"), TEXT_AND_LABEL)


def test_an_empty_line_of_csv_is_not_counted_as_a_row() -> None:
    with refused("a.csv, row 2: column 'label' is empty"):
        rows.load(write("a.csv", "text,label\na,x\n\nb,\n"), TEXT_AND_LABEL)


# files that are not as they have to be


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
    with refused("a.json: holds a dict, not a list of rows."):
        texts(write("a.json", '{"data": []}'))


def test_a_row_of_jsonl_that_is_no_object_is_refused() -> None:
    with refused("a.jsonl, row 1: holds a list, not an object with named columns."):
        texts(write("a.jsonl", '["a"]\n'))


def test_a_row_of_json_that_is_a_text_is_refused_as_that() -> None:
    with refused("a.json, row 1: holds a str, not an object with named columns."):
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


def test_an_unknown_ending_is_refused_with_the_known_ones() -> None:
    with refused(
        "a.xlsx: the ending '.xlsx' is none of csv, tsv, jsonl, json, parquet, arrow, txt."
    ):
        texts(write("a.xlsx", "text\na\n"))


def test_a_folder_is_refused_with_an_example() -> None:
    Path("data").mkdir()
    with refused("data/: is a folder. Name its files, for instance 'data/*.csv'."):
        texts("data/")


def test_a_folder_inside_a_package_is_refused() -> None:
    with refused("package:plcli/examples: is a folder."):
        texts("package:plcli/examples")


def test_a_folder_as_a_file_url_is_the_datas_fault_not_the_caches(tmp_path: Path) -> None:
    Path("a.csv").mkdir()
    with pytest.raises(DataError, match=r"^file://.*a\.csv: is a folder\."):
        texts(f"file://{tmp_path}/a.csv")


def test_a_missing_file_is_told_with_the_nearest_name() -> None:
    write("train.csv", "text\na\n")
    with refused("tran.csv: no such file. Did you mean 'train.csv'?"):
        texts("tran.csv")


def test_a_missing_file_in_a_deep_folder_is_told_without_a_far_fetched_name(tmp_path: Path) -> None:
    write("train.csv", "text\na\n")
    with pytest.raises(DataError, match=r"questionnaire\.jsonl: no such file\. Check the path\.$"):
        texts(f"{tmp_path}/questionnaire.jsonl")


def test_a_glob_that_finds_nothing_is_told() -> None:
    with refused("none/*.csv: no file has such a name. Check the pattern."):
        texts("none/*.csv")


def test_a_missing_remote_file_is_told() -> None:
    with refused("memory://plcli/none.csv: no such file."):
        texts("memory://plcli/none.csv")


def test_the_bad_file_of_a_list_is_the_one_that_is_named() -> None:
    with refused("b.csv: is empty."):
        texts([write("a.csv", "text\na\n"), write("b.csv", "")])


def test_a_package_that_is_not_installed_is_told() -> None:
    with refused("package:no_such/a.csv: no package 'no_such' is installed. Install it with pip."):
        texts("package:no_such/a.csv")


def test_a_file_that_a_package_does_not_hold_is_told() -> None:
    with refused("package:plcli/none.csv: the package 'plcli' holds no 'none.csv'."):
        texts("package:plcli/none.csv")


def test_an_address_whose_reader_is_not_installed_is_the_environments_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    message = r"^s3://bucket/a\.csv: .*Install the package that reads this kind of address\.$"
    with pytest.raises(MachineError, match=message):
        texts("s3://bucket/a.csv")


def test_an_address_of_no_known_kind_is_refused() -> None:
    with refused("gsc://bucket/a.csv: 'gsc://' is no known kind of address. Did you mean 'gs'?"):
        texts("gsc://bucket/a.csv")


# the cache


def test_a_second_load_reads_the_cache() -> None:
    source = write("a.csv", "text\na\nb\n")
    texts(source)
    before = files_with_times("cache")
    texts(source)
    assert files_with_times("cache") == before


def test_a_copy_of_a_file_finds_the_cache_of_the_first() -> None:
    texts(write("a.csv", "text\na\n"))
    before = files_with_times("cache")
    texts(write("copy.csv", "text\na\n"))
    assert files_with_times("cache") == before


def test_rows_from_the_cache_carry_the_name_that_was_given() -> None:
    rows.load(write("a.csv", "text\na\n"), TEXT)
    assert rows.load(write("copy.csv", "text\na\n"), TEXT).source == "copy.csv"


def test_a_changed_row_is_read() -> None:
    texts(write("a.csv", "text\na\nb\n"))
    assert texts(write("a.csv", "text\na\nc\n")) == ["a", "c"]


def test_another_kind_of_the_same_column_is_read_anew() -> None:
    source = write("a.csv", "x\n1\n")
    column(source, "x", Kind.NUMBER)
    assert column(source, "x", Kind.TEXT) == ["1"]


def test_the_same_content_under_another_ending_is_read_anew() -> None:
    texts(write("a.csv", "text\na\n"))
    assert texts(write("a.txt", "text\na\n")) == ["text", "a"]


def test_one_changed_row_changes_the_fingerprint() -> None:
    before = rows.load(write("a.csv", "text\na\nb\n"), TEXT).fingerprint
    assert rows.load(write("a.csv", "text\na\nc\n"), TEXT).fingerprint != before


def test_the_order_of_files_is_part_of_the_fingerprint() -> None:
    files = [write("a.csv", "text\na\n"), write("b.csv", "text\nb\n")]
    assert rows.load(files, TEXT).fingerprint != rows.load(files[::-1], TEXT).fingerprint


def test_a_source_that_is_refused_leaves_nothing_in_the_cache() -> None:
    with pytest.raises(DataError, match="row 2"):
        texts(write("a.jsonl", '{"text": "a"}\nbad\n'))
    assert [path for path in files_with_times("cache") if not path.endswith(".lock")] == []


def test_a_cache_folder_may_be_named_in_the_call() -> None:
    rows.load(write("a.csv", "text\na\n"), TEXT, cache=Path("elsewhere"))
    assert not Path("cache").exists()


def test_a_cache_that_cannot_be_written_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLCLI_CACHE", write("taken", "a file"))
    message = r"^taken/rows: cannot be written .*Set PLCLI_CACHE to a folder that can\.$"
    with pytest.raises(MachineError, match=message):
        texts(write("a.csv", "text\na\n"))


BUILDER = """
import sys, time
from pathlib import Path
from plcli.data.cache import build_once

def write(path):
    Path(f"built-{sys.argv[1]}").touch()
    path.write_text("half")
    until = time.monotonic() + 10
    while len(list(Path().glob("ready-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.1)
    path.write_text("whole")

Path(f"ready-{sys.argv[1]}").touch()
build_once(Path("made/file"), write)
print(Path("made/file").read_text())
"""


@pytest.fixture(scope="module")
def two_builders(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Two processes that build one file at once: who built it, and what each read from it."""
    folder = tmp_path_factory.mktemp("builders")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BUILDER, name], stdout=subprocess.PIPE, text=True, cwd=folder
        )
        for name in "ab"
    ]
    read = [process.communicate(timeout=60)[0].strip() for process in processes]
    return [path.name for path in folder.glob("built-*")], read


def test_two_processes_that_want_one_cache_file_build_it_once(
    two_builders: tuple[list[str], list[str]],
) -> None:
    assert len(two_builders[0]) == 1


def test_the_process_that_waits_for_a_cache_file_finds_it_whole(
    two_builders: tuple[list[str], list[str]],
) -> None:
    assert two_builders[1] == ["whole", "whole"]


# what is typed


def test_values_are_checked_like_files() -> None:
    with refused(
        "typed, row 2: has no column 'text'. Did you mean 'txt'? It has txt; name one of these."
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
        "text 1: this model reads 2 columns; "
        'give a JSON object such as {"premise": "...", "hypothesis": "..."}.'
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
    for (cells,) in loaded.parts(["text"]):
        most = max(most, resident() - before)
        found += [cell[:6] for cell in cells]
    assert found == [text[:6] for text in texts]
    assert most < 20_000  # a part is 8 MB, all rows are 40 MB


# what else a cell or a file may hold


def test_a_file_of_another_encoding_is_read_when_it_is_named() -> None:
    path = write("a.csv", "text\ncafé\n".encode("cp1252"))
    loaded = rows.load(path, {"text": Kind.TEXT}, encoding="cp1252")
    assert loaded.table.column("text").to_pylist() == ["café"]


def test_a_file_of_utf16_is_recognised() -> None:
    with refused("a.csv: is not UTF-8; it looks like utf-16. Set data.encoding: utf-16"):
        texts(write("a.csv", "text\ncafé\n".encode("utf-16")))


def test_a_binary_file_is_not_taken_for_text() -> None:
    with refused("a.csv: is no text. Check that its ending tells its format."):
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
    "a fraction as a label": ([{"c": "0.5"}], Kind.NAME, "row 1: column 'c' holds '0.5', which is"),
    "the label -100": ([{"c": -100}], Kind.NAME, "row 1: column 'c' holds -100, which marks rows"),
    "words and numbers as labels": (
        [{"c": "spam"}, {"c": 3}],
        Kind.NAME,
        "row 2: column 'c' holds 3, but 'spam' in row 1: words and numbers. Write labels alike.",
    ),
    "names with semicolons": (
        [{"c": "a;b"}],
        Kind.NAMES,
        "row 1: column 'c' holds 'a;b' with ';'. Put commas between the names.",
    ),
    "a list as Python writes it": (
        [{"c": "['a', 'b']"}],
        Kind.NAMES,
        "row 1: column 'c' holds \"['a', 'b']\", which is no JSON list.",
    ),
    "words as Python writes them": (
        [{"c": "['Ann', 'Lee']"}],
        Kind.WORDS,
        "row 1: column 'c' holds \"['Ann', 'Lee']\", which is no JSON list. "
        'Write ["a", "b"] with double quotes, or words with blanks between them.',
    ),
    "tags torn off": (
        [{"c": '["O", "B-x'}],
        Kind.TAGS,
        "row 1: column 'c' holds '[\"O\", \"B-x', which is no JSON list.",
    ),
    "a NUL": ([{"c": "a\0b"}], Kind.TEXT, "row 1: column 'c' holds a NUL character"),
    "a decimal comma": (
        [{"c": "1,5"}],
        Kind.NUMBER,
        "row 1: column 'c' holds '1,5', which is not a number. Write a decimal point, not a comma.",
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
