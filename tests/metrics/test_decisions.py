"""The temperature and thresholds that suit some rows, and the calibration that they reach."""

import numpy as np
import pytest

from plcli.errors import UsageError
from plcli.metrics import answer_scores, decisions

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
TRUTH = np.array([1, 1, 0, 1, 0, 0, 1, 0]) > 0


@pytest.mark.parametrize(
    ("goal", "value", "precision", "recall"),
    [
        ("max_f1", 0.55, 0.75, 0.75),  # F1 0.75; 0.67 at 0.75, 0.73 at 0.25
        ("precision>=0.95", 0.75, 1.0, 0.5),  # of those with that precision the most recall
        ("precision >= 0.7", 0.55, 0.75, 0.75),
        ("recall>=1", 0.25, 4 / 7, 1.0),
        ("recall>=0.5", 0.75, 1.0, 0.5),
        ({"false_positive": 1, "false_negative": 10}, 0.25, 4 / 7, 1.0),
        ({"false_positive": 10, "false_negative": 1}, 0.75, 1.0, 0.5),
    ],
)
def test_a_threshold_serves_its_goal(
    goal: decisions.Goal, value: float, precision: float, recall: float
) -> None:
    found = decisions.threshold(SCORES, TRUTH, decisions.aim(goal))
    assert found is not None
    assert found.reached
    assert (found.value, found.precision, found.recall) == pytest.approx((value, precision, recall))


def test_a_goal_that_no_threshold_reaches_is_said_so() -> None:
    found = decisions.threshold(SCORES, ~TRUTH, decisions.aim("precision>=0.99"))
    assert found is not None
    assert not found.reached
    assert found.precision == 0.5  # the best there is


def test_equal_scores_are_not_separated() -> None:
    scores, truth = np.array([0.8, 0.8, 0.2]), np.array([True, False, False])
    found = decisions.threshold(scores, truth, decisions.aim("precision>=0.9"))
    assert found is not None
    assert (found.reached, found.value) == (False, 0.5)


def test_rows_of_one_kind_have_no_threshold() -> None:
    assert decisions.threshold(SCORES, TRUTH | True, decisions.aim("max_f1")) is None


@pytest.mark.parametrize(
    ("goal", "said"),
    [
        ("max_f2", "model.goal: got 'max_f2', expected max_f1, precision>=P or recall>=R"),
        ("precision>=95", "with a number up to 1"),
        ({"false_positive": 1}, "expected the costs false_positive and false_negative"),
        ({"false_positive": 1, "false_negative": 0}, "both above 0"),
    ],
)
def test_a_goal_that_is_none_is_refused(goal: decisions.Goal, said: str) -> None:
    with pytest.raises(UsageError) as error:
        decisions.aim(goal)
    assert said in str(error.value)


@pytest.mark.parametrize("several", [False, True])
def test_the_temperature_is_that_of_the_rows(several: bool) -> None:
    generator = np.random.default_rng(0)
    true = generator.normal(size=(20_000, 3)) * 2
    chances = decisions.probabilities(true, several=several)
    if several:
        truth = (generator.random(true.shape) < chances).astype(int)
    else:
        truth = (generator.random((len(true), 1)) > chances.cumsum(1)).sum(1).clip(max=2)
    assert decisions.temperature(true * 3, truth) == pytest.approx(3.0, rel=0.05)


def test_a_temperature_mends_an_overconfident_model() -> None:
    generator = np.random.default_rng(1)
    true = generator.normal(size=(1000, 3))
    chances = decisions.probabilities(true, several=False)
    truth = (generator.random((len(true), 1)) > chances.cumsum(1)).sum(1).clip(max=2)
    logits = true * 4
    found = decisions.calibration(logits, truth, decisions.temperature(logits, truth))
    for name in ("nll", "brier", "ece"):
        assert found[name]["high"] < 0
        assert found[name]["difference"] == pytest.approx(
            found[name]["after"] - found[name]["before"]
        )
    losses = -np.log(decisions.probabilities(logits, several=False)[np.arange(1000), truth])
    assert found["nll"]["before"] == pytest.approx(losses.mean())


def test_the_threshold_of_no_answer_has_the_largest_f1() -> None:
    columns = {
        "margin": np.array([3.0, 2.0, 1.0, -1.0]),
        "span_f1": np.array([0.0, 0.0, 0.8, 1.0]),
        "none_f1": np.array([1.0, 1.0, 0.0, 0.0]),
    }
    assert answer_scores.best_threshold(columns) == 1.5
    always = {**columns, "none_f1": np.zeros(4)}
    assert answer_scores.best_threshold(always) > 3.0
    never = {**columns, "none_f1": np.ones(4), "span_f1": np.zeros(4)}
    assert answer_scores.best_threshold(never) < -1.0


def test_margins_are_differences_of_logits() -> None:
    none, span = 4.0, 1.5
    total = np.exp(none) + np.exp(span)
    candidates = [
        {"answer": "", "start": 0, "end": 0, "score": float(np.exp(none) / total)},
        {"answer": "a cat", "start": 2, "end": 7, "score": float(np.exp(span) / total)},
    ]
    row = {"answer": "", "n_best": candidates}
    found = answer_scores.margins([row, row], [["cat"], []])
    assert found["margin"].tolist() == pytest.approx([2.5, 2.5], abs=1e-5)
    assert found["span_f1"].tolist() == [1.0, 0.0]
    assert found["none_f1"].tolist() == [0.0, 1.0]
