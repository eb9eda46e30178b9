"""Texts whose words are marked by how much they moved a decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from plcli.runs.reporting import page
from plcli.runs.reporting.page import Markup

STRENGTHS = 4  # shades of a mark
LEAST = 0.08  # of the largest score: weaker words are not marked
MOST_LETTERS = 2000


@dataclass(frozen=True)
class Words:
    """The words of a text with their scores.

    Attributes:
        text: the text.
        words: (start, end, score) of the words that were read, in characters of the text.
    """

    text: str
    words: Sequence[tuple[int, int, float]]


Explanations = Mapping[int, Sequence[Words]]  # by the number of a row: one for each text of it


def marked(texts: Sequence[Words]) -> Markup:
    """Return texts with their words marked: blue for the decision, orange against it."""
    largest = max((abs(score) for each in texts for *_, score in each.words), default=0.0)
    shown = [page.paragraph(_marked(each, largest), "text") for each in texts]
    return page.join(shown)


def _marked(whole: Words, largest: float) -> Markup:
    parts: list[Markup | str] = []
    before = 0
    for start, end, score in sorted(whole.words):
        if start < before or end > MOST_LETTERS:
            continue
        parts.append(whole.text[before:start])
        share = abs(score) / largest if largest else 0.0
        strength = min(STRENGTHS, 1 + int(share * STRENGTHS))
        kind = f"{'f' if score > 0 else 'a'}{strength}"
        word = whole.text[start:end]
        if share < LEAST:
            parts.append(word)
        else:
            told = page.text(f"{score:+.3g}")
            parts.append(Markup(f'<mark class="{kind}" data-t="{told}">{page.text(word)}</mark>'))
        before = end
    rest = whole.text[before:MOST_LETTERS]
    more = " …" if len(whole.text) > MOST_LETTERS else ""
    return page.join([*parts, rest, more])
