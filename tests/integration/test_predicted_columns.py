"""What predict writes beside predictions: the user's ids, columns of the input, and the truth."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.conftest import ROOT, Command, FinishedRun, write_rows
from tests.integration.test_previous_version import INPUTS, copied
from tests.running import read_rows

ROWS = [
    {"a": 1.0, "b": 2.0, "y": 3.0, "ticket": "t-1", "note": "plain, with a comma", "tags": ["x"]},
    {"a": 2.0, "b": 1.0, "y": 4.0, "ticket": "t-2", "note": None, "tags": []},
]
NO_LABELS = ("causal_lm", "masked_lm", "sentence_embedding")  # what these were trained on
TRUTHS = {  # of the first row of the examples
    "multi_label": ["damaged", "quality"],
    "regression": 0.85,
    "seq2seq": "Exercise bike smells of burning",
    "single_label": "technical_problem",
    "token_classification": [{"start": 49, "end": 65, "label": "product"}],
}


def predicted(plcli: Command, run: FinishedRun, *words: object, output: str = "out.jsonl") -> Any:
    source = write_rows(Path("rows.jsonl"), ROWS)
    result = plcli("predict", "--run", run.folder, "--input", source, "--output", output, *words)
    assert result.code == 0, result.err
    return read_rows(Path(output)) if not output.endswith("parquet") else result


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_every_task_keeps_columns_and_the_truth(plcli: Command, name: str) -> None:
    source = ROOT / "plcli" / "examples" / INPUTS[name]
    given = [dict(row) for row in read_rows(source)]
    words = () if name in NO_LABELS else ("--with-truth",)
    result = plcli(
        *("predict", "--run", copied(name) / "model", "--input", source),
        *("--output", "new.jsonl", "--keep", "all", *words),
    )
    assert result.code == 0, result.err
    rows = read_rows(Path("new.jsonl"))
    for number in (0, len(given) - 1):
        kept = {key: rows[number].get(f"input.{key}", rows[number].get(key)) for key in given[0]}
        assert kept == given[number]
    assert (len(rows), "truth" in rows[0]) == (len(given), name not in NO_LABELS)
    assert rows[0].get("truth") == TRUTHS.get(name, rows[0].get("truth"))


def test_the_column_of_ids_keeps_its_name(plcli: Command, linear_run: FinishedRun) -> None:
    rows = predicted(plcli, linear_run, "--data.id", "ticket", "--keep", "ticket", "note")
    assert [list(row) for row in rows] == [["ticket", "y", "note"]] * 2
    assert [row["ticket"] for row in rows] == ["t-1", "t-2"]


def test_without_a_column_of_ids_they_are_called_id(
    plcli: Command, linear_run: FinishedRun
) -> None:
    assert list(predicted(plcli, linear_run)[0]) == ["id", "y"]


def test_ids_with_the_name_of_a_predicted_column_stay_id(
    plcli: Command, linear_run: FinishedRun
) -> None:
    words = ("--data.id", "y", "--keep", "y")
    assert [list(row) for row in predicted(plcli, linear_run, *words)] == [
        ["id", "y", "input.y"]
    ] * 2


def test_a_kept_column_with_the_name_of_a_predicted_one_is_renamed_and_said(
    plcli: Command, linear_run: FinishedRun
) -> None:
    source = write_rows(Path("rows.jsonl"), ROWS)
    words = ("--input", source, "--output", "out.jsonl", "--keep", "y")
    result = plcli("predict", "--run", linear_run.folder, *words)
    assert "kept columns with the name of another one: y as input.y" in result.err
    assert [row["input.y"] for row in read_rows(Path("out.jsonl"))] == [3.0, 4.0]


def test_a_csv_file_has_lists_as_json(plcli: Command, linear_run: FinishedRun) -> None:
    rows = predicted(plcli, linear_run, "--keep", "note", "tags", output="out.csv")
    assert [(row["note"], row["tags"]) for row in rows] == [
        ("plain, with a comma", '["x"]'),
        ("", "[]"),
    ]


def test_a_parquet_file_is_kept_from_and_written_to(
    plcli: Command, linear_run: FinishedRun
) -> None:
    pa.parquet.write_table(pa.Table.from_pylist(ROWS), "rows.parquet")
    words = ("--input", "rows.parquet", "--output", "out.parquet", "--keep", "all", "--with-truth")
    result = plcli("predict", "--run", linear_run.folder, *words)
    assert result.code == 0, result.err
    rows = pa.parquet.read_table("out.parquet").to_pylist()
    wanted = [{**row, "truth": row["y"], "tags": json.dumps(row["tags"])} for row in ROWS]
    kept = [{key.removeprefix("input."): row[key] for key in row if key != "y"} for row in rows]
    assert [{key: row[key] for key in wanted[0]} for row in kept] == wanted


def test_a_column_of_several_types_is_written_as_text(
    plcli: Command, linear_run: FinishedRun
) -> None:
    rows = [{"a": 1, "b": 2, "x": 5}, {"a": 1, "b": 2, "x": "five"}, {"a": 1, "b": 2}]
    source = write_rows(Path("rows.jsonl"), rows)
    words = ("--input", source, "--output", "out.parquet", "--keep", "x")
    result = plcli("predict", "--run", linear_run.folder, *words)
    assert result.code == 0, result.err
    kept = pa.parquet.read_table("out.parquet").column("x").to_pylist()
    assert kept == ["5", "five", None]


def test_the_truth_of_indicators_has_the_names_of_the_labels(plcli: Command) -> None:
    model = copied("multi_label") / "model"
    names = json.loads((model / "plcli.json").read_text())["labels"]
    rows = [{"message": "late", "tags": [int(name in ("gift", "late")) for name in names]}]
    source = write_rows(Path("rows.jsonl"), rows)
    words = ("--input", source, "--output", "out.jsonl", "--with-truth")
    assert plcli("predict", "--run", model, *words).code == 0
    assert read_rows(Path("out.jsonl"))[0]["truth"] == ["gift", "late"]


def test_rows_without_a_truth_have_none(plcli: Command, linear_run: FinishedRun) -> None:
    rows = [{"a": 1, "b": 2, "y": 5}, {"a": 1, "b": 2, "y": None}, {"a": 1, "b": 2}]
    source = write_rows(Path("rows.jsonl"), rows)
    words = ("--input", source, "--output", "out.jsonl", "--with-truth")
    assert plcli("predict", "--run", linear_run.folder, *words).code == 0
    assert [row["truth"] for row in read_rows(Path("out.jsonl"))] == [5, None, None]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--input", "rows.jsonl", "--keep", "tickt"),
            "rows.jsonl: has no column 'tickt'. Did you mean 'ticket'? It has a, b, ticket. Name "
            "one of these with --keep.",
        ),
        (
            ("--input", "rows.jsonl", "--with-truth"),
            "rows.jsonl: has no column 'y'. It has a, b, ticket. Remove --with-truth.",
        ),
        (
            ('{"a": 1, "b": 2}', "--with-truth"),
            "--with-truth: texts have no further columns. Give a file with --input FILE, or "
            "remove --with-truth.",
        ),
        (
            ("--input", "-", "--keep", "all"),
            "--keep: texts have no further columns. Give a file with --input FILE, or remove "
            "--keep.",
        ),
        (("--input", "rows.jsonl", "--with-truth=no"), "--with-truth takes no value; got 'no'."),
        (("--input", "rows.jsonl", "--keep"), "--keep needs a value."),
    ],
)
def test_what_cannot_be_kept_is_refused(
    plcli: Command, linear_run: FinishedRun, words: tuple[str, ...], said: str
) -> None:
    write_rows(Path("rows.jsonl"), [{"a": 1, "b": 2, "ticket": 3}])
    result = plcli("predict", "--run", linear_run.folder, "--output", "out.jsonl", *words)
    assert result.code in (2, 3)
    assert result.err.splitlines()[-1] == f"plcli: {said}"
    assert not Path("out.jsonl").exists()


def test_a_task_without_labels_has_no_truth(plcli: Command) -> None:
    source = "package:plcli/examples/tickets/masked.jsonl"
    model = copied("masked_lm") / "model"
    result = plcli("predict", "--run", model, "--input", source, "--with-truth")
    assert "--with-truth: MaskedLMData reads no label column. Remove the option." in result.err
