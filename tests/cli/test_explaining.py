"""Which words moved a decision: integrated gradients, complete, in words of the user's text."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import plcli as package
from plcli.cli.explaining import Explainer
from plcli.errors import ModelError, UsageError
from plcli.models import attribution
from plcli.tasks.question_answering import QuestionAnswerer, QuestionAnsweringData
from plcli.tasks.text_classification import TextClassificationData, TextClassifier
from plcli.tasks.token_classification import TokenClassificationData, TokenClassifier
from tests.conftest import (
    TINY_BERT,
    Command,
    FinishedRun,
    message,
    message_rows,
    printed_rows,
    write_rows,
)
from tests.integration.test_previous_version import INPUTS, copied
from tests.running import read_rows

EXPLAINED = {
    *("single_label", "multi_label", "regression", "sentence_pair", "token_classification"),
    "question_answering",
}
REFUSED = ("causal_lm", "linear", "multiple_choice")
LONG = "the parcel is late again " * 6


class Bag(torch.nn.Module):
    """Sums the embeddings of tokens, and multiplies them: what a token gives is known."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(10, 4)
        self.head = torch.nn.Linear(4, 2)

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.table

    def forward(self, input_ids: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.head(self.table(input_ids).sum(1)))


class BagModule(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.model = network

    def forward(self, batch: dict[str, torch.Tensor]) -> Any:
        return self.model(batch["input_ids"])

    def explained(self, outputs: Any, batch: Any) -> Any:
        return lambda copies: copies.logits[:, 1]


def test_a_linear_model_gives_the_share_of_each_token() -> None:
    torch.manual_seed(1)
    bag = BagModule(Bag()).eval()
    batch = {"input_ids": torch.tensor([[1, 5, 7, 2]])}
    fixed = torch.tensor([[True, False, False, True]])
    found = attribution.attribute(bag, batch, fixed=fixed, pad_id=0)
    table, head = (part.weight.detach() for part in (bag.model.table, bag.model.head))
    shares = [float((table[token] - table[0]) @ head[1]) for token in (5, 7)]
    assert found.scores[0].tolist() == pytest.approx([0.0, *shares, 0.0], abs=1e-6)
    assert abs(found.gap) < 1e-5


def test_it_works_inside_of_inference_mode_and_changes_no_gradient() -> None:
    bag = BagModule(Bag()).eval()
    with torch.inference_mode():
        batch = {"input_ids": torch.tensor([[1, 5]])}
        found = attribution.attribute(
            bag, batch, fixed=torch.zeros(1, 2, dtype=torch.bool), pad_id=0
        )
    assert abs(found.gap) < 1e-5
    assert all(parameter.grad is None for parameter in bag.parameters())


def text_data(**arguments: Any) -> TextClassificationData:
    rows = [*message_rows(), {"message": LONG, "intent": "praise"}]
    write_rows(Path("rows.jsonl"), [{**row, "sender": "anna"} for row in rows])
    settings = {"text": "message", "label": "intent", **arguments}
    return TextClassificationData(train="rows.jsonl", test="rows.jsonl", **settings)


def explainer(data: Any, kind: type, **architecture: Any) -> Explainer:
    torch.manual_seed(0)
    sizes = {**TINY_BERT, "initializer_range": 0.3, **architecture}  # so that decisions differ
    return Explainer(module(kind, data, sizes), data, split="test")


def module(kind: type, data: Any, sizes: dict[str, Any]) -> Any:
    known = {field.name for field in fields(kind)}
    facts = {name: value for name, value in data.facts().items() if name in known}
    return kind(architecture=sizes, **facts).eval()


def check_complete(found: Explainer, row: int) -> None:
    """Check that the scores add up to the difference of the outputs."""
    result = found._scores(row)[2]
    moved = result.output - result.baseline
    assert abs(moved) > 1e-3
    assert float(result.scores.sum()) == pytest.approx(moved, rel=0.03, abs=2e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_length": 10},  # the last row is cut
        {"max_length": 10, "stride": 2},  # and is read in windows
        {"text": "{sender} says: {message}"},
        {"problem": "multi_label"},
    ],
)
def test_the_scores_of_a_text_are_complete(settings: dict[str, Any]) -> None:
    data = text_data(**settings)
    found = explainer(data, TextClassifier)
    last = len(data.rows("test")) - 1
    for row in (0, last):
        check_complete(found, row)
        (text,), words = found.texts(row)
        for word in words:
            assert text[word["start"] : word["end"]] == word["text"]
        shown = "".join(word["text"] for word in words)
        assert text.replace(" ", "").startswith(shown[:20])
    if settings == {"max_length": 10}:
        assert len(words) < len(LONG.split())


def test_the_scores_of_a_number_are_complete() -> None:
    rows = [{"text": text, "score": number} for number, text in enumerate(("late", "good", "bad"))]
    write_rows(Path("rows.jsonl"), rows)
    data = TextClassificationData(
        train="rows.jsonl", test="rows.jsonl", label="score", problem="regression"
    )
    check_complete(explainer(data, TextClassifier), 1)


def test_the_words_of_a_pair_say_of_which_text_they_are() -> None:
    rows = [{"a": "the parcel", "b": "is late", "label": name} for name in ("x", "y", "x", "y")]
    write_rows(Path("rows.jsonl"), rows)
    data = TextClassificationData(train="rows.jsonl", test="rows.jsonl", text=["a", "b"])
    found = explainer(data, TextClassifier)
    check_complete(found, 0)
    (words,) = found.words([0])
    assert [(word["part"], word["text"]) for word in words] == [
        (0, "the"), (0, "parcel"), (1, "is"), (1, "late")
    ]  # fmt: skip


