"""Token classification: words with tags, texts with spans; trained, saved, loaded, measured."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from seqeval.metrics import classification_report, f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from plcli.data.encoders.words import WordEncoder
from plcli.errors import DataError, ModelError, PlcliError, UsageError
from plcli.pretrained.label_ids import IGNORED
from plcli.tasks.token_classification import TokenClassificationData, TokenClassifier
from tests.conftest import TINY_BERT, Command, message, write_config, write_rows
from tests.running import (
    TrainedRun,
    adamw,
    by_heart,
    card,
    each_once,
    fit,
    own_cache,
    predicted,
    run_plcli,
    stopped,
)

PUBLIC = ("TokenClassifier", "TokenClassificationData")  # configs and checkpoints name them
CLASSES = (
    "plcli.tasks.token_classification.TokenClassifier",
    "plcli.tasks.token_classification.TokenClassificationData",
)
SENTENCES = [
    "[anna|who] lives in [paris|where] .",
    "[bob smith|who] is from [new york|where] .",
    "in [rome|where] we met [carla|who] .",
    "nobody came .",
    "did [anna smith|who] see [bob|who] in [new rome|where] ?",
    "[paris|where] is far from [rome|where] .",
    "they asked [carla smith|who] , not [anna|who] .",
    "the road goes on .",
    "is [york|where] in the north ?",
    "[bob|who] went there , and [carla|who] stayed in [new york|where] with us .",
]
LONG = 14  # tokens a window: the last sentence takes two
TAGS = ["B-where", "B-who", "I-where", "I-who", "O"]


def row_of(sentence: str) -> dict[str, Any]:
    """Return a sentence as words with tags, and as a text with spans."""
    words: list[str] = []
    tags: list[str] = []
    entities: list[dict[str, Any]] = []
    for part in sentence.replace("[", "\0[").replace("]", "]\0").split("\0"):
        inside, _, name = part.strip("[]").partition("|")
        new = inside.split()
        if name:
            start = len(" ".join([*words, ""]))
            end = start + len(inside)
            entities.append({"start": start, "end": end, "label": name})
        tags += [f"{'I' if n else 'B'}-{name}" if name else "O" for n in range(len(new))]
        words += new
    return {"words": words, "tags": tags, "text": " ".join(words), "entities": entities}


ROWS = [row_of(sentence) for sentence in SENTENCES]
KEYS = {
    "words": {"words": "words", "tags": "tags"},
    "text": {"text": "text", "spans": "entities"},
}


@dataclass
class Trained(TrainedRun):
    """A run that knows its training rows by heart, and test rows of which many are wrong."""

    form: str
    test: list[dict[str, Any]]

    @cached_property
    def predictions(self) -> list[dict[str, Any]]:
        """What the loaded model predicts for the test rows."""
        return predicted(self.run, self.folder / "test.jsonl")


def data_of(folder: Path, form: str, **settings: Any) -> dict[str, Any]:
    """Return the data section of a config."""
    files = {"train": "train", "validation": "train", "test": "test"}
    return {
        **{split: str(folder / f"{name}.jsonl") for split, name in files.items()},
        **KEYS[form],
        "batch_size": 3,
        "max_length": LONG,
        "stride": 4,
        **settings,
    }


def write_files(folder: Path) -> list[dict[str, Any]]:
    """Write ten training rows, and as test rows pairs of them, every second with wrong words."""
    test = [
        row_of(f"{SENTENCES[n]} {SENTENCES[(n * 3) % 10].replace('in', 'bob' if n % 2 else 'in')}")
        for n in range(10)
    ]
    write_rows(folder / "train.jsonl", ROWS)
    write_rows(folder / "test.jsonl", test)
    return test


MODEL = by_heart(1e-2)


def train(form: str, folder: Path) -> Trained:
    """Learn ten rows by heart."""
    trained = Trained(folder, form, write_files(folder))
    trainer = {"max_epochs": 20, "check_val_every_n_epoch": 10}
    fit(folder, model=MODEL, data=data_of(folder, form), trainer=trainer, classes=CLASSES)
    return trained


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Give the trained run of a form; each is trained once, when it is first asked for."""
    return each_once(train, tmp_path_factory)


