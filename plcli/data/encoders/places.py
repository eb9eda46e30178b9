"""Where the tokens of a row are in its texts, for explanations that are given in words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

SPECIAL = -1  # the text of a token that is in none, such as [CLS]


@dataclass(frozen=True)
class Place:
    """Where a token is.

    Attributes:
        text: the number of its text in the row; SPECIAL if it is in none.
        start: its first character in the text.
        end: the character after its last.
        word: the number of its word in the text.
    """

    text: int
    start: int = 0
    end: int = 0
    word: int = 0


@dataclass(frozen=True)
class Places:
    """The tokens of a row.

    Attributes:
        texts: the texts of the row as the tokenizer reads them.
        ids: the token ids of each window.
        windows: the place of each token of each window.
    """

    texts: list[str]
    ids: list[list[int]]
    windows: list[list[Place]]


class Locates(Protocol):
    """An encoder that knows where its tokens are."""

    def places(self, cells: Sequence[Any]) -> Places:
        """Return where the tokens of a row are, from its input cells."""


def of(
    texts: Sequence[str], windows: Sequence[Any], *, starts: Mapping[int, int] | None = None
) -> Places:
    """Return the places of encodings.

    Args:
        texts: the texts of the row.
        windows: the encodings of its windows, of the tokenizers library.
        starts: for a row of words: the first character of each word in the text.
    """
    return Places(
        texts=list(texts),
        ids=[list(window.ids) for window in windows],
        windows=[[*_places(window, starts)] for window in windows],
    )


def _places(window: Any, starts: Mapping[int, int] | None) -> list[Place]:
    found = []
    parts = zip(
        window.sequence_ids,
        window.word_ids,
        window.offsets,
        window.special_tokens_mask,
        strict=True,
    )
    for text, word, (start, end), special in parts:
        if text is None or special or word is None or end <= start:
            found.append(Place(SPECIAL))
            continue
        shift = 0 if starts is None else starts[word]
        found.append(Place(text, start + shift, end + shift, word))
    return found


def words(places: Places, scores: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    """Return the words of a row with the sums of the scores of their tokens, in order.

    Args:
        places: where the tokens are.
        scores: the score of each token of each window.

    Returns:
        For each word its text, start and end in characters, score and, if the row has several
        texts, the number of the text.
    """
    bounds: dict[tuple[int, int], tuple[int, int]] = {}  # a window may begin within a word
    sums: dict[tuple[int, int], float] = {}
    for window, values in zip(places.windows, scores, strict=True):
        for place, value in zip(window, values, strict=True):
            if place.text != SPECIAL:
                key = (place.text, place.word)
                low, high = bounds.get(key, (place.start, place.end))
                bounds[key] = (min(low, place.start), max(high, place.end))
                sums[key] = sums.get(key, 0.0) + value
    found = []
    for (text, word), ends in sorted(bounds.items()):
        start, end = _trimmed(places.texts[text], *ends)
        if start < end:
            named = {"text": places.texts[text][start:end], "start": start, "end": end}
            several = {"part": text} if len(places.texts) > 1 else {}
            found.append({**named, **several, "score": sums[text, word]})
    return found


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a range of characters without the spaces around it."""
    piece = text[start:end]
    return end - len(piece.lstrip()), start + len(piece.rstrip())