@pytest.mark.parametrize("by_words", [True, False])
def test_the_scores_of_tags_are_complete(by_words: bool) -> None:
    words, tags = ["anna", "lives", "in", "paris", "."] * 4, ["B-who", "O", "O", "B-where", "O"] * 4
    spans = [{"start": 0, "end": 4, "label": "who"}, {"start": 14, "end": 19, "label": "where"}]
    row = {"words": words, "tags": tags, "text": " ".join(words), "spans": spans}
    write_rows(Path("rows.jsonl"), [row] * 2)
    columns = {"words": "words", "tags": "tags"} if by_words else {"text": "text", "spans": "spans"}
    data = TokenClassificationData(train="rows.jsonl", test="rows.jsonl", max_length=14, **columns)
    found = explainer(data, TokenClassifier)
    check_complete(found, 0)
    (text,), scored = found.texts(0)
    assert text == " ".join(words)
    assert [word["text"] for word in scored] == words


@pytest.mark.parametrize("unanswerable", [True, False])
def test_the_scores_of_an_answer_are_complete(unanswerable: bool) -> None:
    context = "anna bought a kettle on monday in leeds and was quite happy with it for a while"
    answers = {"text": ["kettle"], "answer_start": [14]}
    none: dict[str, Any] = {"text": [], "answer_start": []}
    rows = [{"question": "what was bought", "context": context, "answers": answers}]
    rows += [{"question": "who sold it", "context": context, "answers": none}] * unanswerable
    write_rows(Path("rows.jsonl"), rows * 2)
    data = QuestionAnsweringData(train="rows.jsonl", test="rows.jsonl", max_length=16, stride=3)
    found = explainer(data, QuestionAnswerer)
    check_complete(found, 0)
    texts, words = found.texts(0)
    assert texts == ["what was bought", context]
    assert [word["text"] for word in words if word["part"]] == context.split()


SIZES = {key: value for key, value in TINY_BERT.items() if key != "model_type"}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("roberta", "electra", "deberta-v2"), SIZES),
    "gpt2": {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 256},
}


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_other_architectures_are_complete(model_type: str) -> None:
    sizes = {"model_type": model_type, **ARCHITECTURES[model_type], "initializer_range": 0.3}
    data = text_data()
    check_complete(Explainer(module(TextClassifier, data, sizes), data, split="test"), 0)


def test_a_network_that_reads_its_tokens_twice_is_refused() -> None:
    sizes = {"model_type": "bart", "d_model": 16, "encoder_layers": 1, "decoder_layers": 1}
    data = text_data()
    twice = module(TextClassifier, data, {**sizes, "vocab_size": 100})
    with pytest.raises(UsageError, match="--explain: this bart does not read its tokens once"):
        Explainer(twice, data, split="test").words([0])


def test_a_tokenizer_without_offsets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    found = explainer(text_data(), TextClassifier)
    monkeypatch.setattr(type(found.data.loaded_tokenizer), "is_fast", False)
    with pytest.raises(ModelError, match=r"explanations need a tokenizer with a tokenizer\.json"):
        found._encoder.places(["late"])


# the command


def test_predict_writes_the_words_beside_the_prediction(
    plcli: Command, text_run: FinishedRun
) -> None:
    text = "the invoice is wrong"
    result = plcli("predict", "--run", text_run.folder, text, "--explain")
    assert result.code == 0, result.err
    (row,) = printed_rows(result)
    plain = printed_rows(plcli("predict", "--run", text_run.folder, text))[0]
    assert {key: value for key, value in row.items() if key != "explanation"} == plain
    assert [word["text"] for word in row["explanation"]] == text.split()
    assert row["explanation"] == package.load(text_run.folder).explain(text)[0]


def test_a_file_has_a_column_of_explanations(plcli: Command, text_run: FinishedRun) -> None:
    source = write_rows(Path("rows.jsonl"), message_rows()[:3])
    words = ("--input", source, "--keep", "message", "--explain")
    for output in ("out.csv", "out.jsonl"):
        result = plcli("predict", "--run", text_run.folder, *words, "--output", output)
        assert result.code == 0, result.err
    for row in read_rows(Path("out.jsonl")):
        for word in row["explanation"]:
            assert row["message"][word["start"] : word["end"]] == word["text"]
    lines = Path("out.csv").read_text(encoding="utf-8").splitlines()
    assert "explanation" in lines[0].split(",")


@pytest.mark.parametrize("name", [*sorted(EXPLAINED & {*INPUTS}), *REFUSED])
def test_every_task_is_explained_or_says_why_not(plcli: Command, name: str) -> None:
    run = copied(name)
    source = [*read_rows(Path(package.__file__).parent / "examples" / INPUTS[name])][:2]
    given = write_rows(Path(f"some{Path(INPUTS[name]).suffix}"), source)
    words = ("--input", given, "--output", "out.jsonl", "--explain")
    result = plcli("predict", "--run", run, *words)
    if name in EXPLAINED:
        assert result.code == 0, result.err
        assert all(isinstance(row["explanation"], list) for row in read_rows(Path("out.jsonl")))
        return
    assert result.code == 2
    assert "--explain: " in message(result)
    assert "It is for text classification, token classification and question answering" in message(
        result
    )
    assert not Path("out.jsonl").exists()


def test_the_option_takes_no_value(plcli: Command, text_run: FinishedRun) -> None:
    result = plcli("predict", "--run", text_run.folder, "a", "--explain=true")
    assert result.code == 2
    assert "--explain takes no value; got 'true'." in message(result)
