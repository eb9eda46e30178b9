"""The cache of rows: a file is made once, by content, and read by all."""

import subprocess
import sys
from pathlib import Path

import pytest

from plcli.data import rows
from plcli.data.cells import Kind
from plcli.errors import DataError, MachineError
from tests.data.files import TEXT, column, files_with_times, texts, write


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
    message = r"^taken/rows: cannot be written .*Set PLCLI_CACHE to a writable folder\.$"
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
