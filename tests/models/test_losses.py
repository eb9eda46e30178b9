"""Losses against torch's and sklearn's, formulas written out, and exactness of pieces."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from plcli.errors import UsageError
from plcli.models import losses, step_loss
from plcli.tasks.text_classification import TextClassifier
from tests.conftest import TINY_BERT

NAMES = ["a", "b", "c"]
WEIGHTS = torch.tensor([0.5, 2.0, 1.0])


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def label_ids() -> torch.Tensor:
    ids = torch.randint(0, 3, (4, 5), generator=torch.Generator().manual_seed(1))
    ids[0, 2:] = losses.IGNORED
    return ids


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_is_that_of_torch(
    logits: torch.Tensor, label_ids: torch.Tensor, weights: Any, smoothing: float
) -> None:
    expected = functional.cross_entropy(
        logits.flatten(0, 1), label_ids.flatten(), weight=weights, label_smoothing=smoothing
    )
    ours = losses.cross_entropy(logits, label_ids, weights=weights, smoothing=smoothing)
    torch.testing.assert_close(ours, expected)


def test_the_focal_loss_is_its_formula(logits: torch.Tensor, label_ids: torch.Tensor) -> None:
    terms = [
        -((1 - p) ** 2) * p.log()
        for row, ids in zip(logits.softmax(-1), label_ids, strict=True)
        for p in (row[i, ids[i]] for i in range(5) if ids[i] >= 0)
    ]
    torch.testing.assert_close(
        losses.cross_entropy(logits, label_ids, focal=2.0), torch.stack(terms).mean()
    )


def test_the_focal_loss_of_several_labels_is_its_formula() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0]])
    p = logits.sigmoid()
    expected = (-((1 - p) ** 1.5) * p.log()).mean()
    torch.testing.assert_close(losses.binary_cross_entropy(logits, targets, focal=1.5), expected)


def test_smoothing_of_several_labels_moves_targets_to_one_half() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    expected = functional.binary_cross_entropy_with_logits(logits, torch.tensor([[0.9, 0.1]]))
    torch.testing.assert_close(
        losses.binary_cross_entropy(logits, targets, smoothing=0.2), expected
    )


def test_a_weight_of_several_labels_is_that_of_yes() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 1.0]])
    weights = torch.tensor([5.0, 3.0])
    expected = functional.softplus(torch.tensor(2.0)) + 3 * functional.softplus(torch.tensor(1.0))
    torch.testing.assert_close(
        losses.binary_cross_entropy(logits, targets, weights=weights), expected / 2
    )


def test_huber_is_square_up_to_delta_and_a_line_beyond() -> None:
    predicted, targets = torch.tensor([0.5, 3.0]), torch.zeros(2)
    expected = torch.tensor((0.5 * 0.5**2 + 1.0 * (3.0 - 0.5)) / 2)
    torch.testing.assert_close(losses.regression(predicted, targets, huber=1.0), expected)


def test_without_huber_it_is_the_squared_error() -> None:
    loss = losses.regression(torch.tensor([1.0, 3.0]), torch.zeros(2), huber=None)
    assert float(loss) == 5.0


@pytest.mark.parametrize("focal", [0.0, 2.0])
def test_pieces_that_count_by_their_weights_give_the_loss_of_the_whole(
    logits: torch.Tensor, label_ids: torch.Tensor, focal: float
) -> None:
    options = {"weights": WEIGHTS, "focal": focal, "smoothing": 0.1}
    parts = [(logits[:1], label_ids[:1]), (logits[1:], label_ids[1:])]
    counts = [losses.total_weight(ids, WEIGHTS) for _, ids in parts]
    joined = sum(
        losses.cross_entropy(some, ids, **options) * count / sum(counts)
        for (some, ids), count in zip(parts, counts, strict=True)
    )
    torch.testing.assert_close(joined, losses.cross_entropy(logits, label_ids, **options))


def test_nothing_labelled_weighs_nothing() -> None:
    assert losses.total_weight(torch.full((2, 3), losses.IGNORED)) == 0


def test_the_divergence_is_the_mean_of_both_directions() -> None:
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    one, other = first.log_softmax(-1), second.log_softmax(-1)
    forth = functional.kl_div(one, other, log_target=True, reduction="sum")
    back = functional.kl_div(other, one, log_target=True, reduction="sum")
    ours = losses.divergence(first, second, torch.tensor([0]))
    torch.testing.assert_close(ours, (forth + back) / 2)


def test_tokens_without_a_label_do_not_diverge() -> None:
    first, second = torch.randn(1, 2, 3), torch.randn(1, 2, 3)
    ids = torch.tensor([[1, losses.IGNORED]])
    alone = losses.divergence(first[:, :1], second[:, :1], ids[:, :1])
    torch.testing.assert_close(losses.divergence(first, second, ids), alone)


def test_auto_weights_are_those_of_sklearn() -> None:
    ids = [0] * 6 + [1] * 3 + [2]
    expected = compute_class_weight("balanced", classes=np.arange(3), y=ids)
    ours = losses.class_weights("auto", names=NAMES, frequencies=[0.6, 0.3, 0.1])
    assert ours is not None
    assert ours.tolist() == pytest.approx(expected.tolist())


def test_auto_weights_of_several_labels_are_no_against_yes() -> None:
    ours = losses.class_weights("auto", names=NAMES[:2], frequencies=[0.2, 0.5], several=True)
    assert ours is not None
    assert ours.tolist() == pytest.approx([4.0, 1.0])


def test_a_label_that_never_stands_weighs_as_the_rarest() -> None:
    ours = losses.class_weights("auto", names=NAMES, frequencies=[0.75, 0.25, 0.0])
    assert ours is not None
    assert float(ours[2]) == float(ours[1])


def test_labels_that_are_not_named_weigh_one() -> None:
    ours = losses.class_weights({"b": 3.0}, names=NAMES, frequencies=None)
    assert ours is not None
    assert ours.tolist() == [1.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"bb": 1.0},
            r"model\.class_weights: there is no label 'bb'\. Did you mean 'b'\? There are: a, b",
        ),
        ([1.0], "got 1 weights for 3 labels: a, b, c"),
        ([1.0, -1.0, 1.0], "got 1.0, -1.0, 1.0, expected finite numbers of 0 or more"),
        ([1.0, float("nan"), 1.0], "got 1.0, nan, 1.0, expected finite numbers"),
        ("auto", "auto needs the frequencies of the labels"),
    ],
)
def test_weights_that_fit_no_classes_are_refused(given: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        losses.class_weights(given, names=NAMES, frequencies=None)


# through the task


def classifier(**options: Any) -> TextClassifier:
    torch.manual_seed(0)
    options = {"labels": NAMES, **options}
    return TextClassifier(architecture=TINY_BERT, vocab_size=40, pad_token_id=0, **options).eval()


def batch(labels: Any) -> dict[str, torch.Tensor]:
    ids = torch.arange(1, 19).reshape(3, 6)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


@pytest.mark.parametrize(
    "options",
    [{"class_weights": [1.0, 5.0, 1.0]}, {"focal": 2.0}, {"label_smoothing": 0.3}],
    ids=["class_weights", "focal", "label_smoothing"],
)
@pytest.mark.parametrize("problem", ["single_label", "multi_label"])
def test_an_option_changes_the_loss_of_a_classifier(options: Any, problem: Any) -> None:
    labels = torch.tensor([0, 1, 2])
    rows = batch(labels if problem == "single_label" else functional.one_hot(labels).float())
    plain, other = (classifier(problem=problem, **some) for some in ({}, options))
    first, second = (float(module.loss(module(rows), rows).detach()) for module in (plain, other))
    assert first != pytest.approx(second, rel=1e-5)


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
def test_the_loss_without_options_is_that_of_transformers(problem: Any) -> None:
    labels = torch.tensor([0, 1, 2])
    targets = {"multi_label": functional.one_hot(labels).float(), "regression": labels.float()}
    module, rows = classifier(problem=problem), batch(targets.get(problem, labels))
    outputs = module(rows)
    torch.testing.assert_close(module.loss(outputs, rows), outputs.loss)


def test_a_batch_of_weighted_classes_counts_their_weights() -> None:
    module = classifier(class_weights={"b": 3.0})
    assert module.count(batch(torch.tensor([0, 1, 1]))) == 7.0


def test_huber_changes_the_loss_of_numbers() -> None:
    rows = batch(torch.tensor([5.0, -9.0, 7.0]))
    plain, other = (classifier(problem="regression", **some) for some in ({}, {"huber": 1.0}))
    first, second = (module.loss(module(rows), rows).detach() for module in (plain, other))
    assert float(second) < float(first) / 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"huber": 1.0}, r"model\.huber: the loss of TextClassifier does not support it here; "),
        ({"focal": 1.0, "problem": "regression"}, r"model\.focal: .* it supports huber\. Remove"),
        ({"focal": -1.0}, r"model\.focal: got -1\.0, expected 0 or more"),
        ({"label_smoothing": 1.0}, r"model\.label_smoothing: got 1\.0, expected 0 to below 1"),
    ],
)
def test_an_option_that_the_loss_cannot_take_is_refused(options: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        classifier(**options)


def test_r_drop_adds_what_two_passes_differ_by() -> None:
    rows = batch(torch.tensor([0, 1, 2]))
    module = classifier(r_drop=2.0).train()
    torch.manual_seed(1)
    first, second = module(rows), module(rows)
    expected = (module.loss(first, rows) + module.loss(second, rows)) / 2
    expected = expected + 2.0 * losses.divergence(first.logits, second.logits, rows["labels"])
    torch.manual_seed(1)
    torch.testing.assert_close(step_loss.of_micro_batch(module, rows), expected)
