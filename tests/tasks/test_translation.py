"""Translation models with languages: mBART, mBART-50, NLLB, M2M100, Marian with several targets.

Every one is tiny and of random weights; what is tested is which language tokens it is given.
"""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers

from plcli.tasks.seq2seq import Seq2SeqData
from tests.conftest import message, write_rows
from tests.running import adamw, card, each_once, fit, predicted, read_json, try_fit

CLASSES = ("plcli.tasks.seq2seq.Seq2SeqModel", "plcli.tasks.seq2seq.Seq2SeqData")
ROWS = [
    {"source": "ein Haus", "target": "une maison"},
    {"source": "ein Hut", "target": "un chapeau"},
    {"source": "zwei Hunde", "target": "deux chiens"},
    {"source": "drei Katzen", "target": "trois chats"},
]
CHARACTERS = sorted({letter for row in ROWS for text in row.values() for letter in text} - {" "})
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
SIZES = {
    "d_model": 16,
    **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 16 for part in ("encoder", "decoder")},
    "max_position_embeddings": 64,
}
LANGUAGES = {
    "mbart": ("de_DE", "fr_XX"),
    "mbart50": ("de_DE", "fr_XX"),
    "nllb": ("deu_Latn", "fra_Latn"),
    "m2m_100": ("de", "fr"),
}


