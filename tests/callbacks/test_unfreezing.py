"""Gradual unfreezing: layers join from the top down, and what it is refused with."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.running import RECORDER, Recorder, fit_messages, try_messages

UNFREEZING = {"class_path": "plcli.callbacks.unfreezing.GradualUnfreezing"}


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
    ("model", "said"), [({"freeze": 1}, "cannot be combined with model.freeze or model.lora")]
)
def test_unfreezing_what_stays_frozen_is_refused(tmp_path: Path, model: Any, said: str) -> None:
    result = try_messages(tmp_path / "x", callbacks=[UNFREEZING], model=model)
    assert (result.code, said in result.err) == (2, True), result.err
