"""Question answering: trained, saved, loaded, measured; windows, no answers, bad rows, resuming."""

import collections
import json
import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch

from plcli.errors import UsageError
from plcli.tasks.question_answering import QuestionAnswerer, QuestionAnsweringData
from tests.conftest import TINY_BERT, Result, message, write_rows
from tests.running import (
    TrainedRun,
    by_heart,
    card,
    fit,
    own_cache,
    predicted,
    read_json,
    read_rows,
    run_plcli,
    stopped,
)
from tests.running import try_fit as try_any_fit

PUBLIC = ("QuestionAnswerer", "QuestionAnsweringData")  # configs and checkpoints name them
TASK = "plcli.tasks.question_answering"
CLASSES = (f"{TASK}.{PUBLIC[0]}", f"{TASK}.{PUBLIC[1]}")
MODEL = by_heart(3e-3)  # at 5e-3 a tenth of the seeds miss rows
SALES = [
    ("anna", "kettle", "monday", "leeds"),
    ("ben", "lamp", "friday", "york"),
    ("carla", "banjo", "sunday", "bath"),
]
ASKED = {"who bought it": 0, "what was bought": 1, "when was that": 2, "where was that": 3}


def row(question: str, context: str, *answers: str) -> dict[str, Any]:
    """Return a row in the form of SQuAD."""
    starts = [context.index(answer) for answer in answers]
    answered = {"text": list(answers), "answer_start": starts}
    return {"question": question, "context": context, "answers": answered}


def sale(words: Sequence[str]) -> str:
    return "{} bought a {} on {} in {}".format(*words)


def training_rows() -> list[dict[str, Any]]:
    """Return fifteen rows, three of them without an answer."""
    answered = [row(q, sale(words), words[at]) for words in SALES for q, at in ASKED.items()]
    return answered + [row("how much was it", sale(words)) for words in SALES]


def write_test_rows(folder: Path) -> list[dict[str, Any]]:
    """Write the training rows, of which every second has the answers of another question."""
    rows = training_rows()
    context = sale(SALES[0])
    for at, wrong in ((1, ["bought a kettle", "anna"]), (3, []), (12, ["kettle"])):
        rows[at] = row(rows[at]["question"], context, *wrong)
    write_rows(folder / "test.jsonl", rows)
    return rows


@dataclass
class Trained(TrainedRun):
    """A run that knows its training rows by heart."""

    test: list[dict[str, Any]]

    def predict(self, rows: Sequence[dict[str, Any]], *words: object) -> list[dict[str, Any]]:
        """Predict rows."""
        source = Path(f"rows-{len(list(Path().iterdir()))}.jsonl")
        return predicted(self.run, write_rows(source, rows), *words)


