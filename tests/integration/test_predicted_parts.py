"""predict --part and --processes: every row is predicted once, and the files are the same."""

import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet
import pytest

from plcli.__main__ import main
from plcli.data import samplers
from tests.conftest import Command, FinishedRun, message
from tests.killed_fits import fork
from tests.many_rows import ROWS, killed, words, write_table
from tests.running import read_rows


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows to predict."""
    return write_table(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def whole(table: Path, linear_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of predictions by one process, one file for each ending."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLCLI_CACHE", str(folder / "cache"))
        for name in ("out.csv", "out.parquet"):
            assert main(words(linear_run, table, folder / name)) == 0
    return folder


def test_the_parts_of_a_file_are_the_file(
    plcli: Command, linear_run: FinishedRun, table: Path, whole: Path
) -> None:
    for number in (1, 2, 3):
        plcli(*words(linear_run, table, f"{number}.csv", "--part", f"{number}/3"))

    header, *rows = (whole / "out.csv").read_text().splitlines(keepends=True)
    parts = [Path(f"{number}.csv").read_text().splitlines(keepends=True) for number in (1, 2, 3)]
    assert [part[0] for part in parts] == [header] * 3
    assert [row for part in parts for row in part[1:]] == rows
    assert [len(part) - 1 for part in parts] == [16_384, 16_384, 16_484]


def test_the_parts_of_few_rows_are_of_like_size(plcli: Command, linear_run: FinishedRun) -> None:
    Path("few.csv").write_text("a,b\n" + "".join(f"{number},1\n" for number in range(7)))
    for number in (1, 2, 3):
        plcli(*words(linear_run, Path("few.csv"), f"{number}.csv", "--part", f"{number}/3"))

    ids = [[int(row["id"]) for row in read_rows(Path(f"{number}.csv"))] for number in (1, 2, 3)]
    assert ids == [[0, 1], [2, 3], [4, 5, 6]]


def test_a_part_without_a_file_of_its_own_is_named(plcli: Command, linear_run: FinishedRun) -> None:
    Path("few.csv").write_text("a,b\n" + "".join(f"{number},1\n" for number in range(7)))

    result = plcli("predict", "--run", linear_run.folder, "--input", "few.csv", "--part", "2/3")

    assert "2 rows written to" in result.err
    assert "predictions/few.part-2-of-3.csv" in result.err


def test_a_killed_part_continues(
    plcli: Command, linear_run: FinishedRun, table: Path, whole: Path
) -> None:
    command = words(linear_run, table, "2.csv", "--part", "2/2")
    killed(command, Path("2.csv.partial.json"))

    result = plcli(*command)

    assert "continuing after 16384 rows that were written before" in result.err
    lines = (whole / "out.csv").read_text().splitlines()
    assert Path("2.csv").read_text().splitlines()[1:] == lines[1 + 2 * samplers.ORDERED_ROWS :]


def test_another_part_does_not_continue_a_killed_one(
    plcli: Command, linear_run: FinishedRun
) -> None:
    Path("few.csv").write_text("a,b\n1,2\n3,4\n")
    Path("1.csv.partial").write_text("id,prediction\n0,1\n")
    Path("1.csv.partial.json").write_text('{"key": "another", "rows": 1, "bytes": 18}')

    result = plcli(*words(linear_run, Path("few.csv"), "1.csv", "--part", "2/2"))

    assert "1.csv.partial has 1 rows of an interrupted prediction" in message(result)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--part", "2"), "--part: got '2', expected a part such as 2/8."),
        (("--part", "3/2"), "--part: got '3/2', expected 1/2 to 2/2, to 1000."),
        (("--part", "0/2"), "--part: got '0/2', expected 1/2 to 2/2, to 1000."),
        (("--part", "1/3"), "the input has 2 rows, which are not 3 parts. Give at most 2."),
        (("--processes", "0"), "--processes: got '0', expected 1 to 1000."),
        (
            ("--processes", "2", "--part", "1/2"),
            "--processes 2 and --part 1/2 do not go together; give one of them.",
        ),
    ],
)
def test_what_is_no_part_is_refused(
    plcli: Command, linear_run: FinishedRun, option: tuple[str, ...], said: str
) -> None:
    Path("few.csv").write_text("a,b\n1,2\n3,4\n")

    result = plcli(*words(linear_run, Path("few.csv"), "out.csv", *option))

    assert message(result) == f"plcli: {said}\n"
    assert not list(Path().glob("out*"))


def test_processes_need_a_file(plcli: Command, linear_run: FinishedRun) -> None:
    result = plcli("predict", "--run", linear_run.folder, "--processes", "2")
    assert message(result) == "plcli: --processes 2: needs --output FILE.\n"
    result = plcli(
        *("predict", "--run", linear_run.folder, "--processes", "2", "--output", "a.csv", "text"),
    )
    assert (
        message(result)
        == "plcli: --processes 2: predicts files. Give --input FILE, or remove it.\n"
    )


def test_parts_of_another_number_of_processes_are_refused(
    plcli: Command, linear_run: FinishedRun, table: Path
) -> None:
    Path("out.part-1-of-3.csv.partial").write_text("")

    result = plcli(*words(linear_run, table, "out.csv", "--processes", "2"))

    assert message(result) == (
        "plcli: --output out.csv: out.part-1-of-3.csv.partial is of an interrupted prediction with "
        "another number of processes. Give that number, or remove these files.\n"
    )


def started(*arguments: str) -> "subprocess.Popen[str]":
    """Start a command of its own, whose output is read later."""
    return subprocess.Popen(
        [sys.executable, "-m", "plcli", *arguments], text=True, stderr=subprocess.PIPE
    )


def test_two_processes_write_what_one_does(
    plcli: Command, linear_run: FinishedRun, table: Path, whole: Path
) -> None:
    result = plcli(*words(linear_run, table, "out.csv", "--processes", "2"))

    assert result.code == 0, result.err
    assert Path("out.csv").read_bytes() == (whole / "out.csv").read_bytes()
    assert result.err.count(f"{ROWS} rows written to out.csv") == 1
    assert [path.name for path in Path().glob("out*")] == ["out.csv"]


def test_killed_processes_end_and_continue(
    linear_run: FinishedRun, table: Path, whole: Path
) -> None:
    command = words(linear_run, table, "out.parquet", "--processes", "2")
    first = started(*command)
    while not list(Path().glob("out.part-*.json")):
        assert first.poll() is None, first.communicate()[1]
        time.sleep(0.001)
    first.kill()
    first.communicate()
    second = started(*command)  # waits for nobody: those that the first has started end as well
    said = second.communicate()[1]
    if second.returncode == 2:  # one of them had not yet
        assert "is being written by another process" in said
        second = started(*command)
        said = second.communicate()[1]

    assert second.returncode == 0, said
    tables = [
        pyarrow.parquet.read_table(path) for path in (Path("out.parquet"), whole / "out.parquet")
    ]
    assert tables[0].equals(tables[1])
    assert [path.name for path in Path().glob("out*")] == ["out.parquet"]


def test_a_mistake_is_said_once(linear_run: FinishedRun, table: Path, tmp_path: Path) -> None:
    command = words(linear_run, table, "out.csv", "--processes", "2", "--data.batch_siz", "3")

    done = fork(*command, folder=tmp_path)

    assert done.code == 2
    assert done.said.count("unknown key") == 1
    assert not list(Path().glob("out*"))