@pytest.fixture(params=list(KEYS))
def trained(request: pytest.FixtureRequest, runs: Callable[[str], Trained]) -> Trained:
    """The trained run of words, and of texts."""
    return runs(request.param)


@pytest.fixture
def words(runs: Callable[[str], Trained]) -> Trained:
    """The trained run of words."""
    return runs("words")


@pytest.fixture
def texts(runs: Callable[[str], Trained]) -> Trained:
    """The trained run of texts."""
    return runs("text")


def plain(rows: Sequence[dict[str, Any]]) -> list[list[tuple[int, int, str]]]:
    """Return the spans of rows as start, end and label."""
    return [[(s["start"], s["end"], s["label"]) for s in row] for row in map(_spans, rows)]


def _spans(row: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = row.get("spans", row.get("entities"))
    return found


def scores(rows: Sequence[dict[str, Any]]) -> list[float]:
    """Return the scores of all spans."""
    return [span["score"] for row in rows for span in row["spans"]]


# overfit, save, load


def test_a_tiny_model_learns_its_training_rows_by_heart(trained: Trained) -> None:
    assert plain(predicted(trained.run, trained.folder / "train.jsonl")) == plain(ROWS)


def test_the_artefact_predicts_what_the_best_checkpoint_predicts(trained: Trained) -> None:
    best = trained.run / "checkpoints" / "best.ckpt"
    theirs = predicted(trained.run, trained.folder / "test.jsonl", "--ckpt_path", best)
    assert plain(trained.predictions) == plain(theirs)
    assert scores(trained.predictions) == pytest.approx(scores(theirs), abs=1e-6)


def test_a_loaded_model_gives_the_test_metrics_that_fit_gave(trained: Trained) -> None:
    with own_cache(trained.folder):
        result = run_plcli("test", "--run", trained.run)
    lines = [line.replace("│", " ").split() for line in result.out.splitlines()]
    lines = lines[: lines.index(["types"])]
    shown = {line[0]: float(line[1]) for line in lines if len(line) > 1 and line[1][:1].isdigit()}
    given = {k: v for k, v in trained.test_metrics().items() if isinstance(v, float)}
    assert shown == pytest.approx(given, abs=1.5e-4)


def test_predictions_do_not_depend_on_the_batch_size(trained: Trained) -> None:
    single = predicted(trained.run, trained.folder / "test.jsonl", "--data.batch_size", 1)
    assert plain(trained.predictions) == plain(single)
    assert scores(trained.predictions) == pytest.approx(scores(single), abs=1e-5)


def test_predictions_stand_in_the_order_of_the_input(trained: Trained) -> None:
    backwards = write_rows(Path("backwards.jsonl"), list(reversed(trained.test)))
    assert plain(predicted(trained.run, backwards)) == plain(trained.predictions)[::-1]


def test_the_artefact_keeps_the_tags_in_order(trained: Trained) -> None:
    assert card(trained.run)["labels"] == TAGS


def test_a_span_has_its_text(trained: Trained) -> None:
    for row, found in zip(trained.test, trained.predictions, strict=True):
        text = row["text"]  # of words: with blanks between them
        assert [text[s["start"] : s["end"]] for s in found["spans"]] == [
            s["text"] for s in found["spans"]
        ]


def test_a_span_of_words_has_their_numbers(words: Trained) -> None:
    for row, found in zip(words.test, words.predictions, strict=True):
        for span in found["spans"]:
            own = row["words"][span["start_word"] : span["end_word"]]
            assert " ".join(own) == span["text"]


def test_every_word_of_a_long_row_has_a_tag(words: Trained) -> None:
    assert [len(row["tags"]) for row in words.predictions] == [
        len(row["words"]) for row in words.test
    ]


def test_a_word_without_a_token_takes_the_tag_of_the_span_around_it(words: Trained) -> None:
    row = {"words": ["bob", "\u200b", "smith", "is", "\u200b", "from", "rome", "."]}
    (found,) = predicted(words.run, write_rows(Path("odd.jsonl"), [row]))
    assert found["tags"] == ["B-who", "I-who", "I-who", "O", "O", "O", "B-where", "O"]


def test_a_row_without_words_has_no_spans(words: Trained) -> None:
    source = write_rows(Path("none.jsonl"), [{"words": []}, {"words": ["anna"]}])
    assert predicted(words.run, source)[0] == {"id": 0, "spans": [], "tags": []}


def test_a_typed_text_is_taken_for_words_with_blanks_between_them(words: Trained) -> None:
    result = run_plcli("predict", "--run", words.run, "anna lives in paris .")
    assert result.code == 0, result.err
    assert json.loads(result.out)["tags"] == ["B-who", "O", "O", "B-where", "O"]


def test_spans_are_json_in_csv(texts: Trained) -> None:
    source = texts.folder / "test.jsonl"
    run_plcli("predict", "--run", texts.run, "--input", source, "--output", "p.csv")
    with open("p.csv", encoding="utf-8", newline="") as file:
        found = [json.loads(row["spans"] or "[]") for row in csv.DictReader(file)]
    assert found == [row["spans"] for row in texts.predictions]


def test_spans_are_kept_in_parquet(texts: Trained) -> None:
    source = texts.folder / "test.jsonl"
    run_plcli("predict", "--run", texts.run, "--input", source, "--output", "p.parquet")
    assert pq.read_table("p.parquet").to_pylist() == texts.predictions


# transformers


def pipeline(run: Path, **settings: Any) -> Any:
    """Load an artefact with transformers alone."""
    import transformers

    settings = {"aggregation_strategy": "first", **settings}
    return transformers.pipeline(
        "token-classification", model=str(run / "model"), device="cpu", **settings
    )


def test_the_pipeline_finds_the_same_spans(texts: Trained) -> None:
    answers = pipeline(texts.run)([row["text"] for row in ROWS])
    ours = predicted(texts.run, texts.folder / "train.jsonl")
    assert plain(ours) == [[(a["start"], a["end"], a["entity_group"]) for a in r] for r in answers]
    theirs = [float(answer["score"]) for row in answers for answer in row]
    assert scores(ours) == pytest.approx(theirs, abs=1e-5)


def test_the_pipeline_finds_the_same_spans_by_its_simple_strategy(texts: Trained) -> None:
    answers = pipeline(texts.run, aggregation_strategy="simple")("anna lives in rome .")
    (ours,) = predicted(texts.run, write_rows(Path("t.jsonl"), [{"text": "anna lives in rome ."}]))
    assert plain([ours])[0] == [(a["start"], a["end"], a["entity_group"]) for a in answers]


def tags_by_transformers(trained: Trained, words: list[str]) -> list[str]:
    """Tag words in windows, each where it has most context, by transformers alone."""
    loaded = pipeline(trained.run)
    tokens = loaded.tokenizer(
        words, is_split_into_words=True, truncation=True, max_length=LONG, stride=4,
        return_overflowing_tokens=True, padding=True, return_tensors="pt",
    )  # fmt: skip
    count = len(tokens["input_ids"])
    with torch.no_grad():
        logits = loaded.model(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        ).logits
    best: dict[int, tuple[int, str]] = {}
    for window in range(count):
        ids = tokens.word_ids(window)
        inner = [at for at, word in enumerate(ids) if word is not None]
        for at in inner:
            if at > 0 and ids[at - 1] == ids[at]:
                continue
            left = 999 if window == 0 else at - inner[0]
            right = 999 if window == count - 1 else inner[-1] - at
            tag = loaded.model.config.id2label[int(logits[window, at].argmax())]
            if ids[at] not in best or min(left, right) > best[ids[at]][0]:
                best[ids[at]] = min(left, right), tag
    return [best[word][1] for word in range(len(words))]


def test_a_long_row_is_tagged_where_each_word_has_most_context(words: Trained) -> None:
    assert max(len(row["words"]) for row in words.test) > LONG
    assert [row["tags"] for row in words.predictions] == [
        tags_by_transformers(words, row["words"]) for row in words.test
    ]


def test_the_loss_of_a_split_is_the_mean_over_its_words(words: Trained) -> None:
    data = TokenClassificationData(
        **data_of(words.folder, "words", tokenizer=str(words.run / "model"), labels=TAGS)
    )
    model = pipeline(words.run).model
    total, count = 0.0, 0
    for row in range(len(words.test)):
        batch = data.split("test")[[row]]
        with torch.no_grad():
            logits = model(batch["input_ids"], batch["attention_mask"]).logits
        own = batch["labels"] != IGNORED
        wanted = batch["labels"][own]
        total += float(torch.nn.functional.cross_entropy(logits[own], wanted, reduction="sum"))
        count += len(wanted)
    assert count == sum(len(row["words"]) for row in words.test)
    assert words.test_metrics()["loss"] == pytest.approx(total / count, abs=1e-4)


# metrics against seqeval, from the predictions of the loaded model


def both(trained: Trained) -> tuple[list[Any], list[Any]]:
    """Return the test rows' tags, and those that are predicted."""
    return [row["tags"] for row in trained.test], [row["tags"] for row in trained.predictions]


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("precision", precision_score), ("recall", recall_score), ("f1", f1_score)],
)
def test_a_score_of_words_is_that_of_seqeval(name: str, theirs: Any, words: Trained) -> None:
    assert words.test_metrics()[name] == pytest.approx(
        theirs(*both(words), mode="strict", scheme=IOB2)
    )


