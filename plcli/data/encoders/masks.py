"""Encodes texts with masks, and puts the predicted tokens into the text."""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from plcli.data.encoders.text import TextEncoder
from plcli.errors import DataError


def fill_in(tokenizer: Any, text: str, fills: Sequence[str]) -> str:
    """Replace the masks of a text by fills; masks that were truncated remain.

    A wordpiece that continues a word, such as ##s, is joined to the text before it.
    """
    model = tokenizer.backend_tokenizer.model
    continuing = getattr(model, "continuing_subword_prefix", None) or None
    filled, *rest = text.split(tokenizer.mask_token)
    for part, fill in zip_longest(rest, fills[: len(rest)], fillvalue=tokenizer.mask_token):
        if continuing and fill.startswith(continuing):
            filled, fill = filled.rstrip(), fill.removeprefix(continuing)
        filled += fill + part
    return filled


class MaskedTextEncoder(TextEncoder):
    """Encodes texts with masks.

    Args:
        tokenizer: a tokenizer of transformers.
        mask_id: the id of the mask token.
        max_length: maximum number of tokens per text.
    """

    def __init__(self, tokenizer: Any, *, mask_id: int, max_length: int) -> None:
        super().__init__(tokenizer, max_length=max_length)
        self.mask_id = mask_id

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode one column of texts, each with at least one mask.

        Raises:
            DataError: if a text has no mask within max_length.
        """
        values, name = super().__call__(cells, where), self.tokenizer.mask_token
        for position, ids in enumerate(values["input_ids"]):
            if self.mask_id not in ids:
                cut = name in cells[0][position]
                raise DataError(
                    f"{where(position)}: "
                    + (
                        f"its {name} is not within the first {self.max_length} tokens. "
                        "Shorten the text, or raise data.max_length."
                        if cut
                        else f"contains no {name}, so that there is nothing to fill in. "
                        f"Write {name} in place of a word."
                    )
                )
        return values
