"""Rates and epochs that plcli chooses where a config gives none."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from plcli.models import rates
from tests.conftest import Result, message_rows, write_rows
from tests.running import TWO_LAYERS, adamw, read_json, try_fit

BASE = 85_000_000  # parameters of BERT-base besides embeddings


def test_the_rate_falls_with_the_size_of_the_network() -> None:
    found = [rates.rate(steps=500, parameters=size) for size in (1e7, 8.5e7, 3e8)]  # type: ignore[arg-type]
    assert found == sorted(found, reverse=True)


def test_the_rate_falls_with_the_length_of_the_training() -> None:
    found = [rates.rate(steps=steps, parameters=BASE) for steps in (100, 1000, 10_000)]
    assert found == sorted(found, reverse=True)


def test_many_classes_get_a_higher_rate() -> None:
    few, many = (rates.rate(steps=500, parameters=BASE, classes=number) for number in (2, 77))
    assert 2 * few < many < 5 * few


def test_bert_gets_a_usual_rate() -> None:
    assert 1.5e-5 <= rates.rate(steps=2000, parameters=BASE) <= 6e-5


def test_a_training_without_an_end_has_a_rate() -> None:
    assert rates.rate(steps=math.inf, parameters=BASE) > 0


def test_low_rank_updates_and_random_weights_get_a_higher_rate() -> None:
    plain = rates.rate(steps=500, parameters=BASE)
    assert rates.rate(steps=500, parameters=BASE, low_rank=True) > plain
    assert rates.rate(steps=500, parameters=BASE, pretrained=False) > plain


@pytest.mark.parametrize(("steps", "epochs"), [(1, 15), (125, 4), (10_000, 3), (math.inf, 3)])
def test_short_epochs_are_repeated(steps: float, epochs: int) -> None:
    assert rates.epochs(steps=steps) == epochs


# in a fit


def fit_with(folder: Path, *words: object, optimizer: Any = None, **trainer: Any) -> Result:
    """Fit a tiny classifier with an optimizer section; None leaves it out."""
    rows = str(write_rows(folder / "rows.jsonl", message_rows(2)))
    model = {"architecture": TWO_LAYERS, **({} if optimizer is None else {"optimizer": optimizer})}
    data = {"train": rows, "validation": rows, "text": "message", "label": "intent"}
    return try_fit(folder, *words, model=model, data={**data, "batch_size": 8}, trainer=trainer)


def rate_of(result: Result) -> float:
    """Return the rate that the log says the parameters have."""
    found = re.search(r"parameters, lr ([\d.e-]+)", result.err)
    assert found, result.err
    return float(found[1])


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [
        (None, ()),
        ({"class_path": "torch.optim.AdamW", "init_args": {"weight_decay": 0.1}}, ()),
        ("torch.optim.Adam", ()),
        ("AdamW", ()),
        ({"class_path": "torch.optim.AdamW", "init_args": {"lr": "auto"}}, ()),
        (adamw(5e-3), ("--lr", "auto")),
    ],
)
def test_without_a_rate_one_is_chosen_and_said(tmp_path: Path, optimizer: Any, words: Any) -> None:
    result = fit_with(tmp_path, *words, optimizer=optimizer)
    assert rate_of(result) == 0.001
    assert "learning rate 0.001, chosen for 18," in result.err
    assert "besides embeddings and 3 steps; --lr sets another" in result.err


@pytest.mark.parametrize(
    ("optimizer", "words", "wanted"),
    [
        (adamw(3e-4), (), 3e-4),
        (None, ("--lr", "2e-5"), 2e-5),
        ("torch.optim.AdamW", ("--model.optimizer.lr", "2e-5"), 2e-5),
        ({"class_path": "torch.optim.SGD"}, (), 1e-3),  # as torch has it: the rule is for Adam
        (None, ("--model.optimizer", "torch.optim.Adagrad"), 1e-2),
    ],
)
def test_a_rate_that_is_given_is_kept(
    tmp_path: Path, optimizer: Any, words: Any, wanted: float
) -> None:
    result = fit_with(tmp_path, *words, optimizer=optimizer)
    assert rate_of(result) == wanted
    assert "chosen for" not in result.err


def test_the_config_of_the_run_chooses_again(tmp_path: Path) -> None:
    first = fit_with(tmp_path, optimizer="torch.optim.AdamW")
    assert first.code == 0
    saved = tmp_path / "run" / "config.yaml"
    again = try_fit_config(saved, tmp_path / "again")
    assert rate_of(again) == rate_of(first)


def try_fit_config(config: Path, run: Path) -> Result:
    """Fit a saved config into another folder."""
    from tests.running import run_plcli

    return run_plcli("fit", "-c", config, "--run", run)


def test_the_head_keeps_a_rate_of_its_own(tmp_path: Path) -> None:
    result = fit_with(tmp_path, "--model.head_lr", "0.002")
    assert re.search(r"head: [\d,]+ parameters, lr 0.002", result.err)


def test_without_epochs_their_number_is_chosen_and_said(tmp_path: Path) -> None:
    result = fit_with(tmp_path, max_epochs=None, limit_val_batches=1)
    assert "15 epochs, chosen for 3 steps each; --epochs sets others" in result.err
    assert "Setting it to 1000" not in result.err
    assert read_json(tmp_path / "run" / "metrics.json")["fit"]["epochs"] == 15


def test_a_number_of_steps_is_an_end(tmp_path: Path) -> None:
    result = fit_with(tmp_path, max_epochs=None, max_steps=2)
    assert "chosen for 3 steps each" not in result.err
    assert read_json(tmp_path / "run" / "metrics.json")["fit"]["steps"] == 2
