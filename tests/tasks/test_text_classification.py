"""Text classification: one label, several, numbers and pairs; trained, saved, loaded, measured."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sk

from plcli.errors import DataError, UsageError
from plcli.tasks.text_classification import TextClassificationData, TextClassifier
from tests.conftest import MESSAGES, TINY_BERT, Command, message_rows, write_rows
from tests.running import (
    TrainedRun,
    by_heart,
    card,
    changed,
    each_once,
    fit,
    own_cache,
    predicted,
    read_rows,
    run_plcli,
    try_fit,
)

PUBLIC = ("TextClassifier", "TextClassificationData")  # configs and checkpoints name them
LABELS = sorted(MESSAGES)
PROBLEMS = ("single_label", "multi_label", "regression", "pair")


def tags_of(row: dict[str, Any]) -> list[str]:
    """Return tags that follow from a message: none, one or two."""
    tags = {"billing": ["money"], "delivery": ["parcel", "money"], "praise": []}[row["intent"]]
    return [*tags, "question"] if "where" in row["message"].split() else tags


def training_rows(problem: str) -> list[dict[str, Any]]:
    """Return twelve rows with a column for every problem."""
    rows = message_rows()
    if problem == "pair":
        halves = [row["message"].split() for row in rows]
        return [
            {"first": half[0], "second": " ".join(half[1:]), "target": row["intent"]}
            for half, row in zip(halves, rows, strict=True)
        ]
    targets: dict[str, Sequence[Any]] = {
        "single_label": [row["intent"] for row in rows],
        "multi_label": [tags_of(row) for row in rows],
        "regression": [1.5 * LABELS.index(row["intent"]) - 1 for row in rows],
    }
    return changed(rows, target=targets[problem])


@dataclass
class Trained(TrainedRun):
    """A run that knows its training rows by heart, and test rows of which many are wrong."""

    problem: str
    text: str | list[str]
    train: list[dict[str, Any]]
    test: list[dict[str, Any]]

    @property
    def texts(self) -> list[Any]:
        """The test rows as transformers.pipeline takes them."""
        if self.problem == "pair":
            return [{"text": row["first"], "text_pair": row["second"]} for row in self.test]
        return [row["message"] for row in self.test]

    @cached_property
    def predictions(self) -> list[dict[str, Any]]:
        """What the loaded model predicts for the test rows."""
        return predicted(self.run, self.folder / "test.jsonl")

    def predicted_targets(self, rows: Sequence[dict[str, Any]]) -> list[Any]:
        """Return the part of predictions that a target is compared with."""
        key = {"multi_label": "labels", "regression": "score"}.get(self.problem, "label")
        return [row[key] for row in rows]


def train(problem: str, folder: Path) -> Trained:
    """Overfit twelve rows; every second test row has the target of another row."""
    rows = training_rows(problem)
    shifted = [rows[index + 1 if index % 2 else index]["target"] for index in range(11)]
    trained = Trained(
        folder,
        problem,
        ["first", "second"] if problem == "pair" else "message",
        write_rows(folder / "train.jsonl", rows) and rows,
        changed(rows[:11], target=shifted),
    )
    write_rows(folder / "test.jsonl", trained.test)
    fit(
        folder,
        model=by_heart(),
        data={
            "train": str(folder / "train.jsonl"),
            "validation": str(folder / "train.jsonl"),
            "test": str(folder / "test.jsonl"),
            "text": trained.text,
            "label": "target",
            "problem": "single_label" if problem == "pair" else problem,
            "batch_size": 3,
        },
        trainer={
            "max_epochs": 30 if problem == "regression" else 20,
            "check_val_every_n_epoch": 10,
        },
    )
    return trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Give the trained run of a problem; each is trained once, when it is first asked for."""
    return each_once(train, tmp_path_factory)


@pytest.fixture(params=PROBLEMS)
def trained(request: pytest.FixtureRequest, runs: Callable[[str], Trained]) -> Trained:
    """The trained run of every problem in turn."""
    return runs(request.param)


@pytest.fixture
def single(runs: Callable[[str], Trained]) -> Trained:
    """A trained run of one label a row."""
    return runs("single_label")


@pytest.fixture
def multi(runs: Callable[[str], Trained]) -> Trained:
    """A trained run of several labels a row."""
    return runs("multi_label")


@pytest.fixture
def regression(runs: Callable[[str], Trained]) -> Trained:
    """A trained run of a number a row."""
    return runs("regression")


