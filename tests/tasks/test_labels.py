"""Labels as people have them: indicators, columns of 0 and 1, marks of missing labels, numbers."""

from pathlib import Path
from typing import Any

import pytest

from plcli.errors import DataError, UsageError
from plcli.tasks.text_classification import TextClassificationData
from plcli.tasks.token_classification import TokenClassificationData
from tests.conftest import write_rows

NAMES = ["toxic", "insult", "threat"]
FLAGS = [[0, 0, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]] * 5


def classification(rows: list[dict[str, Any]], name: str = "a.jsonl", **keys: Any) -> Any:
    """Return data of some rows for training, with the same for validation."""
    path = str(write_rows(Path(name), rows))
    return TextClassificationData(train=path, validation=path, **keys)


def with_indicators(name: str, **keys: Any) -> Any:
    rows = [
        {"text": f"t{n}", "label": flags if name.endswith("jsonl") else str(flags)}
        for n, flags in enumerate(FLAGS)
    ]
    return classification(rows, name, problem="multi_label", **keys)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_indicators_without_names_are_refused(name: str) -> None:
    with pytest.raises(DataError) as error:
        with_indicators(name).facts()
    assert str(error.value) == (
        f"{name}: column 'label' contains indicators of 3 labels, such as ['0', '0', '1'], but no "
        "data.labels. Give their names in this order: data.labels: [...]."
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_indicators_are_read_with_the_names_of_the_labels(name: str) -> None:
    data = with_indicators(name, labels=NAMES)
    assert data.targets(data.rows("train")).tolist() == FLAGS


def test_another_number_of_names_is_refused() -> None:
    data = with_indicators("a.jsonl", labels=NAMES[:2])
    with pytest.raises(DataError, match="indicators of 3 labels.* but 2 data.labels"):
        data.targets(data.rows("train"))


@pytest.mark.parametrize("cells", [[["0"], ["1"]], [["0", "1"], ["1", "0"]]])
def test_names_that_are_digits_are_no_indicators(cells: list[list[str]]) -> None:
    rows = [{"text": f"t{n}", "label": cell} for n, cell in enumerate(cells * 5)]
    assert classification(rows, problem="multi_label").label_names == ["0", "1"]


@pytest.mark.parametrize(("zero", "one"), [(0, 1), ("0", "1"), (False, True), ("False", "True")])
def test_a_column_for_each_label_is_read(zero: Any, one: Any) -> None:
    rows = [
        {
            "text": f"t{n}",
            **{name: one if flag else zero for name, flag in zip(NAMES, flags, strict=True)},
        }
        for n, flags in enumerate(FLAGS)
    ]
    data = classification(rows, label=NAMES)
    assert (data.problem, data.label_names) == ("multi_label", NAMES)
    assert data.targets(data.rows("train")).tolist() == FLAGS


def test_a_column_of_labels_with_other_values_is_refused() -> None:
    rows = [{"text": "t", "toxic": 0, "insult": "maybe"}] * 4
    with pytest.raises(DataError, match="column 'insult' contains 'maybe', which is neither"):
        classification(rows, label=["toxic", "insult"]).facts()


@pytest.mark.parametrize(
    "keys",
    [
        {"label": ["toxic"]},
        {"label": ["toxic", "toxic"]},
        {"label": NAMES, "problem": "regression"},
        {"label": NAMES, "labels": ["a", "b", "c"]},
    ],
)
def test_columns_of_labels_that_make_no_problem_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"^data\.labels?: got"):
        TextClassificationData(train="a.csv", **keys)


def labelled(found: list[Any], **keys: Any) -> Any:
    rows = [{"text": f"t{n}", "label": label} for n, label in enumerate(found * 5)]
    return classification(rows, **keys)


@pytest.mark.parametrize("labels", [["yes", "no", "-"], [0, 1, -1], [0, 1, 2, -1]])
def test_a_mark_of_a_missing_label_is_refused(labels: list[Any]) -> None:
    mark = str(labels[-1])
    with pytest.raises(DataError, match=f"contains the label '{mark}', which often marks rows"):
        labelled(labels).facts()


