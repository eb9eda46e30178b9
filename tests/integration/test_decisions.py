"""Temperature and thresholds, from the validation rows of a fit to test and predict."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Command, message, number, printed_rows, write_rows
from tests.running import by_heart, card, fit, read_json, try_fit

WORDS = ["late", "lost", "wrong", "broken", "great", "thank", "happy", "quick"]


def rows(count: int, *, seed: int, share: float = 0.25) -> list[dict[str, str]]:
    """Texts of words, of which those of complaints are more often of the first four."""
    generator, made = np.random.default_rng(seed), []
    for _ in range(count):
        complaint = generator.random() < share
        bad = generator.random(4) < (0.6 if complaint else 0.3)
        places = generator.integers(0, 4, 4) + np.where(bad, 0, 4)
        text = " ".join(WORDS[place] for place in places)
        made.append({"text": text, "label": "yes" if complaint else "no"})
    return made


def data(folder: Path, **options: Any) -> dict[str, Any]:
    """The data section: few training rows, and validation and test rows."""
    sizes = {"train": 60, "validation": 120, "test": 150}
    paths = {
        name: str(write_rows(folder / f"{name}.jsonl", rows(size, seed=seed)))
        for seed, (name, size) in enumerate(sizes.items())
    }
    return {**paths, **options}


def fitted(folder: Path, **model: Any) -> Path:
    learning = by_heart(1e-2) | model
    return fit(folder, model=learning, data=data(folder), trainer={"max_epochs": 8})


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a temperature, and a threshold for the largest F1."""
    return fitted(tmp_path_factory.mktemp("decided"), calibrate=True, goal="max_f1")


def test_what_was_chosen_is_kept_with_the_model(decided: Path) -> None:
    chosen = read_json(decided / "metrics.json")["decisions"]
    facts = card(decided)
    assert list(chosen["thresholds"]) == ["yes"]
    assert facts["thresholds"] == facts["facts"]["thresholds"] == chosen["thresholds"]
    assert facts["temperature"] == facts["facts"]["temperature"] == chosen["temperature"]


def test_validate_and_test_decide_as_fit_did(plcli: Command, decided: Path) -> None:
    metrics = read_json(decided / "metrics.json")
    for command, split in (("validate", "validation"), ("test", "test")):
        result = plcli(command, "--run", decided)
        assert number(result, "macro_f1") == pytest.approx(metrics[split]["macro_f1"], abs=1e-4)


def test_predict_decides_by_the_threshold(plcli: Command, decided: Path) -> None:
    texts = sorted({row["text"] for row in rows(80, seed=7)})
    predicted = printed_rows(plcli("predict", "--run", decided, *texts))
    threshold = card(decided)["thresholds"]["yes"]
    labels = ["yes" if row["probability"]["yes"] >= threshold else "no" for row in predicted]
    assert [row["label"] for row in predicted] == labels
    assert set(labels) == {"yes", "no"}


def test_the_threshold_is_not_chosen_on_the_test_rows(tmp_path: Path) -> None:
    """With test rows of other labels, all that is chosen stays the same."""
    chosen = []
    for name, share in (("one", 0.25), ("two", 0.9)):
        folder = tmp_path / name
        folder.mkdir()
        settings = data(folder, test=str(folder / "other.jsonl"))
        write_rows(folder / "other.jsonl", rows(50, seed=5, share=share))
        model = by_heart(1e-2, calibrate=True, goal="max_f1")
        run = fit(folder, model=model, data=settings, trainer={"max_epochs": 2})
        chosen.append(read_json(run / "metrics.json")["decisions"])
    assert chosen[0] == chosen[1]


def test_metrics_have_the_calibration_before_and_after(decided: Path) -> None:
    metrics = read_json(decided / "metrics.json")
    found = metrics["test"]["calibration"]
    assert set(found) == {"nll", "brier", "ece"}
    for each in found.values():
        assert each["low"] <= each["difference"] <= each["high"]
    validation = metrics["validation"]["calibration"]["nll"]
    assert validation["after"] <= validation["before"]  # the temperature was chosen there


@pytest.mark.parametrize("threshold", [0.01, 0.99])
def test_a_threshold_that_is_typed_wins(plcli: Command, decided: Path, threshold: float) -> None:
    texts = ("late lost wrong broken", "great thank happy quick")
    result = plcli("predict", "--run", decided, *texts, "--model.threshold", threshold)
    found = printed_rows(result)
    assert len(found) == 2
    for row in found:
        assert row["label"] == ("yes" if row["probability"]["yes"] >= threshold else "no")