def test_the_table_of_types_is_that_of_seqeval(words: Trained) -> None:
    theirs = classification_report(*both(words), mode="strict", scheme=IOB2, output_dict=True)
    table = words.test_metrics()["types"]
    assert list(table) == ["where", "who"]
    for name, row in table.items():
        assert {k.removesuffix("-score"): v for k, v in theirs[name].items()} == pytest.approx(row)


def test_some_spans_are_predicted_wrong_so_that_scores_can_differ(trained: Trained) -> None:
    assert 0.2 < trained.test_metrics()["f1"] < 0.98


def test_the_score_of_texts_compares_characters(texts: Trained) -> None:
    pairs = list(zip(plain(texts.test), plain(texts.predictions), strict=True))
    right = sum(len(set(a) & set(b)) for a, b in pairs)
    found = sum(len(b) for _, b in pairs)
    assert texts.test_metrics()["precision"] == pytest.approx(right / found)


def test_the_best_epoch_is_that_of_the_best_span_f1() -> None:
    assert module().monitor == ("val_f1", "max")


def module(**arguments: Any) -> TokenClassifier:
    """Build a tiny classifier with no data."""
    sizes = {"architecture": TINY_BERT, "vocab_size": 30, "pad_token_id": 0, "max_length": 16}
    return TokenClassifier(**{**sizes, "labels": TAGS, **arguments})


