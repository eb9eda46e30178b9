"""Training rows without a label: which they are, and that no other split has any."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plcli.errors import DataError, UsageError
from plcli.tasks.masked_lm import MaskedLMData
from plcli.tasks.sentence_embedding import SentenceData
from plcli.tasks.text_classification import TextClassificationData
from plcli.tasks.token_classification import TokenClassificationData
from tests.conftest import write_rows

EMPTY = (3, 8, 9, 17)


def labelled_rows(column: str, value: Any, missing: Any = None) -> list[dict[str, Any]]:
    """Thirty rows with a label, some of which have none."""
    return [
        {"text": f"row {i} of them", "group": str(i // 2), column: value(i)}
        if i not in EMPTY
        else {"text": f"row {i} of them", "group": str(i // 2), column: missing}
        for i in range(30)
    ]


def data(rows: Any, ending: str = "jsonl", **arguments: Any) -> TextClassificationData:
    source = str(write_rows(Path(f"rows.{ending}"), rows))
    given = {"train": source, "unlabelled": True, "wordpieces": 60, **arguments}
    return TextClassificationData(**given)


def names(i: int) -> str:
    return "abc"[i % 3]


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("missing", [None, "", "  "])
def test_rows_with_an_empty_label_are_kept(ending: str, missing: Any) -> None:
    found = data(labelled_rows("label", names, missing), ending)
    assert found.label_names == ["a", "b", "c"]
    targets = found.targets(found.rows("train"))
    assert np.flatnonzero(targets < 0).tolist() == list(EMPTY)
    assert set(targets[list(EMPTY)]) == {-100}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_they_are_never_split_off(seed: int) -> None:
    found = data(labelled_rows("label", names), validation_fraction=0.5, split_seed=seed)
    train, validation = found.subset("train"), found.subset("validation")
    assert train is not None
    assert validation is not None
    assert set(EMPTY) <= set(train)
    assert not set(EMPTY) & set(validation)
    assert sorted([*train, *validation]) == list(range(30))
    assert sum(found.facts()["label_frequencies"]) == pytest.approx(1)


def test_no_fold_holds_them_out() -> None:
    held_out = [
        data(labelled_rows("label", names), folds=3, fold=fold).subset("validation")
        for fold in (1, 2, 3)
    ]
    together = np.sort(np.concatenate([each for each in held_out if each is not None]))
    assert together.tolist() == [i for i in range(30) if i not in EMPTY]


def test_those_of_a_group_that_is_split_off_are_left_out() -> None:
    found = data(labelled_rows("label", names), group="group", validation_fraction=0.5)
    train, validation = found.subset("train"), found.subset("validation")
    assert train is not None
    assert validation is not None
    assert not {i // 2 for i in train} & {i // 2 for i in validation}
    assert not set(EMPTY) & set(validation)


def test_lists_of_labels_may_be_missing_or_empty() -> None:
    rows = labelled_rows("label", lambda i: ["a"] if i % 3 else ["a", "b"])
    rows[0]["label"] = []
    found = data(rows, problem="multi_label")
    targets = found.targets(found.rows("train"))
    assert np.flatnonzero(np.isnan(targets).all(1)).tolist() == list(EMPTY)
    assert targets[0].tolist() == [0, 0]
    assert found.facts()["label_frequencies"] == targets[found.labelled("train")].mean(0).tolist()


def test_all_columns_of_flags_are_empty_or_none() -> None:
    rows = [{"text": f"row {i}", "a": i % 2, "b": 1 - i % 2} for i in range(20)]
    rows[4] = {"text": "row 4", "a": None, "b": None}  # type: ignore[dict-item]
    found = data(rows, label=["a", "b"])
    assert np.flatnonzero(found.without_label).tolist() == [4]
    rows[5]["b"] = None  # type: ignore[assignment]
    with pytest.raises(DataError, match=r"row 6: column 'b' is empty, but other label columns"):
        data(rows, label=["a", "b"]).targets(data(rows, label=["a", "b"]).rows("train"))


def test_numbers_may_be_missing() -> None:
    found = data(labelled_rows("label", float), problem="regression")
    kept = [i for i in found.subset("train") if i not in EMPTY]  # type: ignore[union-attr]
    assert found.facts()["target_mean"] == pytest.approx(np.mean(kept))
    targets = found.targets(found.rows("train"))
    assert np.flatnonzero(np.isnan(targets)).tolist() == list(EMPTY)


def test_validation_rows_need_their_labels() -> None:
    rows = labelled_rows("label", names)
    found = data(rows, validation=str(write_rows(Path("v.jsonl"), rows)))
    with pytest.raises(DataError, match=r"v\.jsonl, row 4: column 'label' is empty; a label is"):
        found.rows("validation")


@pytest.mark.parametrize("problem", ["regression", "single_label"])
def test_some_rows_need_a_label(problem: Any) -> None:
    rows = [{"text": f"row {i}", "label": None} for i in range(20)]
    expected = r"column 'label' (is empty in all rows, but some need|contains 0 label)"
    with pytest.raises(DataError, match=expected):
        data(rows, problem=problem).facts()


def test_tags_may_be_missing() -> None:
    rows = [{"words": ["in", "Paris"], "tags": ["O", "B-x"] if i % 3 else None} for i in range(12)]
    source = str(write_rows(Path("rows.jsonl"), rows))
    columns = {"words": "words", "tags": "tags"}
    found = TokenClassificationData(train=source, unlabelled=True, wordpieces=60, **columns)
    encoded = found.encoded("train")
    assert found.facts()["label_frequencies"] == pytest.approx([0.5, 0.0, 0.5], abs=0.5)
    batch = found.collate("train", encoded, np.array([0, 1]))
    assert (batch["labels"][0] == -100).all()
    assert (batch["start"][0] != -100).sum() == 2
    assert (batch["labels"][1] != -100).sum() == 2


def test_spans_may_be_missing() -> None:
    span = [{"start": 3, "end": 8, "label": "x"}]
    rows = [{"text": "in Paris", "spans": span if i % 3 else None} for i in range(12)]
    source = str(write_rows(Path("rows.jsonl"), rows))
    columns = {"text": "text", "spans": "spans"}
    found = TokenClassificationData(train=source, unlabelled=True, wordpieces=60, **columns)
    batch = found.collate("train", found.encoded("train"), np.array([0, 1]))
    assert (batch["labels"][0] == -100).all()
    assert batch["true"].tolist() == [[1, 3, 8, 0]]


def test_scores_may_be_missing() -> None:
    rows = [{"text": f"row {i}", "pair": f"{i}", "s": i if i % 3 else None} for i in range(12)]
    source = str(write_rows(Path("rows.jsonl"), rows))
    found = SentenceData(train=source, unlabelled=True, wordpieces=60, score="s")
    targets = found.targets(found.rows("train"))
    assert targets is not None
    assert np.flatnonzero(np.isnan(targets)).tolist() == [0, 3, 6, 9]
    assert np.nanmax(targets) <= 1.2


def test_a_task_without_labels_refuses_the_key() -> None:
    with pytest.raises(UsageError, match=r"data\.unlabelled: MaskedLMData does not support it"):
        MaskedLMData(train="rows.jsonl", unlabelled=True)
