"""The zoo: a tiny model with random weights and a tokenizer for each of many model types.

A folder looks like one of the hub: config.json, model.safetensors of the class that the type is
pretrained as, and the files of a tokenizer of the usual kind, trained on a few sentences.
"""

import functools
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXTS = [
    "the invoice is wrong and you charged me twice this month",
    "where is my parcel, it is late again and nobody answers",
    "thank you very much, what a great shop and a kind service",
    "Anna Smith wrote from London that the red lamp never came",
    "Omar Diaz sent the blue sofa back to Paris last Monday",
    "how many days does a refund take if the parcel was damaged?",
    "translate this sentence, please, and summarize the other one",
    "the cat sat on the mat while a dog ran quickly through fog",
]
BERT = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}
ROBERTA = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
}
NO_LIMIT = int(1e30)  # what transformers writes for a tokenizer without a limit
LONGEST = 64  # positions
SPREAD = 0.1  # the standard deviation of a matrix
Build = Callable[[], Any]


# tokenizers


def _around(backend: Any, before: str, after: str, *, again: str = "") -> None:
    """Put special tokens before and after a text, and between two texts."""
    names = dict.fromkeys([before, after, *again.split()])
    joined = (f"{after} {again}" if again else after).split()
    pair = [before, "$A", *joined, "$B:1", *(f"{name}:1" for name in after.split())]
    backend.post_processor = processors.TemplateProcessing(
        single=[*before.split(), "$A", *after.split()],
        pair=[part for part in pair if part],
        special_tokens=[(name, backend.token_to_id(name)) for name in names if name],
    )


def word_pieces() -> Any:
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    backend.train_from_iterator(TEXTS, trainer)
    _around(backend, "[CLS]", "[SEP]")
    return backend


