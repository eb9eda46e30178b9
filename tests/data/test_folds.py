"""Folds of training rows: stratified, with whole groups, and each row held out once."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from plcli.data.folds import NEVER, folds_of
from plcli.errors import DataError, UsageError
from plcli.tasks.linear_regression import TableData
from plcli.tasks.question_answering import QuestionAnsweringData
from plcli.tasks.text_classification import TextClassificationData
from tests.conftest import write_rows

ROWS = 600
STRATA = np.random.default_rng(1).choice([0, 1, 2], ROWS, p=[0.6, 0.3, 0.1])
GROUPS = np.random.default_rng(2).integers(0, 60, ROWS)


def found(count: int = 5, seed: int = 0, **given: Any) -> npt.NDArray[np.int64]:
    return folds_of(given.pop("strata", STRATA), count=count, seed=seed, source="x.csv", **given)


def leaking_groups(fold_of: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]) -> set[int]:
    """The groups with rows in both parts of some fold."""
    leaking = set[int]()
    for fold in set(fold_of.tolist()) - {NEVER}:
        leaking |= set(groups[fold_of == fold].tolist()) & set(groups[fold_of != fold].tolist())
    return leaking


def test_every_row_is_held_out_once_and_folds_have_the_shares_of_the_strata() -> None:
    fold_of = found()
    counts = np.array([np.bincount(STRATA[fold_of == fold], minlength=3) for fold in range(5)])
    assert (counts.max(0) - counts.min(0) <= 1).all()
    assert np.ptp(counts.sum(1)) <= 1
    assert (counts.sum(0) == np.bincount(STRATA)).all()


def test_a_group_is_never_in_both_parts_of_a_fold() -> None:
    fold_of = found(groups=GROUPS)
    assert leaking_groups(fold_of, GROUPS) == set()
    assert set(fold_of) == {0, 1, 2, 3, 4}
    shares = [np.bincount(STRATA[fold_of == fold], minlength=3) / ROWS * 5 for fold in range(5)]
    assert np.abs(np.array(shares) - np.bincount(STRATA) / ROWS).max() < 0.08
    # what looks right and is not: folds of rows, and groups by the fold of their first row of a
    # stratum, with the rows of other strata left where they were
    assert leaking_groups(found(), GROUPS)
    near = found().copy()
    for group, stratum in {*zip(GROUPS.tolist(), STRATA.tolist(), strict=True)}:
        rows = np.flatnonzero((group == GROUPS) & (stratum == STRATA))
        near[rows] = near[rows[0]]
    assert leaking_groups(near, GROUPS)


def test_folds_depend_on_the_seed_alone() -> None:
    for groups in (None, GROUPS):
        assert (found(groups=groups) == found(groups=groups)).all()
        assert (found(groups=groups) != found(groups=groups, seed=1)).any()


def test_a_label_that_one_fold_would_hold_out_stays_in_training() -> None:
    strata = np.array([0] * 10 + [1])
    fold_of = found(strata=strata)
    assert fold_of[10] == NEVER
    assert (fold_of[:10] != NEVER).all()
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    names = [["a"], ["b"], ["a"], ["a"], ["c"], ["a"], ["c"], ["a"]]
    fold_of = found(2, strata=np.zeros(8), groups=groups, names=names)
    assert (fold_of == NEVER).tolist() == [True, True] + [False] * 6  # only group 0 has b
    assert leaking_groups(fold_of, groups) == set()


def test_there_are_as_many_rows_and_groups_as_folds() -> None:
    with pytest.raises(DataError, match=r"x\.csv: has 3 rows, too few for 5 folds\. Use at most 3"):
        found(strata=np.zeros(3))
    with pytest.raises(DataError, match="has 2 groups of rows that stay together"):
        found(strata=np.zeros(4), groups=np.array([0, 0, 1, 1]))


def classification(folder: Path, **given: Any) -> TextClassificationData:
    rows = [
        {"text": f"text {row}", "label": "ab"[row % 2], "author": str(row // 6)}
        for row in range(36)
    ]
    path = write_rows(folder / "rows.csv", rows)
    return TextClassificationData(train=str(path), seed=3, **given)


def test_a_data_module_holds_out_its_fold(tmp_path: Path) -> None:
    for group in (None, "author"):
        held = []
        for fold in range(1, 4):
            data = classification(tmp_path, folds=3, fold=fold, group=group)
            train, validation = data.subset("train"), data.subset("validation")
            assert train is not None
            assert validation is not None
            assert sorted([*train, *validation]) == list(range(36))
            held.extend(validation.tolist())
            if group is not None:
                groups = data.groups("train")
                assert groups is not None
                assert not set(groups[train]) & set(groups[validation])
        assert sorted(held) == list(range(36))


def test_the_seed_of_the_split_can_differ_from_that_of_the_order(tmp_path: Path) -> None:
    def held(**given: Any) -> list[int]:
        subset = classification(tmp_path, **given).subset("validation")
        assert subset is not None
        return subset.tolist()

    assert held(split_seed=3) == held() != held(split_seed=4)
    assert held(split_seed=4, folds=3, fold=1) != held(folds=3, fold=1)


def test_questions_of_a_context_are_held_out_together(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{row}", "context": f"c{row // 4}", "answers": {"text": ["c"]}}
        for row in range(24)
    ]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    held = []
    for fold in (1, 2, 3):
        data = QuestionAnsweringData(train=str(path), folds=3, fold=fold, seed=0)
        subset = data.subset("validation")
        assert subset is not None
        assert len({row // 4 for row in subset.tolist()}) * 4 == len(subset)
        held.extend(subset.tolist())
    assert sorted(held) == list(range(24))


def test_a_label_of_one_row_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"text": f"t{row}", "label": "abc"[row % 3 if row < 2 else row % 2]} for row in range(9)
    ]
    rows.append({"text": "alone", "label": "c"})
    path = write_rows(tmp_path / "rows.csv", rows)
    monkeypatch.setattr(logging.getLogger("plcli"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="plcli"):
        data = TextClassificationData(train=str(path), folds=2, fold=1, seed=0)
        data.subset("train")
    assert "1 of 10 rows are in the training part of every fold" in caplog.text
    assert data.label_names == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"folds": 5}, "data.folds and data.fold: only one is given"),
        ({"folds": 1, "fold": 1}, "data.folds: got 1, expected 2 or more"),
        ({"folds": 3, "fold": 4}, r"data.fold: got 4, expected 1 to 3 \(data.folds\)"),
        ({"folds": 3, "fold": 1, "validation": "v.csv"}, "--data.validation null"),
        ({"split_seed": -1}, "data.split_seed: got -1"),
    ],
)
def test_folds_that_make_no_sense_are_refused(given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TableData(features=["x"], target="y", train="t.csv", **given)
