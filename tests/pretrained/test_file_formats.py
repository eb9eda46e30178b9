"""Pickled weights are refused with the command that converts them."""

from pathlib import Path

import pytest
import torch
import transformers

from plcli.errors import ModelError
from plcli.pretrained import weights
from tests.pretrained.conftest import refused
from tests.tiny import bert_classifier

CLASSIFIER = transformers.AutoModelForSequenceClassification


@pytest.mark.parametrize("shards", [1, 2])
def test_the_command_in_the_message_converts_pickled_weights(folder: str, shards: int) -> None:
    Path(folder, "model.safetensors").unlink()
    pickled = bert_classifier().state_dict()
    names = list(pickled)
    pickled[names[1]] = pickled[names[1]].T.contiguous().T  # as a tensor in another order of memory
    for shard in range(shards):
        name = "pytorch_model.bin" if shards == 1 else f"pytorch_model-0000{shard}-of-2.bin"
        part = {key: pickled[key] for key in names[shard::shards]}
        torch.save(part, Path(folder, name))
    with pytest.raises(ModelError, match=r"bert has its weights only as .*\.bin, a pickle") as told:
        weights.load_model(CLASSIFIER, folder)
    python, code, _ = str(told.value).splitlines()[1].split('"')
    assert python.strip() == "python -c"
    exec(code, {})
    loaded = weights.load_model(CLASSIFIER, folder).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in pickled.items())


def test_weights_of_tensorflow_are_named(folder: str) -> None:
    Path(folder, "model.safetensors").rename(Path(folder, "tf_model.h5"))
    with refused("bert has its weights only as tf_model.h5, those of TensorFlow; plcli reads mod"):
        weights.load_model(CLASSIFIER, folder)
