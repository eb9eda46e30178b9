"""Fine-tuning's options together, through the command: they work and go on exactly.

And mean weights: what is scored is what is saved.
"""

import os
import shutil
import signal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging
from safetensors.torch import load_file

from plcli.callbacks import averaging
from plcli.errors import UsageError
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import TINY_BERT, Result, message_rows, write_rows
from tests.running import RECORDER, Recorder, adamw, read_json, run_plcli, try_fit

EMA = {
    "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
    "init_args": {"decay": 0.7},
}
EPOCHS = {
    "class_path": "plcli.callbacks.averaging.EpochAveraging",
    "init_args": {"start_epoch": 1},
}
UNFREEZING = {"class_path": "plcli.callbacks.unfreezing.GradualUnfreezing"}
STOP = {"class_path": "tests.integration.test_craft.Stop"}
TWO_LAYERS = {**TINY_BERT, "num_hidden_layers": 2}
OPTIONS: dict[str, Any] = {
    "class_weights": "auto",
    "focal": 1.0,
    "label_smoothing": 0.1,
    "r_drop": 0.5,
    "head_lr": 1e-2,
    "layer_decay": 0.8,
    "optimizer": adamw(5e-3),
}
TRAINER: dict[str, Any] = {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}


class Stop(Callback):
    """Sends a SIGTERM after so many batches in all."""

    after: ClassVar[int | None] = None

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Send it."""
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready == self.after:
            Stop.after = None
            os.kill(os.getpid(), signal.SIGTERM)


def try_messages(folder: Path, *words: object, model: Any = None, **trainer: Any) -> Result:
    """Fit a classifier of two layers on 24 messages, 6 batches an epoch."""
    folder.mkdir(exist_ok=True)
    rows = str(write_rows(folder.parent / "rows.jsonl", message_rows(2)))
    return try_fit(
        folder,
        *words,
        model={"architecture": TWO_LAYERS, "optimizer": adamw(5e-3), **(model or {})},
        data={"train": rows, "validation": rows, "text": "message", "label": "intent"}
        | {"batch_size": 4},
        trainer=trainer,
    )


def fit_messages(folder: Path, *words: object, **sections: Any) -> Path:
    result = try_messages(folder, *words, **sections)
    assert result.code == 0, result.err
    return folder / "run"


def state(run: Path, name: str = "last", key: str = "state_dict") -> dict[str, torch.Tensor]:
    path = run / "checkpoints" / f"{name}.ckpt"
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)[key]
    return found


# mean weights


@pytest.fixture(scope="module")
def ema(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with mean weights."""
    return fit_messages(tmp_path_factory.mktemp("ema") / "x", callbacks=[EMA], max_epochs=2)


def test_the_artefact_holds_the_mean_weights_of_the_best_epoch(ema: Path) -> None:
    kept = load_file(ema / "model" / "model.safetensors")
    mean, last = state(ema, "best"), state(ema, "best", "current_model_state")
    assert all(torch.equal(tensor, mean[f"model.{name}"]) for name, tensor in kept.items())
    assert not torch.equal(mean["model.classifier.weight"], last["model.classifier.weight"])


def test_the_numbers_of_a_run_are_those_of_its_mean_weights(ema: Path) -> None:
    result = run_plcli("validate", "--run", ema)
    expected = read_json(ema / "metrics.json")["validation"]
    for name in ("loss", "macro_f1"):
        assert f" {expected[name]:.4f} " in result.out, result.err


def test_epochs_are_averaged_from_the_first_that_is_wanted(tmp_path: Path) -> None:
    Recorder.clear()
    run = fit_messages(tmp_path / "x", callbacks=[EPOCHS, RECORDER], max_epochs=3)
    name = "model.classifier.weight"
    expected = (Recorder.states[1][name] + Recorder.states[2][name]) / 2
    torch.testing.assert_close(state(run)[name], expected)
    kept = load_file(run / "model" / "model.safetensors")["classifier.weight"]
    assert torch.equal(kept, state(run, "best")[name])
    result = run_plcli("validate", "--run", run, "--allow-import", "tests")
    assert f" {read_json(run / 'metrics.json')['validation']['loss']:.4f} " in result.out


def test_a_mean_that_is_never_scored_is_refused(tmp_path: Path) -> None:
    swa = {"class_path": "lightning.pytorch.callbacks.StochasticWeightAveraging"}
    result = try_messages(tmp_path / "x", callbacks=[{**swa, "init_args": {"swa_lrs": 0.01}}])
    assert result.code == 2
    assert "Use plcli.callbacks.averaging.EpochAveraging (start_epoch), or" in result.err


@pytest.mark.parametrize("callback", [EMAWeightAveraging(decay=0.9), WeightAveraging()])
def test_whole_numbers_are_no_means(callback: WeightAveraging) -> None:
    averaging.prepare([callback])
    mean = callback._kwargs["avg_fn"]
    numbers = torch.arange(512)
    assert torch.equal(mean(numbers, numbers, torch.tensor(3)), numbers)
    halves = mean(torch.zeros(1), torch.ones(1), torch.tensor(1))
    assert 0 < float(halves) < 1


def test_an_epoch_before_the_first_is_refused() -> None:
    with pytest.raises(UsageError, match=r"EpochAveraging\.start_epoch: got -1, expected 0 or mo"):
        averaging.EpochAveraging(start_epoch=-1)


