"""plcli compare: differences of configs, intervals, and a paired test on the same test rows."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from plcli.metrics import comparison, evaluated
from plcli.metrics.evaluated import EvaluatedRows, KeptRows
from plcli.metrics.scoring import SingleLabel
from plcli.metrics.texts import TokenLosses
from tests.commands.test_report import Page
from tests.conftest import Command, FinishedRun, message, table_rows, write_rows


@pytest.fixture
def two_runs(text_run: FinishedRun, tmp_path: Path) -> tuple[Path, Path]:
    """A run, and a copy of it with two further epochs in its config and all rows right."""
    first, second = text_run.copy("first"), text_run.copy("second")
    config = (second / "config.yaml").read_text(encoding="utf-8")
    assert "max_epochs: 1" in config
    (second / "config.yaml").write_text(config.replace("max_epochs: 1", "max_epochs: 3"))
    path = second / "test_rows.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("prediction")
    pq.write_table(table.set_column(place, "prediction", table.column("truth")), path)
    return first, second


def test_fit_keeps_the_test_rows(text_run: FinishedRun) -> None:
    rows = pq.read_table(text_run.folder / "test_rows.parquet").to_pylist()
    assert [row["row"] for row in rows] == list(range(12))
    assert [row["truth"] for row in rows[:5]] == ["billing"] * 4 + ["delivery"]
    metrics = json.loads((text_run.folder / "metrics.json").read_text(encoding="utf-8"))["test"]
    right = [row["truth"] == row["prediction"] for row in rows]
    assert metrics["accuracy"] == pytest.approx(sum(right) / 12)
    assert metrics["loss"] == pytest.approx(sum(row["loss"] for row in rows) / 12, abs=1e-5)


def test_kept_numbers_are_in_the_unit_of_the_target(linear_run: FinishedRun) -> None:
    rows = pq.read_table(linear_run.folder / "test_rows.parquet").to_pylist()
    truth = [row["truth"][0] for row in rows]
    assert truth == pytest.approx([row["y"] for row in table_rows()], abs=1e-4)


def test_compare_shows_the_config_the_metrics_and_which_is_better(
    plcli: Command, two_runs: tuple[Path, Path]
) -> None:
    result = plcli("compare", *two_runs)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    changed = next(line for line in lines if "trainer.max_epochs" in line)
    assert [cell.strip() for cell in changed.split("│")[2:4]] == ["1", "3"]
    assert any("accuracy" in line and " to " in line for line in lines)
    said = next(line for line in lines if line.startswith("accuracy: "))
    assert said.startswith("accuracy: second is better by 66.67 points, 95 % ")
    assert said.endswith("(McNemar's exact test, p = 0.0078, 12 rows).")


def test_a_page_shows_the_runs_side_by_side(plcli: Command, two_runs: tuple[Path, Path]) -> None:
    result = plcli("compare", *two_runs, "--html", "compared.html")
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == "compared.html"
    page = Page(Path("compared.html").read_text(encoding="utf-8"))
    assert page.headings == ["Which is better", "Metrics", "Config"]
    said = next(line for line in result.out.splitlines() if line.startswith("accuracy: "))
    for shown in (said.removeprefix("accuracy: "), "second →", "trainer.max_epochs"):
        assert shown in page.text
    assert "http" not in "".join(each.get("href") or "" for _, each in page.elements)


def test_the_order_of_the_runs_does_not_change_which_is_better(
    plcli: Command, two_runs: tuple[Path, Path]
) -> None:
    result = plcli("compare", *reversed(two_runs), "--metric", "accuracy")
    assert "accuracy: second is better by 66.67 points" in result.out
    assert "macro_f1: " not in result.out


def test_equal_runs_are_said_to_be_equal(plcli: Command, two_runs: tuple[Path, Path]) -> None:
    shutil.copytree(two_runs[0], "third")
    result = plcli("compare", two_runs[0], "third")
    assert "the configs are the same" in result.out
    assert "accuracy: no difference can be seen: both are equal on all 12 rows." in result.out


def test_other_test_rows_are_not_compared_in_pairs(
    plcli: Command, two_runs: tuple[Path, Path], text_run: FinishedRun
) -> None:
    rows = write_rows(Path("other.jsonl"), [{"message": "late", "intent": "delivery"}] * 5)
    (two_runs[1] / "test_rows.parquet").unlink()
    assert plcli("test", "--run", two_runs[1], "--data.test", rows).code == 0
    result = plcli("compare", *two_runs)
    assert result.code == 0, result.err
    assert "were not tested on the same rows" in result.out


@pytest.mark.parametrize("has_rows", [True, False])
def test_runs_of_different_tasks_are_told_as_such(
    plcli: Command, text_run: FinishedRun, linear_run: FinishedRun, has_rows: bool
) -> None:
    """No other test rows would help."""
    text, table = text_run.copy("text"), linear_run.copy("table")
    if not has_rows:
        (table / "test_rows.parquet").unlink()
    result = plcli("compare", text, table)
    assert result.code == 0, result.err
    assert (
        "table and text have different tasks, linear-regression and text-classification "
        "(single_label), so that none is better. Compare runs of one task."
    ) in result.out
    assert "plcli test" not in result.out


def test_a_run_without_test_rows_is_told_to_name_some(
    plcli: Command, two_runs: tuple[Path, Path]
) -> None:
    (two_runs[1] / "test_rows.parquet").unlink()
    result = plcli("compare", *two_runs)
    assert "Run `plcli test --run second`." in result.out
    path = two_runs[1] / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    del metrics["test"]
    path.write_text(json.dumps(metrics), encoding="utf-8")
    result = plcli("compare", *two_runs)
    assert "Run `plcli test --run second --data.test FILE`." in result.out


def test_rows_of_another_file_have_a_file_of_their_own(
    plcli: Command, two_runs: tuple[Path, Path]
) -> None:
    rows = write_rows(Path("other.jsonl"), [{"message": "late", "intent": "delivery"}] * 5)
    for run in two_runs:
        before = (run / "test_rows.parquet").read_bytes()
        assert plcli("test", "--run", run, "--data.test", rows).code == 0
        assert (run / "test_rows.parquet").read_bytes() == before
        (kept,) = run.glob("test_rows-*.parquet")
        assert pq.read_table(kept).num_rows == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["first"], "compare: got 1 run, expected two or more"),
        (["first", "first"], "compare: first is given twice. Name different runs."),
        (["first", "missing"], "--run missing: no such folder."),
        (["first", "second", "--metrik", "f1"], "unknown option --metrik. Did you mean '--metric'"),
        (["first", "second", "--metric", "f1"], "--metric: got 'f1', but the runs have accuracy"),
        (["first", "second", "--html", "x.pdf"], "--html x.pdf: expected a file that ends with"),
    ],
)
def test_a_wrong_command_line_is_refused(
    plcli: Command, two_runs: tuple[Path, Path], words: list[str], said: str
) -> None:
    result = plcli("compare", *words)
    assert result.code == 2
    assert said in message(result)


def test_a_damaged_file_of_rows_is_refused(plcli: Command, two_runs: tuple[Path, Path]) -> None:
    (two_runs[1] / "test_rows.parquet").write_bytes(b"PAR1 nothing")
    result = plcli("compare", *two_runs)
    assert result.code == 4
    assert "test_rows.parquet: is damaged" in message(result)


def test_a_file_of_rows_without_its_scoring_is_refused(
    plcli: Command, two_runs: tuple[Path, Path]
) -> None:
    path = two_runs[1] / "test_rows.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    result = plcli("compare", *two_runs)
    assert result.code == 4
    assert "is damaged, or of another version of plcli" in message(result)


def test_a_run_without_kept_rows_says_how_to_get_them(
    plcli: Command, two_runs: tuple[Path, Path]
) -> None:
    (two_runs[1] / "test_rows.parquet").unlink()
    result = plcli("compare", *two_runs)
    assert result.code == 0
    assert "second: keeps no test rows" in result.out
    assert "plcli test --run second" in result.out


# simulated pairs


def kept(truth: np.ndarray, right: np.ndarray) -> KeptRows:
    labels = ["a", "b", "c"]
    prediction = np.where(right, truth, (truth + 1) % 3)
    rows = EvaluatedRows(
        np.arange(len(truth)),
        {"truth": truth, "prediction": prediction},
        SingleLabel(labels=labels),
    )
    return KeptRows(rows, [str(number) for number in range(len(truth))], "the same")


def simulated(n: int, seed: int, *, gain: float) -> tuple[KeptRows, KeptRows]:
    """Two models that agree in most rows, as two seeds of a training do."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, 3, n)
    easy = generator.random(n) < 0.6
    first = easy | (generator.random(n) < 0.5)
    second = easy | (generator.random(n) < 0.5 + gain)
    return kept(truth, first), kept(truth, second)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_equal_models_are_rarely_called_better(metric: str) -> None:
    """400 pairs of equal models: a false "better" in 3 to 7 %."""
    false = 0
    for seed in range(400):
        first, second = simulated(1000, seed, gain=0.0)
        pairs = comparison.paired(first, second)
        assert pairs is not None
        found = first.rows.scoring.difference(pairs.first, pairs.second, metric)
        false += found is not None and found.seen
    assert 12 <= false <= 28


