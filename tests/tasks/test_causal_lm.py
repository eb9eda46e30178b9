"""Causal language models: trained, saved, loaded, measured; texts that are continued."""

import csv
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from plcli.errors import DataError, ModelError, UsageError
from plcli.tasks.causal_lm import CausalLM, CausalLMData
from tests.conftest import TINY_BERT, Command, message, write_rows
from tests.data.encoders.test_conversations import TEMPLATE, tokenizer
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
from tests.tiny import bert_tokenizer, word_tokenizer

PUBLIC = ("CausalLM", "CausalLMData")  # configs and checkpoints name them

CLASSES = ("plcli.tasks.causal_lm.CausalLM", "plcli.tasks.causal_lm.CausalLMData")
TINY = {"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 300}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
TEXTS = ["the invoice is wrong again", "my parcel never came", "thank you for the quick help"]
PROMPTS = ["the invoice", "my parcel", "thank you for", "the invoice is"]
WHOLE = [" is wrong again", " never came", " the quick help", " wrong again"]


def sections(folder: Path, rows: list[dict[str, Any]] | None = None, **data: Any) -> dict[str, Any]:
    """Return the sections of a config that overfits three texts."""
    rows = rows or [{"text": text} for text in TEXTS] * 30
    file = str(write_rows(folder / "train.jsonl", rows))
    sources = {"train": file, "validation": file, "test": file}
    return {
        "model": {
            "architecture": {**TINY, "initializer_range": 0.1, "resid_pdrop": 0.0},
            "optimizer": adamw(1e-2),
            "schedule": "constant",
            "max_new_tokens": 20,
        },
        "data": {**sources, "wordpieces": 290, "batch_size": 6, **data},
        "classes": CLASSES,
    }


@dataclass(frozen=True)
class Trained:
    """A run that knows three texts by heart."""

    run: Path
    prompts: Path

    @property
    def model(self) -> Path:
        return self.run / "model"

    def texts(self, *words: object) -> list[str]:
        """Continue the prompts."""
        return [row["text"] for row in predicted(self.run, self.prompts, *words)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("causal")
    run = fit(folder, **sections(folder), trainer={"max_epochs": 8})
    return Trained(run, write_rows(folder / "prompts.jsonl", [{"text": text} for text in PROMPTS]))


def data(source: Path, **settings: Any) -> CausalLMData:
    """Return data with a tokenizer of whole words."""
    made = CausalLMData(train=str(source), validation=str(source), **settings)
    made.__dict__["loaded_tokenizer"] = word_tokenizer(pad_token="</s>", eos_token="</s>")
    made.num_pieces = 1
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three texts of 4, 2 and 1 words."""
    texts = ["the invoice is wrong", "parcel late", "you"]
    return write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in texts])


# continuing


def test_what_was_learnt_by_heart_is_continued(trained: Trained) -> None:
    assert trained.texts() == WHOLE


def test_an_end_that_was_reached_is_told(trained: Trained) -> None:
    ended = [row["finished"] for row in predicted(trained.run, trained.prompts)]
    words = ("--model.max_new_tokens", "2")
    cut = [row["finished"] for row in predicted(trained.run, trained.prompts, *words)]
    assert (ended, cut) == ([True] * 4, [False] * 4)


def test_the_pipeline_gives_the_same_continuation(trained: Trained) -> None:
    from transformers import pipeline

    generate = pipeline("text-generation", model=str(trained.model), device="cpu")
    made = generate(PROMPTS, max_new_tokens=20, do_sample=False, return_full_text=False)
    assert [row[0]["generated_text"] for row in made] == trained.texts()


def test_the_model_ends_texts_with_the_token_of_its_tokenizer(trained: Trained) -> None:
    config, tokens = read_json(trained.model / "config.json"), tokenizer()
    ids = [config[name] for name in ("eos_token_id", "bos_token_id", "pad_token_id")]
    assert ids == [tokens.eos_token_id, tokens.bos_token_id, tokens.pad_token_id]


def test_batches_do_not_change_a_continuation(trained: Trained) -> None:
    assert trained.texts("--data.batch_size", "1") == trained.texts("--data.batch_size", "4")


def test_a_sampled_continuation_does_not_depend_on_its_batch(trained: Trained) -> None:
    hot = ("--model.do_sample", "true", "--model.temperature", "3")
    alone, together = (trained.texts(*hot, "--data.batch_size", size) for size in ("1", "4"))
    assert (alone, alone == WHOLE) == (together, False)


def test_another_seed_gives_another_sample(trained: Trained) -> None:
    hot = ("--model.do_sample", "true", "--model.temperature", "3")
    assert trained.texts(*hot) != trained.texts(*hot, "--seed_everything", "7")


def test_sampling_among_the_likeliest_takes_the_likeliest(trained: Trained) -> None:
    assert trained.texts("--model.do_sample", "true", "--model.top_p", "0.01") == WHOLE


def test_beams_find_a_likelier_continuation_or_the_same(trained: Trained) -> None:
    assert trained.texts("--model.num_beams", "3") == WHOLE


def test_beams_are_what_transformers_finds(trained: Trained) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(trained.model).eval()
    tokens = AutoTokenizer.from_pretrained(trained.model)
    ids = tokens("a late", return_tensors="pt")["input_ids"]
    made = network.generate(ids, num_beams=4, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
    write_rows(Path("odd.jsonl"), [{"text": "a late"}])
    words = ("--model.num_beams", "4", "--model.max_new_tokens", "6")
    assert predicted(trained.run, Path("odd.jsonl"), *words)[0]["text"] == tokens.decode(
        made, skip_special_tokens=True
    )


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"num_beams": 3}, {"num_beams": 3, "do_sample": False}),
        ({"do_sample": True, "top_p": 0.9}, {"do_sample": True, "temperature": 1.0, "top_p": 0.9}),
        ({"do_sample": True, "temperature": 0.7}, {"temperature": 0.7, "top_p": 1.0, "top_k": 0}),
    ],
    ids=["beams", "of the likeliest", "sampling"],
)
def test_what_is_said_of_generation_is_kept_with_the_model(
    tmp_path: Path, settings: dict[str, Any], kept: dict[str, Any]
) -> None:
    model = CausalLM(architecture=TINY, vocab_size=20, max_new_tokens=7, **settings)
    model.save_pretrained(tmp_path)
    assert {**kept, "max_new_tokens": 7}.items() <= read_json(
        tmp_path / "generation_config.json"
    ).items()


def test_of_a_pretrained_generation_config_the_rest_is_taken_over(tmp_path: Path) -> None:
    CausalLM(architecture=TINY, vocab_size=20).save_pretrained(tmp_path)
    file = tmp_path / "generation_config.json"
    theirs = {"num_beams": 2, "num_return_sequences": 2, "repetition_penalty": 1.3}
    file.write_text(json.dumps(read_json(file) | theirs))
    model = CausalLM(pretrained=str(tmp_path), max_new_tokens=2, num_beams=2).eval()
    model.tokenizer = word_tokenizer(pad_token="</s>", eos_token="</s>")
    ids = torch.tensor([[2, 3]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "id": [0], "index": [0]}
    assert len(model.predict_step(batch, 0)) == 1
    assert model.model.generation_config.repetition_penalty == 1.3


@pytest.mark.parametrize(
    ("draws", "kept"), [(True, (1.0, 1.0, 0, None)), (False, (None, None, None, None))]
)
def test_how_a_pretrained_model_samples_is_not_taken_over(
    tmp_path: Path, draws: bool, kept: Any
) -> None:
    CausalLM(architecture=TINY, vocab_size=20).save_pretrained(tmp_path)
    file = tmp_path / "generation_config.json"
    theirs = {"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20, "min_p": 0.1}
    file.write_text(json.dumps(read_json(file) | theirs))
    settled = CausalLM(pretrained=str(tmp_path), do_sample=draws).model.generation_config
    found = tuple(getattr(settled, name) for name in ("temperature", "top_p", "top_k", "min_p"))
    assert (settled.do_sample, found) == (draws, kept)


def test_a_model_that_draws_is_told_how_not_to(tmp_path: Path, plcli: Command) -> None:
    file = write_rows(tmp_path / "rows.jsonl", [{"text": text} for text in WHOLE])
    drawing = {"architecture": TINY, "do_sample": True, "temperature": 0.7}
    source = {"train": str(file), "validation": str(file)}
    run = fit(tmp_path, model=drawing, data=source, classes=CLASSES)
    words = ("predict", "--run", run, "late", "--model.do_sample", "false")
    assert "Set that, or model.temperature: null." in plcli(*words).err
    assert plcli(*words, "--model.temperature", "null").code == 0


def test_an_empty_prompt_is_continued(trained: Trained) -> None:
    with own_cache(trained.run.parent):
        result = run_plcli("predict", "--run", trained.run, "")
    assert (result.code, list(json.loads(result.out))) == (0, ["id", "text", "finished"])


def test_a_prompt_that_leaves_no_room_is_cut_at_its_beginning(trained: Trained) -> None:
    text = "help " * 300 + "my parcel"
    with own_cache(trained.run.parent):
        result = run_plcli(
            "predict", "--run", trained.run, "--model.max_new_tokens", "60", text, "my parcel"
        )
    said = (
        r"truncated on the left to 240 tokens, so that model.max_new_tokens: 60 fits.*: 1, .*id 0"
    )
    assert (result.code, bool(re.search(said, result.err))) == (0, True)
    assert json.loads(result.out.splitlines()[1])["text"] == " never came"


# numbers


def test_the_perplexities_are_those_of_every_token_but_the_first_of_a_block(
    trained: Trained,
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    network = AutoModelForCausalLM.from_pretrained(trained.model).eval()
    tokens = AutoTokenizer.from_pretrained(trained.model)
    total, num_tokens, num_bytes = 0.0, 0, 0
    for text in TEXTS:
        ids = torch.tensor([[*tokens(text)["input_ids"], tokens.eos_token_id]])
        with torch.inference_mode():
            total += float(network(ids, labels=ids).loss) * (ids.shape[1] - 1)
        num_tokens += ids.shape[1] - 1
        num_bytes += len(text.encode()) - len(tokens.decode(ids[0, :1]).encode())
    test = read_json(trained.run / "metrics.json")["test"]
    found = [test[name] for name in ("perplexity", "perplexity_per_byte", "bits_per_byte")]
    of_byte = total / num_bytes
    expected = [math.exp(total / num_tokens), math.exp(of_byte), of_byte / math.log(2)]
    assert found == pytest.approx(expected, rel=1e-4)
    assert test["bytes_per_token"] == pytest.approx(num_bytes / num_tokens, rel=1e-5)


def test_test_gives_the_numbers_of_the_fit(trained: Trained) -> None:
    with own_cache(trained.run.parent):
        result = run_plcli("test", "--run", trained.run)
    test = read_json(trained.run / "metrics.json")["test"]
    assert all(f"{test[name]:.4f}" in result.out for name in ("loss", "bytes_per_token"))


def test_the_loss_is_that_of_transformers() -> None:
    model = CausalLM(architecture=TINY, vocab_size=300, eos_token_id=1, bos_token_id=1).eval()
    ids = torch.arange(20).reshape(2, 10) + 5
    labels = torch.where(ids % 3 == 0, -100, ids)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}
    expected = model.model(input_ids=ids, labels=labels).loss
    torch.testing.assert_close(model.loss(model(batch), batch), expected)


# blocks


def blocks(made: CausalLMData, split: str = "validation") -> list[str]:
    """Return the texts of a split's blocks."""
    batch = made.split(split)[range(len(made.split(split)))]
    return [
        made.loaded_tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def test_a_text_is_cut_into_blocks_that_end_with_it(source: Path) -> None:
    found = blocks(data(source, max_length=4))
    assert found == ["the invoice is wrong", "parcel late </s>", "you </s>"]


def test_texts_are_joined_where_that_is_asked_for(source: Path) -> None:
    found = blocks(data(source, max_length=4, cross_documents=True))
    assert found == ["the invoice is wrong", "</s> parcel late </s>", "you </s>"]


def test_the_first_token_of_a_block_is_not_predicted(source: Path) -> None:
    batch = data(source).split("validation")[range(3)]
    assert batch["labels"][:, 0].tolist() == [-100] * 3


def test_the_bytes_are_those_of_the_predicted_tokens(source: Path) -> None:
    batch = data(source).split("validation")[range(3)]
    assert batch["bytes"].tolist() == [len(" invoice is wrong"), len(" late"), 0]


def test_blocks_of_like_length_share_a_batch(source: Path) -> None:
    made = data(source, batch_size=1)
    lengths = [batch["input_ids"].shape[1] for batch in made.val_dataloader()]
    assert lengths == [5, 3, 2]


def test_an_end_that_is_also_padding_is_learnt(source: Path) -> None:
    labels = data(source).split("validation")[range(3)]["labels"]
    assert (labels == 1).sum(1).tolist() == [1, 1, 1]


def test_validation_blocks_are_of_rows_that_are_not_trained_on(tmp_path: Path) -> None:
    rows = [{"text": f"the {word} parcel"} for word in ("invoice", "late", "wrong", "thank")] * 5
    source = write_rows(tmp_path / "rows.jsonl", rows)
    made = CausalLMData(train=str(source), validation_fraction=0.25)
    made.__dict__["loaded_tokenizer"] = word_tokenizer(pad_token="</s>", eos_token="</s>")
    parts = [set(made.split(split).row_numbers.tolist()) for split in ("train", "validation")]
    assert (parts[0] & parts[1], len(parts[0]), len(parts[1])) == (set(), 15, 5)


def test_the_rows_of_a_batch_are_named_and_not_its_blocks(source: Path) -> None:
    assert data(source, max_length=4).split("train").row_numbers.tolist() == [0, 1, 2]


def test_a_split_is_described_by_its_blocks(source: Path) -> None:
    said = "validation: 3 rows in 3 blocks of at most 4 tokens, 9 in all"
    assert data(source, max_length=4).describe("validation") == said


def test_a_file_is_reproduced_by_its_blocks(tmp_path: Path) -> None:
    prose = "One line.\n\nTwo lines,\r\n  Käse and\ttabs.\n"
    (tmp_path / "prose.txt").write_bytes(prose.encode())
    made = CausalLMData(
        train=str(tmp_path / "prose.txt"),
        validation=str(tmp_path / "prose.txt"),
        documents="file",
        wordpieces=270,
        max_length=5,
    )
    split = made.split("validation")
    ids = [split[[number]]["input_ids"][0].tolist() for number in range(len(split))]
    whole = [token for block in ids for token in block]
    assert made.loaded_tokenizer.decode(whole).removesuffix("</s>") == prose


# instructions

TASKS = [
    {"ask": f"{word}? ", "answer": answer}
    for word, answer in (("one", "uno"), ("two", "dos"), ("three", "tres"))
]


def test_only_the_response_is_learnt(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"ask": "the invoice", "answer": "is wrong"}])
    made = data(source, prompt="ask", response="answer")
    labels = made.split("validation")[[0]]["labels"][0]
    assert made.loaded_tokenizer.decode(labels[labels >= 0]) == "is wrong </s>"


def test_a_prompt_may_join_columns_as_of_alpaca(tmp_path: Path) -> None:
    rows = [{"instruction": "the", "input": "invoice", "output": "is wrong"}]
    source = write_rows(tmp_path / "rows.jsonl", rows * 2)
    made = data(source, prompt="{instruction} {input} ", response="output")
    batch = made.split("train")[[0]]["pieces"][0]
    assert made.loaded_tokenizer.decode(batch["input_ids"][0]) == "the invoice is wrong </s>"
    labels = batch["labels"][0]
    assert made.loaded_tokenizer.decode(labels[labels >= 0]) == "is wrong </s>"


def test_a_long_answer_is_cut_and_that_is_said(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"ask": "the", "answer": "is wrong late you"}])
    made = data(source, prompt="ask", response="answer", max_length=4)
    said = "validation: 1 rows in 1 blocks of at most 4 tokens, 4 in all, 1 cut to 4 tokens"
    assert made.describe("validation").startswith(said)


