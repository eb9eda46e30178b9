"""Files as people have them: each is read right, or refused with what to do."""

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from plcli.data import rows
from plcli.data.cells import Kind
from plcli.data.readers import format_of
from plcli.errors import PlcliError
from tests.conftest import write_rows
from tests.data.files import refused, texts, write
from tests.running import by_heart, read_json, try_fit

TOKENS = (
    "plcli.tasks.token_classification.TokenClassifier",
    "plcli.tasks.token_classification.TokenClassificationData",
)

WANTED = [{"text": "first", "label": "a"}, {"text": "second", "label": "b"}]
CSV = "text,label\nfirst,a\nsecond,b\n"
LINES = "".join(json.dumps(row) + "\n" for row in WANTED)
COLUMNS = {"text": Kind.TEXT, "label": Kind.NAME}


def read(source: str, columns: Any = COLUMNS, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of a source."""
    found: list[dict[str, Any]] = rows.load(source, columns, **options).table.to_pylist()
    return found


# compressed


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as file:
        file.write(content)
    return bytes(sink.getvalue())


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


@pytest.mark.parametrize("kind", PACKED)
@pytest.mark.parametrize(("ending", "content"), [("csv", CSV), ("jsonl", LINES), ("json", LINES)])
def test_a_compressed_file_is_read(kind: str, ending: str, content: str) -> None:
    name = f"rows.{ending}.{kind}"
    Path(name).write_bytes(PACKED[kind](content.encode()))
    assert read(name) == WANTED


def test_a_compressed_tsv_and_txt_are_read() -> None:
    Path("a.tsv.gz").write_bytes(gzip.compress(CSV.replace(",", "\t").encode()))
    Path("a.txt.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    assert (read("a.tsv.gz"), texts("a.txt.gz")) == (WANTED, ["one", "two"])


@pytest.mark.parametrize("kind", PACKED)
def test_half_a_compressed_file_is_refused(kind: str) -> None:
    content = "text,label\n" + "".join(f"row {n * n},a\n" for n in range(3000))
    whole = PACKED[kind](content.encode())
    Path(f"rows.csv.{kind}").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Exception, match=rf"rows\.csv\.{kind}") as error:
        read(f"rows.csv.{kind}")
    assert type(error.value).__module__ == "plcli.errors"


def test_a_compressed_parquet_file_is_refused() -> None:
    write("a.parquet.gz", "x")
    with refused("a.parquet.gz: a compressed .parquet file is not supported. Decompress it."):
        read("a.parquet.gz")


# addresses


def test_a_file_inside_an_archive_is_read() -> None:
    with zipfile.ZipFile("b.zip", "w") as archive:
        archive.writestr("a.csv", CSV)
        archive.writestr("a.jsonl", LINES)
    assert read("zip://a.csv::b.zip") == read("zip://a.jsonl::b.zip") == WANTED


def test_an_address_is_known_by_the_ending_before_its_query() -> None:
    assert format_of("https://host/x.csv?sig=a.b/c", "x") == "csv"
    assert format_of("simplecache::s3://bucket/x.jsonl.gz", "x") == "jsonl"


def test_a_chain_without_such_a_file_is_refused() -> None:
    with zipfile.ZipFile("b.zip", "w") as archive:
        archive.writestr("a.csv", CSV)
    with pytest.raises(PlcliError, match=r"zip://c\.csv::b\.zip"):
        read("zip://c.csv::b.zip")


# annotation tools


def test_rows_without_an_answer_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    row = {"text": "x", "spans": [], "_task_hash": 1}
    lines = [{**row, "answer": answer} for answer in ("accept", "ignore")]
    write("p.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    read("p.jsonl", {"text": Kind.TEXT, "spans": Kind.OBJECT})
    assert "p.jsonl: 1 rows whose answer is reject or ignore are left out (prodigy)" in caplog.text


def test_tasks_with_several_annotations_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    choice = {"type": "choices", "from_name": "s", "value": {"choices": ["pos"]}}
    annotations = [{"result": [choice]}, {"result": []}]
    write("l.json", json.dumps([{"data": {"text": "x"}, "annotations": annotations}]))
    assert read("l.json") == [{"text": "x", "label": "pos"}]
    assert "l.json: 1 rows have several annotations; the ground truth or the first" in caplog.text


def test_an_address_of_a_compression_is_refused() -> None:
    with refused("'gzip://' is no address of its own. Name the file as it is, such as data.csv.gz"):
        read("gzip://a.csv::b.csv.gz")


def test_a_folder_of_brats_annotations_is_read() -> None:
    for name in ("a", "b"):
        write(f"docs/{name}.txt", f"{name} word")
        write(f"docs/{name}.ann", f"T1\tX 0 1\t{name}\n")
    found = read("docs", {"text": Kind.TEXT, "spans": Kind.OBJECT})
    assert [row["text"] for row in found] == ["a word", "b word"]


def test_a_changed_text_beside_its_annotations_is_read_anew() -> None:
    columns = {"text": Kind.TEXT, "spans": Kind.OBJECT}
    write("a.ann", "T1\tX 0 1\ta\n")
    found = []
    for text in ("a word", "a bird"):
        write("a.txt", text)
        found.append(read("a.ann", columns)[0]["text"])
    assert found == ["a word", "a bird"]


TOOLS = {
    "doccano": {"text": "the parcel is late", "label": [[4, 10, "THING"]]},
    "prodigy": {
        "text": "the parcel is late",
        "spans": [{"start": 4, "end": 10, "label": "THING"}],
        "answer": "accept",
        "_task_hash": 1,
    },
}


@pytest.mark.parametrize("tool", TOOLS)
def test_an_export_trains_without_being_told_of_the_tool(tool: str, tmp_path: Path) -> None:
    rows_ = [TOOLS[tool]] * 6
    source = str(write_rows(tmp_path / "export.jsonl", rows_))
    result = try_fit(
        tmp_path,
        classes=TOKENS,
        model=by_heart(lr=1e-2),
        data={"train": source, "validation": source, "text": "text", "spans": "spans"}
        | {"batch_size": 2, "max_length": 32, "wordpieces": 60},
        trainer={"max_epochs": 10, "check_val_every_n_epoch": 10},
    )
    assert result.code == 0, result.err
    assert read_json(tmp_path / "run" / "metrics.json")["validation"]["f1"] == 1.0


# JSON


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(WANTED),
        LINES,
        json.dumps({"data": WANTED}),
        json.dumps({"version": 1, "data": WANTED}),
        json.dumps({"text": ["first", "second"], "label": ["a", "b"]}),
        json.dumps({"text": {"0": "first", "1": "second"}, "label": {"0": "a", "1": "b"}}),
    ],
    ids=["a list", "lines", "data", "data and a version", "columns", "columns by index"],
)
def test_a_json_file_may_hold_rows_in_several_ways(content: str) -> None:
    assert read(write("rows.json", content)) == WANTED


def test_squads_own_file_has_a_row_for_each_question() -> None:
    questions = [
        {"id": "1", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]},
        {"id": "2", "question": "Why?", "answers": [], "is_impossible": True},
    ]
    paragraph = {"context": "Ann came.", "qas": questions}
    content = json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": [paragraph]}]})
    kinds = {"id": Kind.TEXT, "question": Kind.TEXT, "context": Kind.TEXT, "answers": Kind.OBJECT}
    found = read(write("squad.json", content), kinds)
    assert [(row["question"], json.loads(row["answers"])) for row in found] == [
        ("Who?", [{"text": "Ann", "answer_start": 0}]),
        ("Why?", []),
    ]


def test_a_mapping_without_rows_is_refused_with_its_keys() -> None:
    with refused("a.json: is a dict, not a list of rows. It has name, size."):
        read(write("a.json", '{"name": "x", "size": 3}'))


def test_a_column_inside_another_is_named_with_a_dot() -> None:
    source = write("a.jsonl", '{"translation": {"en": "yes", "de": "ja"}}\n')
    kinds = {"translation.en": Kind.TEXT, "translation.de": Kind.TEXT}
    assert read(source, kinds) == [{"translation.en": "yes", "translation.de": "ja"}]


# quotes and delimiters

SWALLOWED = 'text\tlabel\n"quoted start\ta\nplain\tb\nends with a quote"\ta\n'


def test_a_tsv_cell_that_swallows_rows_is_refused() -> None:
    with refused("a.tsv, row 1: column 'text' contains a quoted cell of 3 lines that look like"):
        read(write("a.tsv", SWALLOWED))


def test_a_csv_cell_that_swallows_rows_is_refused() -> None:
    with refused("a.csv, row 1: column 'text' contains a quoted cell of 3 lines that look like"):
        read(write("a.csv", SWALLOWED.replace("\t", ",")))


@pytest.mark.parametrize(("ending", "delimiter"), [("tsv", "\t"), ("csv", ",")])
def test_without_quoting_a_quote_is_a_character(ending: str, delimiter: str) -> None:
    source = write(f"a.{ending}", SWALLOWED.replace("\t", delimiter))
    found = [row["text"] for row in read(source, quoting="none")]
    assert found == ['"quoted start', "plain", 'ends with a quote"']


def test_with_quoting_such_a_cell_is_one() -> None:
    source = write("a.tsv", SWALLOWED)
    assert len(read(source, quoting="csv")) == 1


@pytest.mark.parametrize(
    "text", ["Hello, Bob\nthanks, you", "Dear Sir,\nI wait.", "one\ntwo\nthree", "a, b, c"]
)
def test_a_quoted_text_of_several_lines_is_read(text: str) -> None:
    source = write("a.csv", f'text,label\n"{text}",a\nsecond,b\n')
    assert [row["text"] for row in read(source)] == [text, "second"]


@pytest.mark.parametrize("delimiter", [";", "|", "\t"])
def test_another_delimiter_is_named(delimiter: str) -> None:
    source = write("a.csv", CSV.replace(",", delimiter))
    assert read(source, delimiter=delimiter) == WANTED


def test_a_delimiter_of_two_characters_is_refused() -> None:
    with pytest.raises(Exception, match="data.delimiter: got ';;', expected a single character"):
        read(write("a.csv", CSV), delimiter=";;")


def test_a_quote_that_is_not_closed_names_the_way_out() -> None:
    with refused("if quotes are plain characters in this file, set data.quoting: none."):
        read(write("a.csv", 'text,label\n"open,a\n'))


# blank lines


def test_a_blank_line_of_one_column_is_a_row() -> None:
    assert texts(write("a.csv", "text\none\n\nthree\n")) == ["one", "", "three"]


def test_blank_lines_at_the_end_are_no_rows() -> None:
    assert texts(write("a.csv", "text\none\n\n\n")) == ["one"]


# folders and metadata of the library datasets


@pytest.fixture
def saved() -> Any:
    """A data set with class ids and their names."""
    import datasets

    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["a", "b"]),
            "tags": datasets.List(datasets.ClassLabel(names=["O", "B-x"])),
        }
    )
    values = [
        {"text": "first", "label": 0, "tags": [1, 0]},
        {"text": "second", "label": 1, "tags": [0]},
    ]
    return datasets.Dataset.from_list(values, features=features)


def test_a_saved_data_set_is_read_with_the_names_of_its_classes(saved: Any) -> None:
    saved.save_to_disk("folder")
    assert read("folder") == WANTED


def test_tags_are_read_with_the_names_of_their_classes(saved: Any) -> None:
    saved.to_parquet("a.parquet")
    assert read("a.parquet", {"tags": Kind.TAGS}) == [{"tags": ["B-x", "O"]}, {"tags": ["O"]}]


@pytest.mark.parametrize(("split", "number"), [("train", 2), ("validation", 1)])
def test_a_split_of_saved_data_sets_is_chosen(saved: Any, split: str, number: int) -> None:
    import datasets

    both = {"train": saved, "dev": saved.select([0])}
    datasets.DatasetDict(both).save_to_disk("folder")
    assert len(read("folder", split=split)) == number


def test_a_split_that_is_missing_is_told(saved: Any) -> None:
    import datasets

    datasets.DatasetDict({"train": saved}).save_to_disk("folder")
    with refused("folder: has no split for data.test; it has train."):
        read("folder", split="test")


def test_a_folder_laid_out_as_on_the_hub_is_read(saved: Any) -> None:
    Path("folder/data").mkdir(parents=True)
    saved.to_parquet("folder/data/train-00000-of-00001.parquet")
    assert read("folder") == WANTED


def test_a_folder_of_files_by_split_is_read() -> None:
    write("folder/train.csv", CSV)
    write("folder/test.csv", "text,label\nthird,a\n")
    assert [row["text"] for row in read("folder", split="test")] == ["third"]


# words and tags

CONLL = "-DOCSTART- -X- O\n\nEU NNP B-org\nrejects VBZ O\n\nBob NNP B-per\n"
WORDS = {"words": Kind.WORDS, "tags": Kind.TAGS}


@pytest.mark.parametrize("ending", ["conll", "iob", "iob2", "bio"])
def test_a_file_of_a_word_in_each_line_has_a_row_for_each_sentence(ending: str) -> None:
    assert read(write(f"a.{ending}", CONLL), WORDS) == [
        {"words": ["EU", "rejects"], "tags": ["B-org", "O"]},
        {"words": ["Bob"], "tags": ["B-per"]},
    ]


def test_words_may_be_separated_by_tabs_and_have_comments() -> None:
    source = write("a.conll", "# sent 1\nNew York\tB-loc\nis\tO\n")
    assert read(source, WORDS) == [{"words": ["New York", "is"], "tags": ["B-loc", "O"]}]


def test_a_word_with_another_number_of_columns_is_refused() -> None:
    with refused("a.conll, line 2: has 1 columns, but line 1 has 2: 'rejects'."):
        read(write("a.conll", "EU B-org\nrejects\n"), WORDS)


def test_words_to_predict_need_no_tags() -> None:
    assert read(write("a.conll", "EU\nrejects\n"), {"words": Kind.WORDS}) == [
        {"words": ["EU", "rejects"]}
    ]
