"""Texts with masks to fill -> tokens; filled masks -> the text."""

from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from plcli.data.encoders.text import TextEncoder
from plcli.errors import DataError


def fill_in(tokenizer: Any, text: str, fills: Sequence[str]) -> str:
    """Put fills in the places of a text's masks; masks that were cut away stay.

    What a wordpiece tokenizer marks as going on a word, such as ##s, is joined to what it follows.
    """
    model = tokenizer.backend_tokenizer.model
    goes_on = getattr(model, "continuing_subword_prefix", None) or None
    filled, *rest = text.split(tokenizer.mask_token)
    for part, fill in zip_longest(rest, fills[: len(rest)], fillvalue=tokenizer.mask_token):
        if goes_on and fill.startswith(goes_on):
            filled, fill = filled.rstrip(), fill.removeprefix(goes_on)
        filled += fill + part
    return filled


class MaskedTextEncoder(TextEncoder):
    """Encodes texts with masks.

    Args:
        tokenizer: of transformers.
        mask_id: the mask token's id.
        max_length: tokens a text at most.
    """

    def __init__(self, tokenizer: Any, *, mask_id: int, max_length: int) -> None:
        super().__init__(tokenizer, max_length=max_length)
        self.mask_id = mask_id

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode one column of texts, each with a mask at least."""
        values, name = super().__call__(cells, where), self.tokenizer.mask_token
        for position, ids in enumerate(values["input_ids"]):
            if self.mask_id not in ids:
                cut = name in cells[0][position]
                raise DataError(
                    f"{where(position)}: "
                    + (
                        f"its {name} stands behind the first {self.max_length} tokens. "
                        "Shorten the text, or raise data.max_length."
                        if cut
                        else f"holds no {name}, so that there is nothing to fill. "
                        f"Write {name} in the place of a word."
                    )
                )
        return values
