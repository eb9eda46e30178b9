"""splits: which rows a split holds, who gets them, what names them, and what may be typed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from plcli.data.validation_cut import grouped_cut, put_back, stratified_cut
from plcli.errors import UsageError
from plcli.tasks.linear_regression import TableData
from plcli.tasks.text_classification import TextClassificationData
from tests.conftest import message_rows, write_rows
from tests.data.files import refused

STRATA = np.array(["common"] * 60 + ["other"] * 30 + ["rare"] * 10 + ["single"])


def write_table(name: str, numbers: Sequence[int]) -> str:
    """Write a row for each number: its name, itself as `a`, and `y`."""
    rows = [{"name": f"row-{number}", "a": number, "y": 2 * number} for number in numbers]
    return write_rows(Path(name), rows).name


def table_data(*, train: Sequence[int] = range(40), **settings: Any) -> TableData:
    """Make a data module over a table of numbers."""
    return TableData(
        features=["a"],
        target="y",
        train=write_table("train.csv", train),
        **{"batch_size": 4, **settings},
    )


def text_data(
    rows: Sequence[Mapping[str, Any]] | None = None, **settings: Any
) -> TextClassificationData:
    """Make a data module over messages and intents."""
    write_rows(Path("train.jsonl"), message_rows() if rows is None else rows)
    return TextClassificationData(
        train="train.jsonl", **{"text": "message", "label": "intent", **settings}
    )


def with_trainer(data: Any, **attributes: Any) -> Any:
    """Attach what a data module reads of its trainer."""
    data.trainer = SimpleNamespace(**attributes)
    return data


def on_rank(data: Any, rank: int, world_size: int) -> Any:
    """Attach a trainer that runs this data module on one of several ranks."""
    return with_trainer(data, global_rank=rank, world_size=world_size)


def numbers(loader: Any) -> list[int]:
    """Return the column `a` in the order of a loader's batches."""
    return [int(value) for batch in loader for value in batch["features"].flatten()]


def predicted_ids(data: Any) -> list[Any]:
    return [row for batch in data.predict_dataloader() for row in batch["id"]]


# the stratified cut


def cut(fraction: float = 0.2, *, seed: int = 1, strata: Any = STRATA) -> tuple[Any, Any]:
    return stratified_cut(strata, fraction=fraction, seed=seed)


