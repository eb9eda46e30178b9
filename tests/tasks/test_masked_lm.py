"""Masked language models: trained, saved, loaded, measured; masks that are filled."""

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from plcli.data.encoders.masks import fill_in
from plcli.errors import DataError, ModelError, UsageError
from plcli.tasks.masked_lm import MaskedLM, MaskedLMData
from tests.conftest import TINY_BERT, message, write_rows
from tests.running import (
    adamw,
    fit,
    own_cache,
    predicted,
    read_json,
    read_metrics,
    run_plcli,
    stopped,
    try_fit,
)
from tests.tiny import bert_tokenizer, save_bert

PUBLIC = ("MaskedLM", "MaskedLMData")  # configs and checkpoints name them

CLASSES = ("plcli.tasks.masked_lm.MaskedLM", "plcli.tasks.masked_lm.MaskedLMData")
TEXTS = ["the invoice is wrong again", "my parcel never came here", "thank you for the quick help"]
ROWS = [{"text": text} for text in TEXTS]
GAPS = [
    "The invoice [MASK] wrong again",
    "my [MASK] never [MASK] here",
    "thank [MASK] for the quick help",
]


def sections(folder: Path, *, times: int = 4, **data: Any) -> dict[str, Any]:
    """Return the sections of a config that overfits three texts."""
    write_rows(folder / "train.jsonl", ROWS * times)
    file = str(folder / "train.jsonl")
    return {
        "model": {
            "architecture": {**TINY_BERT, "initializer_range": 0.1, "hidden_dropout_prob": 0.0},
            "optimizer": adamw(1e-2),
            "schedule": "constant",
        },
        "data": {"train": file, "validation": file, "test": file, "batch_size": 6, **data},
        "classes": CLASSES,
    }


@dataclass(frozen=True)
class Trained:
    """A run that knows three texts by heart."""

    run: Path
    gaps: Path

    @property
    def model(self) -> Path:
        return self.run / "model"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What the loaded model fills in."""
        return predicted(self.run, self.gaps)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("masked")
    config = sections(folder, times=30, mask_probability=0.3)
    run = fit(folder, **config, trainer={"max_epochs": 12, "check_val_every_n_epoch": 6})
    return Trained(run, write_rows(folder / "gaps.jsonl", [{"text": text} for text in GAPS]))


def data(source: Path | str, **settings: Any) -> MaskedLMData:
    """Return data with BERT's tokenizer of a few words."""
    made = MaskedLMData(train=str(source), validation=str(source), **settings)
    made.__dict__["loaded_tokenizer"] = bert_tokenizer()
    made.num_pieces = 1
    return made


