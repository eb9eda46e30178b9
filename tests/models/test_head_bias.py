"""A new head starts at the frequencies of the classes."""

from pathlib import Path

import pytest
import torch

from plcli.tasks.text_classification import TextClassifier
from plcli.tasks.token_classification import TokenClassifier
from tests.conftest import TINY_BERT

FREQUENCIES = [0.7, 0.2, 0.1]
ARCHITECTURE = {**TINY_BERT, "vocab_size": 50}
NAMES = ["a", "b", "c"]


def bias_of(module: TextClassifier | TokenClassifier) -> torch.Tensor:
    """Return the bias of the output layer."""
    found: torch.Tensor = module.model.classifier.bias.detach()
    return found


def test_classes_start_at_their_frequencies() -> None:
    module = TextClassifier(architecture=ARCHITECTURE, labels=NAMES, label_frequencies=FREQUENCIES)
    assert bias_of(module).softmax(0).tolist() == pytest.approx(FREQUENCIES, abs=1e-6)


def test_several_labels_start_at_their_frequencies() -> None:
    module = TextClassifier(
        architecture=ARCHITECTURE,
        labels=NAMES,
        problem="multi_label",
        label_frequencies=[0.5, 0.1, 0.0],
    )
    assert bias_of(module).sigmoid().tolist() == pytest.approx([0.5, 0.1, 1e-4], abs=1e-6)


def test_tags_start_alike() -> None:
    module = TokenClassifier(architecture=ARCHITECTURE, labels=NAMES, label_frequencies=FREQUENCIES)
    assert bias_of(module).tolist() == [0, 0, 0]


def test_weights_of_classes_make_them_alike() -> None:
    module = TextClassifier(
        architecture=ARCHITECTURE, labels=NAMES, label_frequencies=FREQUENCIES, class_weights="auto"
    )
    assert bias_of(module).tolist() == [0, 0, 0]


def test_a_trained_head_is_kept(tmp_path: Path) -> None:
    module = TextClassifier(architecture=ARCHITECTURE, labels=NAMES)
    with torch.no_grad():
        module.model.classifier.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    module.model.save_pretrained(tmp_path)

    again = TextClassifier(
        pretrained=str(tmp_path), labels=NAMES, label_frequencies=FREQUENCIES, vocab_size=None
    )

    assert bias_of(again).tolist() == [1, 2, 3]