def count_names(rows: Any) -> dict[str, int]:
    names, counts = np.unique(STRATA[rows], return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def test_each_class_is_cut_in_proportion() -> None:
    assert count_names(cut()[1]) == {"common": 12, "other": 6, "rare": 2}


def test_a_class_of_one_row_stays() -> None:
    assert "single" in STRATA[cut(0.9)[0]]


def test_a_class_of_few_rows_gives_one_at_least() -> None:
    assert count_names(cut(0.01)[1]) == {"common": 1, "other": 1, "rare": 1}


def test_a_class_of_few_rows_keeps_one_at_least() -> None:
    assert count_names(cut(0.99)[0]) == {"common": 1, "other": 1, "rare": 1, "single": 1}


def test_each_row_stays_or_is_cut_off() -> None:
    kept, cut_off = cut()
    assert sorted([*kept, *cut_off]) == list(range(len(STRATA)))


@pytest.mark.parametrize("part", [0, 1])
def test_both_parts_are_in_the_order_of_the_rows(part: int) -> None:
    rows = cut()[part].tolist()
    assert rows == sorted(rows)


def test_the_cut_is_the_same_for_the_same_seed() -> None:
    assert cut(seed=3)[1].tolist() == cut(seed=3)[1].tolist()


def test_the_cut_is_another_one_for_another_seed() -> None:
    assert cut(seed=3)[1].tolist() != cut(seed=4)[1].tolist()


def test_the_cut_is_not_the_top_of_the_file() -> None:
    rows = cut(0.5, strata=np.zeros(40, np.int64))[1].tolist()
    assert rows != list(range(20))


# which rows a split holds


def test_validation_is_cut_off_from_train() -> None:
    data = table_data(validation_fraction=0.25)
    assert (len(data.split("train")), len(data.split("validation"))) == (30, 10)


def test_train_and_validation_share_no_row() -> None:
    data = table_data()
    assert not set(numbers(data.train_dataloader())) & set(numbers(data.val_dataloader()))


def test_train_and_validation_together_are_the_training_rows() -> None:
    data = table_data()
    both = numbers(data.train_dataloader()) + numbers(data.val_dataloader())
    assert sorted(both) == list(range(40))


def test_the_rows_that_are_cut_off_are_the_same_for_the_same_seed() -> None:
    first, second = (numbers(table_data(seed=5).val_dataloader()) for _ in range(2))
    assert first == second


def test_the_rows_that_are_cut_off_are_others_for_another_seed() -> None:
    first, second = (numbers(table_data(seed=seed).val_dataloader()) for seed in (5, 6))
    assert sorted(first) != sorted(second)


def test_validation_is_never_taken_from_test() -> None:
    data = table_data(test=write_table("test.csv", range(100, 140)))
    assert max(numbers(data.val_dataloader())) < 100


def test_a_validation_file_is_taken_whole() -> None:
    data = table_data(validation=write_table("validation.csv", range(100, 110)))
    assert sorted(numbers(data.val_dataloader())) == list(range(100, 110))


def test_nothing_is_cut_off_where_validation_is_given() -> None:
    data = table_data(validation=write_table("validation.csv", range(100, 110)))
    assert len(data.split("train")) == 40


def test_nothing_is_cut_off_where_the_fraction_is_zero() -> None:
    assert len(table_data(validation_fraction=0).split("train")) == 40


def test_without_validation_there_are_no_validation_batches() -> None:
    data = table_data(validation_fraction=0, test=write_table("test.csv", range(4)))
    assert data.val_dataloader() == []


def test_fit_goes_without_validation_where_there_is_none() -> None:
    data = table_data(validation_fraction=0)
    data.setup("fit")
    assert not data.has("validation")


def test_validate_without_validation_is_refused_though_test_is_given() -> None:
    data = table_data(validation_fraction=0, test=write_table("test.csv", range(4)))
    message = "data.validation is not given. Name a file: --data.validation FILE."
    with refused(message, UsageError):
        data.setup("validate")


@pytest.mark.parametrize("stage", ["test", "predict"])
def test_a_split_that_is_not_given_is_told_with_the_option(stage: str) -> None:
    with refused(f"data.{stage} is not given. Name a file: --data.{stage} FILE.", UsageError):
        table_data().setup(stage)


def test_a_test_file_that_is_not_there_is_told_before_training() -> None:
    with refused("none.csv: no such file."):
        table_data(test="none.csv").setup("fit")


def test_every_file_that_was_read_has_a_fingerprint() -> None:
    data = table_data(test=write_table("test.csv", range(4)))
    data.setup("fit")
    assert set(data.fingerprints()) == {"train", "test"}


def test_labels_are_cut_in_proportion() -> None:
    rows = message_rows(20)[:200]
    data = text_data(rows, validation_fraction=0.1)
    names = [rows[index]["intent"] for index in data.split("validation").subset]
    assert sorted(names) == ["billing"] * 7 + ["delivery"] * 7 + ["praise"] * 6


@pytest.mark.parametrize("seed", range(5))
def test_a_label_of_one_row_is_learned(seed: int) -> None:
    data = text_data([*message_rows(), {"message": "new", "intent": "rare"}], seed=seed)
    assert "rare" in data.label_names


@pytest.mark.parametrize(
    "labels",
    [[["rare", "common"], *[["common", "other"]] * 7], [["a"], ["b"], ["a", "c"], ["b", "c"]]],
    ids=["in one row", "in two rows, each with another rare label"],
)
def test_a_rare_label_among_several_is_learned_whatever_the_seed(labels: list[list[str]]) -> None:
    rows = [{"message": "hello", "intent": names} for names in labels]
    everything = sorted({name for names in labels for name in names})
    learned = [text_data(rows, problem="multi_label", seed=seed).label_names for seed in range(20)]
    assert learned == [everything] * 20


def test_rows_with_names_that_are_not_learned_are_put_back() -> None:
    kept, cut_off = put_back(np.array([0]), np.array([1, 2, 3]), ["a", "a", "b", "ab"])
    assert (kept.tolist(), cut_off.tolist()) == ([0, 2], [1, 3])


def test_one_row_is_left_to_validate_on_though_its_name_is_not_learned() -> None:
    kept, cut_off = put_back(np.array([0]), np.array([1, 2]), ["a", "b", "c"])
    assert (kept.tolist(), cut_off.tolist()) == ([0, 1], [2])


def test_a_validation_split_without_a_row_is_refused() -> None:
    data = text_data([{"message": "hello", "intent": name} for name in "abcdefgh"])
    with refused(
        "train.jsonl: no row can be split off for validation: there is only one, or each has a "
        "label of its own. Give data.validation a file, or add rows; or name the label column, if "
        "it is another one."
    ):
        data.split("validation")


def test_facts_come_from_the_training_split_alone() -> None:
    data = table_data(validation_fraction=0.5)
    kept = numbers(data.train_dataloader())
    assert data.facts()["feature_mean"] == pytest.approx([np.mean(kept)])


def test_the_tokenizer_is_fitted_on_the_training_split_alone() -> None:
    words = [f"{first}{second}" * 3 for first in "abcdef" for second in "ghijkl"]
    rows = [{"message": word, "intent": "xy"[i % 2]} for i, word in enumerate(words)]
    data = text_data(rows, validation_fraction=0.5)
    known = {word for word in words if word in data.loaded_tokenizer.get_vocab()}
    assert known == {words[index] for index in data.split("train").subset}


def test_a_split_is_described_by_its_rows() -> None:
    assert table_data(validation_fraction=0.25).describe("validation") == "validation: 10 rows"


def test_a_split_is_described_by_its_own_rows_that_were_cut() -> None:
    rows = [{"message": "one two three four five", "intent": "xy"[i % 2]} for i in range(10)]
    data = text_data(rows, max_length=4, validation_fraction=0.2)
    assert data.describe("validation").startswith("validation: 2 rows, 2 cut to 4 tokens")


# settings


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("batch_size", 0, "expected 1 or more."),
        ("validation_fraction", 1.0, "expected 0 or more and below 1."),
        ("validation_fraction", -0.1, "expected 0 or more and below 1."),
    ],
)
def test_a_setting_out_of_range_is_refused_with_its_key(
    key: str, value: Any, expected: str
) -> None:
    with refused(f"data.{key}: got {value}, {expected}", UsageError):
        table_data(**{key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_length", -1),
        ("max_length", 0),
        ("max_length", 1),
        ("wordpieces", -1),
        ("wordpieces", 0),
        ("seed", -1),
    ],
)
def test_a_number_that_no_text_data_can_have_is_refused_with_its_key(key: str, value: Any) -> None:
    with refused(f"data.{key}: got {value}, expected", UsageError):
        text_data(**{key: value}).setup("fit")