def test_a_batch_counts_the_words_that_have_a_label() -> None:
    assert module().count({"labels": torch.tensor([[1, 0, IGNORED], [IGNORED, 2, IGNORED]])}) == 3


def tagger(**options: Any) -> TokenClassifier:
    """Return an untrained classifier of O, B-x and I-x, of which O is four words in five."""
    return TokenClassifier(
        architecture={**TINY_BERT, "vocab_size": 20},
        labels=["B-x", "I-x", "O"],
        label_frequencies=[0.15, 0.05, 0.8],
        **options,
    )


def test_a_batch_without_a_labelled_word_has_a_loss_of_nothing() -> None:
    module = tagger()
    ids, none = torch.tensor([[2, 3]]), torch.full((1, 2), IGNORED)
    piece = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": none}
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    assert float(module.training_step({"pieces": [piece]}, 0).detach()) == 0.0


LOGITS = torch.tensor([[[2.0, 0.0, 1.0], [0.0, 1.0, 3.0], [1.0, 1.0, 0.0], [9.0, 0.0, 0.0]]])
LABEL_IDS = torch.tensor([[0, 2, 1, -100]])


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        ({}, {}),
        ({"class_weights": {"B-x": 3.0}}, {"weight": torch.tensor([3.0, 1.0, 1.0])}),
        ({"label_smoothing": 0.2}, {"label_smoothing": 0.2}),
    ],
    ids=["plain", "class weights", "label smoothing"],
)
def test_the_loss_is_torchs_with_its_options(
    options: dict[str, Any], theirs: dict[str, Any]
) -> None:
    ours = tagger(**options).loss(SimpleNamespace(logits=LOGITS), {"labels": LABEL_IDS})
    wanted = torch.nn.functional.cross_entropy(LOGITS[0], LABEL_IDS[0], **theirs)
    assert float(ours) == pytest.approx(float(wanted))


