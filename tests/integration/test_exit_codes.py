"""The exit codes that users rely on: what the README says, and what a command returns."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from plcli import __main__, errors
from plcli.errors import DataError, MachineError, ModelError, PlcliError, UsageError
from plcli.tasks.linear_regression import SimpleLinearModel
from tests.conftest import ROOT, Command, FinishedRun, Result, write_rows

CODES = {  # words after `plcli`; {config} and {run} are a linear regression's
    "done": ("fit -c {config} --trainer.fast_dev_run true", 0),
    "help": ("fit --help", 0),
    "a command": ("ft", 2),
    "an option": ("fit --rum x", 2),
    "a config": ("fit -c none.yaml", 2),
    "a key": ("fit -c {config} --data.featurs [a]", 2),
    "a class that is not allowed": ("fit -c {config} --model os.system", 2),
    "a file of data": ("fit -c {config} --data.train none.csv", 3),
    "a cell": ("test --run {run} --data.test words.csv", 3),
    "a checkpoint": ("test --run {run} --ckpt_path none.ckpt", 4),
    "a device": ("fit -c {config} --trainer.accelerator gpu", 5),
    "a folder that cannot be written": ("fit -c {config} --run /proc/here", 5),
}


@pytest.mark.parametrize("name", CODES)
def test_a_command_ends_with_the_code_of_what_was_wrong(
    plcli: Command, linear_config: Path, linear_run: FinishedRun, name: str
) -> None:
    write_rows(Path("words.csv"), [{"a": "one", "b": 1, "y": 2}])
    words, code = CODES[name]
    line = words.format(config=linear_config, run=linear_run.folder)
    assert plcli(*line.split()).code == code


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "fit",
            "A fit resumes from its last checkpoint: run the same command again, with --run "
            "FOLDER.",
        ),
        ("predict", "Nothing was written; run the same command again."),
        ("test", "Nothing was written; run the same command again."),
    ],
)
@pytest.mark.parametrize(
    ("error", "name"),
    [(KeyboardInterrupt(), "stopped"), (errors.Terminated(15), "stopped by SIGTERM")],
)
def test_a_stopped_command_says_what_to_do(
    plcli: Command,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    said: str,
    error: BaseException,
    name: str,
) -> None:
    def stop(command: str, words: Any) -> int:
        raise error

    monkeypatch.setattr("plcli.cli.dispatch.run", stop)
    assert plcli(command, "-c", "a.yaml").err == f"plcli: {name}. {said}\n"


def documented() -> dict[str, str]:
    """Return the README's table of exit codes."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("| exit code | means |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| ([\d, ]+) \| (.+) \|$", table, flags=re.MULTILINE)
    return {code: text for codes, text in rows for code in codes.split(", ")}


def test_the_readme_has_every_code() -> None:
    assert set(documented()) == {"0", "1", "2", "3", "4", "5", "70", "130", "143"}


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (errors.UsageError, "config"),
        (errors.DataError, "data"),
        (errors.ModelError, "checkpoint"),
        (errors.MachineError, "environment"),
    ],
)
def test_the_readme_says_of_a_code_what_its_error_is(
    error: type[errors.PlcliError], word: str
) -> None:
    assert word in documented()[str(error.exit_code)]


def test_the_readme_has_the_codes_of_signals() -> None:
    assert {str(__main__.INTERRUPTED), str(__main__.TERMINATED)} <= set(documented())


def test_every_error_of_the_user_has_a_code_of_its_own() -> None:
    codes = [error.exit_code for error in errors.PlcliError.__subclasses__()]
    assert sorted(codes) == sorted(set(codes))


# the ways a command ends


@pytest.mark.parametrize(
    ("error", "code"), [(UsageError, 2), (DataError, 3), (ModelError, 4), (MachineError, 5)]
)
def test_an_error_ends_the_command_with_its_code(
    plcli: Command, monkeypatch: pytest.MonkeyPatch, error: type[PlcliError], code: int
) -> None:
    def fail(arguments: list[str]) -> int:
        raise error("what went wrong")

    monkeypatch.setattr(__main__, "_run", fail)
    result = plcli("fit")
    assert (result.code, result.err) == (code, "plcli: what went wrong\n")


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the console script in this process."""

    def run(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["plcli", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            __main__.entry()
        captured = capsys.readouterr()
        return Result(int(ended.value.code or 0), captured.out, captured.err)

    return run


def broken_step() -> Any:
    """Return a training step with a bug, whose code is in a file of plcli."""
    code = "def step(self, batch, batch_idx):\n    raise ZeroDivisionError('a bug')\n"
    names: dict[str, Any] = {}
    exec(compile(code, __main__.__file__, "exec"), names)
    return names["step"]


def test_a_bug_ends_with_70(
    entry: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimpleLinearModel, "training_step", broken_step())
    assert entry("fit", "-c", linear_config).code == 70


def test_a_bug_keeps_its_traceback(
    entry: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SimpleLinearModel, "training_step", broken_step())
    assert "ZeroDivisionError: a bug" in entry("fit", "-c", linear_config).err


def test_a_mistake_shows_no_traceback(entry: Command) -> None:
    assert "Traceback" not in entry("fit", "--run").err


def test_a_finished_command_ends_with_0(entry: Command) -> None:
    assert entry("--version").code == 0


def test_a_reader_that_has_gone_is_no_error(
    plcli: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(arguments: list[str]) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(__main__, "_run", fail)
    monkeypatch.setattr(sys, "stderr", open("stderr.txt", "w"))  # noqa: SIM115  # main closes it
    assert plcli("predict").code == 0
