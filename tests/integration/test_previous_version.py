"""Runs, checkpoints and artefacts that version 0.1.0 wrote go on working.

The folder previous_version holds them: models of a few thousand weights, trained for seconds.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Command

PREVIOUS = ROOT / "tests" / "integration" / "previous_version"
INPUTS = {
    "linear": "concrete/test.csv",
    "masked_lm": "tickets/masked.jsonl",
    "multiple_choice": "subjects/test.jsonl",
    "question_answering": "questions/test.jsonl",
} | dict.fromkeys(
    (
        *("causal_lm", "multi_label", "regression", "sentence_embedding", "seq2seq"),
        *("single_label", "token_classification"),
    ),
    "tickets/test.jsonl",
)


def copied(name: str) -> Path:
    """Copy what the previous version left into the test's folder."""
    return Path(shutil.copytree(PREVIOUS / name, name))


def nearly(value: Any) -> Any:
    """Let numbers in nested values differ in their last places, as between processors."""
    if isinstance(value, dict):
        return {key: nearly(item) for key, item in value.items()}
    if isinstance(value, list):
        return [nearly(item) for item in value]
    return pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", sorted(INPUTS))
def test_an_artefact_of_the_previous_version_predicts_the_same(plcli: Command, name: str) -> None:
    source = f"package:plcli/examples/{INPUTS[name]}"
    result = plcli(
        "predict", "--run", copied(name) / "model", "--input", source, "--output", "new.jsonl"
    )
    assert result.code == 0, result.err
    before = rows(Path(name) / "predictions.jsonl")
    assert rows(Path("new.jsonl"))[: len(before)] == nearly(before)


@pytest.mark.parametrize("name", ["linear", "single_label"])
@pytest.mark.parametrize("words", [(), ("--ckpt_path", "best")], ids=["artefact", "checkpoint"])
def test_a_run_of_the_previous_version_is_scored_the_same(
    plcli: Command, name: str, words: tuple[str, ...]
) -> None:
    folder = copied(name)
    if words:
        shutil.rmtree(folder / "model")  # so that best.ckpt is read
    limit = ("--trainer.limit_val_batches", 4) if name == "single_label" else ()
    result = plcli("validate", "--run", folder, *words, *limit)
    assert result.code == 0, result.err
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["validation"]
    shown = {name: value for name, value in metrics.items() if isinstance(value, float)}
    assert all(f"{value:.4f}"[:-1] in result.out for value in shown.values()), result.out


@pytest.mark.parametrize("window", ["null", "1"])
def test_a_fit_that_the_previous_version_began_is_resumed_to_the_same_numbers(
    plcli: Command, window: str
) -> None:
    folder = copied("stopped")
    config = folder / "config.yaml"
    text = config.read_text(encoding="utf-8")
    assert "window: null" in text
    config.write_text(text.replace("window: null", f"window: {window}"), encoding="utf-8")
    result = plcli("fit", "--run", folder)
    assert result.code == 0, result.err
    assert result.err.count("data.window is now data.bucket_batches") == (window != "null")
    assert "changed since this run started" not in result.err
    assert "from checkpoints/last.ckpt" in result.err
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    assert metrics.pop("fit")["seconds"] is None  # the checkpoint does not have them
    for split, values in expected.items():  # there are more numbers now
        assert {name: metrics[split][name] for name in values} == nearly(values)
