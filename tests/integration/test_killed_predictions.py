"""predict: killed, it continues after the rows that are on disk; addresses are refused."""

import os
import signal
from pathlib import Path

import pytest

from plcli.__main__ import main
from tests.conftest import Command, FinishedRun, message
from tests.many_rows import killed, words, write_table

OUTPUTS = ("out.csv", "out.jsonl", "out.parquet")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows to predict."""
    return write_table(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def whole(table: Path, linear_run: FinishedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of uninterrupted predictions, one file for each ending."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLCLI_CACHE", str(folder / "cache"))
        for name in OUTPUTS:
            assert main(words(linear_run, table, folder / name)) == 0
    return folder


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_killed_prediction_ends_with_the_same_file(
    plcli: Command, linear_run: FinishedRun, table: Path, whole: Path, name: str
) -> None:
    command = words(linear_run, table, name)
    killed(command, Path(f"{name}.partial.json"))
    assert sorted(path.name for path in Path().glob("out.*")) == [
        f"{name}.partial",
        f"{name}.partial.json",
    ]
    result = plcli(*command)
    assert result.code == 0, result.err
    assert "continuing after" in result.err
    assert Path(name).read_bytes() == (whole / name).read_bytes()
    assert [path.name for path in Path().glob("out.*")] == [name]


def test_a_stopped_prediction_says_what_it_keeps(
    plcli: Command, linear_run: FinishedRun, table: Path, whole: Path
) -> None:
    command = words(linear_run, table, "out.csv")
    status = killed(command, Path("out.csv.partial.json"), signal.SIGTERM)
    assert os.waitstatus_to_exitcode(status) == 143
    assert plcli(*command).code == 0
    assert Path("out.csv").read_bytes() == (whole / "out.csv").read_bytes()


def test_rows_that_were_torn_are_written_again(
    plcli: Command, linear_run: FinishedRun, table: Path, whole: Path
) -> None:
    command = words(linear_run, table, "out.csv")
    killed(command, Path("out.csv.partial.json"))
    with open("out.csv.partial", "a") as file:
        file.write("7,torn")
    assert plcli(*command).code == 0
    assert Path("out.csv").read_bytes() == (whole / "out.csv").read_bytes()


def test_another_prediction_does_not_continue_it(
    plcli: Command, linear_run: FinishedRun, table: Path
) -> None:
    killed(words(linear_run, table, "out.csv"), Path("out.csv.partial.json"))
    other = table.with_name("other.csv")
    other.write_text("a,b\n1,2\n")
    result = plcli(*words(linear_run, other, "out.csv"))
    assert result.code == 2
    assert "out.csv.partial has" in message(result)
    assert "of an interrupted prediction of other rows, or with other weights" in message(result)


# addresses


@pytest.mark.parametrize("address", ["s3://bucket/out.csv", "gs://bucket/out.csv", "file:///x.csv"])
def test_an_output_that_is_an_address_is_refused(
    plcli: Command, linear_run: FinishedRun, address: str
) -> None:
    result = plcli("predict", "--run", linear_run.folder, '{"a": 1, "b": 2}', "--output", address)
    assert (result.code, list(Path().iterdir())) == (2, [])
    assert f"--output {address.replace(':///', '://')}: is not a path on this" in message(result)


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_a_run_that_is_an_address_is_refused(
    plcli: Command, linear_config: Path, command: str
) -> None:
    result = plcli(command, "-c", linear_config, "--run", "s3://bucket/run")
    assert (result.code, Path("s3:").exists()) == (2, False)
    assert "--run s3://bucket/run: is not a path on this machine." in message(result)
