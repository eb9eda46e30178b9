"""Tokenizers that are fitted on the training rows, for models without a pretrained one."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from plcli.data.cache import build_once, cache_folder

logger = logging.getLogger(__name__)

VERSION = 3  # of the fitted tokenizers
Kind = Literal["wordpiece", "bytes", "bytes-ended"]
END, PADDING, UNKNOWN = "</s>", "<pad>", "<unk>"
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LONGEST_WORD = 100  # letters; longer ones become [UNK], as in the WordPiece of BERT
APART = r"\s!-/:-@\[-`{-~\u2000-\u206f\u3000-\u303f\uff00-\uff20"  # spaces and punctuation
CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"  # words of one letter
LONG = re.compile(rf"[^{APART}{CHINESE}]{{{LONGEST_WORD + 1},}}")
LETTERS = 1000  # maximum number of distinct letters, as in the trainer of tokenizers


def fit(
    kind: Kind,
    texts: Callable[[], Iterator[str]],
    *,
    vocab_size: int,
    max_length: int,
    key: str,
    cache: Path | None = None,
) -> Any:
    """Fit a tokenizer, or load it from the cache.

    Args:
        kind: wordpiece is lower-case and has the special tokens of BERT; bytes is the byte-level
            BPE of GPT-2; bytes-ended appends an end token to every text, as for T5.
        texts: returns an iterator over all texts of the training split.
        vocab_size: maximum size of the vocabulary.
        max_length: maximum number of tokens of the model.
        key: identifies the texts, as by a fingerprint.
        cache: the cache folder; None is `cache_folder()`.
    """
    from transformers import BertTokenizerFast, PreTrainedTokenizerFast

    train: Callable[..., None] = _train_wordpiece if kind == "wordpiece" else _train_bytes
    name = "" if kind == "wordpiece" else f" {kind}"
    digest = hashlib.sha256(f"{VERSION} {key} {vocab_size}{name}".encode()).hexdigest()[:32]
    target = (cache or cache_folder()) / "tokenizers" / f"{digest}.json"
    target = build_once(
        target, lambda path: train(texts, vocab_size, path, ended=kind == "bytes-ended")
    )
    if kind == "wordpiece":
        return BertTokenizerFast(tokenizer_file=str(target), model_max_length=max_length)
    return PreTrainedTokenizerFast(
        tokenizer_file=str(target),
        model_max_length=max_length,
        eos_token=END,
        bos_token=END,
        pad_token=PADDING,
        unk_token=UNKNOWN,
    )


def _train_wordpiece(
    texts: Callable[[], Iterator[str]], vocab_size: int, path: Path, *, ended: bool
) -> None:
    from tokenizers import BertWordPieceTokenizer

    fitted = BertWordPieceTokenizer()
    # The trainer assigns ids to letters within words in an order that differs from run to run, and
    # breaks ties by id. Special tokens have fixed ids, so the letters are passed as such.
    within = [f"##{letter}" for letter in _letters_within_words(fitted, texts())]
    fitted.train_from_iterator(
        _without_long_words(texts()),
        vocab_size=vocab_size,
        min_frequency=1,
        show_progress=False,
        special_tokens=BERT_SPECIAL + within[: vocab_size - len(BERT_SPECIAL)],
    )
    BertWordPieceTokenizer(fitted.get_vocab()).save(str(path))  # without them as special tokens


def _without_long_words(texts: Iterator[str]) -> Iterator[str]:
    """Yield texts without words that are too long for a WordPiece, such as encoded images.

    The time of the fit grows with the square of a word's length.
    """
    left_out = longest = 0
    for text in texts:
        for word in LONG.finditer(text):
            left_out, longest = left_out + 1, max(longest, len(word[0]))
        yield LONG.sub(" ", text)
    if left_out:
        logger.info(
            "tokenizer: %d words of more than %d letters (the longest has %d) are left out of its "
            "vocabulary",
            left_out,
            LONGEST_WORD,
            longest,
        )


def _letters_within_words(tokenizer: Any, texts: Iterator[str]) -> list[str]:
    """Return the most frequent letters that may continue a word, sorted."""
    found: Counter[str] = Counter()
    for text in texts:
        found.update(text)
    letters: Counter[str] = Counter()
    for raw, count in found.items():
        for letter in tokenizer.normalizer.normalize_str(raw):
            if len(tokenizer.pre_tokenizer.pre_tokenize_str(f"a{letter}")) == 1 and letter.strip():
                letters[letter] += count
    return sorted(sorted(letters, key=lambda letter: (-letters[letter], letter))[:LETTERS])


def _train_bytes(
    texts: Callable[[], Iterator[str]], vocab_size: int, path: Path, *, ended: bool
) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PADDING, END, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    if ended:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {END}",
            pair=f"$A {END} $B:1 {END}:1",
            special_tokens=[(END, tokenizer.token_to_id(END))],
        )
    tokenizer.save(str(path))
