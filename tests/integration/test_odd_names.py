"""Names and texts of a stranger's data: control characters, line ends, other forms of letters."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Command, Result, message, message_rows, printed_rows, write_rows
from tests.running import read_json, read_rows

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
EVIL = "\x1b[2J\x9b31mpraise\u202e\nplcli: done"


def renamed(name: str) -> list[dict[str, str]]:
    """Return rows with another name in place of the label praise."""
    return [
        {**row, "intent": name if row["intent"] == "praise" else row["intent"]}
        for row in message_rows(2)
    ]


@pytest.fixture
def evil_run(plcli: Command, text_config: Path) -> Result:
    """A fit whose data have a label that controls a terminal."""
    write_rows(Path("train.jsonl"), renamed(EVIL))
    write_rows(Path("test.jsonl"), renamed(EVIL))
    result = plcli("fit", "-c", text_config, "--run", "run")
    assert result.code == 0, result.err
    return result


def test_labels_do_not_control_the_terminal_or_the_log(evil_run: Result) -> None:
    log = Path("run/train.log").read_text(encoding="utf-8")
    err = re.sub(r"\r.*\n", "", evil_run.err)  # the bar of transformers
    found = [CONTROL.search(text) for text in (evil_run.out, err, log)]
    assert found == [None, None, None]


def test_a_label_makes_no_line_of_its_own(evil_run: Result) -> None:
    log = Path("run/train.log").read_text(encoding="utf-8")
    lines = [line for line in (log + evil_run.err).splitlines() if line.startswith("plcli: done")]
    assert lines == []


def test_printed_rows_do_not_control_the_terminal(plcli: Command, evil_run: Result) -> None:
    result = plcli("predict", "--run", "run", "where is it")
    assert CONTROL.search(result.out) is None
    assert EVIL in printed_rows(result)[0]["probability"]


@pytest.mark.parametrize("where", ["a label", "a column", "a text"])
def test_messages_do_not_control_the_terminal(
    plcli: Command, text_config: Path, where: str
) -> None:
    rows: list[dict[str, Any]] = message_rows(1)
    if where == "a label":
        rows[0] = {**rows[0], "intent": EVIL}
    elif where == "a column":
        rows = [{EVIL: "x"}]
    else:
        rows[0] = {**rows[0], "message": {EVIL: EVIL}}
    write_rows(Path("test.jsonl"), rows)
    result = plcli("fit", "-c", text_config, "--run", "run")
    assert (result.code, message(result).count("\n")) == (3, 1), result.err
    assert CONTROL.search(result.err) is None


# formulas


@pytest.mark.parametrize(("option", "cell"), [(None, "=1+1"), ("true", "'=1+1")])
def test_formulas_in_csv_are_escaped_on_demand(
    plcli: Command, text_config: Path, option: str | None, cell: str
) -> None:
    for name in ("train.jsonl", "test.jsonl"):
        write_rows(Path(name), renamed("=1+1"))
    assert plcli("fit", "-c", text_config, "--run", "run", "--epochs", 1).code == 0
    words = ("--output", "out.csv", *(("--escape-formulas", option) if option else ()))
    assert plcli("predict", "--run", "run", "--input", "test.jsonl", *words).code == 0
    labels = {row["label"] for row in read_rows(Path("out.csv"))}
    columns = read_rows(Path("out.csv"))[0].keys()
    assert labels <= {cell, "billing", "delivery"}
    assert "probability.=1+1" in columns


def test_an_answer_that_is_neither_true_nor_false_is_refused(
    plcli: Command, text_config: Path
) -> None:
    words = ("predict", "--run", "run", "--escape-formulas", "yes")
    result = plcli(*words)
    assert result.code == 2


# forms of letters

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_two_forms_of_a_letter_are_one_label(plcli: Command, text_config: Path) -> None:
    rows = renamed(COMPOSED)
    rows = [
        {**row, "intent": DECOMPOSED} if row["intent"] == COMPOSED and number % 2 else row
        for number, row in enumerate(rows)
    ]
    write_rows(Path("train.jsonl"), rows)
    write_rows(Path("test.jsonl"), renamed(DECOMPOSED))
    result = plcli("fit", "-c", text_config, "--run", "run")
    assert result.code == 0, result.err
    assert read_json(Path("run/model/plcli.json"))["labels"] == ["billing", COMPOSED, "delivery"]


def test_two_forms_of_a_letter_are_one_tag_and_one_span() -> None:
    from plcli.data import cells, tagging

    tags = cells.read_cell(["O", f"B-{DECOMPOSED}"], cells.Kind.TAGS, "row 1", "tags")
    spans = tagging.read(f'[[0, 4, "{DECOMPOSED}"]]', "cafe", "row 1", "spans")
    assert (tags, spans) == (["O", f"B-{COMPOSED}"], [(0, 4, COMPOSED)])


def test_names_of_the_config_are_normalized_too(plcli: Command, text_config: Path) -> None:
    write_rows(Path("train.jsonl"), renamed(COMPOSED))
    write_rows(Path("test.jsonl"), renamed(COMPOSED))
    labels = json.dumps(["billing", "delivery", DECOMPOSED])
    result = plcli("fit", "-c", text_config, "--run", "run", "--data.labels", labels)
    assert result.code == 0, result.err
    assert read_json(Path("run/model/plcli.json"))["labels"][2] == COMPOSED


def test_the_normalization_is_said_once(plcli: Command, text_config: Path) -> None:
    from plcli.data import cells

    cells._say_normalized.cache_clear()
    write_rows(Path("train.jsonl"), renamed(DECOMPOSED))
    result = plcli("fit", "-c", text_config, "--run", "run")
    said = "column 'intent': label names are normalized to Unicode's form NFC"
    assert result.err.count(said) == 1


# many labels


def test_a_log_line_names_ten_labels_and_a_count(plcli: Command, text_config: Path) -> None:
    rows = [{"message": f"text {n}", "intent": f"label-{n % 1500}"} for n in range(3000)]
    write_rows(Path("train.jsonl"), rows)
    write_rows(Path("test.jsonl"), rows[:40])
    words = ("--trainer.max_steps", 1, "--trainer.max_epochs", -1, "--data.batch_size", 64)
    result = plcli("fit", "-c", text_config, "--run", "run", *words)
    assert result.code == 0, result.err
    line = next(line for line in result.err.splitlines() if "train: 3000 rows" in line)
    assert line.count("label-") == 10
    assert line.endswith(", ... (1,490 more labels)")
    assert "confusion_matrix" not in read_json(Path("run/metrics.json"))["test"]


def test_many_classes_are_scored_as_by_torchmetrics() -> None:
    import torch

    from plcli.metrics import classification

    few, many = classification.single_label(40), classification.ClassCounts(40)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        logits = torch.randn(30, 40, generator=generator)
        true = torch.randint(0, 35, (30,), generator=generator)
        few.update(logits, true)
        many.update(logits, true)
    wanted, got = few.compute(), many.compute()
    matrix = wanted.pop("confusion_matrix")
    for name, value in wanted.items():
        torch.testing.assert_close(got[name], value, msg=name)
    torch.testing.assert_close(got["support"], matrix.sum(1))


def test_a_validation_of_many_classes_grows_with_rows() -> None:
    import time

    import torch

    from plcli.metrics import classification

    metrics = classification.single_label(50_000)
    start = time.monotonic()
    for _ in range(10):
        metrics.update(torch.randn(8, 50_000), torch.randint(0, 50_000, (8,)))
    metrics.compute()
    assert time.monotonic() - start < 5  # pairs of classes would need 20 GB
