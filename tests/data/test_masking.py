"""Which tokens are hidden, and what is shown in their place."""

from typing import Any

import numpy as np
import pytest

from plcli.data.masking import mask
from plcli.pretrained.label_ids import IGNORED

MASK, SIZE = 4, 1000
IDS = np.arange(100, 1100)
TOKENS = np.arange(1000)  # each a word of its own
WORDS = np.arange(1000) // 4


def hidden(
    words: np.ndarray[Any, Any] = TOKENS, *, probability: float = 0.15, seed: int = 0
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Hide tokens of IDS."""
    return mask(
        IDS[: len(words)],
        words,
        probability=probability,
        mask_id=MASK,
        vocab_size=SIZE,
        generator=np.random.default_rng(seed),
    )


@pytest.mark.parametrize("probability", [0.15, 0.4])
def test_so_many_tokens_are_hidden(probability: float) -> None:
    _, labels = hidden(probability=probability)
    assert (labels != IGNORED).sum() == 1000 * probability


@pytest.mark.parametrize("length", [1, 2, 3])
def test_one_token_is_hidden_at_least(length: int) -> None:
    assert (hidden(TOKENS[:length])[1] != IGNORED).sum() == 1


def test_labels_are_the_tokens_that_were_there() -> None:
    _, labels = hidden()
    assert (labels[labels != IGNORED] == IDS[labels != IGNORED]).all()


def test_what_is_not_hidden_is_shown() -> None:
    seen, labels = hidden()
    assert (seen[labels == IGNORED] == IDS[labels == IGNORED]).all()


def test_of_the_hidden_tokens_four_in_five_are_masks_and_half_of_the_rest_are_others() -> None:
    seen, labels = (
        np.concatenate(part) for part in zip(*(hidden(seed=s) for s in range(40)), strict=True)
    )
    shown, true = seen[labels != IGNORED], labels[labels != IGNORED]
    masks, same = (shown == MASK).mean(), (shown == true).mean()
    assert (masks, same, 1 - masks - same) == pytest.approx((0.8, 0.1, 0.1), abs=0.02)


def test_words_are_hidden_whole() -> None:
    _, labels = hidden(WORDS)
    chosen = (labels != IGNORED).reshape(-1, 4)
    assert set(chosen.sum(1).tolist()) == {0, 4}


def test_as_many_tokens_are_hidden_in_words() -> None:
    assert 150 <= (hidden(WORDS)[1] != IGNORED).sum() < 154


def test_what_may_not_be_hidden_is_not() -> None:
    words = np.where(np.arange(1000) < 900, -1, TOKENS)
    assert (hidden(words)[1][:900] == IGNORED).all()


def test_the_share_is_of_what_may_be_hidden() -> None:
    words = np.where(np.arange(1000) < 900, -1, TOKENS)
    assert (hidden(words)[1] != IGNORED).sum() == 15


def test_where_nothing_may_be_hidden_nothing_is() -> None:
    seen, labels = hidden(np.full(5, -1))
    assert (seen.tolist(), labels.tolist()) == (IDS[:5].tolist(), [IGNORED] * 5)


def test_a_seed_hides_the_same_and_another_others() -> None:
    first, again, other = (hidden(seed=seed)[1].tolist() for seed in (0, 0, 1))
    assert (first == again, first == other) == (True, False)
