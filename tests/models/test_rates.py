"""Rates and epochs that plcli chooses where a config gives none."""

import math
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from plcli.models import rates
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import Command, Result, message, message_rows, write_rows
from tests.running import TEXTS, TWO_LAYERS, adamw, read_json, run_plcli, try_fit

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
        (None, ("--model.optimizer", "AdamW")),
        ({"class_path": "torch.optim.AdamW", "init_args": {"lr": "auto"}}, ()),
        (adamw(5e-3), ("--lr", "auto")),
        (None, ("--model.optimizer", '{"class_path": "torch.optim.AdamW"}')),
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
        (None, ("--model.optimizer.init_args", '{"lr": 3e-4}'), 3e-4),
        (None, ("--model.optimizer.dict_kwargs.lr", "3e-4"), 3e-4),
        (adamw(3e-4), ("--model.optimizer", "torch.optim.AdamW"), 3e-4),
        (adamw(3e-4), ("--model.optimizer", "torch.optim.SGD"), 3e-4),
        ({"class_path": "torch.optim.AdamW", "init_args": {"lr": "auto"}}, ("--lr", "3e-4"), 3e-4),
    ],
)
def test_a_rate_that_is_given_is_kept(
    tmp_path: Path, optimizer: Any, words: Any, wanted: float
) -> None:
    result = fit_with(tmp_path, *words, optimizer=optimizer)
    assert rate_of(result) == wanted
    assert "chosen for" not in result.err


def test_auto_is_refused_for_an_optimizer_without_a_rule(tmp_path: Path) -> None:
    result = fit_with(tmp_path, "--model.optimizer", "torch.optim.SGD", "--lr", "auto")
    assert result.code == 2
    assert message(result) == (
        "plcli: model.optimizer: torch.optim.SGD: a learning rate is only chosen for Adam and its "
        "kin. Set it with --lr.\n"
    )


def test_auto_is_refused_for_a_model_without_a_rule(plcli: Command, linear_config: Path) -> None:
    result = plcli("fit", "-c", linear_config, "--lr", "auto", "--run", "run")
    assert result.code == 2
    assert message(result) == (
        "plcli: model.optimizer: a learning rate is only chosen for the transformers of plcli. Set "
        "it with --lr.\n"
    )


def test_a_rate_of_0_is_refused(tmp_path: Path) -> None:
    result = fit_with(tmp_path, "--lr", "0")
    assert result.code == 2
    assert message(result) == (
        "plcli: model.optimizer: lr is 0, with which nothing is trained. Set another, or auto.\n"
    )


def test_the_config_of_the_run_chooses_again(tmp_path: Path) -> None:
    first = fit_with(tmp_path, optimizer="torch.optim.AdamW")
    assert first.code == 0
    saved = tmp_path / "run" / "config.yaml"
    again = try_fit_config(saved, tmp_path / "again")
    assert rate_of(again) == rate_of(first)


def try_fit_config(config: Path, run: Path) -> Result:
    """Fit a saved config into another folder."""
    return run_plcli("fit", "-c", config, "--run", run)


def test_the_head_keeps_a_rate_of_its_own(tmp_path: Path) -> None:
    result = fit_with(tmp_path, "--model.head_lr", "0.002")
    assert re.search(r"head: [\d,]+ parameters, lr 0.002", result.err)


def test_without_epochs_their_number_is_chosen_and_said(tmp_path: Path) -> None:
    result = fit_with(tmp_path, max_epochs=None, limit_val_batches=1)
    assert "15 epochs of 3 steps, as none are given; --epochs sets others" in result.err
    assert "Setting it to 1000" not in result.err
    assert read_json(tmp_path / "run" / "metrics.json")["fit"]["epochs"] == 15


def test_a_number_of_steps_is_an_end(tmp_path: Path) -> None:
    result = fit_with(tmp_path, max_epochs=None, max_steps=2)
    assert "as none are given" not in result.err
    assert read_json(tmp_path / "run" / "metrics.json")["fit"]["steps"] == 2


def test_the_chosen_numbers_are_kept_with_the_run(tmp_path: Path) -> None:
    fit_with(tmp_path, max_epochs=None, limit_val_batches=1)
    chosen = read_json(tmp_path / "run" / "environment.json")["chosen"]
    assert chosen == {"epochs": 15, "lr": 0.001}
    assert read_json(tmp_path / "run" / "metrics.json")["fit"]["lr"] == 0.001
    assert "lr: auto" in (tmp_path / "run" / "config.yaml").read_text()


def test_a_resumed_training_has_the_epochs_that_were_chosen_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fit_with(tmp_path, max_epochs=None, callbacks=[f"{__name__}.StopsAfterTwo"])
    assert first.code == 143, first.err
    monkeypatch.setattr(rates, "MOST", 4)  # as another version might have it
    again = fit_with(tmp_path, max_epochs=None, callbacks=[f"{__name__}.StopsAfterTwo"])
    assert again.code == 0, again.err
    assert read_json(tmp_path / "run" / "metrics.json")["fit"]["epochs"] == 15


class StopsAfterTwo(Callback):
    """Sends SIGTERM to the process at the end of the second epoch, once."""

    sent = False

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Send it."""
        if trainer.current_epoch == 1 and not StopsAfterTwo.sent:
            StopsAfterTwo.sent = True
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("key", "value", "epochs"), [("min_epochs", 17, 17), ("min_steps", 50, 17)]
)
def test_a_least_length_is_kept(tmp_path: Path, key: str, value: int, epochs: int) -> None:
    result = fit_with(tmp_path, max_epochs=None, limit_val_batches=1, **{key: value})
    assert f"{epochs} epochs of 3 steps" in result.err


class OwnOptimizer(TextClassifier):
    """A user's class that makes the optimizer itself."""

    def configure_optimizers(self) -> Any:
        """Return the optimizer of the config."""
        return self.optimizer(self.parameters())


def test_a_class_that_makes_its_optimizer_gets_the_usual_rate(tmp_path: Path) -> None:
    classes = (f"{__name__}.OwnOptimizer", TEXTS)
    rows = str(write_rows(tmp_path / "rows.jsonl", message_rows(2)))
    model = {"architecture": TWO_LAYERS}
    data = {"train": rows, "validation": rows, "text": "message", "label": "intent"}
    result = try_fit(tmp_path, model=model, data=data, classes=classes)
    assert result.code == 0, result.err
    assert "lr 2e-05" in result.err
    assert "learning rate 2e-05, the usual one, as OwnOptimizer makes its optimizer" in result.err


def test_a_module_made_in_python_makes_its_optimizer_at_the_usual_rate() -> None:
    module = TextClassifier(architecture=TWO_LAYERS, labels=["a", "b"], vocab_size=50)
    assert module.optimizer(module.parameters()).param_groups[0]["lr"] == 2e-5


def test_trained_weights_are_not_taken_for_random_ones(tmp_path: Path) -> None:
    fit_with(tmp_path, optimizer=adamw(1e-3))
    module = TextClassifier.load_from_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert module.has_loaded_weights
