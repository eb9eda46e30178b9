"""Text classification of long texts in windows, and of columns joined by a template."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional

from plcli.errors import ModelError, UsageError
from plcli.models.pooling import pooled
from plcli.tasks.text_classification import TextClassificationData, TextClassifier
from tests.conftest import TINY_BERT, message_rows, write_rows
from tests.running import (
    TrainedRun,
    by_heart,
    card,
    fit,
    own_cache,
    predicted,
    read_json,
    run_plcli,
)
from tests.tiny import bert_tokenizer

FILLER = "well you see it is like this i think and so on it goes"
LENGTH, STRIDE = 12, 3
WINDOWS = {"max_length": LENGTH, "stride": STRIDE}


def long_rows() -> list[dict[str, Any]]:
    """Messages of several lengths: with much, little or nothing to be said before they begin."""
    fillers = [f"{FILLER} {FILLER}", FILLER, ""]
    return [
        {
            "message": f"{fillers[index % 3]} {row['message']}",
            "sender": f"customer {index}",
            "intent": row["intent"],
        }
        for index, row in enumerate(message_rows())
    ]


@dataclass
class Trained(TrainedRun):
    """A run of windows, and how transformers loads it."""

    rows: list[dict[str, Any]]

    @property
    def source(self) -> Path:
        return self.folder / "rows.jsonl"

    def logits(self) -> list[torch.Tensor]:
        """Return the logits of each row's windows, with nothing of plcli."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.run / "model")
        model = AutoModelForSequenceClassification.from_pretrained(self.run / "model").eval()
        found = []
        for row in self.rows:
            tokens = tokenizer(
                row["message"], truncation=True, max_length=LENGTH, stride=STRIDE, padding=True,
                return_overflowing_tokens=True, return_tensors="pt",
            )  # fmt: skip
            tokens.pop("overflow_to_sample_mapping")
            with torch.no_grad():
                found.append(model(**tokens).logits)
        return found


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A tiny classifier that learned long texts by heart."""
    folder = tmp_path_factory.mktemp("windows")
    rows = long_rows()
    source = str(write_rows(folder / "rows.jsonl", rows))
    fit(
        folder,
        model=by_heart(),
        data={"train": source, "validation": source, "test": source, "text": "message"}
        | {"label": "intent", "batch_size": 4, **WINDOWS},
        trainer={"max_epochs": 25, "check_val_every_n_epoch": 5},
    )
    return Trained(folder, rows)


def probabilities(rows: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """Return the probabilities of predictions, [rows, labels]."""
    return np.array([list(row["probability"].values()) for row in rows])


def data(folder: Path, **arguments: Any) -> TextClassificationData:
    """Open the long rows with a tokenizer that is fitted on them."""
    source = str(write_rows(folder / "rows.jsonl", long_rows()))
    defaults = {"train": source, "validation": source, "text": "message", "label": "intent"}
    return TextClassificationData(**{**defaults, **arguments})


def classifier(**arguments: Any) -> TextClassifier:
    """Build a tiny classifier with no data and no dropout."""
    sizes: dict[str, Any] = {"architecture": TINY_BERT, "vocab_size": 30, "labels": ["a", "b", "c"]}
    return TextClassifier(**{**sizes, **arguments}).eval()  # type: ignore[return-value]


def batch_of_windows() -> dict[str, torch.Tensor]:
    """Seven windows of three rows."""
    ids = torch.randint(5, 30, (7, 6), generator=torch.Generator().manual_seed(0))
    row_index = torch.tensor([0, 0, 0, 1, 2, 2, 2])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "row_index": row_index}


# windows


def test_windows_learn_what_stands_behind_the_cut(trained: Trained) -> None:
    labels = [row["label"] for row in predicted(trained.run, trained.source)]
    assert labels == [row["intent"] for row in trained.rows]


def test_a_row_of_several_windows_is_predicted_once(trained: Trained) -> None:
    assert [row["id"] for row in predicted(trained.run, trained.source)] == list(range(12))


def test_predictions_are_the_mean_over_the_windows_that_transformers_makes(
    trained: Trained,
) -> None:
    theirs = torch.stack([logits.mean(0).softmax(-1) for logits in trained.logits()]).numpy()
    assert np.allclose(probabilities(predicted(trained.run, trained.source)), theirs, atol=1e-5)


@pytest.mark.parametrize("pooling", ["max", "first"])
def test_pooling_can_be_chosen_for_a_prediction(trained: Trained, pooling: str) -> None:
    def one(logits: torch.Tensor) -> torch.Tensor:
        return logits.max(0).values if pooling == "max" else logits[0]

    theirs = torch.stack([one(logits).softmax(-1) for logits in trained.logits()]).numpy()
    ours = predicted(trained.run, trained.source, "--model.pooling", pooling)
    assert np.allclose(probabilities(ours), theirs, atol=1e-5)


def test_the_loss_of_a_split_is_the_mean_over_its_rows_not_its_windows(trained: Trained) -> None:
    names = card(trained.run)["labels"]
    logits = torch.stack([logits.mean(0) for logits in trained.logits()])
    true = torch.tensor([names.index(row["intent"]) for row in trained.rows])
    theirs = float(functional.cross_entropy(logits, true))
    assert read_json(trained.run / "metrics.json")["test"]["loss"] == pytest.approx(
        theirs, abs=1e-5
    )


def test_the_size_of_a_batch_does_not_change_predictions_of_windows(trained: Trained) -> None:
    one = predicted(trained.run, trained.source, "--data.batch_size", 1)
    assert np.allclose(
        probabilities(one), probabilities(predicted(trained.run, trained.source)), atol=1e-6
    )


def test_a_pipeline_sees_the_first_window(trained: Trained) -> None:
    import transformers

    loaded = transformers.pipeline("text-classification", str(trained.run / "model"), top_k=None)
    found = loaded([trained.rows[0]["message"]], truncation=True)[0]
    theirs = sorted(trained.logits()[0][0].softmax(-1).tolist(), reverse=True)
    assert [label["score"] for label in found] == pytest.approx(theirs, abs=1e-5)


def test_the_artefact_says_how_a_long_text_is_read(trained: Trained) -> None:
    content = card(trained.run)
    found = (content["facts"]["stride"], content["facts"]["max_windows"], content["pooling"])
    assert found == (STRIDE, 8, "mean")


def test_another_stride_than_that_of_the_weights_is_refused(trained: Trained) -> None:
    result = run_plcli("test", "--run", trained.run, "--data.stride", 5)
    assert (result.code, "data.stride: got 5, but" in result.err) == (2, True)


def test_the_number_of_windows_and_what_they_cut_is_said(tmp_path: Path) -> None:
    opened = data(tmp_path, **WINDOWS, max_windows=2)
    assert opened.describe("train").startswith(
        "train: 12 rows, 8 cut to 2 windows of 12 tokens (data.max_windows), 20 windows; billing 4"
    )


def test_windows_that_cut_nothing_say_nothing_of_it(tmp_path: Path) -> None:
    assert "cut" not in data(tmp_path, **WINDOWS).describe("train")


def test_a_batch_holds_all_windows_of_its_rows(tmp_path: Path) -> None:
    opened = data(tmp_path, **WINDOWS)
    batch = opened.first_batch("validation")
    assert (
        torch.bincount(batch["row_index"]).tolist()
        == np.diff(opened.encoded("train").first).tolist()
    )


def test_the_loss_of_a_batch_counts_its_rows(tmp_path: Path) -> None:
    assert classifier().count(data(tmp_path, **WINDOWS).first_batch("validation")) == 12


@pytest.mark.parametrize(
    ("pooling", "one"),
    [("mean", lambda logits: logits.mean(0)), ("max", lambda logits: logits.max(0).values)],
)
def test_pooled_logits_are_those_of_a_plain_loop(
    pooling: Any, one: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    row_index = batch_of_windows()["row_index"]
    logits = torch.randn(7, 3, generator=torch.Generator().manual_seed(0)) - 5  # below zero
    loop = torch.stack([one(logits[row_index == row]) for row in range(3)])
    assert torch.allclose(pooled(logits, row_index, pooling), loop)


def test_first_runs_the_first_windows_alone() -> None:
    module, batch = classifier(pooling="first"), batch_of_windows()
    first = {key: batch[key][[0, 3, 4]] for key in ("input_ids", "attention_mask")}
    assert torch.equal(module(batch).logits, module(first).logits)


@pytest.mark.parametrize("problem", ["single_label", "multi_label", "regression"])
def test_windows_have_the_loss_of_the_network_where_rows_have_one(problem: Any) -> None:
    module = classifier(problem=problem)
    batch = {**batch_of_windows(), "row_index": torch.arange(7)}
    batch["labels"] = {
        "single_label": torch.arange(7) % 3,
        "multi_label": torch.arange(21).reshape(7, 3) % 2 * 1.0,
        "regression": torch.arange(7) / 3,
    }[problem]
    with torch.no_grad():
        whole = module({key: value for key, value in batch.items() if key != "row_index"})
        ours = module.loss(module(batch), batch)
    assert float(ours) == pytest.approx(float(whole.loss), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"stride": -1}, r"data\.stride: got -1, expected 0 or more\."),
        ({"max_windows": 0}, r"data\.max_windows: got 0, expected 1 or more\."),
        (
            {"stride": 2, "text": ["subject", "message"]},
            r"two columns\. Join them with a template, such as '\{subject\} \[SEP\] \{message\}'",
        ),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        TextClassificationData(train="x.csv", **arguments)


def test_windows_that_would_not_move_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError,
        match=r"data\.stride: got 10, expected less than 10, the number of text tokens in a "
        r"window of 12 \(data\.max_length\)\.",
    ):
        data(tmp_path, max_length=12, stride=10).encoded("train")


def test_the_widest_overlap_that_moves_on_is_taken(tmp_path: Path) -> None:
    opened = data(
        tmp_path, max_length=12, stride=9, max_windows=99
    )  # ten words a window, which move on by one
    words = [
        len(opened.loaded_tokenizer(row["message"], add_special_tokens=False)["input_ids"])
        for row in long_rows()
    ]
    assert np.diff(opened.encoded("train").first).tolist() == [max(1, n - 9) for n in words]


def test_windows_without_a_fast_tokenizer_are_refused(tmp_path: Path) -> None:
    opened = data(tmp_path, **WINDOWS)

    class Slow:
        is_fast = False

        def num_special_tokens_to_add(self, *, pair: bool) -> int:
            return 2

    opened.__dict__["loaded_tokenizer"] = Slow()
    with pytest.raises(ModelError, match=r"windows need a tokenizer with a tokenizer\.json"):
        opened.encoder("train")


# templates


TEMPLATE = "subject: {sender} [SEP] {message}"


def test_a_template_makes_one_text_of_its_columns(tmp_path: Path) -> None:
    opened = data(tmp_path, text=TEMPLATE)
    tokenizer, row = opened.loaded_tokenizer, long_rows()[0]
    theirs = tokenizer(f"subject: {row['sender']} [SEP] {row['message']}")["input_ids"]
    assert opened.encoded("train").numbers("input_ids", 0).tolist() == theirs


def test_the_separator_of_a_template_is_that_of_the_tokenizer(tmp_path: Path) -> None:
    opened = data(tmp_path, text=TEMPLATE)
    ids = opened.encoded("train").numbers("input_ids", 0).tolist()
    assert ids.count(opened.loaded_tokenizer.sep_token_id) == 2


def test_a_fitted_tokenizer_knows_the_words_of_the_template(tmp_path: Path) -> None:
    plain = data(tmp_path, text="{sender} {message}").loaded_tokenizer
    named = data(tmp_path, text="topics {sender} {message}").loaded_tokenizer
    assert ["topics" in tokenizer.vocab for tokenizer in (plain, named)] == [False, True]


def test_the_columns_of_a_template_are_the_inputs(tmp_path: Path) -> None:
    assert data(tmp_path, text=TEMPLATE).inputs == ["sender", "message"]


def test_templates_and_windows_go_together(tmp_path: Path) -> None:
    opened = data(tmp_path, text=TEMPLATE, **WINDOWS)
    assert len(opened.encoded("train")) > 12


def test_another_template_is_encoded_anew(tmp_path: Path) -> None:
    lengths = [
        data(tmp_path, text=text).encoded("train").lengths[0] for text in ("{message}", TEMPLATE)
    ]
    assert lengths[0] < lengths[1]


def test_a_template_that_is_broken_is_refused() -> None:
    with pytest.raises(UsageError, match=r"data\.text: '\{message' has an unpaired '\{'"):
        TextClassificationData(train="x.csv", text="{message")


def test_typed_columns_of_a_template_get_what_their_row_gets(tmp_path: Path) -> None:
    rows = [{**row, "subject": row["intent"][:2]} for row in message_rows()]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    run = fit(
        tmp_path,
        model={"architecture": TINY_BERT},
        data={"train": str(source), "validation": str(source), "label": "intent"}
        | {"text": "{subject} [SEP] {message}"},
    )
    typed = json.dumps({key: rows[0][key] for key in ("subject", "message")})
    with own_cache(tmp_path):
        result = run_plcli("predict", "--run", run, typed)
    assert json.loads(result.out)["score"] == pytest.approx(
        predicted(run, source)[0]["score"], abs=1e-6
    )


def test_no_words_of_a_row_are_taken_for_columns(tmp_path: Path) -> None:
    rows = [{"message": "a {brace} of {0}", "intent": name} for name in ("a", "b")]
    source = str(write_rows(tmp_path / "braces.jsonl", rows))
    opened = data(tmp_path, train=source, validation=source, text="{message}")
    theirs = opened.loaded_tokenizer("a {brace} of {0}")["input_ids"]
    assert opened.encoded("train").numbers("input_ids", 0).tolist() == theirs


def test_windows_of_the_encoder_are_at_most_so_many() -> None:
    from plcli.data.token_cache import TextEncoder

    encoder = TextEncoder(bert_tokenizer(), max_length=4, stride=0, max_windows=2)
    found = encoder([["the the the the the", "the the the the", "the"]], lambda row: "")
    assert (found["row"], found["truncated"]) == (
        [0, 0, 1, 1, 2],
        [True, True, False, False, False],
    )
