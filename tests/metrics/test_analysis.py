"""The analysis of a test: what is confused, wrong, suspected, short, long and sure."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from plcli.metrics.analysis import confident, labelled, residuals, slices, span_errors, whole
from plcli.metrics.analysis.details import LONGEST_TEXT, MOST_ROWS, Described, Lengths
from plcli.metrics.analysis.span_errors import BOTH, BOUNDARY, CORRECT, INVENTED, MISSED, TYPE
from plcli.metrics.analysis.whole import About
from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.numeric import Numbers
from plcli.metrics.scoring import Means, MultiLabel, SingleLabel
from plcli.metrics.texts import GeneratedTexts, SpanCounts, TokenLosses

LABELS = ["bug", "billing", "delivery"]


def log(chances: Any) -> Any:
    return np.log(np.asarray(chances, np.float64))


def single(
    chances: Any,
    truth: Any,
    *,
    labels: list[str] = LABELS,
    groups: Any = None,
    temperature: float | None = None,
) -> EvaluatedRows:
    """Rows of classes with these probabilities, the most likely of which is predicted."""
    logits = log(chances)
    columns = {"truth": np.asarray(truth), "prediction": logits.argmax(1), "logits": logits}
    scoring = SingleLabel(labels=labels, temperature=temperature)
    return EvaluatedRows(np.arange(len(logits)), columns, scoring, groups=groups)


def several(chances: Any, truth: Any, labels: list[str] = LABELS) -> EvaluatedRows:
    """Rows of several labels with these probabilities."""
    chances, truth = np.asarray(chances, np.float64), np.asarray(truth)
    bits = {
        name: np.packbits(flags.astype(np.uint8), axis=1, bitorder="little")
        for name, flags in (("truth", truth), ("prediction", chances >= 0.5))
    }
    logits = np.log(chances / (1 - chances))
    return EvaluatedRows(
        np.arange(len(truth)), {**bits, "logits": logits}, MultiLabel(labels=labels)
    )


def described(rows: EvaluatedRows, **settings: Any) -> Described:
    numbers = np.unique(rows.index)
    return Described(
        numbers,
        ids=[f"id-{number}" for number in numbers],
        inputs=lambda positions: [{"text": f"text {number}"} for number in numbers[positions]],
        **settings,
    )


def plain(rows: EvaluatedRows, *, about: About | None = None, **settings: Any) -> dict[str, Any]:
    """The analysis of rows; it is always JSON without NaN."""
    found = whole.analysed(rows, described(rows, **settings), about or About("a task")).plain
    json.dumps(found, allow_nan=False)
    return found


THREE = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1], [0.1, 0.3, 0.6]]


# classes


def test_the_matrix_and_the_classes_are_in_the_order_of_the_labels() -> None:
    """Whatever order the rows have, and if a class has no rows."""
    truth = np.array([2, 0, 0, 1])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        found = plain(single(np.array(THREE)[order], truth[order]))
        assert found["labels"] == [each["label"] for each in found["classes"]] == LABELS
        assert found["confusion_matrix"] == [[0, 2, 0], [0, 0, 1], [1, 0, 0]]
    alone = plain(single(THREE[3:], [2]))
    assert alone["labels"] == LABELS
    assert alone["confusion_matrix"] == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert [each["support"] for each in alone["classes"]] == [0, 0, 1]


def test_classes_have_their_scores_and_intervals() -> None:
    rows = single(THREE, [0, 1, 0, 2])
    about = About("a task", intervals=rows.intervals(), main="macro_f1")
    bug = plain(rows, about=about)["classes"][0]
    assert (bug["precision"], bug["recall"], bug["support"]) == (1.0, 0.5, 2)
    assert (bug["predicted"], bug["correct"]) == (1, 1)
    assert bug["intervals"]["recall"] == pytest.approx([0.0945, 0.9055], abs=1e-3)


def test_confused_classes_are_counted_the_most_frequent_first() -> None:
    chances = [[0.7, 0.2, 0.1]] * 3 + [[0.1, 0.8, 0.1]] * 2 + [[0.7, 0.2, 0.1]]
    found = plain(single(chances, [1, 1, 1, 0, 0, 0]))["confused"]
    assert found == [
        {"true": "billing", "predicted": "bug", "count": 3, "share": 1.0},
        {"true": "bug", "predicted": "billing", "count": 2, "share": pytest.approx(2 / 3)},
    ]


def test_of_very_many_classes_there_is_no_matrix() -> None:
    labels = [f"label {number}" for number in range(labelled.MOST_IN_A_MATRIX + 1)]
    chances = np.full((2, len(labels)), 1 / len(labels))
    found = plain(single(chances, [5, 7], labels=labels))
    assert "confusion_matrix" not in found
    assert len(found["confused"]) == 2


def test_the_worst_rows_are_those_with_the_largest_loss_that_are_wrong() -> None:
    chances = [[0.02, 0.9, 0.08], [0.4, 0.35, 0.25], [0.3, 0.6, 0.1], [0.9, 0.05, 0.05]]
    errors = plain(single(chances, [0, 0, 0, 1]))["errors"]
    assert (errors["count"], errors["by"]) == (3, "loss")
    assert [row["row"] for row in errors["rows"]] == [0, 3, 2]
    assert errors["rows"][0] == {
        "row": 0,
        "id": "id-0",
        "text": "text 0",
        "truth": "bug",
        "prediction": "billing",
        "probability": pytest.approx(0.9),
        "loss": pytest.approx(-np.log(0.02)),
    }


def test_probabilities_are_those_with_the_temperature() -> None:
    errors = plain(single([[0.1, 0.9, 1e-9]], [0], temperature=2.0))["errors"]
    roots = np.sqrt([0.1, 0.9, 1e-9])
    assert errors["rows"][0]["probability"] == pytest.approx(roots[1] / roots.sum())


def test_without_logits_there_is_still_a_matrix_and_a_loss() -> None:
    whole_rows = single(THREE, [0, 0, 0, 0])
    columns = {name: each for name, each in whole_rows.columns.items() if name != "logits"}
    columns["loss"] = np.array([0.1, 3.0, 2.0, 1.0])
    rows = EvaluatedRows(whole_rows.index, columns, whole_rows.scoring)
    found = plain(rows)
    assert [row["row"] for row in found["errors"]["rows"]] == [1, 2, 3]
    assert "probability" not in found["errors"]["rows"][0]
    assert found.keys() >= {"confusion_matrix", "classes"}
    assert found.keys().isdisjoint({"calibration", "suspected_labels", "thresholds"})


def test_the_calibration_is_of_ten_bins() -> None:
    chances = [[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [1e-9, 1.0]]
    found = plain(single(chances, [0, 1, 0, 1], labels=["a", "b"]))["calibration"]
    last, seventh = found["bins"][9], found["bins"][6]
    assert (last["n"], seventh["n"], len(found["bins"])) == (3, 1, 10)
    assert last["accuracy"] == pytest.approx(2 / 3)
    assert last["confidence"] == pytest.approx(2.9 / 3)
    assert found["bins"][0]["accuracy"] is None
    assert found["ece"] == pytest.approx((0.35 + 0.9) / 4)


def test_thresholds_are_those_in_use_and_curves_choose_nothing() -> None:
    rows = single([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]], [0, 1, 1], labels=["no", "yes"])
    (found,) = plain(rows, about=About("a task", thresholds={"yes": 0.7}))["thresholds"]
    assert (found["label"], found["chosen"], len(found["curve"])) == ("yes", 0.7, 51)
    at = {point["threshold"]: point for point in found["curve"]}
    assert at[0.3] == {"threshold": 0.3, "precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert at[0.5]["recall"] == 0.5
    assert at[1.0]["precision"] is None


# several labels


def test_several_labels_are_missed_and_wrong() -> None:
    rows = several([[0.9, 0.1, 0.2], [0.8, 0.7, 0.1]], [[0, 1, 0], [1, 1, 0]])
    found = plain(rows)
    (error,) = found["errors"]["rows"]
    assert (error["truth"], error["prediction"]) == (["billing"], ["bug"])
    assert (error["missed"], error["wrong"]) == (["billing"], ["bug"])
    assert found["confused"] == [{"true": "billing", "predicted": "bug", "count": 1, "share": 0.5}]
    assert [each["label"] for each in found["thresholds"]] == LABELS
    assert found["calibration"]["of"] == "labels"
    assert "confusion_matrix" not in found


# labels that look wrong: confident learning


def test_a_label_looks_wrong_if_another_class_reaches_its_threshold() -> None:
    """The thresholds are the mean self-confidence: 0.7 of class 0, 0.6 of class 1."""
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.1, 0.9], [0.1, 0.9], [1.0, 0.0]])
    given = np.array([0, 0, 0, 1, 1, 1])
    found = confident.suspected(chances, given)
    assert found.rows.tolist() == [5, 2]  # the lowest margin first
    assert found.suggested.tolist() == [0, 1]
    assert found.margins == pytest.approx([-1.0, -0.4])


def test_a_class_that_is_always_unsure_is_not_suspected() -> None:
    """A row needs more than to be wrong: it has to reach the threshold of the other class."""
    chances = np.array([[0.95, 0.05]] * 4 + [[0.55, 0.45], [0.45, 0.55]])
    given = np.array([0, 0, 0, 0, 1, 1])
    assert confident.suspected(chances, given).rows.tolist() == []


def test_flipped_labels_are_found() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 4, 400)
    logits = generator.normal(size=(400, 4))
    logits[np.arange(400), true] += 4
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    flipped = generator.choice(400, 20, replace=False)
    given = true.copy()
    given[flipped] = (true[flipped] + 1) % 4
    found = confident.suspected(chances, given)
    assert set(found.rows.tolist()) <= set(flipped.tolist())
    assert len(found.rows) >= 16  # the others are not sure enough
    assert (np.diff(found.margins) >= 0).all()


def test_without_any_rows_of_a_class_nothing_looks_like_it() -> None:
    chances = np.array([[0.2, 0.3, 0.5], [0.8, 0.1, 0.1], [0.3, 0.6, 0.1]])
    assert confident.suspected(chances, np.array([0, 0, 1])).rows.tolist() == []


def test_one_of_several_labels_looks_wrong() -> None:
    chances = [[0.95, 0.1], [0.9, 0.1], [0.05, 0.2], [0.1, 0.1], [0.97, 0.9]]
    truth = [[1, 0], [1, 0], [0, 0], [0, 0], [0, 1]]
    found = plain(several(chances, truth, ["joy", "fear"]))["suspected_labels"]
    assert found["count"] == 1
    (row,) = found["rows"]
    assert (row["row"], row["given"], row["suggested"]) == (4, "not joy", "joy")
    assert row["probability"] == pytest.approx(0.97)
    assert row["given_probability"] == pytest.approx(0.03)


def unsure(right: int, wrong: int) -> EvaluatedRows:
    """Rows of two equal classes, of which so many are right; all are predicted with confidence."""
    chances, truth = [], []
    for label in (0, 1):
        for row in range(right + wrong):
            predicted = label if row < right else 1 - label
            chances.append([0.9, 0.1] if predicted == 0 else [0.1, 0.9])
            truth.append(label)
    return single(chances, truth, labels=["a", "b"])


def test_labels_look_wrong_to_a_model_that_is_better_than_its_baseline() -> None:
    found = plain(unsure(45, 5))["suspected_labels"]
    assert (found["count"], len(found["rows"])) == (10, 10)
    assert "withheld" not in found


@pytest.mark.parametrize("main", ["accuracy", "loss", None])
def test_labels_of_a_useless_model_do_not_look_wrong(main: str | None) -> None:
    rows = unsure(4, 5)
    made = whole.analysed(rows, described(rows), About("text-classification", main=main))
    found = made.plain["suspected_labels"]
    name = "accuracy" if main == "accuracy" else "macro_f1"
    value = "0.500" if main == "accuracy" else "0.333"
    assert found["withheld"].startswith(
        f"it is not clearly better than the majority class, whose {name} is {value} (its own: 95 % "
    )
    assert (found["count"], found["rows"]) == (0, [])
    assert whole.suspected(made) == []


# spans


def span_rows() -> EvaluatedRows:
    true = [[(0, 1, 0), (2, 4, 1)], [(0, 2, 1)]]
    predicted = [[(0, 1, 0), (2, 3, 1), (5, 6, 0)], []]
    counts = np.array([[[1, 2, 1], [0, 1, 1]], [[0, 0, 0], [0, 0, 1]]])
    columns = {"spans": counts, "words": np.array([[5, 6], [1, 3]])}
    return EvaluatedRows(
        np.arange(2),
        columns,
        SpanCounts(types=["person", "place"]),
        outputs={"truth": true, "prediction": predicted},
    )


@pytest.mark.parametrize(
    ("true", "predicted", "kinds"),
    [
        ([(0, 2, 0)], [(0, 2, 0)], [CORRECT]),
        ([(0, 2, 0)], [(0, 2, 1)], [TYPE]),
        ([(0, 2, 0)], [(1, 2, 0)], [BOUNDARY]),
        ([(0, 2, 0)], [(1, 3, 1)], [BOTH]),
        ([(0, 2, 0)], [(2, 3, 0)], [MISSED, INVENTED]),
        ([(0, 2, 0)], [], [MISSED]),
        ([], [(0, 2, 0)], [INVENTED]),
        ([(0, 4, 0)], [(0, 2, 0), (2, 4, 0)], [BOUNDARY, INVENTED]),
        ([(0, 4, 0)], [(0, 3, 0), (0, 4, 0)], [CORRECT, INVENTED]),
        ([(0, 4, 0)], [(0, 4, 1), (0, 2, 0)], [TYPE, INVENTED]),
    ],
)
def test_an_error_of_a_span_is_of_one_kind(true: Any, predicted: Any, kinds: Any) -> None:
    assert [kind for kind, *_ in span_errors.compared(true, predicted)] == kinds


def test_spans_are_counted_by_kind_and_type() -> None:
    found = plain(span_rows())
    assert found["spans"]["counts"] == {
        BOUNDARY: 1,
        TYPE: 0,
        BOTH: 0,
        MISSED: 1,
        INVENTED: 1,
        CORRECT: 1,
    }
    assert found["spans"]["types"]["place"][MISSED] == 1
    assert found["spans"]["types"]["person"][INVENTED] == 1
    assert found["errors"]["count"] == 2
    assert found["errors"]["rows"][0]["kinds"] == {BOUNDARY: 1, INVENTED: 1}
    assert [each["label"] for each in found["classes"]] == ["person", "place"]


def test_spans_of_words_are_shown_in_characters() -> None:
    words = ["From", "New", "York", "City", "it", "is"]
    assert span_errors.shown((1, 4, 1), words, ["person", "place"]) == {
        "start": 5,
        "end": 18,
        "label": "place",
        "text": "New York City",
    }
    assert span_errors.shown((0, 4, 0), "Anna is", ["person"])["text"] == "Anna"


# numbers, answers, texts, tokens


def numbers(
    truth: Any, predicted: Any, *, centre: float = 0.0, names: tuple[str, ...] = ("rmse",)
) -> EvaluatedRows:
    columns = {"truth": np.array(truth) - centre, "prediction": np.array(predicted) - centre}
    scoring = Numbers(names=[*names], centre=[centre])
    return EvaluatedRows(np.arange(len(truth)), columns, scoring)


def test_the_worst_numbers_are_those_with_the_largest_error_in_their_unit() -> None:
    rows = numbers([1990.0, 2000.0, 2010.0], [1991.0, 1995.0, 2012.0], centre=2000.0)
    found = plain(rows)
    assert [row["error"] for row in found["errors"]["rows"]] == [-5.0, 2.0, 1.0]
    assert (found["errors"]["rows"][0]["truth"], found["errors"]["count"]) == (2000.0, None)
    assert found["residuals"]["points"][0] == [1990.0, 1991.0]
    assert sum(found["residuals"]["counts"]) == 3
    assert len(found["residuals"]["edges"]) == residuals.BINS + 1


def test_cosines_are_compared_with_scores_in_standard_deviations() -> None:
    rows = numbers([0.0, 5.0, 0.0, 5.0], [0.1, 0.9, 0.9, 0.9], names=("spearman",))
    found = plain(rows)
    assert found["problem"] == "pairs"
    assert found["errors"]["rows"][0]["row"] == 2


def test_wrong_answers_that_the_model_is_sure_of_are_the_worst() -> None:
    columns = {"f1": np.array([1.0, 0.0, 0.0]), "exact_match": np.array([1.0, 0.0, 0.0])}
    scoring = Means(names=["exact_match", "f1"], proportions=["exact_match"], only={})
    outputs = {
        "truth": [["a"], ["b"], []],
        "prediction": ["a", "c", "d"],
        "probability": [0.5, 0.4, 0.9],
    }
    found = plain(EvaluatedRows(np.arange(3), columns, scoring, outputs=outputs))
    assert (found["problem"], found["errors"]["count"]) == ("answers", 2)
    assert [row["row"] for row in found["errors"]["rows"]] == [2, 1]
    assert found["errors"]["rows"][1]["truth"] == ["b"]


def test_generated_texts_are_sorted_by_their_first_score() -> None:
    columns = {"rougeL": np.array([0.9, 0.1]), "loss": np.array([[2.0, 4], [8.0, 4]])}
    outputs = {"truth": ["x", "y"], "prediction": ["x", "z"]}
    found = plain(EvaluatedRows(np.arange(2), columns, GeneratedTexts(), outputs=outputs))
    assert (found["problem"], found["errors"]["by"]) == ("texts", "rougeL")
    assert found["errors"]["rows"][0] == {
        "row": 1,
        "id": "id-1",
        "text": "text 1",
        "truth": "y",
        "prediction": "z",
        "rougeL": 0.1,
        "loss": 2.0,
    }


def test_blocks_of_a_row_are_one_row() -> None:
    columns = {"loss": np.array([[8.0, 4], [4.0, 4], [9.0, 3]])}
    rows = EvaluatedRows(np.array([0, 0, 4]), columns, TokenLosses())
    found = plain(rows, slices={"source": ["web", "app"]})
    assert [(row["row"], row["loss"], row["tokens"]) for row in found["errors"]["rows"]] == [
        (4, 3.0, 3),
        (0, 1.5, 8),
    ]
    assert found["rows"] == 2
    assert [(each["value"], each["n"]) for each in found["slices"]] == [("web", 2), ("app", 1)]


def test_scores_of_queries_have_no_rows() -> None:
    columns = {"mrr": np.array([1.0, 0.5])}
    scoring = Means(names=["mrr"], proportions=[], only={})
    rows = EvaluatedRows(np.zeros(0, np.int64), columns, scoring)
    found = plain(rows)
    assert (found["problem"], found["rows"]) == ("retrieval", 2)
    assert "errors" not in found


# slices, lengths, groups


def test_slices_have_the_scores_of_their_rows_and_few_rows_are_marked() -> None:
    chances = [[0.9, 0.1]] * 40 + [[0.1, 0.9]] * 10
    rows = single(chances, [0] * 50, labels=["a", "b"])
    found = plain(rows, slices={"source": ["web"] * 40 + [None] * 10})["slices"]
    assert [(each["value"], each["n"], each["few"]) for each in found] == [
        ("web", 40, False),
        (None, 10, True),
    ]
    assert [each["scores"]["accuracy"]["value"] for each in found] == [1.0, 0.0]
    assert found[1]["scores"]["accuracy"]["high"] == pytest.approx(0.278, abs=1e-3)


def test_lengths_are_sliced_into_quartiles() -> None:
    rows = single(THREE * 2, [0, 1, 0, 2] * 2)
    lengths = Lengths(np.array([3, 4, 10, 11, 20, 21, 90, 100]))
    found = plain(rows, slices={"length": [None] * 8}, lengths=lengths)["slices"]
    assert [each["value"] for each in found] == [
        "3 to 4 tokens",
        "10 to 11 tokens",
        "20 to 21 tokens",
        "90 to 100 tokens",
    ]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["a", "", None, 1, True], ["a", None, None, "1", "True"]),
        ([*range(40)], ["0 to 9"] * 10 + ["10 to 19"] * 10 + ["20 to 29"] * 10 + ["30 to 39"] * 10),
        ([0, 1, 1], ["0", "1", "1"]),
        (
            [*range(40), "unknown", ""],
            ["0 to 9"] * 10
            + ["10 to 19"] * 10
            + ["20 to 29"] * 10
            + ["30 to 39"] * 10
            + ["unknown", None],
        ),
        ([f"2026-03-{day:02}" for day in (1, 1, 2)], ["2026-03-01", "2026-03-01", "2026-03-02"]),
        (
            [f"2026-{month:02}-{day:02}" for month in (1, 12) for day in range(1, 9)],
            ["2026-01"] * 8 + ["2026-12"] * 8,
        ),
        (
            [f"{year}/{month:02}/05" for year in (2021, 2022, 2023) for month in range(1, 13)],
            ["2021"] * 12 + ["2022"] * 12 + ["2023"] * 12,
        ),
        (
            [f"2026-03-05T{hour:02}:00:00Z" for hour in range(20)] + [None],
            ["2026-03-05"] * 20 + [None],
        ),
        ([f"{n % 3:02}:{n:02}" for n in range(20)], [f"{n % 3:02}:00" for n in range(20)]),
        ([f"2026-13-{n:02}" for n in range(10, 30)], [f"2026-13-{n}" for n in range(10, 30)]),
    ],
)
def test_a_column_is_sliced_by_its_values_or_by_ranges(cells: Any, values: Any) -> None:
    assert slices.values_of(cells) == values


def test_ranges_of_large_numbers_have_different_names() -> None:
    found = slices.values_of([1e6 + number / 10 for number in range(40)])
    assert found[0] == "1000000 to 1000000.9"
    assert len({*found}) == 4


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ([["a"], None], "contains lists, which are no groups of rows"),
        ([{"a": 1}], "contains mappings, which are no groups of rows"),
        ([None, "", " ", float("nan")], "has no value in any row"),
        ([f"id-{n}" for n in range(13)], "has 13 different values, each in one row alone, as"),
        ([f"id-{n}" for n in range(12)], None),
        ([n / 7 for n in range(50)], None),
        ([f"2026-01-{n:02}" for n in range(1, 32)], "has 31 different values, each in one row"),
        (["a", "a"], None),
    ],
)
def test_columns_that_make_no_groups_are_refused(cells: Any, reason: str | None) -> None:
    found = slices.refusal(cells)
    assert found == reason if found is None or reason is None else found.startswith(reason)


def test_times_are_in_their_order() -> None:
    rows = single([[0.9, 0.1]] * 5, [0] * 5, labels=["a", "b"])
    days = ["2026-02-01", "2026-03-01", "2026-01-01", "2026-03-01", "2026-03-01"]
    found = plain(rows, slices={"day": days})["slices"]
    assert [each["value"] for each in found] == sorted({*days})


def test_ranges_are_in_their_order() -> None:
    rows = single([[0.9, 0.1]] * 40, [0] * 40, labels=["a", "b"])
    found = plain(rows, slices={"age": [*range(100, 140)]})["slices"]
    assert [each["value"] for each in found][0] == "100 to 109"


def test_only_the_largest_slices_are_scored() -> None:
    rows = single([[0.9, 0.1]] * 100, [0] * 100, labels=["a", "b"])
    values = [f"user {number}" for number in range(50)] * 2
    assert len(plain(rows, slices={"user": values})["slices"]) == slices.MOST_VALUES


def test_groups_make_intervals_wider() -> None:
    """Rows of a group are all right or all wrong, so that 10 groups say what 10 rows do."""
    wrong = np.repeat([True, False, False, False, True] * 2, 20)
    chances = np.where(wrong[:, None], [[0.1, 0.9]], [[0.9, 0.1]])
    groups = np.repeat(np.arange(10), 20)
    widths = []
    for own in (None, groups):
        rows = single(chances, [0] * 200, labels=["a", "b"], groups=own)
        ends = rows.intervals()["accuracy"]
        widths.append(ends["high"] - ends["low"])
    assert widths[1] > 3 * widths[0]
    assert rows.intervals()["accuracy"]["n"] == 10
    found = plain(rows, about=About("a task", group="document"))
    assert found["groups"] == {"column": "document", "count": 10}


def test_lengths_are_counted() -> None:
    lengths = Lengths(np.array([5, 9, 128, 128]), truncated=np.array([0, 0, 0, 1], bool), limit=128)
    found = plain(single(THREE, [0, 1, 0, 2]), lengths=lengths)["lengths"]
    assert (found["max"], found["limit"], found["truncated"]) == (128, 128, 1)
    assert (found["truncated_share"], sum(found["counts"])) == (0.25, 4)
    assert len(found["edges"]) == len(found["counts"]) + 1


def test_texts_are_shortened_and_rows_are_few() -> None:
    rows = single([[0.9, 0.1]] * 80, [1] * 80, labels=["a", "b"])

    def long(positions: Any) -> list[Mapping[str, Any]]:
        return [{"text": "x" * 5000, "other": ["a", "b"]} for _ in positions]

    made = Described(rows.index, [*range(80)], long)
    found = whole.analysed(rows, made, About("a task")).plain["errors"]
    assert (found["count"], len(found["rows"])) == (80, MOST_ROWS)
    assert len(found["rows"][0]["text"]) == LONGEST_TEXT
