"""The languages of a multilingual translation model, which special tokens name.

mBART, M2M100 and NLLB mark every source with its language and begin each translation with that of
the target; Marian models with several targets expect a token such as >>fra<< before the source.
"""

from dataclasses import dataclass
from typing import Any

from plcli.errors import UsageError, did_you_mean, listed

SHOWN = 6  # codes in a message


@dataclass(frozen=True)
class Languages:
    """What a tokenizer's languages mean for sources and for the decoder.

    Attributes:
        prefix: a text before every source; empty if special tokens name the language.
        forced_bos_token_id: the token that every translation begins with, after the start token.
        decoder_start_token_id: the start token of the decoder, if it is the target language.
    """

    prefix: str = ""
    forced_bos_token_id: int | None = None
    decoder_start_token_id: int | None = None


def use(tokenizer: Any, *, source: str | None, target: str | None) -> Languages:
    """Set the languages of a tokenizer.

    Args:
        tokenizer: a tokenizer of transformers; it is changed.
        source: data.src_lang.
        target: data.tgt_lang.

    Raises:
        UsageError: if the tokenizer needs languages that are not given, or does not know them.
    """
    if hasattr(tokenizer, "src_lang"):
        return _special_tokens(tokenizer, source, target)
    if getattr(tokenizer, "supported_language_codes", None):
        return _target_prefix(tokenizer, source, target)
    for key, value in (("src_lang", source), ("tgt_lang", target)):
        if value is not None:
            raise UsageError(
                f"data.{key}: got {value}, but {_name(tokenizer)} does not mark languages. "
                "Remove the key; a model such as T5 takes data.prefix, such as 'translate English "
                "to German: '."
            )
    return Languages()


def _special_tokens(tokenizer: Any, source: str | None, target: str | None) -> Languages:
    known = _codes(tokenizer)
    given = tokenizer.init_kwargs  # what the tokenizer was saved with; some have a default source
    if source is None and target is None and given.get("tgt_lang"):
        source, target = given.get("src_lang"), given["tgt_lang"]
    for key, value in (("src_lang", source), ("tgt_lang", target)):
        if value not in known:
            raise _refused(key, value, known, _name(tokenizer))
    tokenizer.tgt_lang = target
    tokenizer.src_lang = source
    given.update(src_lang=source, tgt_lang=target)  # save_pretrained writes these
    code = _token_id(tokenizer, str(target))
    labels = tokenizer(text_target="")["input_ids"]
    if labels[0] == code:
        return Languages(forced_bos_token_id=code)
    return Languages(decoder_start_token_id=code)  # it follows the text, and is moved to its start


def _target_prefix(tokenizer: Any, source: str | None, target: str | None) -> Languages:
    known = [code.strip("><") for code in tokenizer.supported_language_codes]
    if source is not None:
        raise UsageError(
            f"data.src_lang: got {source}, but {_name(tokenizer)} only marks the target "
            "language. Remove the key."
        )
    if target is None:
        return Languages()  # the texts or data.prefix may have it: the data module checks that
    if target not in known:
        raise _refused("tgt_lang", target, known, _name(tokenizer))
    return Languages(prefix=f">>{target}<< ")


def target_codes(tokenizer: Any) -> list[str]:
    """Return the tokens such as >>fra<<, of which one must begin every source; empty if none."""
    return list(getattr(tokenizer, "supported_language_codes", None) or ())


def _codes(tokenizer: Any) -> list[str]:
    """Return the codes of the languages that a tokenizer marks."""
    table = getattr(tokenizer, "lang_code_to_token", None) or getattr(
        tokenizer, "lang_code_to_id", None
    )
    if table:
        return [code for code in table if _token_id(tokenizer, code) != tokenizer.unk_token_id]
    named = set(tokenizer.special_tokens_map.values()) if tokenizer.special_tokens_map else set()
    return [token for token in tokenizer.all_special_tokens if token not in named and "_" in token]


def _token_id(tokenizer: Any, code: str) -> int:
    tokens = getattr(tokenizer, "lang_code_to_token", {})
    number: int = tokenizer.convert_tokens_to_ids(tokens.get(code, code))
    return number


def _name(tokenizer: Any) -> str:
    name = type(tokenizer).__name__
    return "this tokenizer" if name == "TokenizersBackend" else name


def _refused(key: str, value: str | None, known: list[str], name: str) -> UsageError:
    some = listed(known[:SHOWN]) + (f" and {len(known) - SHOWN} more" if known[SHOWN:] else "")
    if value is None:
        return UsageError(
            f"data.{key}: {name} marks the language of every text, and this one is not given. "
            f"Set it to one of: {some}."
        )
    near = did_you_mean(value, known)
    return UsageError(f"data.{key}: {name} has no language '{value}'.{near} There are: {some}.")