def scores_of(rows: Sequence[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """Return the numbers of predictions as an array, whatever the problem."""
    return np.array(
        [
            list(row["probability"].values()) if "probability" in row else [row["score"]]
            for row in rows
        ]
    )


def about(row: dict[str, Any]) -> dict[str, Any]:
    """Return a prediction to compare with: another batch may change the last digits."""
    return {key: row[key] for key in ("id", "label")} | {
        key: pytest.approx(row[key], abs=1e-5) for key in ("score", "probability")
    }


# overfit, save, load


def test_a_tiny_model_learns_its_training_rows_by_heart(trained: Trained) -> None:
    got = trained.predicted_targets(predicted(trained.run, trained.folder / "train.jsonl"))
    wanted = [row["target"] for row in trained.train]
    if trained.problem == "regression":
        assert got == pytest.approx(wanted, abs=0.5)
    elif trained.problem == "multi_label":
        assert [set(names) for names in got] == [set(names) for names in wanted]
    else:
        assert got == wanted


def test_the_artefact_predicts_what_the_best_checkpoint_predicts(trained: Trained) -> None:
    source = trained.folder / "test.jsonl"
    best = trained.run / "checkpoints" / "best.ckpt"
    by_artefact = scores_of(trained.predictions)
    by_checkpoint = scores_of(predicted(trained.run, source, "--ckpt_path", best))
    np.testing.assert_allclose(by_artefact, by_checkpoint, atol=1e-6)


def test_a_loaded_model_gives_the_test_metrics_that_fit_gave(trained: Trained) -> None:
    with own_cache(trained.folder):
        result = run_plcli("test", "--run", trained.run)
    lines = [line.replace("│", " ").replace("┃", " ").split() for line in result.out.splitlines()]
    shown = {words[0]: words[1] for words in lines if len(words) == 2}
    given = trained.test_metrics()
    numbers = {name: value for name, value in given.items() if isinstance(value, float)}
    # Shown with four places, and the last one may round otherwise where the batches were others.
    assert {name: float(shown[name]) for name in numbers} == pytest.approx(numbers, abs=1.5e-4)


def test_predictions_do_not_depend_on_the_batch_size(trained: Trained) -> None:
    source = trained.folder / "test.jsonl"
    whole = scores_of(trained.predictions)
    single = scores_of(predicted(trained.run, source, "--data.batch_size", 1))
    np.testing.assert_allclose(whole, single, atol=1e-5)


def test_predictions_stand_in_the_order_of_the_input(trained: Trained) -> None:
    forwards = scores_of(trained.predictions)
    backwards = write_rows(Path("backwards.jsonl"), list(reversed(trained.test)))
    np.testing.assert_allclose(
        forwards[::-1], scores_of(predicted(trained.run, backwards)), atol=1e-5
    )


# transformers.pipeline


def pipeline(run: Path, **settings: Any) -> Any:
    """Load an artefact with transformers alone."""
    import transformers

    return transformers.pipeline(
        "text-classification", model=str(run / "model"), device="cpu", **settings
    )


@pytest.mark.parametrize("problem", ["single_label", "pair"])
def test_the_pipeline_gives_the_same_label_and_score(
    problem: str, runs: Callable[[str], Trained]
) -> None:
    trained = runs(problem)
    theirs = [pipeline(trained.run)(text) for text in trained.texts]
    theirs = [answer[0] if isinstance(answer, list) else answer for answer in theirs]
    ours = trained.predictions
    assert [
        (row["label"], pytest.approx(row["score"], abs=1e-5)) for row in ours
    ] == [(answer["label"], answer["score"]) for answer in theirs]  # fmt: skip


def test_the_pipeline_gives_the_same_score_for_each_of_several_labels(multi: Trained) -> None:
    answers = pipeline(multi.run, top_k=None)(multi.texts)
    theirs = [{entry["label"]: entry["score"] for entry in answer} for answer in answers]
    ours = multi.predictions
    assert [pytest.approx(row["probability"], abs=1e-5) for row in ours] == theirs


def test_the_pipeline_gives_the_same_number(regression: Trained) -> None:
    theirs = [answer["score"] for answer in pipeline(regression.run)(regression.texts)]
    ours = [row["score"] for row in regression.predictions]
    assert ours == pytest.approx(theirs, abs=1e-5)


# metrics against scikit-learn and scipy, from the predictions of the loaded model


def both(trained: Trained) -> tuple[list[Any], list[Any]]:
    """Return the test rows' targets, and what is predicted for them."""
    rows = trained.predictions
    return [row["target"] for row in trained.test], trained.predicted_targets(rows)


def indicators(names: Sequence[Sequence[str]], labels: Sequence[str]) -> np.ndarray[Any, Any]:
    """Return a 0/1 matrix [rows, labels]."""
    return np.array([[int(label in row) for label in labels] for row in names])


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("accuracy", sk.accuracy_score),
        ("macro_f1", lambda true, got: sk.f1_score(true, got, average="macro")),
        ("weighted_f1", lambda true, got: sk.f1_score(true, got, average="weighted")),
    ],
)
def test_a_single_label_metric_is_that_of_scikit_learn(
    name: str, theirs: Callable[..., float], single: Trained
) -> None:
    assert single.test_metrics()[name] == pytest.approx(theirs(*both(single)), abs=1e-6)


