"""model.compile: the same numbers, or a message where there is no compiler."""

import shutil

import pytest
import torch

from plcli.errors import MachineError
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import TINY_BERT


def classifier(*, compiled: bool) -> TextClassifier:
    torch.manual_seed(0)
    return TextClassifier(
        architecture=TINY_BERT, labels=["a", "b"], vocab_size=40, pad_token_id=0, compile=compiled
    ).eval()


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_gives_the_numbers_of_a_plain_one() -> None:
    ids = torch.arange(1, 19).reshape(3, 6)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    with torch.inference_mode():
        plain, compiled = (classifier(compiled=switch)(batch).logits for switch in (False, True))
    torch.testing.assert_close(plain, compiled, atol=1e-5, rtol=1e-5)


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "g++")
    with pytest.raises(MachineError, match=r"model\.compile: needs a C\+\+ compiler"):
        classifier(compiled=True)
