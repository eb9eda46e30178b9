"""Fine-tuning's options together, through the command: they work and go on exactly."""

import os
import shutil
import signal
from functools import partialmethod
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from lightning.pytorch import Callback

from plcli.errors import UsageError
from plcli.tasks.text_classification import TextClassifier
from tests.callbacks.test_averaging import EMA, EPOCHS
from tests.callbacks.test_unfreezing import UNFREEZING
from tests.conftest import TINY_BERT
from tests.running import adamw, fit_messages, saved_state, try_messages

STOP = {"class_path": "tests.integration.test_options_together.Stop"}
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
        one, other = saved_state(whole, key=key), saved_state(again, key=key)
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
    one, other = saved_state(whole), saved_state(again)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"
)  # torch's compiler looks at it
def test_a_compiled_network_takes_the_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # traced, decomposed and cut into passes as ever; g++ for each of fifty kernels would take
    # most of a minute, and test_compile has the numbers of those of a prediction
    to_kernels = torch.nn.Module.compile
    backend = "aot_eager_decomp_partition"
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(to_kernels, backend=backend))
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
    assert not torch.equal(saved_state(one)[weights], saved_state(other)[weights])


def test_the_parameter_groups_are_shown(tmp_path: Path) -> None:
    result = try_messages(tmp_path / "x", model={"head_lr": 1e-2}, max_steps=1)
    assert "embeddings, layers 1-2: " in result.err
    assert "head: 99 parameters, lr 0.01, weight decay 0.01 on 96" in result.err


def test_a_plateau_needs_a_validation(tmp_path: Path) -> None:
    result = try_messages(tmp_path / "x", model={"schedule": "plateau"}, limit_val_batches=0)
    assert result.code == 2
    assert "plateau follows the validation metric, but there is no" in result.err