def test_the_old_key_of_bucket_batches_still_works(caplog: pytest.LogCaptureFixture) -> None:
    assert text_data(window=3).bucket_batches == 3
    assert caplog.messages == ["data.window is now data.bucket_batches; rename the key"]


def test_bucket_batches_and_its_old_key_together_are_refused() -> None:
    expected = (
        "data.window: got 3, but it is the old name of data.bucket_batches, which is 4. "
        "Remove data.window."
    )
    with refused(expected, UsageError):
        text_data(window=3, bucket_batches=4)


# batches and ranks


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_ranks_share_the_training_rows_out(world_size: int) -> None:
    shares = [
        numbers(on_rank(table_data(validation_fraction=0), rank, world_size).train_dataloader())
        for rank in range(world_size)
    ]
    assert sorted(sum(shares, [])) == list(range(40))


@pytest.mark.parametrize("split", ["validation", "test", "predict"])
def test_the_ranks_share_every_other_split_out(split: str) -> None:
    source: Any = write_table("other.csv", range(21))
    shares = []
    for rank in range(2):
        data = on_rank(table_data(**{split: source}), rank, 2)
        name = {"validation": "val"}.get(split, split)
        shares += numbers(getattr(data, f"{name}_dataloader")())
    assert sorted(shares) == list(range(21))


def test_the_training_rows_come_in_another_order_in_the_next_epoch() -> None:
    loader = table_data().train_dataloader()
    first = numbers(loader)
    loader.sampler.set_epoch(1)
    assert numbers(loader) != first


def test_fewer_training_rows_than_ranks_are_refused() -> None:
    data = on_rank(table_data(train=[1, 2], validation_fraction=0), 0, 3)
    with refused("data.train: 2 rows cannot be distributed among 3 processes."):
        data.train_dataloader()


