"""Multiple choice: trained, saved, loaded; rows of different numbers of choices; bad rows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from sklearn.metrics import accuracy_score

from plcli.errors import DataError, UsageError
from plcli.tasks.multiple_choice import MultipleChoiceData, MultipleChoiceModel
from tests.conftest import TINY_BERT, Result, write_rows
from tests.running import (
    TrainedRun,
    by_heart,
    fit,
    own_cache,
    predicted,
    read_json,
    run_plcli,
    stopped,
    try_fit,
)

PUBLIC = ("MultipleChoiceModel", "MultipleChoiceData")  # configs and checkpoints name them
CLASSES = (f"plcli.tasks.multiple_choice.{PUBLIC[0]}", f"plcli.tasks.multiple_choice.{PUBLIC[1]}")
MODEL = by_heart()
OPPOSITES = ["hot cold", "big small", "up down", "wet dry", "old new", "far near"]


def training_rows() -> list[dict[str, Any]]:
    """Return rows of two to four choices, of which the opposite of the context is right."""
    rows = []
    for number, words in enumerate(OPPOSITES):
        first, second = words.split()
        others = [word for pair in OPPOSITES for word in pair.split() if word not in words.split()]
        choices = others[number : number + 1 + number % 3]
        label = number % (len(choices) + 1)
        choices.insert(label, second)
        rows.append({"context": first, "choices": choices, "label": label})
    return rows


@dataclass
class Trained(TrainedRun):
    """A run that knows its training rows by heart, and test rows of which some are wrong."""

    test: list[dict[str, Any]]

    def predict(self, *words: object) -> list[dict[str, Any]]:
        """Predict the test rows."""
        return predicted(self.run, self.folder / "test.jsonl", *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that knows its training rows by heart."""
    folder = tmp_path_factory.mktemp("choices")
    rows = training_rows()
    source = str(write_rows(folder / "train.jsonl", rows))
    test = [{**row, "label": 0} for row in rows]
    write_rows(folder / "test.jsonl", test)
    fit(
        folder,
        model=MODEL,
        data={
            "train": source,
            "validation": source,
            "test": str(folder / "test.jsonl"),
            "batch_size": 3,
        },
        trainer={"max_epochs": 30, "check_val_every_n_epoch": 10},
        classes=CLASSES,
    )
    return Trained(folder, test)


def data(path: Path, rows: Sequence[dict[str, Any]], **settings: Any) -> MultipleChoiceData:
    """Return a data module over rows."""
    write_rows(path / "train.jsonl", rows)
    return MultipleChoiceData(train=str(path / "train.jsonl"), validation_fraction=0, **settings)


def labels(path: Path, rows: Sequence[dict[str, Any]], **settings: Any) -> list[int]:
    """Return the right choices as they are read."""
    made = data(path, rows, **settings)
    found: list[int] = made.targets(made.rows("train")).tolist()
    return found


def one(choices: Any, label: Any) -> list[dict[str, Any]]:
    """Return a good row and another."""
    return [
        {"context": "up", "choices": ["a", "b"], "label": 0},
        {"context": "up", "choices": choices, "label": label},
    ]


# overfit, save, load


def test_a_tiny_model_learns_its_training_rows_by_heart(trained: Trained) -> None:
    assert [row["index"] for row in trained.predict()] == [row["label"] for row in training_rows()]


def test_the_choice_is_that_of_the_index(trained: Trained) -> None:
    rows = zip(training_rows(), trained.predict(), strict=True)
    assert [(row["choices"][p["index"]], max(p["probability"])) for row, p in rows] == [
        (p["choice"], p["score"]) for p in trained.predict()
    ]


def test_every_choice_that_a_row_has_has_a_probability(trained: Trained) -> None:
    got = [row["probability"] for row in trained.predict()]
    assert [len(each) for each in got] == [len(row["choices"]) for row in training_rows()]
    assert [sum(each) for each in got] == pytest.approx([1.0] * len(got))


def probabilities(rows: Sequence[dict[str, Any]]) -> list[float]:
    return [p for row in rows for p in row["probability"]]


def test_the_artefact_predicts_what_the_best_checkpoint_predicts(trained: Trained) -> None:
    best = trained.predict("--ckpt_path", trained.run / "checkpoints" / "best.ckpt")
    assert probabilities(best) == pytest.approx(probabilities(trained.predict()), abs=1e-6)


def test_predictions_do_not_depend_on_the_batch_size(trained: Trained) -> None:
    single = trained.predict("--data.batch_size", 1)
    assert probabilities(single) == pytest.approx(probabilities(trained.predict()), abs=1e-5)