# gradual unfreezing


def test_layers_join_from_the_top_down(tmp_path: Path) -> None:
    Recorder.clear()
    fit_messages(tmp_path / "x", callbacks=[UNFREEZING, RECORDER], max_epochs=3)
    names = {
        "head": "model.classifier.weight",
        "top": "model.bert.encoder.layer.1.output.dense.weight",
        "bottom": "model.bert.encoder.layer.0.output.dense.weight",
    }
    learnt = [
        {key for key, name in names.items() if not torch.equal(one[name], other[name])}
        for one, other in zip(Recorder.states, Recorder.states[1:], strict=False)
    ]
    assert learnt == [{"head", "top"}, {"head", "top", "bottom"}]


@pytest.mark.parametrize(
    ("model", "said"), [({"freeze": 1}, "goes with neither model.freeze nor model.lora")]
)
def test_unfreezing_what_stays_frozen_is_refused(tmp_path: Path, model: Any, said: str) -> None:
    result = try_messages(tmp_path / "x", callbacks=[UNFREEZING], model=model)
    assert (result.code, said in result.err) == (2, True), result.err


# all together


@pytest.mark.parametrize(
    ("model", "trainer"),
    [
        (
            {"adversarial": {"kind": "fgm"}, "gradient_checkpointing": True}
            | {"schedule": "plateau", "plateau": {"patience": 0}},
            {"precision": "bf16-mixed", "callbacks": [EMA, STOP]},
        ),
        (
            {"adversarial": {"kind": "awp"}, "schedule": "inverse_sqrt"},
            {"callbacks": [EPOCHS, UNFREEZING, STOP]},
        ),
    ],
    ids=["fgm-checkpointing-plateau-bf16-ema", "awp-inverse_sqrt-unfreezing-averaging"],
)
def test_all_options_together_go_on_exactly(tmp_path: Path, model: Any, trainer: Any) -> None:
    sections = {"model": {**OPTIONS, **model}, "max_epochs": 3, **TRAINER, **trainer}
    Stop.after = None
    whole = fit_messages(tmp_path / "whole", **sections)
    Stop.after = 9  # inside the second epoch
    assert try_messages(tmp_path / "cut", **sections).code == 143
    again = fit_messages(tmp_path / "cut", **sections)
    for key in ("state_dict", "current_model_state"):
        one, other = state(whole, key=key), state(again, key=key)
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    kept = [run / "model" / "model.safetensors" for run in (whole, again)]
    assert kept[0].read_bytes() == kept[1].read_bytes()


def test_a_run_with_an_adapter_goes_on_exactly(tmp_path: Path) -> None:
    from tests.tiny import save_bert

    torch.manual_seed(0)
    base = save_bert(tmp_path / "base")
    model = {"architecture": None, "pretrained": str(base), "lora": {"dropout": 0.1, "dora": True}}
    sections = {"model": {**OPTIONS, **model}, "max_epochs": 2, "callbacks": [STOP], **TRAINER}
    Stop.after = None
    whole = fit_messages(tmp_path / "whole", **sections)
    Stop.after = 4
    assert try_messages(tmp_path / "cut", **sections).code == 143
    again = fit_messages(tmp_path / "cut", **sections)
    one, other = state(whole), state(again)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # torch's compiler looks at it
def test_a_compiled_network_takes_the_options(tmp_path: Path) -> None:
    model = {**OPTIONS, "architecture": TINY_BERT, "compile": True, "adversarial": {"kind": "awp"}}
    fit_messages(
        tmp_path / "x",
        model={**model, "gradient_checkpointing": True},
        max_steps=2,
        precision="bf16-mixed",
        limit_val_batches=1,
        num_sanity_val_steps=0,
        **TRAINER,
    )


def test_r_drop_of_a_network_without_dropout_is_refused() -> None:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    with pytest.raises(UsageError, match=r"model\.r_drop: this bert has no dropout"):
        TextClassifier(architecture={**TINY_BERT, **still}, labels=["a", "b"], r_drop=1.0)


@pytest.mark.parametrize("name", ["r_drop", "adversarial", "class_weights", "focal"])
def test_an_option_changes_what_is_learnt(tmp_path: Path, name: str) -> None:
    value: Any = {"adversarial": {}, "class_weights": [1.0, 3.0, 1.0]}.get(name, 1.0)
    one = fit_messages(tmp_path / "one", max_steps=2)
    other = fit_messages(tmp_path / "other", model={name: value}, max_steps=2)
    weights = "model.classifier.weight"
    assert not torch.equal(state(one)[weights], state(other)[weights])


def test_the_parameter_groups_are_shown(tmp_path: Path) -> None:
    result = try_messages(tmp_path / "x", model={"head_lr": 1e-2}, max_steps=1)
    assert "embeddings, layers 1-2: " in result.err
    assert "head: 99 parameters, lr 0.01, weight decay 0.01 on 96" in result.err


def test_a_plateau_needs_a_validation(tmp_path: Path) -> None:
    result = try_messages(tmp_path / "x", model={"schedule": "plateau"}, limit_val_batches=0)
    assert result.code == 2
    assert "plateau follows the validation, but there is none" in result.err