LONG = {"ask": "the invoice is wrong", "answer": "late you"}  # its prompt alone is 4 tokens
SHORT = {"ask": "the", "answer": "parcel"}


def test_a_row_whose_answer_is_cut_away_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [LONG, SHORT, LONG])
    made = data(source, prompt="ask", response="answer", max_length=4)
    assert blocks(made) == ["the parcel </s>"]
    assert made.split("validation").row_numbers.tolist() == [1]
    assert made.describe("validation").endswith(
        ", 2 cut to 4 tokens (data.max_length), 2 whose whole answer is cut (data.max_length)"
    )


def test_a_joined_block_without_an_answer_is_left_out_and_that_is_said(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [LONG, SHORT])
    made = data(source, prompt="ask", response="answer", max_length=4, cross_documents=True)
    assert blocks(made) == ["late you </s> the", "parcel </s>"]
    assert ", 1 blocks without an answer left out" in made.describe("validation")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_split_whose_answers_are_all_cut_away_is_refused(tmp_path: Path, split: str) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [LONG, LONG])
    made = data(source, prompt="ask", response="answer", max_length=4)
    with pytest.raises(DataError, match=rf"in the {split} split, no answer begins within the firs"):
        made.split(split)


def test_a_model_answers_prompts_as_it_has_learnt(tmp_path: Path) -> None:
    config = sections(tmp_path, TASKS * 20, prompt="ask", response="answer")
    run = fit(tmp_path, **config, trainer={"max_epochs": 6})
    asked = write_rows(tmp_path / "asked.jsonl", [{"ask": row["ask"]} for row in TASKS])
    assert [row["text"] for row in predicted(run, asked)] == ["uno", "dos", "tres"]


