"""The model card: README.md of an artefact."""

import re
import shutil
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

import plcli
from tests.conftest import TINY_BERT, Command, FinishedRun


def page(run: FinishedRun) -> str:
    """Return the text of the card."""
    return (run.folder / "model" / "README.md").read_text(encoding="utf-8")


def test_the_hub_reads_the_scores_of_the_test_with_their_intervals(text_run: FinishedRun) -> None:
    data = ModelCard(page(text_run)).data
    assert (data.pipeline_tag, data.library_name) == ("text-classification", "transformers")
    scores = {each.metric_type: each for each in data.eval_results or []}
    low, high = scores["accuracy"].metric_args["confidence_interval"]
    assert low <= scores["accuracy"].metric_value <= high
    assert scores["accuracy"].metric_args["n"] == 12


def test_random_weights_and_folders_are_no_base_model(text_run: FinishedRun) -> None:
    assert ModelCard(page(text_run)).data.base_model is None


@pytest.mark.parametrize("kind", ["text_run", "linear_run"])
def test_the_code_runs_as_printed(
    kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    run: FinishedRun = request.getfixturevalue(kind)
    blocks = re.findall(r"```python\n(.*?)```", page(run), re.S)
    assert blocks
    for block in blocks:
        exec(block, {})
        assert capsys.readouterr().out.splitlines()[-1].startswith("[{")


def test_the_authors_may_fill_in_their_part(text_run: FinishedRun, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(text_run.folder / "model", model)
    card = model / "README.md"
    text = card.read_text(encoding="utf-8")
    assert text.count("*To be filled in by the authors:*") == 3
    card.write_text(text.replace("*To be filled in by the authors:*", "For us:"), encoding="utf-8")
    assert plcli.load(str(model)).predict("where is it?")[0]["label"]


def test_baselines_stand_beside_the_scores(text_run: FinishedRun) -> None:
    assert "| test rows | score | 95 % interval | majority class |" in page(text_run)


def test_without_a_test_split_the_scores_are_said_to_be_too_high(
    plcli: Command, text_config: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert plcli("fit", "-c", text_config, "--data.test", "null", "--run", run).code == 0
    text = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "There was no test split." in text
    assert "| validation rows | score |" in text


def test_the_example_of_a_masked_language_model_has_a_word_to_fill_in(
    plcli: Command, tmp_path: Path
) -> None:
    (tmp_path / "rows.txt").write_text("a red house\na green tree\na blue lake\n" * 4)
    words = ["--model", "MaskedLM", "--model.architecture", str(TINY_BERT)]
    words += ["--data", "MaskedLMData", "--data.train", "rows.txt", "--data.text", "text"]
    run = tmp_path / "run"
    done = plcli("fit", *words, "--trainer.max_epochs", "1", "--run", run)
    assert done.code == 0, done.err
    text = (run / "model" / "README.md").read_text(encoding="utf-8")
    assert "Write a [MASK] here." in text
