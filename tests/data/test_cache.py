"""The cache of rows: a file is made once, by content, and read by all."""

import logging
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plcli.data import cache, cache_sums, rows
from plcli.data.cache import build_once
from plcli.data.cells import Kind
from plcli.errors import DataError, MachineError, UsageError
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


# damage


def cached() -> Path:
    """Read a small file and return its cache file, which no process has checked."""
    texts(write("a.csv", "text\n" + "".join(f"row {number}\n" for number in range(99))))
    cache._checked.clear()
    return next(Path("cache/rows").glob("*.arrow"))


def flipped(content: bytes) -> bytes:
    """Turn over a bit of the middle."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


HARM: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "flipped": flipped,
    "longer": lambda content: content + b"x",
}


@pytest.fixture
def logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """The log lines of plcli."""
    monkeypatch.setattr(logging.getLogger("plcli"), "propagate", True)
    caplog.set_level(logging.INFO, "plcli")
    return caplog


@pytest.mark.parametrize("harm", HARM)
def test_a_damaged_cache_file_is_told_and_built_anew(
    harm: str, logged: pytest.LogCaptureFixture
) -> None:
    path = cached()
    content = path.read_bytes()
    path.write_bytes(HARM[harm](content))
    assert texts("a.csv")[:2] == ["row 0", "row 1"]
    assert path.read_bytes() == content
    assert re.search(rf"{path}: is damaged \(.+\); it is built anew", logged.text)


@pytest.mark.parametrize("sums", ["", "{}", '{"size": 1, "crc32": [], "sha256": ""}', "flipped"])
def test_a_cache_file_with_damaged_sums_is_built_anew(
    sums: str, logged: pytest.LogCaptureFixture
) -> None:
    path = cached()
    if sums == "flipped":  # a digit of the sha256, which stays a digit
        content = cache_sums.path_of(path).read_text()
        place = content.index('"sha256": "') + 20
        sums = content[:place] + str((int(content[place], 16) + 1) % 10) + content[place + 1 :]
    cache_sums.path_of(path).write_text(sums)
    assert len(texts("a.csv")) == 99
    assert "is damaged (its sums are missing); it is built anew" in logged.text
    assert cache_sums.damage(path) is None


def test_a_large_cache_file_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_sums, "BLOCK", 16)
    monkeypatch.setattr(cache_sums, "WHOLE", 20)
    path = Path("large")
    path.write_bytes(bytes(range(256)) * 4)  # 64 blocks
    cache_sums.write(path, content=path)
    assert cache_sums.damage(path) is None
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert cache_sums.damage(path) is not None  # the first block is always looked at
    content[0] ^= 1
    content[512:] = bytes(512)
    path.write_bytes(content)
    assert cache_sums.damage(path) is not None
    content[512:] = (bytes(range(256)) * 4)[512:]
    content[500] ^= 1
    path.write_bytes(content)
    found = [cache_sums.damage(path) is not None for _ in range(99)]
    assert 0 < sum(found) < 99  # one block of 64 is looked at in about a third of the openings


# users


@contextmanager
def as_user(number: int) -> Iterator[None]:
    """Act as another user than the one who has written the files so far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_user", lambda: number)
        patch.setattr(cache, "_is_own", lambda path: path.name.endswith(f"-{number}.arrow"))
        yield


def test_the_cache_file_of_another_user_is_not_used(logged: pytest.LogCaptureFixture) -> None:
    path = cached()
    poisoned = texts(write("b.csv", "text\npoison\n"))
    other = next(each for each in Path("cache/rows").glob("*.arrow") if each != path)
    for source, target in ((other, path), (cache_sums.path_of(other), cache_sums.path_of(path))):
        target.write_bytes(source.read_bytes())
    assert texts("a.csv") == poisoned  # sums alone do not tell who has written them
    with as_user(4242):
        assert texts("a.csv")[0] == "row 0"
    said = f"{path}: is not used, because another user has written it; set PLCLI_CACHE_TRUST to "
    assert said in logged.text


@pytest.mark.parametrize("trusted", ["all", "someone, {owner}"])
def test_the_cache_file_of_a_trusted_user_is_used(
    trusted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cached()
    monkeypatch.setenv("PLCLI_CACHE_TRUST", trusted.format(owner=path.stat().st_uid))
    before = files_with_times("cache")
    with as_user(4242):
        texts("a.csv")
    assert files_with_times("cache") == before


def test_the_digest_of_the_rows_of_another_user_is_of_what_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = cached()
    monkeypatch.setenv("PLCLI_CACHE_TRUST", "all")
    file = rows.load("a.csv", TEXT).file
    assert file is not None
    honest = file.sha256()
    path.write_bytes(flipped(path.read_bytes()))
    with as_user(4242):
        assert file.sha256() != honest


def test_a_cache_file_that_others_can_change_is_not_used(logged: pytest.LogCaptureFixture) -> None:
    path = cached()
    path.chmod(0o666)
    assert len(texts("a.csv")) == 99
    assert f"{path}: is not used, because another user can change it" in logged.text


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o644)])
def test_a_cache_file_has_the_permissions_of_the_umask(umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        path = cached()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == mode
    assert path.parent.stat().st_mode & 0o777 == 0o777 & ~umask


# what is left, and how much


def built(name: str, size: int = 1000, *, age: float = 0) -> Path:
    """Build a cache file that was last used some seconds ago."""
    path = build_once(
        Path("cache/rows") / name, lambda path: path.write_bytes(b"x" * size) and None
    )
    sums = cache_sums.path_of(path)
    then = sums.stat().st_mtime - age
    os.utime(sums, (then, then))
    return path


def test_the_files_that_were_not_used_for_longest_are_removed_above_the_limit(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    old, older, recent = built("a", age=2000), built("b", age=3000), built("c", age=10)
    monkeypatch.setenv("PLCLI_CACHE_LIMIT", "0.0000035")
    new = built("d")
    assert [path.exists() for path in (old, older, recent, new)] == [True, False, True, True]
    assert f"{older}: removed, as the cache is above its limit of 3.5e-06 GB" in logged.text
    assert not cache_sums.path_of(older).exists()


def test_files_that_may_be_in_use_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    recent = built("a", age=10)
    monkeypatch.setenv("PLCLI_CACHE_LIMIT", "0.000001")
    built("b")
    assert recent.exists()


def test_without_a_limit_nothing_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLCLI_CACHE_LIMIT", "0")
    assert cache.limit() == float("inf")


def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLCLI_CACHE_LIMIT", "much")
    with pytest.raises(UsageError, match=r"PLCLI_CACHE_LIMIT: got 'much', expected a number of"):
        cache.limit()


def test_an_opened_file_counts_as_used() -> None:
    path = built("a", age=5000)
    cache._checked.clear()
    build_once(path, lambda path: None)
    used, _ = cache.files(Path("cache"))[path]
    assert used > path.stat().st_mtime - 5


def test_what_dead_processes_have_left_is_removed() -> None:
    owner = f"0.{os.getppid()}.1@{socket.gethostname()}"  # an earlier process with that id
    left = Path(f"cache/rows/.tmp-{owner}"), Path(f"cache/predict-{owner}/rows")
    for path in left:
        path.mkdir(parents=True)
    built("a")
    cache.temporary_folder()
    assert [path.exists() for path in left] == [False, False]


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
