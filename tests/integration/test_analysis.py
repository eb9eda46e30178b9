"""The analysis of a test through the commands: tables, files, slices, groups, nothing chosen."""

import csv
import datetime
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import Command, FinishedRun, message_rows, write_rows
from tests.running import fit_messages, read_json


def csv_rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def other_rows(**columns: Any) -> list[dict[str, Any]]:
    """The test messages with further columns."""
    return [
        {**row, **{name: values[number] for name, values in columns.items()}}
        for number, row in enumerate(message_rows(1))
    ]


def test_fit_writes_what_is_wrong_and_how(text_run: FinishedRun) -> None:
    found, metrics = (
        read_json(text_run.folder / name) for name in ("analysis.json", "metrics.json")
    )
    assert found["confusion_matrix"] == metrics["test"]["confusion_matrix"]
    assert found["fingerprint"] == metrics["test"]["fingerprint"]
    for each in found["classes"]:
        own = metrics["test"]["classes"][each["label"]]
        assert {key: each[key] for key in own} == pytest.approx(own)
        ends = metrics["test"]["intervals"].get(f"classes.{each['label']}.recall")
        assert each["intervals"].get("recall") == (ends and [ends["low"], ends["high"]])
    assert found["files"]["errors"] == "errors.csv"


def test_predictions_and_errors_have_truth_and_text(text_run: FinishedRun) -> None:
    rows = csv_rows(text_run.folder / "test_predictions.csv")
    assert [row["message"] for row in rows] == [row["message"] for row in message_rows(1)]
    assert [row["truth"] for row in rows] == [row["intent"] for row in message_rows(1)]
    errors = csv_rows(text_run.folder / "errors.csv")
    losses = [float(row["loss"]) for row in errors]
    assert losses == sorted(losses, reverse=True)
    wrong = {row["row"] for row in rows if row["truth"] != row["prediction"]}
    assert {row["row"] for row in errors} == wrong
    assert [*errors[0]] == ["row", "id", "truth", "prediction", "probability", "loss", "message"]


def test_a_useless_model_doubts_no_labels(plcli: Command, text_run: FinishedRun) -> None:
    run = text_run.copy("copy")
    result = plcli("test", "--run", run)
    assert "look wrong, if the model is right" not in result.out
    assert (
        "labels that look wrong to the model are not shown, as it is not clearly better than the "
        "majority class, whose macro_f1 is 0.167 (its own: 95 % "
    ) in " ".join(result.out.split())
    assert not (run / "suspected_labels.csv").exists()
    assert plcli("report", run).code == 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "labels that look wrong to the model: not shown, as it is not clearly better" in page