def try_fit(folder: Path, rows: Sequence[dict[str, Any]], *words: object, **data: Any) -> Result:
    """Fit on rows."""
    write_rows(folder / "train.jsonl", rows)
    source = str(folder / "train.jsonl")
    return try_any_fit(
        folder,
        *words,
        model=MODEL,
        data={"train": source, "validation": source, "batch_size": 5, **data},
        classes=CLASSES,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run that knows its training rows by heart."""
    folder = tmp_path_factory.mktemp("answers")
    write_rows(folder / "train.jsonl", [*training_rows(), long_row()])
    trained = Trained(folder, write_test_rows(folder))
    source = str(folder / "train.jsonl")
    fit(
        folder,
        model=MODEL,
        data={
            "train": source,
            "validation": source,
            "test": str(folder / "test.jsonl"),
            "max_length": 24,
            "batch_size": 5,
        },
        trainer={"max_epochs": 50, "check_val_every_n_epoch": 25},
        classes=CLASSES,
    )
    return trained


# overfit, save, load


def test_a_tiny_model_learns_its_training_rows_by_heart(trained: Trained) -> None:
    got = [row["answer"] for row in trained.predict(training_rows())]
    assert got == ["".join(row["answers"]["text"]) for row in training_rows()]


def test_start_and_end_are_those_of_the_answer(trained: Trained) -> None:
    rows = training_rows()
    got = trained.predict(rows)
    assert [r["context"][p["start"] : p["end"]] for r, p in zip(rows, got, strict=True)] == [
        p["answer"] for p in got
    ]


def test_a_prediction_is_the_best_of_n_best(trained: Trained) -> None:
    got = trained.predict(training_rows())
    assert [row["n_best"][0]["answer"] for row in got] == [row["answer"] for row in got]


def close(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> bool:
    """Whether predictions are equal up to the last digits of their scores."""
    return [row["answer"] for row in one] == [row["answer"] for row in other] and np.allclose(
        [row["score"] for row in one], [row["score"] for row in other], atol=1e-5
    )


def test_the_artefact_predicts_what_the_best_checkpoint_predicts(trained: Trained) -> None:
    best = trained.run / "checkpoints" / "best.ckpt"
    rows = trained.test
    assert close(trained.predict(rows), trained.predict(rows, "--ckpt_path", best))


def test_predictions_do_not_depend_on_the_batch_size(trained: Trained) -> None:
    rows = [long_row(), *trained.test]
    assert close(trained.predict(rows), trained.predict(rows, "--data.batch_size", 1))


def test_predict_needs_no_answers(trained: Trained) -> None:
    rows = [{k: r[k] for k in ("question", "context")} for r in trained.test]
    assert close(trained.predict(rows), trained.predict(trained.test))


def by_hand(run: Path, question: str, context: str) -> tuple[str, float]:
    """Answer with transformers alone, which has no pipeline for it any more."""
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(str(run / "model"))
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(str(run / "model")).eval()
    batch = tokenizer(question, context, return_tensors="pt", return_offsets_mapping=True)
    offsets = batch.pop("offset_mapping")[0].tolist()
    inside = [i for i, part in enumerate(batch.sequence_ids(0)) if part == 1]
    with torch.no_grad():
        outputs = model(**batch)
    start, end = outputs.start_logits[0], outputs.end_logits[0]
    scores = {
        context[offsets[i][0] : offsets[j][1]]: float(start[i] + end[j])
        for i in inside
        for j in inside
        if i <= j
    }
    kept = dict(sorted(scores.items(), key=lambda item: -item[1])[:20])
    kept[""] = float(start[0] + end[0])
    probability = torch.tensor(list(kept.values())).softmax(0)
    return max(kept, key=lambda text: kept[text]), float(probability.max())


def test_transformers_alone_gives_the_same_answer_and_score(trained: Trained) -> None:
    theirs = [by_hand(trained.run, row["question"], row["context"]) for row in trained.test[:6]]
    ours = [(row["answer"], row["score"]) for row in trained.predict(trained.test[:6])]
    assert [(text, pytest.approx(score, abs=1e-5)) for text, score in ours] == theirs


# windows


def long_row() -> dict[str, Any]:
    """Return a row of several windows, of which the first does not hold the answer."""
    return row("who bought it", "in on a in " * 6 + sale(SALES[1]), "ben")


def test_an_answer_is_found_in_a_later_window(trained: Trained) -> None:
    got = trained.predict([long_row()])[0]
    assert (got["answer"], got["start"]) == ("ben", long_row()["context"].index("ben"))


def test_the_stride_says_how_many_windows_there_are(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [*training_rows(), long_row()])
    counts = []
    for stride in (0, 8):
        data = QuestionAnsweringData(train=str(tmp_path / "train.jsonl"), stride=stride)
        data.max_length, data.validation_fraction = 20, 0
        counts.append(len(data.encoded("train")))
    assert counts[0] < counts[1]


def test_windows_say_how_many_they_are(trained: Trained) -> None:
    said = re.findall(r"train: .*", (trained.run / "train.log").read_text())
    assert said == [
        "train: 16 rows in 18 windows of at most 24 tokens (data.max_length), 3 without an answer"
    ]


def test_positions_move_with_padding_on_the_left(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [*training_rows(), long_row()])
    data = QuestionAnsweringData(train=str(tmp_path / "train.jsonl"), validation_fraction=0)
    texts = []
    for left in (False, True):
        data.encoded("train").pads_left = left
        batch = data.collate("train", data.encoded("train"), np.arange(16))
        columns = (batch[name].tolist() for name in ("input_ids", "start_positions"))
        texts.append([ids[start] for ids, start in zip(*columns, strict=True)])
    assert texts[0] == texts[1]


# metrics, against SQuAD's own script


def words(text: str) -> list[str]:
    """Normalise as SQuAD's script does."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


def f1(guess: str, truth: str) -> float:
    """Return F1 as SQuAD's script does."""
    one, other = words(guess), words(truth)
    if not one or not other:
        return float(one == other)
    same = sum((collections.Counter(one) & collections.Counter(other)).values())
    return 2 * same / (len(one) + len(other))


def exact(guess: str, truth: str) -> float:
    return float(words(guess) == words(truth))


@pytest.mark.parametrize(("name", "score"), [("f1", f1), ("exact_match", exact)])
@pytest.mark.parametrize("kind", ["", "has_answer_", "no_answer_"])
def test_a_metric_is_that_of_squads_script(
    trained: Trained, kind: str, name: str, score: Callable[[str, str], float]
) -> None:
    pairs = zip(trained.predict(trained.test), trained.test, strict=True)
    scores = [
        max(score(guess["answer"], truth) for truth in row["answers"]["text"] or [""])
        for guess, row in pairs
        if not kind or (kind == "has_answer_") == bool(row["answers"]["text"])
    ]
    given = read_json(trained.run / "metrics.json")["test"][kind + name]
    assert 0 < np.mean(scores) < 1
    assert given == pytest.approx(np.mean(scores), abs=1e-6)


def test_a_loaded_model_gives_the_test_metrics_that_fit_gave(trained: Trained) -> None:
    with own_cache(trained.folder):
        result = run_plcli("test", "--run", trained.run)
    given = read_json(trained.run / "metrics.json")["test"]["f1"]
    assert f"{given:.4f}" in next(line for line in result.out.splitlines() if " f1 " in line)


def test_without_unanswerable_rows_there_is_one_f1(tmp_path: Path) -> None:
    assert try_fit(tmp_path, training_rows()[:12]).code == 0
    found = read_json(tmp_path / "run" / "metrics.json")["validation"]
    names = {name for name, value in found.items() if isinstance(value, float)}
    assert names == {"loss", "exact_match", "f1"}


# options


def test_the_threshold_travels_with_the_artefact(trained: Trained) -> None:
    assert card(trained.run)["thresholds"] == {"no_answer": 0.0}


@pytest.mark.parametrize(("threshold", "empty"), [(-1000, True), (1000, False)])
def test_the_threshold_says_when_no_answer_is_given(
    trained: Trained, threshold: float, empty: bool
) -> None:
    got = trained.predict(training_rows(), "--model.no_answer_threshold", threshold)
    assert {row["answer"] == "" for row in got} == {empty}


def test_a_goal_chooses_the_threshold_on_validation_rows(tmp_path: Path) -> None:
    """The validation rows have no answer, so that giving none has the largest F1."""
    none = write_rows(tmp_path / "none.jsonl", training_rows()[12:])
    words = ("--model.goal", "max_f1")
    result = try_fit(tmp_path, training_rows(), *words, validation=str(none))
    assert result.code == 0, result.err
    run = tmp_path / "run"
    chosen = read_json(run / "metrics.json")["decisions"]["thresholds"]
    assert card(run)["thresholds"] == card(run)["facts"]["thresholds"] == chosen
    assert read_json(run / "metrics.json")["validation"]["f1"] == 1.0
    assert {row["answer"] for row in predicted(run, none)} == {""}
    typed = predicted(run, none, "--model.no_answer_threshold", 1000)
    assert "" not in {row["answer"] for row in typed}


def test_n_best_says_how_many_spans_are_given(trained: Trained) -> None:
    got = trained.predict(training_rows(), "--model.n_best", 3)
    assert {len([e for e in row["n_best"] if e["answer"]]) for row in got} == {3}


def test_max_answer_says_how_long_a_span_may_be(tmp_path: Path) -> None:
    result = try_fit(tmp_path, training_rows(), max_answer=2)
    assert result.code == 0
    got = predicted(tmp_path / "run", tmp_path / "train.jsonl")
    longest = max(len(e["answer"].split()) for row in got for e in row["n_best"])
    assert longest == 2


def test_a_model_that_was_told_that_there_is_always_an_answer_gives_one(tmp_path: Path) -> None:
    assert try_fit(tmp_path, training_rows()[10:], unanswerable=False).code == 0
    got = predicted(tmp_path / "run", tmp_path / "train.jsonl")
    assert [row["answer"] for row in got if row["answer"] == ""] == []


def test_columns_are_named_in_the_config(tmp_path: Path) -> None:
    names = {"question": "frage", "context": "text", "answers": "antworten"}
    rows = [{names[key]: value for key, value in r.items()} for r in training_rows()]
    assert try_fit(tmp_path, rows, **names).code == 0


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: QuestionAnsweringData(stride=-1), r"data\.stride: got -1, expected 0 or more"),
        (lambda: QuestionAnsweringData(max_answer=0), r"data\.max_answer: got 0, expected 1 or"),
        (
            lambda: QuestionAnswerer(architecture=TINY_BERT, n_best=0),
            r"model\.n_best: got 0, expected 1 or more",
        ),
    ],
)
def test_a_number_that_makes_no_sense_is_refused(made: Callable[[], Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made()


# what is said of rows


def test_what_cannot_be_learnt_or_found_is_said(tmp_path: Path) -> None:
    rows = [
        row("when " * 60, sale(SALES[0]), "monday"),
        row("who", "annabel bought it", "bel"),
        row("who", sale(SALES[0]), "anna bought a kettle"),
        row("who", " ".join(["in"] * 60), " ".join(["in"] * 50)),
        row("who", sale(SALES[1]), "ben"),
    ]
    write_rows(tmp_path / "train.jsonl", rows)
    data = QuestionAnsweringData(
        train=str(tmp_path / "train.jsonl"),
        validation_fraction=0,
        max_length=32,
        max_answer=3,
    )
    assert data.describe("train").split(", ")[1:] == [
        "1 with a question cut to 9 tokens",
        "1 with an answer that no window contains whole",
        "1 with an answer that begins or ends inside a token",
        "1 with an answer of more than 3 tokens (data.max_answer)",
    ]


def test_validation_rows_are_cut_off_by_whole_contexts(tmp_path: Path) -> None:
    rows = [
        row(question, sale((name, *SALES[0][1:])), name)
        for name in ("anna", "ben", "carla", "dora", "emil")
        for question in ASKED
    ]
    write_rows(tmp_path / "train.jsonl", rows)
    data = QuestionAnsweringData(train=str(tmp_path / "train.jsonl"), validation_fraction=0.4)
    train, validation = (
        {rows[number]["context"] for number in data.split(split).subset}
        for split in ("train", "validation")
    )
    assert (len(train), len(validation), train & validation) == (3, 2, set())


def test_bad_answers_end_the_command_with_their_row(tmp_path: Path) -> None:
    rows = training_rows()
    rows[3]["answers"]["answer_start"] = [2]
    result = try_fit(tmp_path, rows)
    assert (result.code, message(result)) == (
        3,
        f"plcli: {tmp_path}/train.jsonl, row 4: column 'answers' says that 'leeds' is at 2 in "
        "the context, but 'na bo' is there. It is at 34. Count characters, not bytes, and "
        "from 0.\n",
    )


def test_answers_of_no_form_end_the_command_with_their_row(tmp_path: Path) -> None:
    rows = [*training_rows(), {"question": "who", "context": "anna", "answers": "anna"}]
    result = try_fit(tmp_path, rows)
    assert (result.code, "row 16: column 'answers' contains 'anna', neither" in result.err) == (
        3,
        True,
    )


@pytest.mark.parametrize("column", ["question", "context"])
def test_a_row_to_predict_needs_question_and_context(trained: Trained, column: str) -> None:
    rows = [{key: "anna" for key in ("question", "context") if key != column}]
    source = write_rows(Path("rows.jsonl"), rows)
    result = run_plcli("predict", "--run", trained.run, "--input", source)
    assert (result.code, f"has no column '{column}'" in result.err) == (3, True)


def test_an_empty_context_has_the_empty_answer(trained: Trained) -> None:
    got = trained.predict([{"question": "who bought it", "context": ""}])[0]
    assert (got["answer"], got["start"], got["end"]) == ("", 0, 0)


def test_another_max_length_than_the_models_is_refused(trained: Trained) -> None:
    source = trained.folder / "test.jsonl"
    result = run_plcli(
        "predict", "--run", trained.run, "--input", source, "--data.max_length", "16"
    )
    assert (result.code, "data.max_length: got 16, but" in result.err) == (2, True)


# files


def test_a_csv_file_holds_n_best_as_json(trained: Trained) -> None:
    with own_cache(trained.folder):
        run_plcli(
            *("predict", "--run", trained.run, "--input", trained.folder / "test.jsonl"),
            *("--output", "rows.csv"),
        )
    best = json.loads(read_rows(Path("rows.csv"))[0]["n_best"])[0]
    assert best == predicted(trained.run, trained.folder / "test.jsonl")[0]["n_best"][0]


def test_a_parquet_file_holds_n_best_as_lists(trained: Trained) -> None:
    with own_cache(trained.folder):
        run_plcli(
            *("predict", "--run", trained.run, "--input", trained.folder / "test.jsonl"),
            *("--output", "rows.parquet"),
        )
    rows = pyarrow.parquet.read_table("rows.parquet").to_pylist()
    assert rows == predicted(trained.run, trained.folder / "test.jsonl")


def test_a_typed_row_is_answered(trained: Trained) -> None:
    typed = json.dumps({k: v for k, v in training_rows()[0].items() if k != "answers"})
    result = run_plcli("predict", "--run", trained.run, typed)
    assert json.loads(result.out.splitlines()[-1])["answer"] == "anna"


# resuming


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    words = ("--trainer.max_epochs", 3, "--data.max_length", 24)
    try_fit(tmp_path, training_rows(), *words)
    whole = (tmp_path / "run").rename(tmp_path / "whole")
    with stopped(QuestionAnswerer, lambda module, _: module.global_step == 4):
        assert try_fit(tmp_path, training_rows(), *words).code == 130
    assert try_fit(tmp_path, training_rows(), *words).code == 0
    weights = [
        (run / "model" / "model.safetensors").read_bytes() for run in (whole, tmp_path / "run")
    ]
    assert weights[0] == weights[1]


# the analysis of the test


def test_wrong_answers_are_analysed(trained: Trained) -> None:
    found = trained.analysis()
    got = [row["answer"] for row in trained.predict(trained.test)]
    right = [row["answers"]["text"] for row in trained.test]
    wrong = {
        number
        for number, (answer, correct) in enumerate(zip(got, right, strict=True))
        if answer not in (correct or [""])
    }
    rows = {row["row"]: row for row in found["errors"]["rows"]}
    assert (found["problem"], set(rows)) == ("answers", wrong)
    for number, row in rows.items():
        assert (row["prediction"], row["truth"]) == (got[number], right[number])
    assert found["lengths"]["unit"] == "tokens"