def test_a_batch_counts_as_much_as_its_tags_weigh() -> None:
    weighted = tagger(class_weights={"B-x": 3.0}).count({"labels": LABEL_IDS})
    assert weighted == pytest.approx(5.0)  # 3 + 1 + 1, and nothing where no word begins


def test_weights_by_frequency_favour_rare_tags() -> None:
    weights = tagger(class_weights="auto").weights_of_classes
    assert weights is not None
    assert weights[1] == pytest.approx(3 * float(weights[0]))


def test_the_part_of_the_words_that_has_each_tag_is_a_fact(words: Trained) -> None:
    found = [tag for row in ROWS for tag in row["tags"]]
    parts = [found.count(tag) / len(found) for tag in TAGS]
    assert card(words.run)["facts"]["label_frequencies"] == pytest.approx(parts)


def test_a_classifier_without_tags_is_refused() -> None:
    with pytest.raises(UsageError, match="model.labels: a classifier needs at least two tags"):
        module(labels=["O"])


# tags and labels


def data(rows: Sequence[dict[str, Any]], form: str = "words", **settings: Any) -> Any:
    """Make data of training rows, which are the validation rows as well unless others are given."""
    own = {"validation": settings.pop("validation", rows), "train": rows}
    files = {
        name: str(write_rows(Path(f"{name}.jsonl"), value))
        for name, value in own.items()
        if value is not None
    }
    return TokenClassificationData(**{**files, **KEYS[form], **settings})


def tagged(*rows: str) -> list[dict[str, Any]]:
    """Return rows of words with tags, written word/tag."""
    pairs = [[part.rsplit("/", 1) for part in row.split()] for row in rows]
    return [{"words": [p[0] for p in row], "tags": [p[1] for p in row]} for row in pairs]


def test_tags_are_sorted() -> None:
    assert data(ROWS).facts()["labels"] == TAGS


def test_tags_of_spans_are_those_of_their_labels() -> None:
    assert data(ROWS, "text").facts()["labels"] == TAGS


def test_tags_come_in_pairs_though_one_never_stands_in_training() -> None:
    assert data(tagged("a/B-x b/O")).facts()["labels"] == ["B-x", "I-x", "O"]


def test_plain_tags_are_the_labels() -> None:
    assert data(tagged("a/x b/O c/y")).facts()["labels"] == ["O", "x", "y"]


def test_tags_that_are_given_keep_their_order() -> None:
    assert data(ROWS, labels=[*TAGS[::-1], "B-z"]).facts()["labels"] == [*TAGS[::-1], "B-z"]


def test_no_tag_leaves_the_training_rows_for_validation() -> None:
    rows = tagged(*(f"a/x{number} b/O" for number in range(3)), *["a/O"] * 9)
    for seed in range(10):
        cut = data(rows, validation=None, validation_fraction=0.5, seed=seed)
        assert cut.facts()["labels"] == ["O", "x0", "x1", "x2"]
        assert len(cut.subset("validation")) > 0