def test_workers_give_the_batches_of_the_main_process() -> None:
    alone, with_workers = (
        [batch["input_ids"].tolist() for batch in text_data(num_workers=n).val_dataloader()]
        for n in (0, 1)
    )
    assert with_workers == alone


def test_preparing_a_stage_fills_the_caches_that_its_splits_read() -> None:
    stage = SimpleNamespace(fn=SimpleNamespace(value="fit"))
    with_trainer(text_data(), state=stage).prepare_data()
    before = sorted(Path("cache").rglob("*"))
    text_data().setup("fit")
    assert sorted(Path("cache").rglob("*")) == before


# ids and prediction


def test_ids_come_from_the_id_column() -> None:
    data = table_data(predict=write_table("new.csv", [7, 8, 9]), id="name")
    assert predicted_ids(data) == ["row-7", "row-8", "row-9"]


def test_ids_are_row_numbers_without_an_id_column() -> None:
    assert predicted_ids(table_data(predict=write_table("new.csv", [7, 8, 9]))) == [0, 1, 2]


def test_ids_follow_their_rows_in_length_order() -> None:
    rows = [{"message": "a " * length, "key": f"of {length}"} for length in (2, 9, 4)]
    data = text_data(
        [{**row, "key": "-"} for row in message_rows()],
        predict=str(write_rows(Path("new.jsonl"), rows)),
        id="key",
    )
    assert predicted_ids(data) == ["of 9", "of 4", "of 2"]


def test_a_row_to_predict_carries_its_place_in_the_file() -> None:
    rows = [{"message": "a " * length} for length in (2, 9, 4)]
    data = text_data(predict=str(write_rows(Path("new.jsonl"), rows)))
    assert [batch["index"] for batch in data.predict_dataloader()] == [[1, 2, 0]]


def test_an_id_column_that_is_not_there_is_told() -> None:
    data = table_data(predict=write_table("new.csv", [7]), id="nmae")
    with refused("new.csv: has no column 'nmae'. Did you mean 'name'?"):
        data.setup("predict")


def test_rows_to_predict_need_no_label() -> None:
    rows = [{"message": "where is it"}]
    data = text_data(predict=str(write_rows(Path("new.jsonl"), rows)))
    assert predicted_ids(data) == [0]


def test_rows_to_predict_need_no_target() -> None:
    predict = write_rows(Path("new.csv"), [{"a": 3}, {"a": 4}])
    assert numbers(table_data(predict=str(predict)).predict_dataloader()) == [3, 4]


def test_a_label_in_rows_to_predict_is_not_read() -> None:
    rows = [{"message": "where is it", "intent": "no label of the training rows"}]
    data = text_data(predict=str(write_rows(Path("new.jsonl"), rows)))
    assert predicted_ids(data) == [0]


def test_rows_to_test_need_a_label() -> None:
    data = text_data(test=str(write_rows(Path("test.jsonl"), [{"message": "where is it"}])))
    with refused("test.jsonl, row 1: has no column 'intent'."):
        data.setup("test")


# what is typed


def predict_typed(data: Any, *texts: str) -> Any:
    """Type texts and return their rows as they were read."""
    data.predict_values(texts, source="--input")
    return data.rows("predict").table.to_pylist()


def test_a_typed_text_is_a_row() -> None:
    assert predict_typed(text_data(), "where is it") == [{"message": "where is it"}]


def test_a_typed_json_object_is_a_row() -> None:
    assert predict_typed(text_data(), '{"message": "hello"}') == [{"message": "hello"}]


def test_typed_texts_are_batches_to_predict() -> None:
    data = text_data()
    data.predict_values(["where is it", "thank you"], source="--input")
    assert sorted(predicted_ids(data)) == [0, 1]


def test_typed_rows_are_numbered_though_files_have_an_id_column() -> None:
    data = table_data(id="name")
    data.predict_values(['{"a": 3}'], source="--input")
    assert predicted_ids(data) == [0]


def test_typed_texts_go_before_a_file_to_predict() -> None:
    data = table_data(predict=write_table("new.csv", [7, 8, 9]))
    data.predict_values(['{"a": 3}'], source="--input")
    assert numbers(data.predict_dataloader()) == [3]