@pytest.mark.parametrize("key", ["precision", "recall", "f1", "support"])
def test_a_column_of_the_class_table_is_that_of_scikit_learn(key: str, single: Trained) -> None:
    columns = sk.precision_recall_fscore_support(*both(single), labels=LABELS, zero_division=0)
    theirs = dict(zip(("precision", "recall", "f1", "support"), columns, strict=True))[key]
    table = single.test_metrics()["classes"]
    assert {name: row[key] for name, row in table.items()} == pytest.approx(
        dict(zip(LABELS, theirs, strict=True))
    )


def test_the_confusion_matrix_is_that_of_scikit_learn(single: Trained) -> None:
    theirs = sk.confusion_matrix(*both(single), labels=LABELS)
    assert single.test_metrics()["confusion_matrix"] == theirs.tolist()


def test_some_test_rows_are_predicted_wrong_so_that_metrics_can_differ(single: Trained) -> None:
    assert 0.3 < single.test_metrics()["accuracy"] < 0.95


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_f1_over_several_labels_is_that_of_scikit_learn(average: str, multi: Trained) -> None:
    labels = card(multi.run)["labels"]
    true, got = (indicators(names, labels) for names in both(multi))
    theirs = sk.f1_score(true, got, average=average)
    assert multi.test_metrics()[f"{average}_f1"] == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("key", ["precision", "recall", "f1", "support"])
def test_a_column_of_the_table_of_several_labels_is_that_of_scikit_learn(
    key: str, multi: Trained
) -> None:
    labels = card(multi.run)["labels"]
    true, got = (indicators(names, labels) for names in both(multi))
    columns = sk.precision_recall_fscore_support(true, got, zero_division=0)
    theirs = dict(zip(("precision", "recall", "f1", "support"), columns, strict=True))[key]
    table = multi.test_metrics()["classes"]
    assert {name: row[key] for name, row in table.items()} == pytest.approx(
        dict(zip(labels, theirs, strict=True))
    )


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("rmse", sk.root_mean_squared_error),
        ("mae", sk.mean_absolute_error),
        ("pearson", lambda true, got: stats.pearsonr(true, got)[0]),
        ("spearman", lambda true, got: stats.spearmanr(true, got)[0]),
    ],
)
def test_a_regression_metric_is_that_of_scikit_learn_or_scipy(
    name: str, theirs: Callable[..., float], regression: Trained
) -> None:
    assert regression.test_metrics()[name] == pytest.approx(theirs(*both(regression)), abs=1e-5)


def classifier(**arguments: Any) -> TextClassifier:
    """Build a tiny classifier with no data."""
    sizes = {"architecture": TINY_BERT, "vocab_size": 30, "pad_token_id": 0, "max_length": 16}
    return TextClassifier(**{**sizes, **arguments})


def measured(module: TextClassifier, logits: torch.Tensor, labels: torch.Tensor) -> dict[str, Any]:
    """Put logits and labels through the running metrics in three batches of unlike size."""
    metrics = module.metrics()
    for rows in (slice(0, 7), slice(7, 8), slice(8, None)):
        outputs = type("Outputs", (), {"logits": logits[rows]})
        module.update(metrics, outputs, {"labels": labels[rows]})
    return module.summary(metrics.compute())


