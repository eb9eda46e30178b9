"""Sources: files, globs, packages, addresses and the hub, and what is said where there is none."""

import sys
from pathlib import Path
from typing import Any

import pytest

from plcli.data import rows
from plcli.data.cells import Kind
from plcli.errors import DataError, MachineError
from tests.data.files import TEXT, TEXT_AND_LABEL, column, refused, texts, write, write_to_memory

# sources


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


# places that are not there


def test_an_unknown_ending_is_refused_with_the_known_ones() -> None:
    with refused(
        "a.xlsx: the ending '.xlsx' is not one of csv, tsv, jsonl, json, parquet, arrow, txt, "
        "conll, iob, iob2, bio, ann."
    ):
        texts(write("a.xlsx", "text\na\n"))


def test_a_folder_is_refused_with_an_example() -> None:
    Path("data").mkdir()
    with refused("data/: is a folder. Name its files, for example 'data/*.csv'."):
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
    with refused("none/*.csv: no file matches. Check the pattern."):
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
    with refused("package:plcli/none.csv: the package 'plcli' has no 'none.csv'."):
        texts("package:plcli/none.csv")


def test_an_address_whose_reader_is_not_installed_is_the_environments_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    message = r"^s3://bucket/a\.csv: .*Install the package for this kind of address\.$"
    with pytest.raises(MachineError, match=message):
        texts("s3://bucket/a.csv")


def test_an_address_of_no_known_kind_is_refused() -> None:
    with refused("gsc://bucket/a.csv: 'gsc://' is not a known kind of address. Did you mean 'gs'?"):
        texts("gsc://bucket/a.csv")