def labels(made: MaskedLMData, split: str, rows: Any = range(3)) -> list[list[int]]:
    """Return the labels of a split's first blocks."""
    batch = made.split(split)[rows]
    found: list[list[int]] = (batch["pieces"][0] if split == "train" else batch)["labels"].tolist()
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three texts."""
    texts = ["the invoices is wrong", "parcels late thank you", "the parcel is late"]
    return write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in texts])


# filling


def test_gaps_in_what_was_learnt_by_heart_are_filled(trained: Trained) -> None:
    assert [row["text"] for row in trained.rows] == [
        "The invoice is wrong again",
        "my parcel never came here",
        "thank you for the quick help",
    ]


def test_every_mask_has_its_fill(trained: Trained) -> None:
    tokens = [[fill["token"] for fill in row["fills"]] for row in trained.rows]
    assert tokens == [["is"], ["parcel", "came"], ["you"]]


def test_the_pipeline_gives_the_same_candidates(trained: Trained) -> None:
    from transformers import pipeline

    fill = pipeline("fill-mask", model=str(trained.model), device="cpu")
    for row, text in zip(trained.rows, GAPS, strict=True):
        answer = fill(text)
        found = answer if isinstance(answer[0], list) else [answer]
        ours = [each["candidates"] for each in row["fills"]]
        assert [[c["token"] for c in mask] for mask in ours] == [
            [c["token_str"] for c in mask] for mask in found
        ]
        assert [c["score"] for mask in ours for c in mask] == pytest.approx(
            [c["score"] for mask in found for c in mask], rel=1e-4
        )


@pytest.mark.parametrize(
    ("text", "fills", "filled"),
    [
        ("the [MASK] is [MASK]", ["[MASK]", "late"], "the [MASK] is late"),
        ("the invoice [MASK] late", ["##s"], "the invoices late"),
        ("the invoice[MASK] late", ["##s"], "the invoices late"),
        ("[MASK] is late", ["##s"], "s is late"),
        ("the [MASK] is [MASK]", ["parcel"], "the parcel is [MASK]"),
    ],
    ids=["a mask", "a piece", "a piece without a blank", "a piece at the beginning", "cut away"],
)
def test_a_fill_stands_in_the_place_of_its_mask(text: str, fills: list[str], filled: str) -> None:
    assert fill_in(bert_tokenizer(), text, fills) == filled


def test_a_predicted_mask_is_not_filled_again() -> None:
    made = MaskedLM(architecture=TINY_BERT, vocab_size=15, pad_token_id=0)
    made.tokenizer = bert_tokenizer()
    logits = torch.zeros(1, 2, 15)
    logits[0, 0, 4] = logits[0, 1, 5] = 9.0  # [MASK], the
    batch = {"id": [0], "text": ["[MASK] [MASK]"], "input_ids": torch.tensor([[4, 4]])}
    rows = made.predict_rows(SimpleNamespace(logits=logits), batch)
    assert rows[0]["text"] == "[MASK] the"


def test_so_many_candidates_are_given(trained: Trained) -> None:
    rows = predicted(trained.run, trained.gaps, "--model.candidates", "2")
    assert [len(fill["candidates"]) for row in rows for fill in row["fills"]] == [2] * 4


def test_batches_do_not_change_what_is_filled(trained: Trained) -> None:
    rows = predicted(trained.run, trained.gaps, "--data.batch_size", "1")
    assert [row["text"] for row in rows] == [row["text"] for row in trained.rows]
    assert [f["score"] for row in rows for f in row["fills"]] == pytest.approx(
        [f["score"] for row in trained.rows for f in row["fills"]], rel=1e-4
    )


def test_a_text_without_a_mask_is_refused_with_its_row(trained: Trained) -> None:
    with own_cache(trained.run.parent):
        result = run_plcli("predict", "--run", trained.run, "a [MASK]", "the invoice")
    assert (result.code, message(result)) == (
        3,
        "plcli: the command line, row 2: contains no [MASK], so that there is nothing to fill in. "
        "Write [MASK] in place of a word.\n",
    )


def test_a_mask_behind_the_longest_text_is_refused(tmp_path: Path) -> None:
    write_rows(tmp_path / "late.jsonl", [{"text": "the parcel is late [MASK]"}])
    made = data(tmp_path / "late.jsonl", predict=str(tmp_path / "late.jsonl"), max_length=4)
    with pytest.raises(DataError, match=r"row 1: its \[MASK\] is not within the first 4 tokens"):
        made.split("predict")


# what is hidden


def test_other_tokens_are_hidden_each_time_in_training(source: Path) -> None:
    made = data(source)
    torch.manual_seed(0)
    assert len({str(labels(made, "train")) for _ in range(10)}) > 1


def test_what_is_hidden_in_training_follows_from_the_global_seed(source: Path) -> None:
    made, found = data(source), []
    for _ in range(2):
        torch.manual_seed(7)
        found.append(labels(made, "train"))
    assert found[0] == found[1]


def test_the_same_tokens_are_hidden_in_every_validation(source: Path) -> None:
    made = data(source)
    assert labels(made, "validation") == labels(made, "validation")


def test_what_is_hidden_in_validation_does_not_depend_on_the_batch(source: Path) -> None:
    made = data(source)
    alone = [[x for x in labels(made, "validation", [row])[0] if x >= 0] for row in range(3)]
    assert alone == [[x for x in row if x >= 0] for row in labels(made, "validation")]


def test_every_block_hides_a_token(source: Path) -> None:
    assert all(max(row) >= 0 for row in labels(data(source, mask_probability=0.01), "validation"))


def test_special_tokens_are_never_hidden(source: Path) -> None:
    for row in labels(data(source, mask_probability=0.99), "validation"):
        assert not {2, 3} & set(row)


def test_more_is_hidden_with_a_larger_probability(source: Path) -> None:
    few, many = (
        sum(x >= 0 for row in labels(data(source, mask_probability=p), "validation") for x in row)
        for p in (0.2, 0.9)
    )
    assert (few, many) == (3, 12)


@pytest.mark.parametrize("whole", [True, False])
def test_a_word_may_be_hidden_whole(tmp_path: Path, whole: bool) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "parcelsers lateers you"}] * 20)
    made = data(rows, whole_word=whole)
    parts = [sum(x >= 0 for x in row) for row in labels(made, "validation", range(20))]
    assert (set(parts), max(parts)) == (({1, 3, 4}, 4) if whole else ({1}, 1))


def test_blocks_have_special_tokens_around_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"text": "the invoice is wrong late"}] * 2)
    batch = data(tmp_path / "rows.jsonl", max_length=4).split("validation")[range(6)]
    assert (set(batch["input_ids"][:, 0].tolist()), batch["attention_mask"].sum(1).tolist()) == (
        {2},
        [4, 4, 3] * 2,
    )


def test_joined_documents_have_a_separator_between_them(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", [{"text": "the invoice"}, {"text": "late"}])
    made = data(tmp_path / "rows.jsonl", cross_documents=True, max_length=20)
    made.mask_probability = 1e-9
    batch = made.split("validation")[range(1)]
    whole = torch.where(batch["labels"] >= 0, batch["labels"], batch["input_ids"])[0].tolist()
    assert made.loaded_tokenizer.decode(whole) == "[CLS] the invoice [SEP] late [SEP] [SEP]"


# numbers


def test_the_perplexity_is_that_of_the_hidden_tokens(trained: Trained) -> None:
    from transformers import AutoModelForMaskedLM

    with own_cache(trained.run.parent):
        made = MaskedLMData(
            test=str(trained.run.parent / "train.jsonl"),
            tokenizer=str(trained.model),
            mask_probability=0.3,
        )
        batch = made.split("test")[range(90)]
    network = AutoModelForMaskedLM.from_pretrained(trained.model).eval()
    with torch.inference_mode():
        logits = network(batch["input_ids"], batch["attention_mask"]).logits
    hidden = batch["labels"] >= 0
    scores = logits[hidden].log_softmax(-1).gather(1, batch["labels"][hidden][:, None])
    test = read_json(trained.run / "metrics.json")["test"]
    assert test["perplexity"] == pytest.approx(float((-scores.mean()).exp()), rel=1e-4)
    right = (logits[hidden].argmax(-1) == batch["labels"][hidden]).float().mean()
    assert test["accuracy"] == pytest.approx(float(right), rel=1e-6)


def test_test_gives_the_numbers_of_the_fit(trained: Trained) -> None:
    with own_cache(trained.run.parent):
        result = run_plcli("test", "--run", trained.run)
    loss = read_json(trained.run / "metrics.json")["test"]["loss"]
    assert f"{loss:.4f}" in result.out


def test_a_run_that_goes_on_has_the_numbers_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    numbers, bert = [], save_bert(tmp_path / "bert")
    for name in ("whole", "stopped"):
        folder = tmp_path / name
        folder.mkdir()
        config = sections(folder, whole_word=True)
        config["model"]["architecture"].pop("hidden_dropout_prob")
        config["data"]["tokenizer"] = str(bert)  # a fitted one may number its pieces otherwise
        trainer = {"max_epochs": 2}
        if name == "stopped":
            with stopped(MaskedLM, lambda module, batch: (module.current_epoch, batch) == (1, 1)):
                every = ("--checkpoint.every_n_steps", "1")
                assert try_fit(folder, *every, **config, trainer=trainer).code == 130
        run = fit(folder, "--checkpoint.every_n_steps", "1", **config, trainer=trainer)
        numbers.append(read_metrics(run))
    assert numbers[0] == numbers[1]


# what is refused, and what is said


@pytest.mark.parametrize("probability", [0, 1, -0.5])
def test_a_probability_that_is_none_is_refused(probability: float) -> None:
    with pytest.raises(UsageError, match=r"data.mask_probability: got .*, expected above 0 and be"):
        MaskedLMData(train="rows.jsonl", mask_probability=probability)


def test_candidates_are_one_at_least() -> None:
    with pytest.raises(UsageError, match=r"model.candidates: got 0, expected 1 or more"):
        MaskedLM(architecture=TINY_BERT, candidates=0)


def test_a_tokenizer_without_a_mask_is_refused(source: Path) -> None:
    made = data(source)
    made.loaded_tokenizer.mask_token = None
    with pytest.raises(ModelError, match=r"data.tokenizer: has no mask token"):
        made.split("train")


def test_a_tokenizer_without_words_cannot_hide_them_whole(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = data(source, whole_word=True)

    class Wordless:
        pre_tokenizer = None

    monkeypatch.setattr(type(made.loaded_tokenizer), "backend_tokenizer", Wordless())
    with pytest.raises(ModelError, match=r"data.whole_word: the tokenizer does not split"):
        made.encoder("train")


def test_a_head_of_random_weights_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    MaskedLM(pretrained=str(save_bert(tmp_path / "bert")))
    assert "bert has no weights for cls.predictions" in caplog.text
    assert "they are initialized randomly and need training" in caplog.text


def test_a_head_of_learnt_weights_is_not(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    MaskedLM(pretrained=str(trained.model))
    assert caplog.text == ""


def test_a_split_is_described_by_its_blocks(source: Path) -> None:
    said = "train: 3 rows in 6 blocks of at most 3 tokens, 14 in all"
    assert data(source, max_length=5).describe("train") == said
