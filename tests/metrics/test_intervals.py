"""The scores that follow from rows are those of the metrics, and their intervals cover them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from plcli.metrics import answer_scores, classification, intervals, paired, regression
from plcli.metrics.generation import CorpusScore
from plcli.metrics.numeric import Numbers
from plcli.metrics.scoring import Columns, Means, MultiLabel, Scoring, SingleLabel
from plcli.metrics.texts import bleu, chrf, unigram_loss

LABELS = ["a", "b", "c", "d"]


def classified(n: int, *, seed: int = 0, right: float = 0.7) -> Columns:
    """Rows of four classes, the last of which is rare and never predicted."""
    generator = np.random.default_rng(seed)
    truth = generator.choice(4, n, p=[0.5, 0.3, 0.17, 0.03])
    prediction = np.where(generator.random(n) < right, truth, generator.integers(0, 3, n))
    return {"truth": truth, "prediction": np.minimum(prediction, 2)}


def numbers(n: int, *, seed: int = 0) -> Columns:
    generator = np.random.default_rng(seed)
    truth = generator.normal(size=n)
    return {"truth": truth, "prediction": truth + generator.normal(size=n)}


def outliers(n: int, *, seed: int = 0) -> Columns:
    """Numbers with errors of heavy tails."""
    generator = np.random.default_rng(seed)
    truth = generator.gamma(3.0, 1.0, n)
    return {"truth": truth, "prediction": truth + generator.standard_t(5, n)}


def rare_labels(n: int, *, seed: int = 0) -> Columns:
    """Four labels of 1 to 30 % of the rows, half of which are found."""
    generator = np.random.default_rng(seed)
    truth = generator.random((n, 4)) < [0.01, 0.02, 0.1, 0.3]
    found = (truth & (generator.random((n, 4)) < 0.5)) | (generator.random((n, 4)) < 0.02)
    bits = [np.packbits(each, axis=1, bitorder="little") for each in (truth, found)]
    return {"truth": bits[0], "prediction": bits[1]}


def as_tensors(columns: Columns) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(column) for name, column in columns.items()}


# the scores are those of the metrics


def test_scores_of_classes_are_those_of_the_running_metrics() -> None:
    columns = classified(200)
    metric = classification.single_label(4)
    logits = torch.nn.functional.one_hot(as_tensors(columns)["prediction"], 4).float()
    metric.update(logits, as_tensors(columns)["truth"])
    theirs = classification.summary(metric.compute(), LABELS)
    ours = SingleLabel(labels=LABELS).scores(columns)
    for name in ("accuracy", "macro_f1", "weighted_f1"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6)
    for label, scores in theirs["classes"].items():
        for name in ("precision", "recall", "f1"):
            assert ours[f"classes.{label}.{name}"] == pytest.approx(scores[name], abs=1e-6)


def test_scores_of_several_labels_are_those_of_the_running_metrics() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 10, generator=generator)
    truth = (logits + torch.randn(50, 10, generator=generator) > 1).long()
    truth[:, 9] = 0
    labels = [f"label {number}" for number in range(10)]
    metric = classification.multi_label(10)
    for name, each in metric.items():
        each.update(logits.sigmoid() if name == "average_precision" else (logits > 0).long(), truth)
    theirs = classification.summary(metric.compute(), labels)
    kept = classification.multi_label_rows(logits, truth, logits > 0, with_loss=True)
    ours = MultiLabel(labels=labels).scores({name: each.numpy() for name, each in kept.items()})
    for name in ("micro_f1", "macro_f1"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6)
    assert ours["classes.label 3.f1"] == pytest.approx(theirs["classes"]["label 3"]["f1"], abs=1e-6)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.float())
    assert ours["loss"] == pytest.approx(float(wanted), abs=1e-6)


def test_scores_of_numbers_are_those_of_the_running_metrics() -> None:
    columns = numbers(60)
    metric = regression.regression()
    metric.update(as_tensors(columns)["prediction"].float(), as_tensors(columns)["truth"].float())
    ours = Numbers(names=["rmse", "mae", "pearson", "spearman"]).scores(columns)
    theirs = {name: float(value) for name, value in metric.compute().items()}
    assert ours == pytest.approx(theirs, abs=1e-5)


TEXTS = [
    ("the cat sat on the mat", "the cat sat on a mat"),
    ("a dog", "a dog barks at the postman"),
    ("entirely wrong words here", "nothing in common at all"),
    ("", "an empty text"),
    ("much too long for its reference, as it says everything twice", "too long"),
]


@pytest.mark.parametrize(("scorer", "ours"), [(CHRF(), chrf), (BLEU(), bleu)])
@pytest.mark.parametrize("chosen", [slice(0, 1), slice(0, 5), slice(1, 3), slice(3, 4)])
def test_scores_of_texts_are_sacrebleus(scorer: Any, ours: Any, chosen: slice) -> None:
    texts, references = zip(*TEXTS[chosen], strict=True)
    score = CorpusScore(scorer)
    counts = score.counts_of(texts, references).numpy().astype(float)
    theirs = scorer.corpus_score(list(texts), [list(references)]).score
    assert float(ours(counts.sum(0))) == pytest.approx(theirs, abs=1e-6)


def test_answers_are_scored_as_by_torchmetrics() -> None:
    from torchmetrics.functional.text import squad

    predicted = ["The Cat!", "in 1998", "", "a blue-ish house", "nothing"]
    answers = [["cat"], ["1998", "in May 1998"], ["something"], ["blue house", "house"], [""]]
    theirs = squad(
        [{"id": str(k), "prediction_text": text} for k, text in enumerate(predicted)],
        [{"id": str(k), "answers": {"text": texts}} for k, texts in enumerate(answers)],
    )
    ours = np.mean([answer_scores.score(*row) for row in zip(predicted, answers, strict=True)], 0)
    assert ours * 100 == pytest.approx([float(theirs["exact_match"]), float(theirs["f1"])])


def test_the_loss_of_token_frequencies_is_that_of_the_other_tokens() -> None:
    # 3 + 1 tokens of a vocabulary of 4: (2 + 1) / (3 + 4) and (0 + 1) / (3 + 4)
    loss, commonest = unigram_loss(np.array([3, 1, 0, 0]))
    assert loss == pytest.approx(-(3 * np.log(3 / 7) + np.log(1 / 7)) / 4)
    assert commonest == 0.75


# intervals


def test_wilson_is_the_textbook_interval() -> None:
    found = intervals.wilson(81, 263)  # Newcombe 1998, table I
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)
    none = intervals.wilson(0, 20)
    assert (none.low, round(none.high, 4)) == (0.0, 0.1611)


def test_rows_without_an_error_have_an_interval_below_1() -> None:
    columns = {"truth": np.arange(40) % 4, "prediction": np.arange(40) % 4}
    found = SingleLabel(labels=LABELS).intervals(columns)
    for name in ("accuracy", "macro_f1", "weighted_f1", "classes.a.f1"):
        assert (found[name].value, found[name].high) == (1.0, 1.0)
        assert 0.7 < found[name].low < 0.95


def test_the_same_rows_have_the_same_interval() -> None:
    scoring = SingleLabel(labels=LABELS)
    one, two = (scoring.intervals(classified(100)) for _ in range(2))
    assert one == two


def test_very_many_rows_have_the_interval_of_the_jackknife() -> None:
    scoring = Means(names=["f1"], proportions=[], only={})
    column = np.random.default_rng(0).random(intervals.MOST_CELLS + 1)
    found = scoring.intervals({"f1": column})["f1"]
    assert found.method == "jackknife"
    few = scoring.intervals({"f1": column[1:]})["f1"]
    assert few.method == "bca"
    assert found.high - found.low == pytest.approx(few.high - few.low, rel=0.1)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(3, 3.182446), (5, 2.570582), (10, 2.228139), (1e9, 1.959964)]
)
def test_student_quantiles_are_those_of_tables(degrees: float, quantile: float) -> None:
    assert intervals.student_quantile(degrees) == pytest.approx(quantile, rel=0.01)


def test_the_degrees_of_freedom_follow_from_the_kurtosis() -> None:
    """Of ten errors eight are equal: a kurtosis of 5, and 2 * 10 / (5 - 1) = 5 degrees."""
    error = np.r_[np.full(8, 4.0), 5.0, 3.0]
    columns = {"truth": np.zeros(10), "prediction": error}
    found = Numbers(names=["mae"]).intervals(columns)["mae"]
    half = 2.571 * np.sqrt(0.2 / 9) / 4  # of the logarithm
    assert (found.low, found.high) == pytest.approx((4 * np.exp(-half), 4 * np.exp(half)), rel=1e-3)


def one_outlier(size: float) -> dict[str, intervals.Interval]:
    prediction = np.r_[size, np.random.default_rng(0).normal(size=499)]
    columns = {"truth": np.zeros(500), "prediction": prediction}
    return Numbers(names=["mse", "rmse", "mae"]).intervals(columns)


def test_one_outlier_leaves_the_upper_end_of_an_error_open_but_finite() -> None:
    found = one_outlier(1000)
    assert list(found) == ["mse", "rmse", "mae"]
    for each in found.values():
        assert 0 < each.low < each.value < 2 * each.value < each.high < 1000 * each.value


def test_the_upper_end_of_an_rmse_rises_with_an_outlier_as_that_of_the_mse() -> None:
    found = [one_outlier(size) for size in (3, 10, 50, 60, 80, 100, 1000, 1e5)]
    ratios = [each["rmse"].high / each["rmse"].value for each in found]
    assert ratios == sorted(ratios)
    for each in found:
        assert each["rmse"].high == pytest.approx(np.sqrt(each["mse"].high))


@pytest.mark.parametrize("offset", [0, 1e4, 1e8])
def test_a_correlation_is_that_of_predictions_with_an_offset(offset: float) -> None:
    columns = numbers(100)
    moved = {**columns, "prediction": columns["prediction"] + offset}
    found, expected = (Numbers(names=["pearson"]).intervals(each) for each in (moved, columns))
    ends = [(each["pearson"].low, each["pearson"].high) for each in (found, expected)]
    assert ends[0] == pytest.approx(ends[1], abs=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_constant_predictions_have_no_correlation(seed: int) -> None:
    truth = np.random.default_rng(seed).normal(size=50) + 7.3
    columns = {"truth": truth, "prediction": np.full(50, 0.1 * seed)}
    scoring = Numbers(names=["pearson", "spearman"])
    assert scoring.intervals(columns) == {}
    assert scoring.difference(numbers(50), columns, "pearson") is None


def test_a_prediction_that_is_no_number_leaves_no_rank_correlation() -> None:
    columns = numbers(50)
    columns["prediction"][3] = np.nan
    scoring = Numbers(names=["spearman"])
    assert np.isnan(scoring.scores(columns)["spearman"])
    assert scoring.intervals(columns) == {}


def test_few_rows_out_of_order_leave_a_narrow_rank_correlation() -> None:
    truth = np.arange(50.0)
    swapped = truth.copy()
    swapped[[20, 24]] = swapped[[24, 20]]
    columns = {"truth": truth, "prediction": swapped}
    found = Numbers(names=["spearman"]).intervals(columns)["spearman"]
    assert 0.95 < found.low < found.value < found.high < 1


@pytest.mark.parametrize("n", [1, 2, 3, 4, 50])
def test_perfect_numbers_have_no_interval(n: int) -> None:
    truth = np.arange(n) * 0.1
    scoring = Numbers(names=["mse", "rmse", "mae", "r2", "pearson", "spearman"])
    assert scoring.intervals({"truth": truth, "prediction": truth}) == {}
    turned = scoring.intervals({"truth": truth, "prediction": -3 * truth})
    assert "pearson" not in turned


@pytest.mark.parametrize("size", [1e-150, 1e-30, 1e30, 1e150])
def test_numbers_of_any_size_have_finite_intervals_or_none(size: float) -> None:
    truth, error = np.random.default_rng(0).normal(size=(2, 40))
    scoring = Numbers(names=["mse", "rmse", "mae", "r2", "pearson", "spearman"])
    columns = {"truth": truth * size, "prediction": (truth + error) * size}
    found = scoring.intervals(columns)
    assert {"mae", "r2", "spearman"} <= {*found}  # the square of 1e150 is near the largest float
    for each in found.values():
        assert -np.inf < each.low < each.value < each.high < np.inf


def test_rows_without_any_label_have_no_interval() -> None:
    none = np.zeros((9, 1), np.uint8)
    found = MultiLabel(labels=LABELS).intervals({"truth": none, "prediction": none})
    assert found == {}


@pytest.mark.parametrize("predicted", [False, True])
def test_a_label_without_a_right_row_is_not_taken_for_certain(predicted: bool) -> None:
    """20 rows have label a, half of them found, and none b, which may be predicted once."""
    truth = np.tile([[True, False]], (20, 1))
    found = np.stack([np.arange(20) < 10, (np.arange(20) == 0) & predicted], axis=1)
    columns = {
        name: np.packbits(each, axis=1, bitorder="little")
        for name, each in (("truth", truth), ("prediction", found))
    }
    made = MultiLabel(labels=["a", "b"]).intervals(columns)
    of_a, end = made["classes.a.f1"], made["classes.b.f1"].high if predicted else 1.0
    joined = made["macro_f1"].value + np.hypot(of_a.high - of_a.value, end) / 2
    assert made["macro_f1"].high == pytest.approx(joined, abs=0.03)
    assert made["macro_f1"].low < made["macro_f1"].value == pytest.approx(1 / 3)


def test_of_thousands_of_classes_only_the_accuracy_has_an_interval() -> None:
    truth = np.arange(3000)
    columns = {"truth": truth, "prediction": np.where(truth % 4 == 0, 0, truth)}
    scoring = SingleLabel(labels=[str(number) for number in range(3000)])
    found = scoring.intervals(columns)
    assert list(found) == ["accuracy"]
    assert found["accuracy"].value == scoring.scores(columns)["accuracy"]


def test_rows_of_a_group_count_as_one() -> None:
    columns = {"f1": np.repeat(np.random.default_rng(0).random(50), 20)}
    scoring = Means(names=["f1"], proportions=[], only={})
    alone = scoring.intervals({"f1": columns["f1"][::20]})["f1"]
    grouped = scoring.intervals(columns, groups=np.repeat(np.arange(50), 20))["f1"]
    assert grouped.n == 50
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), abs=0.01)


def packed(columns: dict[str, Any]) -> Columns:
    return {name: np.packbits(each, axis=1, bitorder="little") for name, each in columns.items()}


def test_a_group_without_a_label_says_nothing_of_it() -> None:
    """51 groups of 50 rows, of which one has the label b, never found."""
    groups = np.repeat(np.arange(51), 50)
    truth = np.stack([np.random.default_rng(0).random(2550) < 0.5, groups == 0], axis=1)
    wrong = np.stack([np.random.default_rng(1).random(2550) < 0.1, np.zeros(2550, bool)], axis=1)
    columns = packed({"truth": truth, "prediction": (truth & [True, False]) ^ wrong})
    found = MultiLabel(labels=["a", "b"]).intervals(columns, groups=groups)
    assert found["classes.b.recall"].high == pytest.approx(intervals.wilson(0, 1).high)
    assert found["macro_f1"].high > 0.85


def test_groups_without_any_label_have_no_interval() -> None:
    none = np.zeros((40, 1), np.uint8)
    groups = np.repeat(np.arange(10), 4)
    columns = {"truth": none, "prediction": none}
    assert MultiLabel(labels=LABELS).intervals(columns, groups=groups) == {}


def test_a_score_of_some_rows_has_the_interval_of_so_many() -> None:
    """Of 1,000 questions five have an answer, and all five are found."""
    has = np.arange(1000) < 5
    scoring = Means(names=["f1"], proportions=[], only={"f1": "has"})
    found = scoring.intervals({"f1": np.ones(1000), "has": has})["f1"]
    assert (found.low, found.high) == pytest.approx((intervals.wilson(5, 5).low, 1))


def test_a_macro_f1_is_within_its_interval_where_most_classes_are_never_right() -> None:
    truth = np.r_[np.repeat([0, 1], 100), np.arange(2, 32)]
    prediction = np.where((truth > 1) | (np.arange(230) % 10 == 0), 1 - truth % 2, truth)
    scoring = SingleLabel(labels=[str(number) for number in range(32)])
    found = scoring.intervals({"truth": truth, "prediction": prediction})["macro_f1"]
    assert found.low <= found.value < found.high


SIMULATED: dict[str, tuple[Scoring, Callable[[int, int], Columns]]] = {
    "macro_f1": (SingleLabel(labels=LABELS), lambda n, seed: classified(n, seed=seed)),
    "accuracy": (SingleLabel(labels=LABELS), lambda n, seed: classified(n, seed=seed, right=0.97)),
    "rmse": (Numbers(names=["rmse"]), lambda n, seed: numbers(n, seed=seed)),
    "rmse with outliers": (Numbers(names=["rmse"]), lambda n, seed: outliers(n, seed=seed)),
    "mae with outliers": (Numbers(names=["mae"]), lambda n, seed: outliers(n, seed=seed)),
    "r2 with outliers": (Numbers(names=["r2"]), lambda n, seed: outliers(n, seed=seed)),
    "pearson with outliers": (Numbers(names=["pearson"]), lambda n, seed: outliers(n, seed=seed)),
    "spearman": (Numbers(names=["spearman"]), lambda n, seed: numbers(n, seed=seed)),
    "macro_f1 of rare labels": (
        MultiLabel(labels=LABELS),
        lambda n, seed: rare_labels(n, seed=seed),
    ),
}


@pytest.mark.parametrize("name", SIMULATED)
def test_intervals_cover_the_true_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """200 test sets of 200 rows; benchmarks/interval_coverage.py has 1,000 of each size."""
    monkeypatch.setattr(intervals, "RESAMPLES", 400)
    (scoring, make), score = SIMULATED[name], name.split()[0]
    true = scoring.scores(make(200_000, 99))[score]
    found = [scoring.intervals(make(200, seed))[score] for seed in range(200)]
    covered = sum(each.low <= true <= each.high for each in found)
    assert 181 <= covered <= 198  # 95 % and three standard deviations


# two models


def test_mcnemar_is_the_exact_test() -> None:
    first = np.array([True] * 5 + [False] * 15 + [True] * 80)
    second = np.array([False] * 5 + [True] * 15 + [True] * 80)
    found = paired.mcnemar(first, second)
    assert found.p == pytest.approx(0.04138947, abs=1e-7)  # scipy.stats.binomtest(5, 20)
    assert found.value == pytest.approx(0.10)
    assert 0 < found.low < 0.10 < found.high < 0.2


def test_the_interval_of_mcnemar_contains_0_where_the_test_sees_no_difference() -> None:
    for worse in range(20):
        first = np.arange(100) < worse
        second = np.arange(100) >= 80
        found = paired.mcnemar(first, second)
        assert found.p is not None
        assert not (found.seen and found.p >= 0.05)


@pytest.mark.parametrize(("better", "worse"), [(0.025, 0.0), (0.03, 0.005), (0.1, 0.08)])
def test_the_interval_of_two_accuracies_holds_where_few_rows_differ(
    better: float, worse: float
) -> None:
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        draw = generator.random(200)
        found = paired.mcnemar((draw >= better) & (draw < better + worse), draw < better)
        covered += found.low <= better - worse <= found.high
    assert covered >= 366  # 95 % less three standard deviations


def test_the_interval_of_rows_that_never_differ_is_known() -> None:
    limit = 1.959964**2 / (100 + 1.959964**2)
    assert paired.tango(0, 0, 100) == pytest.approx((-limit, limit))


def test_the_interval_turns_with_the_models() -> None:
    low, high = paired.tango(12, 2, 50)
    assert paired.tango(2, 12, 50) == pytest.approx((-high, -low))


def test_a_difference_of_pairs_is_narrower_than_that_of_two_test_sets() -> None:
    columns, scoring = classified(500), SingleLabel(labels=LABELS)
    changed = columns["prediction"].copy()
    changed[:20] = columns["truth"][:20]
    better = {**columns, "prediction": changed}
    found = scoring.difference(columns, better, "macro_f1")
    assert found is not None
    own = scoring.intervals(columns)["macro_f1"]
    assert found.value > 0
    assert found.high - found.low < (own.high - own.low) / 2


@pytest.mark.parametrize("name", ["mse", "rmse", "pearson", "spearman"])
def test_five_rows_tell_no_models_apart(name: str) -> None:
    worse, better = numbers(5), numbers(5)
    better["prediction"] = better["truth"] + 0.001 * np.arange(5)
    assert Numbers(names=[name]).difference(worse, better, name) is None