def test_typed_texts_need_no_file_to_predict() -> None:
    data = table_data()
    data.predict_values(["3"], source="--input")
    assert data.has("predict")


def test_what_is_typed_last_is_predicted() -> None:
    data = table_data()
    for text in ("3", "4"):
        data.predict_values([text], source="--input")
        predicted = numbers(data.predict_dataloader())
    assert predicted == [4]


def test_a_typed_number_that_is_none_is_told() -> None:
    with refused("--input, row 1: column 'a' contains 'many', which is not a number."):
        table_data().predict_values(["many"], source="--input")


def test_a_typed_object_without_the_column_is_told() -> None:
    data = TableData(features=["a", "b"], target="y")
    with refused("--input, row 1: has no column 'b'. It has a, c. Name one of these."):
        data.predict_values(['{"a": 1, "c": 2}'], source="--input")


def test_plain_text_for_a_model_of_pairs_is_told_with_an_example() -> None:
    data = TextClassificationData(text=["premise", "hypothesis"])
    with refused('Give a JSON object such as {"premise": "...", "hypothesis": "..."}.'):
        data.predict_values(["hello"], source="--input")


# data.group: rows that belong together


def grouped_rows() -> list[dict[str, Any]]:
    """Rows of ten documents, whose rows are not side by side."""
    return [
        {"message": f"text {number}", "intent": "ab"[number % 2], "document": f"d{number % 10}"}
        for number in range(60)
    ]


def test_no_group_is_in_training_and_in_validation() -> None:
    data = text_data(grouped_rows(), group="document", validation_fraction=0.3)
    groups = data.groups("train")
    parts = [set(groups[data.subset(split)].tolist()) for split in ("train", "validation")]
    assert (parts[0] & parts[1], sorted(parts[0] | parts[1]), len(parts[1])) == (
        set(),
        list(range(10)),
        3,
    )


def test_a_label_of_a_single_group_stays_in_training() -> None:
    rows = [{**row, "document": row["intent"] + row["document"]} for row in grouped_rows()]
    rows += [{"message": "x", "intent": "rare", "document": "only"}] * 5
    data = text_data(rows, group="document", validation_fraction=0.5)
    assert data.label_names == ["a", "b", "rare"]


def test_groups_are_cut_whole_in_about_the_fraction_of_each_stratum() -> None:
    groups = np.repeat(np.arange(200), 3)
    strata = np.repeat(np.array(["a"] * 150 + ["b"] * 50), 3)
    kept, cut_off = grouped_cut(groups, strata, fraction=0.2, seed=1)
    assert set(groups[kept]).isdisjoint(groups[cut_off])
    assert sorted([*kept, *cut_off]) == list(range(600))
    assert (strata[cut_off] == "a").sum() == pytest.approx(90, abs=3)
    assert (strata[cut_off] == "b").sum() == pytest.approx(30, abs=3)


def test_two_groups_are_one_for_each_split() -> None:
    kept, cut_off = grouped_cut(np.array([0, 1, 0, 0]), np.zeros(4), fraction=0.01, seed=0)
    assert (kept.tolist(), cut_off.tolist()) == ([0, 2, 3], [1])


def test_batches_of_an_evaluation_say_the_group_of_each_row() -> None:
    data = text_data(grouped_rows(), test="train.jsonl", group="document", wordpieces=20)
    found = {}
    for batch in data.test_dataloader():
        found |= dict(zip(batch["index"], batch["group"], strict=True))
    assert found == {row: row % 10 for row in range(60)}


def test_a_row_without_a_group_is_by_itself() -> None:
    rows = [
        {**row, "document": row["document"] if n < 20 else ""}
        for n, row in enumerate(grouped_rows())
    ]
    assert len(set(text_data(rows, group="document").groups("train").tolist())) == 10 + 40


def test_a_missing_group_column_is_named() -> None:
    with refused("has no column 'documents'. Did you mean 'document'"):
        text_data(grouped_rows(), group="documents").rows("train")


def test_a_column_of_lists_is_no_group() -> None:
    data = text_data(
        [{**row, "intent": [row["intent"]]} for row in grouped_rows()],
        problem="multi_label",
        group="intent",
    )
    with refused("data.group: the column 'intent' holds lists", UsageError):
        data.groups("train")
