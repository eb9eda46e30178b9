"""validate, test and predict with weights that others trained, named by --model.pretrained."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from sklearn import metrics as sk
from transformers import BertForQuestionAnswering, BertForTokenClassification

from tests.conftest import (
    Command,
    FinishedRun,
    message,
    message_rows,
    number,
    printed_rows,
    write_rows,
)
from tests.running import changed, read_rows
from tests.tiny import bert_classifier, bert_tokenizer

NAMES = ["praise", "billing", "delivery"]
COLUMNS = ("--data.text", "message", "--data.label", "intent")


def save(network: Any, names: list[str] | None = None, **settings: Any) -> str:
    """Save a network whose answers differ, as others would have it."""
    torch.manual_seed(3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    if names is not None:
        network.config.id2label = dict(enumerate(names))
        network.config.label2id = {name: index for index, name in enumerate(names)}
    for setting, value in settings.items():
        setattr(network.config, setting, value)
    network.save_pretrained("public")
    words = sorted({word for row in message_rows() for word in row["message"].split()})
    bert_tokenizer(words=words[:10], model_max_length=32).save_pretrained("public")
    return "public"


@pytest.fixture
def classifier() -> str:
    """A classifier whose labels stand in an order of their own."""
    return save(bert_classifier(), NAMES)


@pytest.fixture
def rows() -> Path:
    """Rows to score."""
    return write_rows(Path("rows.jsonl"), message_rows())


def pipeline_answers() -> list[dict[str, Any]]:
    """Return what transformers answers to the rows."""
    pipe = transformers.pipeline("text-classification", model="public", device="cpu", top_k=None)
    answers = pipe([row["message"] for row in message_rows()])
    return [{entry["label"]: entry["score"] for entry in answer} for answer in answers]


def test_a_public_classifier_is_scored_as_transformers_pipeline_answers(
    plcli: Command, classifier: str, rows: Path
) -> None:
    result = plcli("test", "--model.pretrained", classifier, "--data.test", rows, *COLUMNS)
    assert "using public as it is, without training" in result.err
    truth = [row["intent"] for row in message_rows()]
    answers = [max(answer, key=answer.__getitem__) for answer in pipeline_answers()]
    assert len(set(answers)) > 1
    assert number(result, "accuracy") == round(sk.accuracy_score(truth, answers), 4)
    macro = sk.f1_score(truth, answers, average="macro", labels=NAMES, zero_division=0)
    assert number(result, "macro_f1") == round(macro, 4)


def test_it_predicts_the_probabilities_of_transformers_pipeline(
    plcli: Command, classifier: str, rows: Path
) -> None:
    words = ("--data.text", "message", "--input", rows, "--output", "out.jsonl")
    assert plcli("predict", "--model.pretrained", classifier, *words).code == 0
    ours = [row["probability"] for row in read_rows(Path("out.jsonl"))]
    assert ours == [pytest.approx(answer, abs=1e-6) for answer in pipeline_answers()]


def test_validate_scores_it_too(plcli: Command, classifier: str, rows: Path) -> None:
    words = ("--data.validation", rows, *COLUMNS)
    result = plcli("validate", "--model.pretrained", classifier, *words)
    assert (result.code, number(result, "accuracy") > 0) == (0, True)


def test_a_config_names_the_task_and_its_training_rows_are_not_read(
    plcli: Command, classifier: str, rows: Path, text_config: Path
) -> None:
    words = ("--data.train", "nowhere.csv", "--data.test", rows)
    named = plcli("test", "-c", text_config, "--model.pretrained", classifier, *words)
    assert named.code == 0, named.err
    bare = plcli("test", "--model.pretrained", classifier, "--data.test", rows, *COLUMNS)
    assert named.out == bare.out


def test_labels_without_names_are_named_in_the_models_order(plcli: Command, rows: Path) -> None:
    save(bert_classifier())
    words = ("--model.pretrained", "public", "--data.test", rows, *COLUMNS)
    result = plcli("test", *words)
    assert result.code == 3
    assert (
        "the labels of public have no names, only LABEL_0 and so on. Name them in the model's "
        "order with --data.labels '[NAME, ...]'"
    ) in result.err
    named = plcli("test", *words, "--data.labels", f"[{', '.join(NAMES)}]")
    save(bert_classifier(), NAMES)
    assert named.out == plcli("test", *words).out


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("[a, b]", "data.labels: got 2 labels, but public has 3. Give one for each, in the"),
        ("[a, b, b]", "b"),
    ],
)
def test_other_numbers_of_labels_are_refused(
    plcli: Command, rows: Path, labels: str, said: str
) -> None:
    save(bert_classifier())
    words = ("--model.pretrained", "public", "--data.test", rows, *COLUMNS)
    result = plcli("test", *words, "--data.labels", labels)
    assert (result.code, said in message(result)) == (2, True)


def test_another_order_than_that_of_the_named_labels_is_refused(
    plcli: Command, classifier: str, rows: Path
) -> None:
    words = ("--data.test", rows, *COLUMNS, "--data.labels", "[billing, delivery, praise]")
    result = plcli("test", "--model.pretrained", classifier, *words)
    assert result.code == 2
    assert "but the weights of public require ['praise', 'billing', 'delivery']" in message(result)


def test_a_regression_keeps_its_unit(plcli: Command) -> None:
    save(bert_classifier(num_labels=1), problem_type="regression")
    rows = changed(message_rows(), target=[1990 + index for index in range(12)])
    write_rows(Path("rows.jsonl"), rows)
    words = ("--data.text", "message", "--input", "rows.jsonl", "--output", "out.jsonl")
    assert plcli("predict", "--model.pretrained", "public", *words).code == 0
    pipe = transformers.pipeline(
        "text-classification", model="public", device="cpu", function_to_apply="none"
    )
    theirs = [answer["score"] for answer in pipe([row["message"] for row in rows])]
    assert [row["score"] for row in read_rows(Path("out.jsonl"))] == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "function"),
    [
        ({"problem_type": None}, "sigmoid"),
        (
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            "none",
        ),
    ],
    ids=["a cross-encoder", "one that says it has none"],
)
def test_a_single_output_is_what_its_config_says(
    plcli: Command, rows: Path, settings: dict[str, Any], function: str
) -> None:
    save(bert_classifier(num_labels=1), **settings)
    words = ("--data.text", "message", "--input", rows, "--output", "out.jsonl")
    assert plcli("predict", "--model.pretrained", "public", *words).code == 0
    pipe = transformers.pipeline(
        "text-classification", model="public", device="cpu", function_to_apply=function
    )
    theirs = [answer["score"] for answer in pipe([row["message"] for row in message_rows()])]
    assert [row["score"] for row in read_rows(Path("out.jsonl"))] == pytest.approx(theirs, rel=1e-5)


def test_weights_are_asked_for_as_they_are_beside_a_run(
    plcli: Command, classifier: str, rows: Path, text_config: Path
) -> None:
    words = ("-c", text_config, "--model.pretrained", classifier, "--data.test", rows)
    before = plcli("test", *words)
    assert plcli("fit", *words).code == 0
    after = plcli("test", *words, "--ckpt_path", "pretrained")
    assert (after.code, after.out) == (0, before.out), after.err


def test_checkpoints_of_pretrained_weights_are_refused(
    plcli: Command, classifier: str, rows: Path
) -> None:
    words = ("--model.pretrained", classifier, "--data.test", rows, "--ckpt_path", "last")
    result = plcli("test", *words, *COLUMNS)
    assert result.code == 2
    assert "--ckpt_path last: public is not a run and has no checkpoints." in message(result)


def test_pretrained_weights_that_are_not_named_are_refused(plcli: Command, rows: Path) -> None:
    result = plcli("test", "--run", "run", "--ckpt_path", "pretrained")
    assert result.code == 2
    assert "but there are none beside --run. Name them with --model.pretrained." in message(result)


@pytest.mark.parametrize("folder", ["", "model"])
def test_a_run_is_named_as_a_run(plcli: Command, text_run: FinishedRun, folder: str) -> None:
    name = text_run.folder / folder
    result = plcli("test", "--model.pretrained", name)
    assert result.code == 2
    assert "is a model of plcli, with thresholds and columns of its own." in message(result)


def test_tags_and_answers_are_scored_too(plcli: Command) -> None:
    config = bert_classifier().config
    config.num_labels = 3
    save(BertForTokenClassification(config), ["O", "B-x", "I-x"])
    write_rows(Path("tags.jsonl"), [{"words": ["the", "parcel"], "tags": ["O", "B-x"]}] * 3)
    tags = plcli(
        "test",
        "--model.pretrained",
        "public",
        "--data.test",
        "tags.jsonl",
        "--data.words",
        "words",
        "--data.tags",
        "tags",
    )
    assert (tags.code, "f1" in tags.out) == (0, True), tags.err
    config.num_labels = 2
    save(BertForQuestionAnswering(config))
    answer = {"text": ["parcel"], "answer_start": [4]}
    row = {"question": "what", "context": "the parcel is late", "answers": answer}
    write_rows(Path("questions.jsonl"), [row] * 3)
    answers = plcli("test", "--model.pretrained", "public", "--data.test", "questions.jsonl")
    assert (answers.code, "exact_match" in answers.out) == (0, True), answers.err


def test_weights_without_a_head_are_refused(plcli: Command, rows: Path, text_config: Path) -> None:
    network = bert_classifier()
    save(network, NAMES)
    network.bert.save_pretrained("public")
    words = ("--model.pretrained", "public", "--data.test", rows)
    result = plcli("test", "-c", text_config, *words)
    assert result.code == 4
    assert "public: has no weights for classifier.bias and 1 more, so that" in message(result)
    result = plcli("test", *words)
    assert result.code == 4
    assert "the config.json of public names BertModel, which is the model of no" in message(result)


def test_a_finished_run_of_the_same_config_comes_first(
    plcli: Command, classifier: str, rows: Path, text_config: Path
) -> None:
    words = ("-c", text_config, "--model.pretrained", classifier, "--data.test", rows)
    assert plcli("fit", *words).code == 0
    result = plcli("test", *words, "--model.architecture", "null")
    assert "the newest finished run of this config" in result.err


def test_texts_are_predicted_without_a_file(plcli: Command, classifier: str) -> None:
    words = ("--data.text", "message", "the invoice is wrong")
    result = plcli("predict", "--model.pretrained", classifier, *words)
    assert list(printed_rows(result)[0]["probability"]) == NAMES


def test_nothing_is_left_of_a_config_that_is_damaged(plcli: Command, classifier: str) -> None:
    config = Path(classifier, "config.json")
    config.write_text(json.dumps({**json.loads(config.read_text()), "id2label": {"0": "a"}}))
    result = plcli("test", "--model.pretrained", classifier, "--data.test", "rows.jsonl", *COLUMNS)
    assert result.code in (3, 4)