def test_transformers_alone_gives_the_same_probabilities(trained: Trained) -> None:
    import transformers

    folder = str(trained.run / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForMultipleChoice.from_pretrained(folder).eval()
    theirs = []
    for row in trained.test:
        contexts = [row["context"]] * len(row["choices"])
        batch = tokenizer(contexts, row["choices"], padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(**{key: value[None] for key, value in batch.items()}).logits
        theirs += logits[0].softmax(0).tolist()
    assert probabilities(trained.predict()) == pytest.approx(theirs, abs=1e-5)


def test_the_loss_is_that_of_the_network_where_rows_have_like_many_choices(
    tmp_path: Path,
) -> None:
    rows = [row for row in training_rows() if len(row["choices"]) == 3]
    made = data(tmp_path, rows)
    model = MultipleChoiceModel(architecture=TINY_BERT, **made.facts()).eval()
    batch = made.collate("train", made.encoded("train"), np.arange(len(rows)))
    batch["labels"] = torch.from_numpy(made.targets(made.rows("train")))
    whole = {
        name: batch[name].view(len(batch["labels"]), 3, -1)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    with torch.no_grad():
        theirs = model.model(**whole, labels=batch["labels"]).loss
        assert float(model.loss(model(batch), batch)) == pytest.approx(float(theirs), abs=1e-6)


def test_accuracy_is_that_of_scikit_learn(trained: Trained) -> None:
    theirs = accuracy_score(
        [row["label"] for row in trained.test], [row["index"] for row in trained.predict()]
    )
    given = read_json(trained.run / "metrics.json")["test"]["accuracy"]
    assert 0 < given < 1
    assert given == pytest.approx(theirs)


def test_how_many_choices_there_are_is_said(trained: Trained) -> None:
    said = (trained.run / "train.log").read_text()
    assert "train: 6 rows; choices: 2 to 4\n" in said


# columns


def as_columns(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a column for each choice."""
    choices = dict(zip("abcd", [*row["choices"], "", ""], strict=False))
    return {"prompt": row["context"], **choices, "right": row["label"]}


def test_choices_may_stand_in_several_columns(tmp_path: Path) -> None:
    rows = [as_columns(row) for row in training_rows()]
    columns = {"context": "prompt", "choices": [*"abcd"], "label": "right"}
    made = data(tmp_path, rows, **columns)
    got = [(made.encoded("train").first.tolist(), made.targets(made.rows("train")).tolist())]
    made = data(tmp_path, training_rows())
    got += [(made.encoded("train").first.tolist(), made.targets(made.rows("train")).tolist())]
    assert got[0] == got[1]


def test_rows_with_fewer_columns_filled_are_not_called_empty(tmp_path: Path) -> None:
    rows = [as_columns(row) for row in training_rows()]
    columns = {"context": "prompt", "choices": [*"abcd"], "label": "right"}
    assert data(tmp_path, rows, **columns).describe("train") == "train: 6 rows; choices: 2 to 4"


def test_a_question_stands_before_each_choice(tmp_path: Path) -> None:
    rows = [{"context": "up", "q": "is", "choices": ["a", "b"], "label": 0}]
    made = data(tmp_path, rows * 2, question="q")
    batch = made.collate("train", made.encoded("train"), np.array([0]))
    texts = made.loaded_tokenizer.batch_decode(batch["input_ids"][:, 0])
    assert texts == ["[CLS] up [SEP] is a [SEP]", "[CLS] up [SEP] is b [SEP]"]


def test_a_label_may_be_the_text_of_a_choice(tmp_path: Path) -> None:
    assert labels(tmp_path, one(["a", "b", "c"], "c")) == [0, 2]


def test_a_label_may_be_a_letter_as_in_race(tmp_path: Path) -> None:
    assert labels(tmp_path, one(["x", "y", "z"], "C")) == [0, 2]


@pytest.mark.parametrize(("answer", "index"), [("1", 0), ("2", 1), (2, 1)])
def test_choices_with_labels_are_chosen_by_them_as_in_arc(
    tmp_path: Path, answer: Any, index: int
) -> None:
    choices = {"text": ["x", "y"], "label": ["1", "2"]}
    assert labels(tmp_path, [{"context": "up", "choices": choices, "label": answer}]) == [index]


def test_a_label_that_no_choice_has_is_refused(tmp_path: Path) -> None:
    choices = {"text": ["x", "y"], "label": ["A", "B"]}
    rows = [{"context": "up", "choices": choices, "label": "1"}]
    with pytest.raises(DataError, match=r"'1', which is not one of the choices' labels: A, B\."):
        labels(tmp_path, rows)


def test_choices_that_share_a_label_are_refused(tmp_path: Path) -> None:
    choices = {"text": ["x", "y"], "label": ["A", "A"]}
    rows = [{"context": "up", "choices": choices, "label": "A"}]
    with pytest.raises(DataError, match="Give each choice a label of its own"):
        labels(tmp_path, rows)


@pytest.mark.parametrize(("form", "index"), [("index", 1), ("text", 0)])
def test_the_form_of_a_label_may_be_said(tmp_path: Path, form: Any, index: int) -> None:
    rows = [{"context": "up", "choices": ["1", "0"], "label": 1}]
    assert labels(tmp_path, rows, label_form=form) == [index]


def test_predict_needs_no_label(trained: Trained) -> None:
    typed = json.dumps({key: training_rows()[0][key] for key in ("context", "choices")})
    result = run_plcli("predict", "--run", trained.run, typed)
    assert json.loads(result.out.splitlines()[-1])["choice"] == "cold"


def test_a_parquet_file_holds_probabilities_as_numbers(trained: Trained) -> None:
    with own_cache(trained.folder):
        source = trained.folder / "test.jsonl"
        run_plcli("predict", "--run", trained.run, "--input", source, "--output", "rows.parquet")
    assert pyarrow.parquet.read_table("rows.parquet").to_pylist() == trained.predict()


# what is refused


@pytest.mark.parametrize(
    ("choices", "label", "said"),
    [
        (["a", "b"], 2, r"'2', which is not one of the choices: a, b\. Give .* index, 0 to 1"),
        (["a", "b"], -1, r"'-1', which is not one of the choices"),
        (["a", "b"], "", r"'', which is not one of the choices"),
        (["here", "there"], "ther", r"'ther', which is not one .* Did you mean 'there'\?"),
        (
            ["1", "0"],
            1,
            r"'1', which could be choice 0 or 1 \(counted from 0\)\. Set data\.label_f",
        ),
        (["a", "a"], "a", r"'a', which could be choice 0 or 1 \(counted from 0\)\. Give the index"),
    ],
)
def test_a_label_that_is_no_choice_is_refused(
    tmp_path: Path, choices: list[str], label: Any, said: str
) -> None:
    with pytest.raises(DataError, match=rf"train\.jsonl, row 2: column 'label' contains {said}"):
        labels(tmp_path, one(choices, label))


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        (["a"], "column 'choices': 1 choice; two or more are needed"),
        ([], "column 'choices': 0 choice; two or more are needed"),
        (["a", " "], r"column 'choices': choice 1 \(from 0\) is empty"),
        (5, "column 'choices' contains 5, neither a list nor an object"),
        (
            "a cat, a dog",
            "column 'choices' contains 'a cat, a dog', neither a list nor an object. Write it",
        ),
    ],
)
def test_choices_that_are_none_are_refused(tmp_path: Path, choices: Any, said: str) -> None:
    with pytest.raises(DataError, match=rf"train\.jsonl, row 2: {said}"):
        data(tmp_path, one(choices, 0)).encoded("train")


def test_choices_in_a_cell_of_text_are_a_json_list(tmp_path: Path) -> None:
    assert labels(tmp_path, one('["a cat", "a dog"]', "a dog")) == [0, 1]


def test_a_gap_between_columns_is_refused(tmp_path: Path) -> None:
    rows = [{"context": "up", "a": "x", "b": "", "c": "y", "label": 0}]
    with pytest.raises(DataError, match=r"columns a, b, c: choice 1 \(from 0\) is empty"):
        data(tmp_path, rows, choices=["a", "b", "c"]).encoded("train")


def test_a_single_column_of_a_choice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^data\.choices: names 1 columns; give two or more"):
        MultipleChoiceData(choices=["a"])


def test_a_bad_row_ends_the_command(tmp_path: Path) -> None:
    result = fit_rows(tmp_path, one(["a", "b"], 7))
    assert (result.code, "train.jsonl, row 2: column 'label'" in result.err) == (3, True)


# resuming


def fit_rows(folder: Path, rows: Sequence[dict[str, Any]], *words: object) -> Result:
    """Fit on rows."""
    source = str(write_rows(folder / "train.jsonl", rows))
    settings = {"train": source, "validation": source, "batch_size": 3}
    return try_fit(folder, *words, model=MODEL, data=settings, classes=CLASSES)


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    words = ("--trainer.max_epochs", 3)
    fit_rows(tmp_path, training_rows(), *words)
    whole = (tmp_path / "run").rename(tmp_path / "whole")
    with stopped(MultipleChoiceModel, lambda module, _: module.global_step == 3):
        assert fit_rows(tmp_path, training_rows(), *words).code == 130
    assert fit_rows(tmp_path, training_rows(), *words).code == 0
    weights = [
        (run / "model" / "model.safetensors").read_bytes() for run in (whole, tmp_path / "run")
    ]
    assert weights[0] == weights[1]


# the analysis of the test


def test_wrong_choices_are_named(trained: Trained) -> None:
    errors = trained.analysis()["errors"]
    wrong = [row for row in training_rows() if row["label"] != 0]
    assert errors["count"] == len(errors["rows"]) == len(wrong)
    row = errors["rows"][0]
    own = training_rows()[row["row"]]
    assert row["truth"] == own["choices"][0]
    assert row["prediction"] == own["choices"][own["label"]]
    assert row["probability"] > 0.5