def test_predictions_of_plain_tags_are_runs(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", tagged(*["the/O big/x cat/x sat/y ./O"] * 6))
    split = str(tmp_path / "train.jsonl")
    names = {"train": split, "validation": split, "words": "words", "tags": "tags"}
    model = {**MODEL, "optimizer": adamw(2e-2)}
    run = fit(
        tmp_path, model=model, data={**names, "batch_size": 3}, classes=CLASSES,
        trainer={"max_epochs": 8},
    )  # fmt: skip
    found = predicted(run, tmp_path / "train.jsonl")[0]["spans"]
    assert [(s["label"], s["text"]) for s in found] == [("x", "big cat"), ("y", "sat")]


def test_a_split_is_described_with_its_spans(texts: Trained) -> None:
    log = (texts.run / "train.log").read_text()
    assert "train: 10 rows, 1 in windows of 14 tokens (data.max_length); where 8, who 9" in log


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        (
            "words",
            tagged("a/B-x b/O c/I-x")[0],
            "1 I-x tags without a B-x before them, which are not part of a span",
        ),
        (
            "words",
            {"words": ["a", "", "b"], "tags": ["B-x", "O", "O"]},
            "1 words without a token, which are not tagged",
        ),
    ],
)
def test_what_cannot_be_found_is_told(form: str, row: dict[str, Any], said: str) -> None:
    assert said in data([row] * 2, form).describe("train").replace("2 ", "1 ")


def test_a_missing_stride_is_a_quarter_of_a_window() -> None:
    assert data(ROWS, max_length=42).encoder("train").stride == 10


# bad input


@pytest.mark.parametrize(
    ("rows", "form", "settings", "error", "said"),
    [
        (
            [{"words": ["a", "b"], "tags": ["O"]}],
            "words",
            {"labels": ["O", "x"]},
            DataError,
            "train.jsonl, row 1: has 2 words, but 1 tags in column 'tags'. Give each word one tag.",
        ),
        (
            tagged("a/O b/B-x", "a/B-x b/S-x"),
            "words",
            {},
            DataError,
            "train.jsonl: column 'tags' contains 'S-x' beside B- and I-, so that its tags are "
            "neither BIO nor plain.",
        ),
        (
            tagged("a/0 b/1"),
            "words",
            {},
            DataError,
            "train.jsonl: column 'tags' contains numbers (0, 1), none of which means 'outside'.",
        ),
        (
            tagged("a/O b/O"),
            "words",
            {},
            DataError,
            "train.jsonl: column 'tags' contains 1 tag (O); two or more are needed.",
        ),
        (
            [{"text": "a", "entities": []}],
            "text",
            {},
            DataError,
            "train.jsonl: column 'entities' has no spans. Name another column with data.spans",
        ),
        (
            [{"text": "hi", "entities": [{"start": 0, "end": 3, "label": "x"}]}],
            "text",
            {},
            DataError,
            "train.jsonl, row 1: column 'entities' contains a span from 0 to 3, but the text has 2",
        ),
        (
            [{"text": "hi", "entities": "none"}],
            "text",
            {},
            DataError,
            "train.jsonl, row 1: column 'entities' contains 'none', neither a list nor an object.",
        ),
        (
            ROWS,
            "text",
            {"labels": ["who", "where"]},
            UsageError,
            "data.labels: got who, where; for spans give O, and B-x and I-x for each label x",
        ),
        (
            ROWS,
            "words",
            {"labels": ["O", "x", "y", "x"]},
            UsageError,
            "data.labels: names x more than once. Name each once.",
        ),
        (
            ROWS,
            "words",
            {"stride": 40, "max_length": 20},
            UsageError,
            "data.stride: got 40, expected 0 or more and below 18",
        ),
    ],
)
def test_what_cannot_be_trained_on_is_refused(
    rows: list[dict[str, Any]],
    form: str,
    settings: dict[str, Any],
    error: type[PlcliError],
    said: str,
) -> None:
    with pytest.raises(error) as caught:
        data(rows, form, **settings).encoded("train")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("form", "row", "said"),
    [
        (
            "words",
            tagged("a/B-wo")[0],
            "tag 'B-wo' of word 1 is not one of B-where, B-who, I-where",
        ),
        ("words", tagged("a/B-wo")[0], "Did you mean 'B-who'?"),
        ("words", {"words": ["a"], "tags": [""]}, "tag '' of word 1 is not one of"),
        (
            "text",
            {"text": "hi", "entities": [{"start": 0, "end": 2, "label": "whoo"}]},
            "label 'whoo' of the span 0-2 is not one of where, who. Did you mean 'who'?",
        ),
    ],
)
def test_a_label_that_is_not_in_training_is_refused(
    form: str, row: dict[str, Any], said: str
) -> None:
    with pytest.raises(DataError, match=r"validation.jsonl, row 2: ") as caught:
        data(ROWS, form, validation=[ROWS[0], row]).encoded("validation")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "got"),
    [
        ({}, "no column"),
        ({"words": "w"}, "words"),
        ({"text": "t", "tags": "g"}, "tags and text"),
        ({"words": "w", "tags": "g", "text": "t", "spans": "s"}, "words and tags and text and"),
    ],
)
def test_columns_of_no_form_are_refused(columns: dict[str, str], got: str) -> None:
    with pytest.raises(UsageError, match=f"data: got {got}.*give either words and tags, or text"):
        TokenClassificationData(train="x.jsonl", **columns)