def bytes_of(*special: str) -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def pieces(*special: str, unk: str = "<unk>") -> Any:
    """A unigram model of sentencepiece's kind."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=list(special), unk_token=unk, show_progress=False
    )
    backend.train_from_iterator(TEXTS, trainer)
    return backend


def llama_pieces() -> Any:
    backend = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, show_progress=False, max_token_length=8
    )
    backend.train_from_iterator(TEXTS, trainer)
    _around(backend, "<s>", "", again="<s>")
    return backend


def _with(backend: Any, before: str, after: str, again: str = "") -> Any:
    _around(backend, before, after, again=again)
    return backend


def _roberta_bytes() -> Any:
    return _with(bytes_of("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s>", "</s>", "</s>")


def _xlm_pieces() -> Any:
    return _with(pieces("<s>", "<pad>", "</s>", "<unk>", "<mask>"), "<s>", "</s>", "</s>")


def _albert_pieces() -> Any:
    return _with(pieces("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"), "[CLS]", "[SEP]")


def _deberta_pieces() -> Any:
    special = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
    return _with(pieces(*special, unk="[UNK]"), "[CLS]", "[SEP]")


def _modern_bytes() -> Any:
    return _with(bytes_of("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), "[CLS]", "[SEP]")


def _t5_pieces() -> Any:
    extra = [f"<extra_id_{number}>" for number in range(4)]
    return _with(pieces("<pad>", "</s>", "<unk>", *extra), "", "</s>")


def _xlnet_pieces() -> Any:
    backend = pieces("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>")
    backend.post_processor = processors.TemplateProcessing(
        single="$A:0 <sep>:0 <cls>:2",
        pair="$A:0 <sep>:0 $B:1 <sep>:1 <cls>:2",
        special_tokens=[(name, backend.token_to_id(name)) for name in ("<sep>", "<cls>")],
    )
    return backend


ENDED = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
T5 = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
XLNET = {**ROBERTA, "sep_token": "<sep>", "cls_token": "<cls>"}
ALBERT = {**BERT, "unk_token": "<unk>", "pad_token": "<pad>", "bos_token": "[CLS]"}
TOKENIZERS: dict[str, tuple[Build, Mapping[str, str], int]] = {
    "bert": (word_pieces, BERT, LONGEST),
    "roberta": (_roberta_bytes, ROBERTA, LONGEST),
    "xlm": (_xlm_pieces, ROBERTA, LONGEST),
    "albert": (_albert_pieces, {**ALBERT, "eos_token": "[SEP]"}, LONGEST),
    "deberta": (_deberta_pieces, {**BERT, "bos_token": "[CLS]", "eos_token": "[SEP]"}, LONGEST),
    "modern": (_modern_bytes, BERT, LONGEST),
    "t5": (_t5_pieces, T5, LONGEST),
    "gpt": (lambda: bytes_of("<|endoftext|>"), ENDED, LONGEST),
    "opt": (
        lambda: _with(bytes_of("<s>", "<pad>", "</s>"), "</s>", "", again="</s>"),
        {**dict.fromkeys(ENDED, "</s>"), "pad_token": "<pad>"},
        NO_LIMIT,
    ),
    "qwen": (
        lambda: bytes_of("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
        131072,
    ),
    "llama": (
        llama_pieces,
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
        NO_LIMIT,
    ),
    "xlnet": (_xlnet_pieces, XLNET, NO_LIMIT),
}


@functools.cache
def _backend(kind: str) -> str:
    text: str = TOKENIZERS[kind][0]().to_str()
    return text


def _save_tokenizer(folder: Path, kind: str, name: str) -> None:
    _, special, limit = TOKENIZERS[kind]
    (folder / "tokenizer.json").write_text(_backend(kind), encoding="utf-8")
    settings: dict[str, Any] = {"tokenizer_class": name, "model_max_length": limit, **special}
    if kind == "xlnet":
        settings["padding_side"] = "left"
    if kind == "modern":
        settings["model_input_names"] = ["input_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _save_marian(folder: Path) -> None:
    """A tokenizer of two sentencepiece files, without a tokenizer.json."""
    import sentencepiece

    for name in ("source.spm", "target.spm"):
        with open(folder / name, "wb") as file:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(TEXTS),
                model_writer=file,
                vocab_size=100,
                hard_vocab_limit=False,
                bos_id=-1,
                pad_id=-1,
                minloglevel=2,
            )
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "source.spm"))
    names = [model.id_to_piece(number) for number in range(model.get_piece_size())]
    known = dict.fromkeys(["</s>", "<unk>", *names, "<pad>"])
    vocabulary = {name: number for number, name in enumerate(known)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    settings = {"tokenizer_class": "MarianTokenizer", "model_max_length": LONGEST}
    settings |= {"source_lang": "en", "target_lang": "de"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _save_mbart(folder: Path) -> None:
    """A tokenizer that marks the languages of texts."""
    special = ("<s>", "<pad>", "</s>", "<unk>")
    known = json.loads(pieces(*special).to_str())["model"]["vocab"]
    vocab = [(piece, score) for piece, score in known]
    vocab += [(code, 0.0) for code in ("de_DE", "en_XX", "<mask>")]
    made = transformers.MBartTokenizer(vocab=vocab, model_max_length=LONGEST)
    made.save_pretrained(folder)


# models

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": LONGEST,
}
LIKE_ROBERTA = {
    **SIZES,
    "max_position_embeddings": LONGEST + 2,
    "type_vocab_size": 1,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
PARTS = {
    "d_model": 32,
    **{f"{part}_layers": 2 for part in ("encoder", "decoder")},
    **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    **{f"{part}_ffn_dim": 64 for part in ("encoder", "decoder")},
    "max_position_embeddings": LONGEST,
}
LIKE_T5 = {
    "d_model": 32,
    "d_kv": 16,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 2,
    "decoder_start_token_id": 0,
}
LIKE_LLAMA = {**SIZES, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
LIKE_QWEN = {**SIZES, "num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 2}
OF_GPT = {"bos_token_id": 0, "eos_token_id": 0}
BARTS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "forced_eos_token_id": 2}


@dataclass(frozen=True)
class Kind:
    """How a model of a type is made.

    Attributes:
        tokenizer: a key of TOKENIZERS; or marian or mbart.
        settings: the settings of its config.
        head: the Auto class of what the type is pretrained as, after AutoModelFor.
        tokenizer_class: the class that tokenizer_config.json names.
    """

    tokenizer: str
    settings: Mapping[str, Any]
    head: str = "MaskedLM"
    tokenizer_class: str = "PreTrainedTokenizerFast"


KINDS = {
    "bert": Kind("bert", SIZES, "PreTraining", "BertTokenizer"),
    "distilbert": Kind(
        "bert",
        {
            "dim": 32,
            "hidden_dim": 64,
            "n_layers": 2,
            "n_heads": 2,
            "max_position_embeddings": LONGEST,
        },
        tokenizer_class="DistilBertTokenizer",
    ),
    "electra": Kind("bert", {**SIZES, "embedding_size": 16}, "PreTraining", "ElectraTokenizer"),
    "roberta": Kind("roberta", LIKE_ROBERTA, tokenizer_class="RobertaTokenizer"),
    "xlm-roberta": Kind("xlm", LIKE_ROBERTA, tokenizer_class="XLMRobertaTokenizer"),
    "camembert": Kind("xlm", LIKE_ROBERTA, tokenizer_class="CamembertTokenizer"),
    "albert": Kind(
        "albert",
        {**SIZES, "embedding_size": 16, "num_hidden_groups": 1},
        tokenizer_class="AlbertTokenizer",
    ),
    "deberta": Kind(
        "roberta",
        {
            **SIZES,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pad_token_id": 1,
        },
    ),
    "deberta-v2": Kind(
        "deberta",
        {
            **SIZES,
            "relative_attention": True,
            "position_buckets": 16,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
        },
        tokenizer_class="DebertaV2Tokenizer",
    ),
    "mpnet": Kind("roberta", {**LIKE_ROBERTA, "type_vocab_size": 2}),
    "modernbert": Kind(
        "modern",
        {
            **SIZES,
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
        },
    ),
    "longformer": Kind("roberta", {**LIKE_ROBERTA, "attention_window": [8, 8]}),
    "big_bird": Kind(
        "albert",
        {**SIZES, "attention_type": "original_full", "pad_token_id": 0},
        tokenizer_class="PreTrainedTokenizerFast",
    ),
    "funnel": Kind(
        "bert",
        {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1, 1]},
        tokenizer_class="FunnelTokenizer",
    ),
    "convbert": Kind(
        "bert",
        {**SIZES, "embedding_size": 16, "head_ratio": 1, "conv_kernel_size": 3},
        tokenizer_class="ConvBertTokenizer",
    ),
    "mobilebert": Kind(
        "bert", {**SIZES, "embedding_size": 32, "true_hidden_size": 32, "intra_bottleneck_size": 32}
    ),
    "squeezebert": Kind(
        "bert",
        {
            **SIZES,
            "embedding_size": 32,
            **{f"{part}_groups": 2 for part in ("q", "k", "v", "intermediate", "output")},
        },
    ),
    "roformer": Kind("bert", {**SIZES, "embedding_size": 32}),
    "rembert": Kind("xlm", {**SIZES, "input_embedding_size": 16, "output_embedding_size": 32}),
    "ernie": Kind("bert", SIZES),
    "nystromformer": Kind("bert", {**SIZES, "num_landmarks": 64, "segment_means_seq_len": 64}),
    "fnet": Kind("albert", {**SIZES, "pad_token_id": 0}),
    "t5": Kind("t5", LIKE_T5, "Seq2SeqLM", "T5Tokenizer"),
    "mt5": Kind("t5", LIKE_T5, "Seq2SeqLM", "T5Tokenizer"),
    "umt5": Kind("t5", LIKE_T5, "Seq2SeqLM", "T5Tokenizer"),
    "bart": Kind(
        "roberta", {**PARTS, **BARTS, "decoder_start_token_id": 2}, "Seq2SeqLM", "BartTokenizer"
    ),
    "mbart": Kind("mbart", {**PARTS, **BARTS}, "Seq2SeqLM"),
    "pegasus": Kind(
        "t5",
        {**PARTS, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0},
        "Seq2SeqLM",
    ),
    "led": Kind(
        "roberta",
        {
            **{name: value for name, value in PARTS.items() if name != "max_position_embeddings"},
            **BARTS,
            "decoder_start_token_id": 2,
            "max_encoder_position_embeddings": LONGEST,
            "max_decoder_position_embeddings": LONGEST,
            "attention_window": [8, 8],
        },
        "Seq2SeqLM",
    ),
    "marian": Kind("marian", PARTS, "Seq2SeqLM"),
    "gpt2": Kind(
        "gpt",
        {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": LONGEST, **OF_GPT},
        "CausalLM",
        "GPT2Tokenizer",
    ),
    "opt": Kind(
        "opt",
        {
            "hidden_size": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": LONGEST,
            "word_embed_proj_dim": 32,
            "pad_token_id": 1,
            "bos_token_id": 2,
            "eos_token_id": 2,
            "_remove_final_layer_norm": False,
        },
        "CausalLM",
        "GPT2Tokenizer",
    ),
    "llama": Kind("llama", LIKE_LLAMA, "CausalLM", "LlamaTokenizer"),
    "mistral": Kind("llama", {**LIKE_LLAMA, "head_dim": 16}, "CausalLM", "LlamaTokenizer"),
    "gemma": Kind("llama", {**LIKE_LLAMA, "head_dim": 16}, "CausalLM", "LlamaTokenizer"),
    "phi": Kind("gpt", {**SIZES, **OF_GPT}, "CausalLM", "GPT2Tokenizer"),
    "qwen2": Kind(
        "qwen",
        {**LIKE_QWEN, "tie_word_embeddings": True, "max_position_embeddings": 32768},
        "CausalLM",
        "Qwen2Tokenizer",
    ),
    "qwen3": Kind("qwen", {**LIKE_QWEN, "head_dim": 16}, "CausalLM", "Qwen2Tokenizer"),
    "gpt_neox": Kind("gpt", {**SIZES, **OF_GPT}, "CausalLM"),
    "gpt_neo": Kind(
        "gpt",
        {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "intermediate_size": 64,
            "max_position_embeddings": LONGEST,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 8,
            **OF_GPT,
        },
        "CausalLM",
        "GPT2Tokenizer",
    ),
    "bloom": Kind("gpt", {"hidden_size": 32, "n_layer": 2, "n_head": 2, **OF_GPT}, "CausalLM"),
    "falcon": Kind(
        "gpt",
        {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, **OF_GPT},
        "CausalLM",
    ),
    "xlnet": Kind(
        "xlnet",
        {
            "d_model": 32,
            "n_layer": 2,
            "n_head": 2,
            "d_inner": 64,
            "pad_token_id": 5,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        "CausalLM",
        "XLNetTokenizer",
    ),
}


def save(name: str, folder: Path) -> Path:
    """Save a model of a type and its tokenizer, always with the same weights."""
    kind = KINDS[name]
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(kind.settings)
    if kind.tokenizer == "marian":
        _save_marian(folder)
    elif kind.tokenizer == "mbart":
        _save_mbart(folder)
    else:
        _save_tokenizer(folder, kind.tokenizer, kind.tokenizer_class)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sacremoses is recommended
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    settings.setdefault("vocab_size", len(tokenizer))
    if name == "marian":
        settings |= {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": 0}
        settings |= {"decoder_start_token_id": tokenizer.pad_token_id, "forced_eos_token_id": 0}
    config = transformers.AutoConfig.for_model(name, **settings)
    torch.manual_seed(0)
    auto_class = getattr(transformers, f"AutoModelFor{kind.head}")
    model = auto_class.from_config(config)
    _spread(model)
    model.save_pretrained(folder)
    return folder


def _spread(model: Any) -> None:
    """Enlarge matrices whose values are all near 0, so that outputs depend on the inputs."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1 and 0 < (std := float(parameter.std())) < SPREAD:
                parameter.mul_(SPREAD / std)