@pytest.mark.parametrize("labels", [["yes", "no", "-"], [0, 1, -1]])
def test_rows_to_ignore_are_left_out(labels: list[Any]) -> None:
    data = labelled(labels, ignore_label=str(labels[-1]))
    assert (len(data.split("train")), len(data.label_names)) == (10, 2)


def test_such_a_label_is_kept_if_it_is_named() -> None:
    data = labelled([0, 1, -1], labels=["-1", "0", "1"])
    assert data.targets(data.rows("train")).tolist()[:3] == [1, 2, 0]


def test_minus_one_beside_one_other_number_is_a_label() -> None:
    assert labelled([1, -1]).label_names == ["-1", "1"]


def test_numbers_are_sorted_as_numbers() -> None:
    assert labelled([2, 10, 4]).label_names == ["2", "4", "10"]


# tags and spans


def tagged(rows: list[dict[str, Any]], **keys: Any) -> Any:
    path = str(write_rows(Path("t.jsonl"), rows))
    return TokenClassificationData(train=path, validation=path, wordpieces=100, **keys)


def test_tags_of_the_scheme_iob1_are_converted() -> None:
    row = {"words": ["Ann", "Bo", "came"], "tags": ["I-per", "B-per", "O"]}
    data = tagged([row] * 4, words="words", tags="tags")
    encoded = data.encoded("train")
    assert encoded.numbers("spans", 0).reshape(-1, 3)[:, :2].tolist() == [[0, 1], [1, 2]]


@pytest.mark.parametrize(
    ("span", "hint"),
    [
        ({"start": 9, "end": 12}, "The offsets seem to be UTF-16 code units."),
        ({"start": 11, "end": 14}, "The offsets seem to be bytes."),
        ({"start": 8, "end": 10}, "The end seems to be inclusive."),
        ({"start": 0, "end": 3}, "Correct the offsets"),
    ],
)
def test_a_span_whose_text_is_another_is_refused(span: dict[str, int], hint: str) -> None:
    rows = [{"text": "\U0001f600 hello Bob", "spans": [{**span, "label": "per", "text": "Bob"}]}]
    with pytest.raises(DataError, match=hint):
        tagged(rows * 4, text="text", spans="spans").facts()


def test_spans_that_fit_no_word_are_refused() -> None:
    rows = [{"text": "hello Bob", "spans": [{"start": 7, "end": 9, "label": "per"}]}]
    with pytest.raises(DataError, match="row 1: 4 of 4 spans begin or end inside a word"):
        tagged(rows * 4, text="text", spans="spans").encoded("train")


def test_rows_of_single_words_are_refused() -> None:
    rows = [{"words": [f"w{n}"], "tags": ["B-x" if n % 2 else "O"]} for n in range(30)]
    with pytest.raises(DataError, match="30 of 30 rows have a single word"):
        tagged(rows, words="words", tags="tags").encoded("train")


def test_few_rows_of_single_words_are_read() -> None:
    rows = [{"words": [f"w{n}"], "tags": ["B-x" if n % 2 else "O"]} for n in range(6)]
    assert len(tagged(rows, words="words", tags="tags").encoded("train")) == 6


@pytest.mark.parametrize("split", [{"validation_fraction": 0.5}, {"folds": 2, "fold": 1}])
def test_labels_with_two_rows_each_repeat(split: dict[str, Any]) -> None:
    """One row of each is split off for validation, so that those left are all different."""
    rows = [{"text": f"row {n}", "label": f"intent {n % 10}"} for n in range(20)]
    source = str(write_rows(Path("pairs.jsonl"), rows))
    data = TextClassificationData(train=source, **split)
    assert len(data.label_names) == 10
    data = TextClassificationData(train=source, ignore_label="intent 0", **split)
    assert len(data.label_names) == 9


def test_ids_are_no_labels_beside_rows_that_are_ignored() -> None:
    rows = [{"text": f"row {n}", "label": f"id {n}" if n < 20 else "-"} for n in range(60)]
    source = str(write_rows(Path("ids.jsonl"), rows))
    data = TextClassificationData(train=source, validation=source, ignore_label="-")
    with pytest.raises(DataError, match="has 20 different values in 20 rows"):
        _ = data.label_names
