"""Tiny tokenizers and models of random weights, built in a moment and without the network."""

import json
from pathlib import Path
from typing import Any

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["the", "invoice", "is", "wrong", "parcel", "late", "thank", "you", "##s", "##er"]


def bert_tokenizer(*, words: list[str] = WORDS, **settings: Any) -> Any:
    """Build a fast BERT tokenizer that knows these words."""
    from transformers import BertTokenizerFast

    vocab = {piece: index for index, piece in enumerate([*SPECIAL, *words])}
    return BertTokenizerFast(vocab=vocab, **settings)


def word_tokenizer(**settings: Any) -> Any:
    """Build a fast tokenizer of whole words, without special tokens and without token types."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {word: index for index, word in enumerate(["<unk>", "</s>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def bert_classifier(*, num_labels: int = 3) -> Any:
    """Build a BERT classifier of one narrow layer."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=num_labels,
    )
    return BertForSequenceClassification(config)


def save_bert(folder: Path, *, num_labels: int = 3) -> Path:
    """Save a tiny classifier and its tokenizer, as a hub id or a folder would hold them."""
    bert_classifier(num_labels=num_labels).save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    return folder


def save_writer(folder: Path) -> Path:
    """Save a language model that generates, with its tokenizer."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=20, n_embd=8, n_layer=1, n_head=1, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    word_tokenizer(unk_token="<unk>", eos_token="</s>", pad_token="</s>").save_pretrained(folder)
    return folder


def save_tokenizer(tokenizer: Any) -> str:
    """Save a tokenizer beside a model's config, in the folder `named`."""
    tokenizer.save_pretrained("named")
    config = {"model_type": "bert", "hidden_size": 32, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 2, "intermediate_size": 64}
    Path("named/config.json").write_text(json.dumps(config))
    return "named"