def test_a_tokenizer_that_knows_no_places_is_refused() -> None:
    with pytest.raises(ModelError, match="labels of words need a tokenizer with a tokenizer.json"):
        WordEncoder(SimpleNamespace(is_fast=False), max_length=8, stride=None, words=True)


def write_fit_config(folder: Path, **settings: Any) -> Path:
    """Write the files and a config of two epochs on words."""
    write_files(folder)
    return write_config(
        folder / "fit.yaml",
        model={"class_path": CLASSES[0], "init_args": {"architecture": TINY_BERT}},
        data={"class_path": CLASSES[1], "init_args": data_of(folder, "words", **settings)},
        trainer={"max_epochs": 2, "accelerator": "cpu"},
    )


def test_bad_rows_end_the_command_with_a_message(plcli: Command, tmp_path: Path) -> None:
    config = write_fit_config(tmp_path)
    write_rows(tmp_path / "test.jsonl", [{**ROWS[0], "tags": ["O"]}])
    result = plcli("fit", "-c", config, "--run", "here")
    assert result.code == 3
    assert "test.jsonl, row 1: has 5 words, but 1 tags in column 'tags'." in message(result)


def test_both_forms_end_the_command_with_a_message(plcli: Command, tmp_path: Path) -> None:
    result = plcli("fit", "-c", write_fit_config(tmp_path, text="text", spans="entities"))
    assert (result.code, "give either words and tags, or text and spans" in result.err) == (2, True)


# going on


def test_a_run_that_goes_on_has_the_weights_of_one_that_was_not_stopped(
    plcli: Command, tmp_path: Path
) -> None:
    config = write_fit_config(tmp_path)
    plcli("fit", "-c", config, "--run", "whole")
    with stopped(TokenClassifier, lambda module, _: module.current_epoch == 1):
        plcli("fit", "-c", config, "--run", "here")
    plcli("fit", "-c", config, "--run", "here")
    weights = [Path(run, "model", "model.safetensors").read_bytes() for run in ("whole", "here")]
    assert weights[0] == weights[1]


# the analysis of the test


def test_errors_of_spans_are_of_what_is_predicted(trained: Trained) -> None:
    found = trained.analysis()
    counts, table = found["spans"]["counts"], trained.test_metrics()["types"]
    true = sum(each["support"] for each in table.values())
    assert sum(counts.values()) - counts["invented"] == true
    assert found["errors"]["count"] > 0
    for row in found["errors"]["rows"]:
        own = [
            {key: span[key] for key in ("start", "end", "label", "text")}
            for span in _spans(trained.predictions[row["row"]])
        ]
        assert row["prediction"] == own
        for span in row["truth"]:
            assert row["text"][span["start"] : span["end"]] == span["text"]
    by_label = {each["label"]: each for each in found["classes"]}
    for name, each in table.items():
        assert by_label[name]["f1"] == pytest.approx(each["f1"])
