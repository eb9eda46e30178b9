"""plcli runs: list, show, best, rm and prune."""

import json
import os
import time
from pathlib import Path

import pytest

from tests.conftest import Command, FinishedRun, message


@pytest.fixture
def three_runs(linear_run: FinishedRun) -> list[Path]:
    """Two finished runs, the second of which is better in validation, and an unfinished one."""
    Path("runs").mkdir()
    folders = [linear_run.copy(f"runs/table-{number}") for number in (1, 2, 3)]
    for number, (validation, test) in enumerate([(3.0, 1.0), (2.0, 5.0), (1.0, 1.0)]):
        path = folders[number] / "metrics.json"
        metrics = json.loads(path.read_text(encoding="utf-8"))
        metrics["fit"] = {"monitor": "val_rmse", "best_epoch": 2}
        metrics["validation"]["rmse"], metrics["test"]["rmse"] = validation, test
        path.write_text(json.dumps(metrics), encoding="utf-8")
        old = time.time() - 3600 + number
        for each in folders[number].rglob("*"):
            os.utime(each, (old, old))
    (folders[2] / "model" / "plcli.json").unlink()
    return folders


def test_list_has_a_line_for_each_run(plcli: Command, three_runs: list[Path]) -> None:
    result = plcli("runs")
    lines = [line for line in result.out.splitlines() if " table-" in line]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines]
    assert [row[:2] for row in cells] == [
        ["table-1", "finished"],
        ["table-2", "finished"],
        ["table-3", "unfinished"],
    ]
    assert [row[3:5] for row in cells[:2]] == [["rmse", "3.0000"], ["rmse", "2.0000"]]
    assert all(row[5].endswith(" MB") for row in cells)
    assert plcli("runs", "list", "runs").out == result.out
    assert plcli("runs", "runs").out == result.out


def test_show_has_the_metrics_with_intervals(plcli: Command, three_runs: list[Path]) -> None:
    result = plcli("runs", "show", three_runs[0])
    assert result.code == 0, result.err
    assert "state: finished" in result.out
    assert "monitor: val_rmse" in result.out
    assert any("mae" in line and " to " in line for line in result.out.splitlines())


def test_best_is_the_best_finished_run_in_validation(
    plcli: Command, three_runs: list[Path]
) -> None:
    result = plcli("runs", "best")
    assert result.out.strip() == "runs/table-2"
    assert "validation rmse 2.0000" in result.err
    assert plcli("runs", "best", "--split", "test").out.strip() == "runs/table-1"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["lst"], "runs: got 'lst', expected list, show, best, rm, prune or a folder."),
        (["best", "--metric", "f1"], "--metric f1: no finished run has it for the validation"),
        (["best", "--metric", "thing"], "does not say whether larger values are better"),
        (["show", "--yes"], "--yes: `plcli runs show` does not have it."),
        (["prune", "--keep", "two"], "--keep: got 'two', expected a whole number"),
        (["rm"], "runs rm: names no run."),
        (["rm", "runs/table-1"], "nothing was removed, as nobody can be asked. Add --yes"),
        (["rm", "runs/table-1/model", "--yes"], "is a part of the run runs/table-1"),
        (["list", "nowhere"], "nowhere: no such folder."),
    ],
)
def test_a_wrong_command_line_is_refused_and_removes_nothing(
    plcli: Command, three_runs: list[Path], words: list[str], said: str
) -> None:
    result = plcli("runs", *words)
    assert result.code == 2
    assert said in message(result)
    assert all((folder / "config.yaml").exists() for folder in three_runs)


def test_rm_removes_a_run(plcli: Command, three_runs: list[Path]) -> None:
    assert plcli("runs", "rm", "runs/table-1", "runs/table-3", "--yes").code == 0
    assert [folder.exists() for folder in three_runs] == [False, True, False]