def pieces(folder: Path) -> tuple[Path, list[str]]:
    """Train pieces of a few characters, and return their file and names."""
    path = folder / "pieces.model"
    with open(path, "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([text for row in ROWS for text in row.values()] * 5),
            model_writer=file,
            vocab_size=40,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    names = [model.id_to_piece(number) for number in range(model.get_piece_size())]
    return path, [name for name in names if name not in SPECIAL]


def tokenizer(name: str, folder: Path) -> Any:
    """Make the tokenizer of a model."""
    scored = [(piece, -1.0) for piece in ("▁", *CHARACTERS)]
    if name == "nllb":
        vocab = {piece: number for number, piece in enumerate([*SPECIAL, "▁", *CHARACTERS])}
        return transformers.NllbTokenizer(vocab=vocab, merges=[])
    if name == "mbart":
        codes = [(code, 0.0) for code in ("de_DE", "en_XX", "fr_XX")]
        vocab = [(token, 0.0) for token in SPECIAL] + scored + codes + [("<mask>", 0.0)]
        return transformers.MBartTokenizer(vocab=vocab)
    if name == "mbart50":
        vocab = [(token, 0.0) for token in SPECIAL] + scored
        return transformers.MBart50Tokenizer(vocab=vocab)
    path, names = pieces(folder)
    codes = [">>fra<<", ">>spa<<"] if name == "marian" else []
    table = {piece: number for number, piece in enumerate([*SPECIAL, *names, *codes])}
    (folder / "vocab.json").write_text(json.dumps(table))
    if name == "m2m_100":
        return transformers.M2M100Tokenizer(
            vocab_file=str(folder / "vocab.json"), spm_file=str(path)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sacremoses is recommended, and only for punctuation
        return transformers.MarianTokenizer(
            source_spm=str(path), target_spm=str(path), vocab=str(folder / "vocab.json")
        )


def make(name: str, folder: Path) -> Path:
    """Save a tiny model with its tokenizer."""
    made = tokenizer(name, folder)
    model_type = {"mbart50": "mbart", "nllb": "m2m_100"}.get(name, name)
    config = transformers.AutoConfig.for_model(
        model_type,
        **SIZES,
        vocab_size=len(made) + 150 * (name == "m2m_100"),  # it does not count its languages
        pad_token_id=made.pad_token_id,
        eos_token_id=made.eos_token_id,
        bos_token_id=made.convert_tokens_to_ids("<s>"),
        decoder_start_token_id=made.pad_token_id if name == "marian" else made.eos_token_id,
        forced_eos_token_id=None,
    )
    transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder / "base")
    made.save_pretrained(folder / "base")
    write_rows(folder / "rows.jsonl", ROWS)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a model and its rows; each is made once."""
    return each_once(make, tmp_path_factory)


def sections(folder: Path, **data: Any) -> Any:
    """Return the sections of a config that trains for one epoch."""
    rows = str(folder / "rows.jsonl")
    return {
        "classes": CLASSES,
        "model": {
            "pretrained": str(folder / "base"),
            "optimizer": adamw(1e-3),
            "max_new_tokens": 6,
        },
        "data": {"train": rows, "validation": rows, "batch_size": 2, "max_length": 32, **data},
    }


def opened(folder: Path, **languages: str) -> Seq2SeqData:
    """Open data with the tokenizer of a model."""
    rows = str(folder / "rows.jsonl")
    data = Seq2SeqData(train=rows, tokenizer=str(folder / "base"), max_length=32, **languages)
    data.setup("fit")
    return data


def first_row(data: Seq2SeqData) -> tuple[set[str], set[str]]:
    """Return the tokens of the first row's source and of its target."""
    encoded = data.encoded("train")
    batch = data.collate("train", encoded, [0])  # type: ignore[arg-type]  # an index
    found = [data.loaded_tokenizer.convert_ids_to_tokens(batch[key][0].tolist())
             for key in ("input_ids", "labels")]  # fmt: skip
    return set(found[0]), set(found[1])


@pytest.mark.parametrize("name", LANGUAGES)
def test_sources_and_targets_have_the_tokens_of_their_languages(
    name: str, folders: Callable[[str], Path]
) -> None:
    source, target = LANGUAGES[name]
    tokens = ("__de__", "__fr__") if name == "m2m_100" else (source, target)
    found = first_row(opened(folders(name), src_lang=source, tgt_lang=target))
    assert (tokens[0] in found[0], tokens[1] in found[0]) == (True, False)
    assert (tokens[0] in found[1], tokens[1] in found[1]) == (False, True)


@pytest.mark.parametrize("name", LANGUAGES)
def test_another_source_language_is_not_taken_from_the_cache(
    name: str, folders: Callable[[str], Path]
) -> None:
    other = {"mbart": "en_XX", "mbart50": "en_XX", "nllb": "eng_Latn", "m2m_100": "en"}[name]
    source, target = LANGUAGES[name]
    opened(folders(name), src_lang=source, tgt_lang=target).encoded("train")
    token = "__en__" if name == "m2m_100" else other
    assert token in first_row(opened(folders(name), src_lang=other, tgt_lang=target))[0]


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_model_generates_in_the_target_language_in_transformers_too(
    name: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    source, target = LANGUAGES[name]
    run = fit(tmp_path, **sections(folders(name), src_lang=source, tgt_lang=target))
    network = transformers.AutoModelForSeq2SeqLM.from_pretrained(run / "model")
    loaded = transformers.AutoTokenizer.from_pretrained(run / "model")
    token = loaded.convert_tokens_to_ids("__fr__" if name == "m2m_100" else target)
    ids = network.generate(**loaded([row["source"] for row in ROWS], padding=True,
                                    return_tensors="pt"))  # fmt: skip
    assert {row[0 if name == "mbart" else 1] for row in ids.tolist()} == {token}
    texts = [text.strip() for text in loaded.batch_decode(ids, skip_special_tokens=True)]
    rows = predicted(run, folders(name) / "rows.jsonl")
    assert [row["text"] for row in rows] == texts
    assert all(-20 < row["score"] < 0 for row in rows)
    assert (card(run)["facts"]["src_lang"], card(run)["facts"]["tgt_lang"]) == (source, target)
    assert read_json(run / "model" / "generation_config.json")[
        "decoder_start_token_id" if name == "mbart" else "forced_bos_token_id"
    ] == token  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        (
            "mbart50",
            {},
            "data.src_lang: MBart50Tokenizer marks the language of every text, and this one is not "
            "given. Set it to one of: ar_AR, cs_CZ, de_DE, en_XX, es_XX, et_EE and 46 more.",
        ),
        (
            "nllb",
            {"src_lang": "deu_Latn", "tgt_lang": "fra_Latm"},
            "data.tgt_lang: NllbTokenizer has no language 'fra_Latm'. Did you mean 'fra_Latn'?",
        ),
        ("m2m_100", {"src_lang": "de_DE"}, "data.src_lang: M2M100Tokenizer has no language"),
        (
            "marian",
            {"src_lang": "de"},
            "data.src_lang: got de, but MarianTokenizer only marks the target language. Remove",
        ),
        (
            "marian",
            {},
            "rows.jsonl, row 1: the model translates to several languages, but the source does not "
            "begin with one of its tokens, such as >>fra<<, >>spa<<. Set data.tgt_lang: fra, or",
        ),
        ("marian", {"tgt_lang": "frb"}, "MarianTokenizer has no language 'frb'. Did you mean"),
    ],
)
def test_languages_that_are_missing_or_unknown_are_refused(
    name: str,
    given: dict[str, str],
    said: str,
    folders: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    result = try_fit(tmp_path, **sections(folders(name), **given))
    assert result.code in (2, 3)
    assert said in message(result)


@pytest.mark.parametrize("prefix", [">>ger<< ", "fra: "])
def test_a_marian_prefix_without_a_known_language_is_refused(
    prefix: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    result = try_fit(tmp_path, **sections(folders("marian"), prefix=prefix))
    assert result.code == 3
    assert "does not begin with one of its tokens, such as >>fra<<, >>spa<<." in message(result)


def test_a_source_with_an_unknown_language_is_refused(
    folders: Callable[[str], Path], tmp_path: Path
) -> None:
    codes = ["fra", "ger", "fra", "spa"]
    rows = [{**row, "source": f">>{code}<< x"} for row, code in zip(ROWS, codes, strict=True)]
    source = str(write_rows(tmp_path / "rows.jsonl", rows))
    result = try_fit(tmp_path, **sections(folders("marian"), train=source, validation=source))
    assert result.code == 3
    assert "rows.jsonl, row 2: the model translates to several languages" in message(result)


@pytest.mark.parametrize("given", [{"tgt_lang": "fra"}, {"prefix": ">>fra<< "}])
def test_a_marian_model_is_told_its_target_language(
    given: dict[str, str], folders: Callable[[str], Path], tmp_path: Path
) -> None:
    assert ">>fra<<" in first_row(opened(folders("marian"), **given))[0]
    assert try_fit(tmp_path, **sections(folders("marian"), **given)).code == 0


def test_a_model_without_languages_refuses_them(tmp_path: Path) -> None:
    parts = sections(tmp_path, tgt_lang="fr_XX")
    write_rows(tmp_path / "rows.jsonl", ROWS)
    parts["model"] = {"architecture": {"model_type": "bart", **SIZES}}
    result = try_fit(tmp_path, **parts)
    assert result.code == 2
    assert (
        "data.tgt_lang: got fr_XX, but this tokenizer does not mark languages. Remove the key; a "
        "model such as T5 takes data.prefix, such as 'translate English to German: '."
    ) in message(result)