def test_macro_f1_counts_a_class_that_is_predicted_but_never_true() -> None:
    module = classifier(labels=list("abcd"))
    true, got = torch.arange(20) % 3, torch.arange(20) % 4
    found = measured(module, torch.nn.functional.one_hot(got, 4).float(), true)
    assert found["macro_f1"] == pytest.approx(sk.f1_score(true, got, average="macro"), abs=1e-6)


def test_running_average_precision_is_near_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 3, generator=generator)
    true = (logits + torch.randn(200, 3, generator=generator) > 0.5).float()
    found = measured(classifier(labels=list("abc"), problem="multi_label"), logits, true)
    theirs = sk.average_precision_score(true.int(), logits.sigmoid(), average="macro")
    assert found["average_precision"] == pytest.approx(theirs, abs=0.01)


def test_metrics_of_several_labels_use_the_threshold() -> None:
    module = classifier(labels=list("abc"), problem="multi_label", threshold=0.8)
    logits = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)) * 2
    true = torch.arange(120).reshape(40, 3) % 2
    found = measured(module, logits, true.float())
    theirs = sk.f1_score(true, (logits.sigmoid() >= 0.8).int(), average="micro")
    assert found["micro_f1"] == pytest.approx(theirs, abs=1e-6)


# labels


def write_split(name: str, labels: Sequence[Any]) -> str:
    """Write a file of rows with labels and return its path."""
    texts = [row["message"] for row in message_rows(9)]
    rows = [{"text": texts[index], "label": label} for index, label in enumerate(labels)]
    return str(write_rows(Path(name), rows))


def test_label_names_are_sorted() -> None:
    data = TextClassificationData(train=write_split("train.jsonl", ["c", "a", "b", "a", "c"]))
    assert data.label_names == ["a", "b", "c"]


def test_label_names_of_the_test_split_are_not_taken() -> None:
    train, test = write_split("train.jsonl", ["a", "b"]), write_split("test.jsonl", ["a", "z"])
    assert TextClassificationData(train=train, validation=train, test=test).label_names == [
        "a",
        "b",
    ]


def test_several_label_names_a_row_are_collected_and_sorted() -> None:
    train = write_split("train.jsonl", [["c", "a"], [], ["b", "a"]])
    data = TextClassificationData(train=train, validation=train, problem="multi_label")
    assert data.label_names == ["a", "b", "c"]


def test_given_label_names_keep_their_order() -> None:
    train = write_split("train.jsonl", ["a", "b"])
    data = TextClassificationData(train=train, validation=train, labels=["b", "a"])
    assert data.targets(data.rows("train")).tolist() == [1, 0]


def test_a_label_that_is_unseen_in_training_is_refused_with_its_row_and_a_suggestion(
    plcli: Command, text_config: Path
) -> None:
    rows = message_rows()
    rows[6]["intent"] = "delivrey"
    write_rows(Path("test.jsonl"), rows)
    result = plcli("fit", "-c", text_config)
    assert (result.code, result.err.splitlines()[-1]) == (
        3,
        f"plcli: {Path('test.jsonl').resolve()}, row 7: label 'delivrey' is not one of billing, "
        "delivery, praise. Did you mean 'delivery'?",
    )


def test_an_unseen_label_of_the_test_split_is_refused_before_training(
    plcli: Command, text_config: Path
) -> None:
    rows = message_rows()
    other = write_rows(Path("other.jsonl"), changed(rows, intent=["delivrey"] * len(rows)))
    plcli("fit", "-c", text_config, "--data.test", other)
    assert not Path("runs/text-1/checkpoints/last.ckpt").exists()


def test_the_test_command_refuses_an_unseen_label(single: Trained) -> None:
    rows = changed(single.train, target=["unheard"] * 12)
    other = write_rows(Path("other.jsonl"), rows)
    result = run_plcli("test", "--run", single.run, "--data.test", other)
    assert (result.code, "row 1: label 'unheard' is not one of" in result.err) == (3, True)


def test_one_class_is_refused() -> None:
    data = TextClassificationData(train=write_split("one.jsonl", ["spam"] * 5))
    with pytest.raises(
        DataError,
        match=r"one\.jsonl: column 'label' contains 1 label \(spam\); two or more are needed\.",
    ):
        data.facts()


def with_empty_columns(text: Any, *rows: tuple[str, str]) -> TextClassificationData:
    """Return a data module over rows of the columns a and b."""
    table = [{"a": a, "b": b, "label": "xy"[i % 2]} for i, (a, b) in enumerate(rows)]
    write_rows(Path("train.jsonl"), table)
    return TextClassificationData(train="train.jsonl", text=text, validation_fraction=0)