def test_a_threshold_is_of_the_positive_class(plcli: Command, decided: Path) -> None:
    words = ("--model.threshold", "0.99", "--model.positive", "no")
    (row,) = printed_rows(plcli("predict", "--run", decided, "late lost great happy", *words))
    assert row["label"] == ("no" if row["probability"]["no"] >= 0.99 else "yes")


def test_an_unsure_row_has_no_label(plcli: Command, decided: Path) -> None:
    words = ("--model.abstain_below", "1.0")
    (row,) = printed_rows(plcli("predict", "--run", decided, "late lost great happy", *words))
    assert row["label"] is None
    assert 0 < row["score"] < 1


def test_thresholds_of_several_labels_are_chosen_for_each(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)

    def several(count: int) -> list[dict[str, Any]]:
        made = []
        for _ in range(count):
            words = generator.choice(WORDS, 3, replace=False)
            labels = [w for w in words if w in ("late", "great") and generator.random() < 0.7]
            made.append({"text": " ".join(words), "label": labels or ["other"]})
        return made

    paths = {name: str(write_rows(tmp_path / f"{name}.jsonl", several(80))) for name in ("a", "b")}
    settings = {"train": paths["a"], "validation": paths["b"], "problem": "multi_label"}
    run = fit(tmp_path, model=by_heart(goal="recall>=0.9"), data=settings)
    found = read_json(run / "metrics.json")
    assert list(found["decisions"]["thresholds"]) == ["great", "late", "other"]
    for label, reached in found["decisions"]["reached"].items():
        assert reached["recall"] >= 0.9
        shown = found["validation"]["classes"][label]
        assert shown["recall"] == pytest.approx(reached["recall"], abs=1e-6)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"threshold": 1.5}, "model.threshold: got 1.5, expected a probability from 0 to 1."),
        ({"goal": "f1"}, "model.goal: got 'f1', expected max_f1"),
        ({"threshold": 0.9, "goal": "max_f1"}, "model.threshold and model.goal: both are given"),
        ({"positive": "ja"}, "model.positive: got 'ja', which is not one of no, yes."),
    ],
)
def test_a_decision_that_does_not_fit_is_refused(
    tmp_path: Path, model: dict[str, Any], said: str
) -> None:
    result = try_fit(tmp_path, model=by_heart(**model), data=data(tmp_path))
    assert result.code == 2
    assert said in message(result)


def test_a_threshold_of_three_classes_is_refused(plcli: Command, text_config: Path) -> None:
    result = plcli("fit", "-c", text_config, "--model.threshold", "0.9")
    assert result.code == 2
    assert "model.threshold: is for two classes or several labels a row, but there are 3" in (
        message(result)
    )


def test_decisions_need_validation_rows(tmp_path: Path) -> None:
    settings = data(tmp_path, validation=None, validation_fraction=0)
    result = try_fit(tmp_path, model=by_heart(goal="max_f1"), data=settings)
    assert result.code == 2
    assert "chosen on validation rows, but there are none" in message(result)
    assert not (tmp_path / "run").exists()


# a baseline on request


def test_tfidf_is_a_further_baseline(plcli: Command, decided: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    result = try_fit(tmp_path, "--baseline", "tfidf", model=by_heart(), data=data(tmp_path))
    assert result.code == 0, result.err
    baselines = read_json(tmp_path / "run" / "metrics.json")["test"]["baselines"]
    assert list(baselines) == ["majority class", "TF-IDF and a linear model"]
    assert (
        baselines["TF-IDF and a linear model"]["macro_f1"] > baselines["majority class"]["macro_f1"]
    )
    assert "worse than the baseline" in result.err


def test_an_unknown_baseline_is_refused(tmp_path: Path, plcli: Command) -> None:
    result = try_fit(tmp_path, "--baseline", "bm25", model=by_heart(), data=data(tmp_path))
    assert result.code == 2
    assert "--baseline: got 'bm25', expected tfidf." in message(result)


def test_a_task_without_texts_has_no_tfidf(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--baseline", "tfidf")
    assert result.code == 2
    assert "--baseline tfidf: is for text classification and regression" in message(result)


def test_the_mean_is_the_baseline_of_numbers(plcli: Command, linear_config: Path) -> None:
    assert plcli("fit", "-c", linear_config, "--run", "run").code == 0
    metrics = json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["test"]
    assert metrics["baselines"]["mean"]["r2"] == pytest.approx(0.0, abs=0.05)
    assert set(metrics["intervals"]) == {"mse", "rmse", "mae", "r2"}