def test_a_better_model_is_called_better() -> None:
    seen = 0
    for seed in range(20):
        first, second = simulated(1000, seed, gain=0.2)
        pairs = comparison.paired(first, second)
        assert pairs is not None
        found = first.rows.scoring.difference(pairs.first, pairs.second, "accuracy")
        assert found is not None
        seen += found.seen and found.value > 0
    assert seen >= 18


def test_rows_that_only_one_run_has_are_left_out() -> None:
    first, second = simulated(100, 0, gain=0.0)
    rows = second.rows
    fewer = EvaluatedRows(
        rows.index[10:], {name: each[10:] for name, each in rows.columns.items()}, rows.scoring
    )
    pairs = comparison.paired(first, KeptRows(fewer, second.ids[10:], second.fingerprint))
    assert pairs is not None
    assert pairs.count == 90
    assert (pairs.first["truth"] == pairs.second["truth"]).all()


def test_labels_in_another_order_are_compared_by_name() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2, 0, 0])
    first = kept(truth, np.array([True] * 6 + [False] * 2))
    table = first.rows.table(first.ids, fingerprint="the same")
    described = json.loads(table.schema.metadata[evaluated.METADATA])
    described["scoring"]["labels"] = ["c", "a", "b"]
    table = table.replace_schema_metadata({evaluated.METADATA: json.dumps(described).encode()})
    second = evaluated.read(table, where="here")
    pairs = comparison.paired(first, second)
    assert pairs is not None
    found = comparison.differences(first, second, pairs)
    assert {name: round(each.value, 9) for name, each in found.items()} == {
        "accuracy": 0.0,
        "macro_f1": 0.0,
        "weighted_f1": 0.0,
    }


def test_blocks_of_a_row_count_as_one() -> None:
    row = np.repeat(np.arange(50), 10)
    both = []
    for sums in np.random.default_rng(0).random((2, 500)):
        columns = {"loss": np.stack([sums, np.full(500, 8.0)], axis=1)}  # and the tokens
        both.append(KeptRows(EvaluatedRows(row, columns, TokenLosses()), [], "the same"))
    pairs = comparison.paired(*both)
    assert pairs is not None
    assert (pairs.units, pairs.unit_name) == (50, "rows")
    assert comparison.differences(*both, pairs)["loss"].n == 50


def test_too_few_rows_tell_no_models_apart(plcli: Command, two_runs: tuple[Path, Path]) -> None:
    for run in two_runs:
        path = run / "test_rows.parquet"
        pq.write_table(pq.read_table(path).slice(0, 5), path)
    result = plcli("compare", *two_runs)
    assert result.code == 0, result.err
    assert "too few rows to tell models apart by: got 5, expected 6 or more." in result.out
    assert "is better" not in result.out