def test_a_model_answers_in_conversations_as_it_has_learnt(tmp_path: Path) -> None:
    made = tokenizer(TEMPLATE)
    model = CausalLM(architecture={**TINY, "initializer_range": 0.1}, vocab_size=len(made))
    model.model.config.eos_token_id = made.eos_token_id
    model.model.generation_config.eos_token_id = made.eos_token_id
    model.save_pretrained(tmp_path / "chat")
    made.save_pretrained(tmp_path / "chat")
    talks = [
        {
            "talk": [
                {"role": "user", "content": row["ask"]},
                {"role": "assistant", "content": row["answer"]},
            ]
        }
        for row in TASKS
    ]
    config = sections(tmp_path, talks * 20, messages="talk")
    del config["model"]["architecture"], config["data"]["wordpieces"]
    config["model"]["pretrained"] = str(tmp_path / "chat")
    run = fit(tmp_path, **config, trainer={"max_epochs": 6})
    answers = [row["text"] for row in predicted(run, write_rows(tmp_path / "asked.jsonl", talks))]
    assert answers == ["uno", "dos", "tres"]


# models


@pytest.mark.parametrize("architecture", [TINY, LLAMA], ids=["gpt2", "llama"])
def test_an_artefact_has_the_weights_that_were_trained(
    tmp_path: Path, architecture: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM

    model = CausalLM(architecture=architecture, vocab_size=300, eos_token_id=1, bos_token_id=1)
    model.save_pretrained(tmp_path / "model")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.arange(10)[None] + 3
    torch.testing.assert_close(loaded(ids).logits, model.model.eval()(ids).logits)


def test_a_run_that_goes_on_has_the_numbers_of_one_that_was_not_stopped(tmp_path: Path) -> None:
    numbers = []
    for name in ("whole", "stopped"):
        folder = tmp_path / name
        folder.mkdir()
        config = sections(folder, [{"text": text} for text in TEXTS] * 4, cross_documents=True)
        config["data"]["max_length"] = 8
        trainer = {"max_epochs": 2}
        if name == "stopped":
            with stopped(CausalLM, lambda module, batch: (module.current_epoch, batch) == (1, 1)):
                every = ("--checkpoint.every_n_steps", "1")
                assert try_fit(folder, *every, **config, trainer=trainer).code == 130
        run = fit(folder, "--checkpoint.every_n_steps", "1", **config, trainer=trainer)
        numbers.append(read_metrics(run))
    assert numbers[0] == numbers[1]


# what is refused


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_new_tokens": 0}, r"model.max_new_tokens: got 0, expected 1 or more"),
        ({"num_beams": 0}, r"model.num_beams: got 0, expected 1 or more"),
        ({"temperature": 0.0}, r"model.temperature: got 0.0, expected more than 0"),
        ({"top_p": 0.0}, r"model.top_p: got 0.0, expected more than 0 and at most 1"),
        ({"top_p": 0.9}, r"model.top_p: 0.9 has no effect without model.do_sample: true. Set"),
        ({"temperature": 0.5}, r"model.temperature: 0.5 has no effect without model.do_sample"),
        ({"num_beams": 2, "do_sample": True}, r"model.num_beams: 2 searches for the most"),
        (
            {"max_new_tokens": 300},
            r"300 leaves no room for a prompt within the model's 300 positio",
        ),
    ],
)
def test_values_that_make_no_continuation_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        CausalLM(architecture=TINY, vocab_size=300, **settings)


