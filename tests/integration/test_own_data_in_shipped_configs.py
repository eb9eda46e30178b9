"""Shipped configs with a user's own data: what belongs to the example is left out, and told."""

from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Command, Resolved, write_rows

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.stem)
def test_with_own_training_rows_the_rest_of_the_example_is_left_out(
    resolved: Resolved, config: Path
) -> None:
    data = resolved("-c", config, "--data.train", "mine.csv")["data"]["init_args"]
    others = ("validation", "test", "predict", "id")
    assert [data.get(name) for name in ("train", *others)] == ["mine.csv", None, None, None, None]


@pytest.mark.parametrize(
    ("config", "words", "left"),
    [
        ("token_classification", ("--data.words", "w", "--data.tags", "t"), ("text", "spans")),
        ("causal_lm", ("--data.prompt", "p", "--data.response", "r"), ("text",)),
        ("causal_lm", ("--data.messages", "m"), ("text",)),
        ("seq2seq", ("--data.template", "{a}: {b}"), ("source",)),
    ],
)
def test_alternative_columns_replace_those_of_the_config(
    resolved: Resolved, config: str, words: tuple[str, ...], left: tuple[str, ...]
) -> None:
    data = resolved("-c", ROOT / "configs" / f"{config}.yaml", *words)["data"]["init_args"]
    given = dict(zip(words[::2], words[1::2], strict=True))
    assert {name: data[name.removeprefix("--data.")] for name in given} == given
    assert [data[name] for name in left] == [None] * len(left)


def test_a_later_config_replaces_alternative_columns_too(resolved: Resolved) -> None:
    Path("mine.yaml").write_text("data: {init_args: {words: w, tags: t, batch_size: 4}}\n")
    config = ROOT / "configs" / "token_classification.yaml"
    words = ("--data.tokens_per_batch", "100")
    data = resolved("-c", config, *words, "-c", "mine.yaml")["data"]["init_args"]
    assert (data["words"], data["text"], data["spans"]) == ("w", None, None)
    assert data["tokens_per_batch"] == 100  # the command line is later than a file


def test_the_number_of_rows_in_a_batch_replaces_that_of_tokens(resolved: Resolved) -> None:
    Path("mine.yaml").write_text("data: {init_args: {tokens_per_batch: 100}}\n")
    config = ROOT / "configs" / "bert.yaml"
    data = resolved("-c", config, "-c", "mine.yaml", "--batch_size", 8)["data"]["init_args"]
    assert (data["batch_size"], data["tokens_per_batch"]) == (8, None)


def test_columns_of_both_kinds_in_one_place_are_refused(plcli: Command) -> None:
    words = ("--data.text", "x", "--data.spans", "y", "--data.words", "w", "--data.tags", "t")
    config = ROOT / "configs" / "token_classification.yaml"
    result = plcli("fit", "-c", config, "--data.train", "mine.csv", *words)
    assert "data: got words and tags and text and spans; give either" in result.err


def test_what_is_left_out_is_told(plcli: Command) -> None:
    rows: list[dict[str, Any]] = [
        {"w": ["a", "b", f"c{number}"], "t": ["O", "B-x", "O"]} for number in range(8)
    ]
    source = write_rows(Path("mine.jsonl"), rows)
    config = ROOT / "configs" / "smoke" / "token_classification.yaml"
    words = ("--data.train", source, "--data.words", "w", "--data.tags", "t")
    result = plcli("fit", "-c", config, *words, "--trainer.fast_dev_run", "true")
    assert result.code == 0, result.err
    assert "data.text: message of " in result.err
    assert "data.spans: entities of " in result.err
    assert "is left out, as the command line gives data.words\n" in result.err


def test_a_run_is_scored_on_rows_of_the_other_kind(plcli: Command, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"x": f"a b c{number}", "s": [{"start": 2, "end": 3, "label": "x"}]} for number in range(8)
    ]
    source = write_rows(Path("spans.jsonl"), rows)
    words = [{"w": ["a", "b"], "t": ["O", "B-x"]}, {"w": ["b", "c"], "t": ["B-x", "O"]}]
    tagged = write_rows(Path("words.jsonl"), words)
    config = ROOT / "configs" / "smoke" / "token_classification.yaml"
    columns = ("--data.text", "x", "--data.spans", "s")
    assert plcli("fit", "-c", config, "--data.train", source, *columns, "--run", "run").code == 0
    other = ("--data.words", "w", "--data.tags", "t")
    result = plcli("test", "--run", "run", "--data.test", tagged, *other)
    assert result.code == 0, result.err
    assert "data.spans: s of " in result.err