@pytest.mark.parametrize(("answer", "stays"), [("y", False), ("n", True), ("", True)])
def test_rm_asks_first(
    plcli: Command,
    three_runs: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    stays: bool,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    assert plcli("runs", "rm", "runs/table-1").code == 0
    assert three_runs[0].exists() == stays


def test_rm_leaves_a_run_that_holds_other_files(plcli: Command, three_runs: list[Path]) -> None:
    (three_runs[0] / "notes.txt").write_text("mine")
    result = plcli("runs", "rm", "runs/table-1", "--yes")
    assert result.code == 2
    assert "also holds notes.txt, which plcli did not write" in message(result)
    assert (three_runs[0] / "notes.txt").exists()


def test_rm_leaves_a_run_that_may_still_be_trained(plcli: Command, three_runs: list[Path]) -> None:
    (three_runs[2] / "train.log").touch()
    result = plcli("runs", "rm", "runs/table-3", "--yes")
    assert result.code == 2
    assert "may still be trained" in message(result)
    assert three_runs[2].exists()


def test_prune_removes_the_checkpoints_of_finished_runs(
    plcli: Command, three_runs: list[Path]
) -> None:
    assert plcli("runs", "prune", "--yes").code == 0
    left = [(folder / "checkpoints").exists() for folder in three_runs]
    assert left == [False, False, True]
    assert plcli("test", "--run", three_runs[0]).code == 0


def test_prune_removes_old_runs_but_never_unfinished_ones(
    plcli: Command, three_runs: list[Path]
) -> None:
    assert plcli("runs", "prune", "--keep", "1", "--yes").code == 0
    assert [folder.exists() for folder in three_runs] == [False, True, True]
    assert plcli("runs", "prune", "--keep", "1", "--yes").out.strip() == "nothing to prune"


def test_show_has_the_command_as_it_can_be_typed(plcli: Command, three_runs: list[Path]) -> None:
    path = three_runs[0] / "environment.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    words = ["fit", "-c", "my files/table.yaml", "--trainer.callbacks=[]"]
    path.write_text(json.dumps({**found, "command": words}), encoding="utf-8")
    result = plcli("runs", "show", three_runs[0])
    command = "plcli fit -c 'my files/table.yaml' '--trainer.callbacks=[]'"
    assert f"command: {command}" in result.out.splitlines()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is empty"),
        ('{"test": {"rmse"', "Expecting ':' delimiter: line 1 column 17 (char 16)"),
        ("[]", "a list instead of a mapping"),
        ('{"test": 3}', "its part test is no mapping"),
    ],
)
def test_a_damaged_metrics_json_is_told_as_such(
    plcli: Command, three_runs: list[Path], content: str, reason: str
) -> None:
    run, path = three_runs[1], three_runs[1] / "metrics.json"
    path.write_text(content, encoding="utf-8")
    again = f"`plcli test --run {run}` writes it again, from what model/ knows."
    shown = plcli("runs", "show", run).out
    assert f"metrics: not known, as metrics.json is damaged ({reason}). {again}" in shown
    assert "metrics.json is damaged" in " ".join(plcli("runs").out.replace("│", " ").split())
    best = plcli("runs", "best")
    assert best.out.strip() == "runs/table-1"
    assert f"left out: {path} is damaged ({reason}). {again}" in best.err
    for words in (("compare", three_runs[0], run), ("report", run)):
        result = plcli(*words)
        assert result.code == 4
        assert message(result) == f"plcli: {path}: is damaged ({reason}). {again}\n"


@pytest.mark.parametrize("content", ["", '{"test": {'])
def test_test_writes_a_damaged_metrics_json_again(
    plcli: Command, three_runs: list[Path], content: str
) -> None:
    run, path = three_runs[0], three_runs[0] / "metrics.json"
    path.write_text(content, encoding="utf-8")
    result = plcli("test", "--run", run)
    assert result.code == 0, result.err
    assert f"{path}: was damaged (" in result.err
    card = json.loads((run / "model" / "plcli.json").read_text(encoding="utf-8"))
    assert json.loads(path.read_text(encoding="utf-8")) == card["metrics"]
    kept = run / "metrics.json.damaged"
    assert (kept.read_text() if kept.exists() else "") == content
    assert plcli("report", run).code == 0
    assert plcli("runs", "rm", run, "--yes").code == 0