def test_a_model_that_reads_in_both_directions_is_refused() -> None:
    with pytest.raises(ModelError, match=r"a bert is bidirectional, so it would see"):
        CausalLM(architecture=TINY_BERT, vocab_size=300)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"prompt": "ask"}, r"data.prompt: needs data.response. Give both"),
        ({"response": "answer"}, r"data.response: needs data.prompt. Give both"),
        ({"text": "a", "messages": "b"}, r"data.text and data.messages: both are given; give one"),
    ],
)
def test_columns_that_contradict_are_refused(settings: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        CausalLMData(train="rows.jsonl", **settings)


def test_a_tokenizer_without_an_end_is_refused(source: Path) -> None:
    made = CausalLMData(train=str(source))
    made.__dict__["loaded_tokenizer"] = bert_tokenizer()
    with pytest.raises(ModelError, match=r"data.tokenizer: has no end token"):
        made.facts()


def test_a_split_without_a_block_is_refused(tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl", [{"text": ""}, {"text": ""}])
    with pytest.raises(DataError, match=r"no text of the validation split is long enough for a bl"):
        data(source).split("validation")


def test_one_document_cannot_be_cut_for_validation(plcli: Command, tmp_path: Path) -> None:
    (tmp_path / "prose.txt").write_text("A text of one document.\n" * 300)
    words = ("--model", CLASSES[0], "--model.architecture", json.dumps(TINY), "--data", CLASSES[1])
    result = plcli("fit", *words, "--data.train", "prose.txt", "--data.documents", "file")
    assert (result.code, message(result)) == (
        3,
        "plcli: prose.txt: no row can be split off for validation: there is only one, or each "
        "has a label of its own. Give data.validation a file, or add rows; or name the label "
        "column, if it is another one.\n",
    )


def test_a_conversation_without_a_template_is_refused(plcli: Command, tmp_path: Path) -> None:
    write_rows(tmp_path / "talks.jsonl", [{"messages": [{"role": "user", "content": "a"}]}] * 9)
    words = ("--model", CLASSES[0], "--model.architecture", json.dumps(TINY), "--data", CLASSES[1])
    result = plcli("fit", *words, "--data.train", "talks.jsonl", "--data.messages", "messages")
    assert (
        result.code,
        "plcli: data.messages: the tokenizer has no chat template" in result.err,
    ) == (4, True)


def test_what_is_no_number_is_told_with_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_number(self: CausalLM, outputs: Any, batch: Any) -> torch.Tensor:
        loss: torch.Tensor = outputs.logits.sum()
        return loss * float("nan") if self.model.training else loss

    monkeypatch.setattr(CausalLM, "loss", no_number)
    config = sections(tmp_path, [{"text": text} for text in TEXTS], max_length=4)
    config["data"]["batch_size"] = 64
    result = try_fit(tmp_path, **config)
    assert (result.code, "rows 0, 1, 2 of data.train: the loss" in result.err) == (3, True)


# the analysis of the test


def test_the_texts_with_the_largest_loss_are_the_worst(trained: Trained) -> None:
    found = read_json(trained.run / "analysis.json")
    losses = [row["loss"] for row in found["errors"]["rows"]]
    assert (found["problem"], losses) == ("tokens", sorted(losses, reverse=True))
    assert max(losses) > read_json(trained.run / "metrics.json")["test"]["loss"]
    with open(trained.run / "errors.csv", encoding="utf-8", newline="") as file:
        rows = [(float(row["loss"]), int(row["tokens"])) for row in csv.DictReader(file)]
    assert len(rows) == found["rows"]
    total = sum(loss * tokens for loss, tokens in rows) / sum(tokens for _, tokens in rows)
    assert total == pytest.approx(read_json(trained.run / "metrics.json")["test"]["loss"], rel=1e-4)
    assert not (trained.run / "test_predictions.csv").exists()