@pytest.mark.parametrize("width", [80, 120])
def test_test_shows_classes_confusions_slices_and_the_worst_rows(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    sources = ["web"] * 6 + ["app"] * 6
    rows = write_rows(Path("other.jsonl"), other_rows(source=sources))
    run = text_run.copy("copy")
    result = plcli("test", "--run", run, "--data.test", rows, "--slice", "source, length")
    assert result.code == 0, result.err
    for said in (
        "confusion matrix: rows true, columns predicted",
        "most confused (true, predicted)",
        "slices (*: few rows, which say little)",
        "rows are wrong; the worst, by loss",
        " -> ",
    ):
        assert said in result.out
    assert {"source", "web", "6*"} <= set(result.out.split())
    *lines, files_written = result.out.splitlines()
    assert max(map(len, lines)) <= width
    (path,) = run.glob("analysis-*.json")
    files = read_json(path)["files"]
    assert files_written == f"in {run}: {', '.join([*files.values(), path.name])}"
    assert csv_rows(run / files["errors"])[0]["source"] in ("web", "app")
    assert (run / "errors.csv").read_bytes() == (text_run.folder / "errors.csv").read_bytes()


def test_the_classes_are_those_of_the_model_in_its_order(
    plcli: Command, text_run: FinishedRun
) -> None:
    """Test rows in another order, and without some classes, change neither labels nor order."""
    run = text_run.copy("copy")
    labels = read_json(run / "model" / "plcli.json")["labels"]
    kept = [row for row in reversed(message_rows(1)) if row["intent"] != labels[0]]
    rows = write_rows(Path("other.jsonl"), kept)
    assert plcli("test", "--run", run, "--data.test", rows).code == 0
    (path,) = run.glob("analysis-*.json")
    found, before = read_json(path), read_json(run / "analysis.json")
    assert found["labels"] == [each["label"] for each in found["classes"]] == labels
    assert found["confusion_matrix"][0] == [0] * len(labels)
    assert found["confusion_matrix"][1:] == before["confusion_matrix"][1:]
    assert found["classes"][0]["support"] == 0


def test_a_test_changes_nothing_of_the_model(plcli: Command, text_run: FinishedRun) -> None:
    run = text_run.copy("copy")
    model = {path: path.read_bytes() for path in (run / "model").iterdir()}
    flipped = other_rows(intent=[row["intent"] for row in reversed(message_rows(1))])
    rows = write_rows(Path("other.jsonl"), flipped)
    assert plcli("test", "--run", run, "--data.test", rows).code == 0
    assert {path: path.read_bytes() for path in (run / "model").iterdir()} == model


def test_formulas_are_escaped_on_request(plcli: Command, text_run: FinishedRun) -> None:
    run = text_run.copy("copy")
    rows = write_rows(Path("other.jsonl"), [{"message": "=1+1", "intent": "billing"}] * 2)
    for value, text in (("false", "=1+1"), ("true", "'=1+1")):
        words = ("--data.test", rows, "--escape-formulas", value)
        assert plcli("test", "--run", run, *words).code == 0
        (path,) = run.glob("test_predictions-*.csv")
        assert [row["message"] for row in csv_rows(path)] == [text] * 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--slice", "intnt"), 3, "has no column 'intnt'. Did you mean 'intent'?"),
        (("--slice", ","), 2, "--slice: names no column."),
        (("--escape-formulas", "yes"), 2, "--escape-formulas: got 'yes', expected true or false."),
    ],
)
def test_options_are_checked_before_anything_is_trained(
    plcli: Command, text_config: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    result = plcli("fit", "-c", text_config, "--run", "run", *words)
    assert (result.code, Path("run").exists()) == (code, False)
    assert said in result.err


def test_a_table_has_no_lengths(plcli: Command, linear_run: FinishedRun) -> None:
    result = plcli("test", "--run", linear_run.folder, "--slice", "length")
    assert result.code == 2
    assert "--slice length: TableData has no texts. Name a column instead." in result.err


def test_numbers_are_sliced_by_a_column(plcli: Command, linear_run: FinishedRun) -> None:
    run = linear_run.copy("copy")
    assert plcli("test", "--run", run, "--slice", "a").code == 0
    slices = read_json(run / "analysis.json")["slices"]
    assert sum(each["n"] for each in slices) == 40
    assert {each["by"] for each in slices} == {"a"}


@pytest.mark.parametrize("command", ["fit", "test"])
@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("tags", "contains lists, which are no groups of rows"),
        ("notes", "has no value in any row"),
    ],
)
def test_columns_that_make_no_groups_are_refused(
    plcli: Command,
    text_run: FinishedRun,
    text_config: Path,
    command: str,
    column: str,
    reason: str,
) -> None:
    columns = {"tags": [["a", "b"]] * 12, "notes": [None] * 12}
    rows = write_rows(Path("other.jsonl"), other_rows(**columns))
    of = ("-c", text_config) if command == "fit" else ("--run", text_run.folder)
    result = plcli(command, *of, "--data.test", rows, "--slice", f"intent,{column}")
    assert result.code == 2
    assert (
        f"--slice {column}: the column {reason}. Name a column of which several rows have the "
        "same text, or one of numbers or of dates such as 2026-03-31."
    ) in result.err


def test_fit_prints_the_slices_of_its_test(plcli: Command, text_config: Path) -> None:
    days = [datetime.date(2026, month, day) for month in (1, 2, 3) for day in (1, 2, 3, 4, 5)][:12]
    rows = [
        {"message": row["message"], "intent": row["intent"], "day": day}
        for row, day in zip(message_rows(1), days, strict=True)
    ]
    table = pa.table({name: [row[name] for row in rows] for name in rows[0]})
    pq.write_table(table, "dated.parquet")
    words = ("--data.test", "dated.parquet", "--slice", "day")
    result = plcli("fit", "-c", text_config, "--run", "run", *words)
    assert result.code == 0, result.err
    assert "slices (*: few rows, which say little)" in result.out
    assert "2026-01-01" in result.out
    assert result.out.index("slices") < result.out.index("next: ")


def test_groups_of_rows_are_what_intervals_are_of(plcli: Command, tmp_path: Path) -> None:
    """From the data to metrics.json, analysis.json, test_rows.parquet and plcli compare."""
    rows = [{**row, "document": f"d{number // 4}"} for number, row in enumerate(message_rows(2))]
    source = str(write_rows(tmp_path / "grouped.jsonl", rows))
    data = {"train": source, "validation": None, "test": source, "group": "document"}
    run = fit_messages(tmp_path / "one", data={**data, "validation_fraction": 0.2})
    other = fit_messages(tmp_path / "two", data={**data, "validation_fraction": 0.2})
    test = read_json(run / "metrics.json")["test"]
    assert {test["intervals"][name]["n"] for name in ("accuracy", "loss", "macro_f1")} == {6}
    assert test["intervals"]["accuracy"]["method"] != "wilson"
    assert read_json(run / "analysis.json")["groups"] == {"column": "document", "count": 6}
    result = plcli("compare", run, other)
    assert "both are equal on all 6 groups of rows" in result.out, result.err
    assert json.loads((run / "analysis.json").read_text())["rows"] == 24