def test_a_row_of_a_template_is_empty_where_all_its_columns_are() -> None:
    data = with_empty_columns("{a} {b}", ("", "up"), ("", " "), ("", "down"))
    data.split("train")  # though a is empty in all rows
    assert data.empty("train").tolist() == [1]


def test_a_row_of_a_pair_is_empty_where_one_column_is() -> None:
    data = with_empty_columns(["a", "b"], ("", "up"), ("down", ""), ("up", "down"))
    assert data.empty("train").tolist() == [0, 1]


def test_a_pair_whose_columns_are_empty_in_turn_is_trained_on() -> None:
    assert len(with_empty_columns(["a", "b"], ("", "up"), ("down", "")).split("train")) == 2


@pytest.mark.parametrize(
    ("text", "rows", "named"),
    [
        (["a", "b"], [("up", ""), ("down", " ")], "'b'"),
        ("{a} {b}", [("", ""), ("", " ")], "'a' and 'b'"),
    ],
)
def test_columns_that_are_empty_in_all_rows_are_refused(
    text: Any, rows: list[tuple[str, str]], named: str
) -> None:
    said = rf"column {named} is empty in all training rows\. Name another column with data\.text\."
    with pytest.raises(DataError, match=said):
        with_empty_columns(text, *rows).split("train")


def test_a_label_name_that_is_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^data\.labels: names x more than once\."):
        TextClassificationData(labels=["x", "x", "y"])


def test_a_classifier_without_two_label_names_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.labels: a classifier needs at least two lab"):
        classifier(labels=["spam"])


def test_the_cut_keeps_single_labels_in_proportion() -> None:
    labels = ["a"] * 80 + ["b"] * 20
    data = TextClassificationData(train=write_split("train.jsonl", labels), validation_fraction=0.2)
    cut_off = data.targets(data.rows("train"))[data.subset("validation")]
    assert np.bincount(cut_off).tolist() == [16, 4]


def test_a_class_of_one_row_stays_in_the_training_split() -> None:
    labels = ["a"] * 10 + ["b"] * 10 + ["rare"]
    data = TextClassificationData(train=write_split("train.jsonl", labels), validation_fraction=0.5)
    assert data.label_names == ["a", "b", "rare"]


def test_a_tag_of_one_row_stays_in_the_training_split() -> None:
    tags = [["a"] if index % 2 else ["b"] for index in range(20)]
    train = write_split("train.jsonl", [*tags, *([f"rare {index}"] for index in range(10))])
    data = TextClassificationData(train=train, validation_fraction=0.5, problem="multi_label")
    assert len(data.label_names) == 12


def test_a_missing_label_is_refused() -> None:
    data = TextClassificationData(train=write_split("train.jsonl", ["a", "b", None]))
    with pytest.raises(DataError, match=r"train\.jsonl, row 3: column 'label' is empty"):
        data.facts()


def test_a_score_that_is_no_number_is_refused() -> None:
    data = TextClassificationData(
        train=write_split("train.jsonl", [0.5, "high"]), problem="regression"
    )
    with pytest.raises(
        DataError,
        match=r"train\.jsonl, row 2: column 'label' contains 'high', which is not a number",
    ):
        data.facts()


# predictions


def test_the_id_column_names_the_predicted_rows(single: Trained) -> None:
    rows = changed(single.test, ticket=[f"t{index}" for index in range(11)])
    source = write_rows(Path("new.jsonl"), rows)
    ids = [row["ticket"] for row in predicted(single.run, source, "--data.id", "ticket")]
    assert ids == [f"t{index}" for index in range(11)]


def test_rows_to_predict_need_no_label_column(single: Trained) -> None:
    source = write_rows(Path("new.jsonl"), [{"message": text} for text in single.texts])
    assert len(predicted(single.run, source)) == 11


def test_a_typed_text_gets_what_its_row_gets(single: Trained) -> None:
    with own_cache(single.folder):
        result = run_plcli("predict", "--run", single.run, single.texts[0])
    first = single.predictions[0]
    assert json.loads(result.out) == about(first)


