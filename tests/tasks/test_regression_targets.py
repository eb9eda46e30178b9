"""Regression of texts whose targets are far from 0: learned, saved, loaded, and gone on from."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import message_rows, write_rows
from tests.running import by_heart, changed, fit, predicted, read_json, saved_state, try_fit

YEARS = {"billing": 1990, "delivery": 2000, "praise": 2010}
GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
TARGETS = {"years": (1990, 10), "near zero": (-1, 1), "tiny": (0.003, 0.0001), "wide": (0, 1e6)}


def rows(start: float = 1990, step: float = 10) -> list[dict[str, Any]]:
    """Return messages with a number that follows from what they are about."""
    names = list(YEARS)
    numbers = [start + step * names.index(row["intent"]) for row in message_rows()]
    return changed(message_rows(), target=numbers)


def sections(folder: Path, *, model: Any = None, data: Any = None, **targets: float) -> Any:
    """Return sections of a config that learns the rows by heart."""
    path = str(write_rows(folder / "rows.jsonl", rows(**targets)))
    return {
        "model": model or by_heart(),
        "data": {"train": path, "validation": path, "text": "message", "label": "target"}
        | {"problem": "regression", "batch_size": 3, **(data or {})},
        "trainer": {"max_epochs": 20, "check_val_every_n_epoch": 20},
    }


def rmse(run: Path) -> float:
    """Return the last validation's root mean squared error."""
    value: float = read_json(run / "metrics.json")["validation"]["rmse"]
    return value


def pipeline_scores(model: Path) -> list[float]:
    """Return what transformers alone predicts for the rows."""
    import transformers

    pipe = transformers.pipeline("text-classification", model=str(model), device="cpu")
    return [answer["score"] for answer in pipe([row["message"] for row in rows()])]


@pytest.fixture(scope="module")
def years(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned years."""
    folder = tmp_path_factory.mktemp("years")
    return fit(folder, **sections(folder))


def predictions(run: Path, *words: str) -> list[float]:
    """Return what plcli predicts for a run's rows with its artefact, or with its checkpoint."""
    return [row["score"] for row in predicted(run, run.parent / "rows.jsonl", *words)]


@pytest.mark.parametrize("name", TARGETS)
def test_targets_of_any_size_are_learned_in_their_unit(name: str, tmp_path: Path) -> None:
    start, step = TARGETS[name]
    run = fit(tmp_path, **sections(tmp_path, start=start, step=step))
    assert rmse(run) < 0.4 * step  # the mean alone: 0.8


def test_transformers_gives_the_same_years(years: Path) -> None:
    theirs = pipeline_scores(years / "model")
    assert theirs == pytest.approx([row["target"] for row in rows()], abs=10)
    assert predictions(years) == pytest.approx(theirs, abs=1e-2)


def test_a_checkpoint_predicts_the_same_years_as_the_model(years: Path) -> None:
    assert predictions(years, "--ckpt_path", "best") == pytest.approx(predictions(years), abs=1e-2)


def test_weights_in_half_precision_are_saved_whole(tmp_path: Path) -> None:
    parts = sections(tmp_path)
    parts["trainer"] |= {"precision": "bf16-true", "max_epochs": 2, "check_val_every_n_epoch": 2}
    run = fit(tmp_path, "--confirm", "bf16-true", **parts)
    found = predictions(run)
    assert found == pytest.approx(predictions(run, "--ckpt_path", "best"), abs=0.2)


def test_lightning_loads_the_checkpoint_with_its_scaling(years: Path) -> None:
    from plcli.tasks.text_classification import TextClassifier

    module = TextClassifier.load_from_checkpoint(years / "checkpoints" / "best.ckpt")
    assert float(module.scaling.mean) == pytest.approx(2000, abs=10)


@pytest.mark.parametrize("key", ["pretrained", "init_from"])
def test_a_trained_head_goes_on_from_its_predictions_at_other_targets(
    key: str, years: Path, tmp_path: Path
) -> None:
    learning = by_heart(lr=1e-12, **{key: str(years / "model")})
    del learning["architecture"]
    data = {"train": str(write_rows(tmp_path / "shifted.jsonl", rows(start=500, step=1)))}
    run = fit(tmp_path, **sections(tmp_path, model=learning, data=data))
    assert rmse(run) == pytest.approx(rmse(years), abs=0.05)


@pytest.mark.parametrize("save", ["merged", "adapter"])
def test_updates_of_low_rank_predict_years(save: str, years: Path, tmp_path: Path) -> None:
    learning = by_heart(pretrained=str(years / "model"), lora={"save": save})
    del learning["architecture"]
    run = fit(tmp_path, **sections(tmp_path, model=learning))
    found = predictions(run)
    assert found == pytest.approx([row["target"] for row in rows()], abs=8)
    assert predictions(run, "--ckpt_path", "best") == pytest.approx(found, abs=1e-2)


def test_a_resumed_fit_keeps_the_scaling_it_began_with(years: Path) -> None:
    state = saved_state(years)
    assert float(state["scaling.std"]) == pytest.approx(8.165, abs=0.5)


def test_huber_is_in_the_unit_of_the_targets(tmp_path: Path) -> None:
    wide = fit(tmp_path, **sections(tmp_path, model=by_heart(huber=1e6)))
    first = read_json(wide / "metrics.json")["validation"]
    deviation = json.loads((wide / "model" / "plcli.json").read_text())["facts"]["target_std"]
    assert first["loss"] == pytest.approx(0.5 * (first["rmse"] / deviation) ** 2, rel=1e-3)


def test_an_output_layer_without_bias_is_told_and_keeps_the_unit(
    tmp_path: Path,
) -> None:
    model = by_heart(architecture=GPT2)
    result = try_fit(tmp_path, **sections(tmp_path, model=model, data={"max_length": 32}))
    assert result.code == 0, result.err
    assert (
        "the targets are 2000 on average with a standard deviation of 8.165, but the output layer "
        "of GPT2ForSequenceClassification has no bias that could learn their mean. Subtract it "
        "from the column, or use a model of another type"
    ) in result.err
    assert rmse(tmp_path / "run") < 200  # a share of the mean, where 0 would be 2000 away