def test_a_typed_pair_gets_what_its_row_gets(runs: Callable[[str], Trained]) -> None:
    trained = runs("pair")
    row = {key: trained.test[0][key] for key in ("first", "second")}
    with own_cache(trained.folder):
        result = run_plcli("predict", "--run", trained.run, json.dumps(row))
    first = trained.predictions[0]
    assert json.loads(result.out) == about(first)


def test_the_columns_of_a_pair_are_not_exchangeable(runs: Callable[[str], Trained]) -> None:
    trained = runs("pair")
    turned = changed(
        trained.test,
        first=[row["second"] for row in trained.test],
        second=[row["first"] for row in trained.test],
    )
    source = write_rows(Path("turned.jsonl"), turned)
    straight = scores_of(trained.predictions)
    assert not np.allclose(straight, scores_of(predicted(trained.run, source)), atol=1e-4)


def test_labels_are_given_from_the_threshold_on(multi: Trained) -> None:
    source = multi.folder / "test.jsonl"
    rows = predicted(multi.run, source, "--model.threshold", 0.02)
    assert [set(row["labels"]) for row in rows] == [
        {name for name, score in row["probability"].items() if score >= 0.02} for row in rows
    ]


def test_a_csv_of_predictions_has_a_column_a_label(multi: Trained) -> None:
    output = Path("out.csv")
    with own_cache(multi.folder):
        run_plcli(
            "predict", "--run", multi.run, "--input", multi.folder / "test.jsonl",
            "--output", output,
        )  # fmt: skip
    assert list(read_rows(output)[0]) == [
        "id",
        "labels",
        *(f"probability.{label}" for label in card(multi.run)["labels"]),
    ]


# what the best epoch is chosen by


@pytest.mark.parametrize(
    ("problem", "monitor"),
    [
        ("single_label", ("val_macro_f1", "max")),
        ("multi_label", ("val_macro_f1", "max")),
        ("regression", ("val_pearson", "max")),
    ],
)
def test_the_monitored_metric_follows_the_problem(problem: Any, monitor: tuple[str, str]) -> None:
    assert classifier(labels=["a", "b"], problem=problem).monitor == monitor


# configs


def test_a_label_column_that_is_not_there_is_refused_with_a_suggestion(
    plcli: Command, text_config: Path
) -> None:
    result = plcli("fit", "-c", text_config, "--data.label", "intents")
    assert (result.code, "has no column 'intents'. Did you mean 'intent'?" in result.err) == (
        3,
        True,
    )


def test_three_text_columns_are_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.text: names 3 columns; give one, or two"):
        TextClassificationData(train="x.csv", text=["a", "b", "c"])


def test_labels_that_contradict_the_run_are_refused(single: Trained) -> None:
    result = run_plcli("test", "--run", single.run, "--data.labels", "[x, y]")
    assert (result.code, "data.labels: got ['x', 'y'], but" in result.err) == (2, True)


def test_a_run_of_a_small_vocabulary_can_be_tested(tmp_path: Path) -> None:
    rows = training_rows("single_label")
    source = str(write_rows(tmp_path / "rows.jsonl", rows))
    run = fit(
        tmp_path,
        model={"architecture": TINY_BERT},
        data={"train": source, "test": source, "text": "message", "label": "target"}
        | {"wordpieces": 500},
    )
    with own_cache(tmp_path):
        assert run_plcli("test", "--run", run).err == ""


@pytest.mark.parametrize(
    "architecture",
    [
        {"model_type": "distilbert", "dim": 32, "n_layers": 1, "n_heads": 2, "hidden_dim": 64},
        {**TINY_BERT, "model_type": "roberta"},
        {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2},
    ],
    ids=lambda architecture: architecture["model_type"],
)
def test_other_architectures_train_from_scratch(
    architecture: dict[str, Any], tmp_path: Path
) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", training_rows("single_label")))
    result = try_fit(
        tmp_path,
        model={"architecture": architecture},
        data={"train": source, "validation": source, "text": "message", "label": "target"},
    )
    assert result.code == 0, result.err


def test_the_loss_of_a_split_is_the_mean_over_its_rows(single: Trained) -> None:
    import torch.nn.functional as functional

    loaded = pipeline(single.run)
    tokens = loaded.tokenizer(single.texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = loaded.model(**tokens).logits
    true = torch.tensor([LABELS.index(row["target"]) for row in single.test])
    assert single.test_metrics()["loss"] == pytest.approx(
        float(functional.cross_entropy(logits, true)), abs=1e-4
    )
