"""Which tokens of a text a masked language model has to guess, and what it sees in their place."""

import numpy as np
import numpy.typing as npt

from plcli.pretrained.label_ids import IGNORED

SHOWN_AS_MASK, SHOWN_AS_RANDOM = 0.8, 0.1  # Devlin et al. 2019, section 3.1; the rest as they are


def mask(
    ids: npt.NDArray[np.int64],
    words: npt.NDArray[np.int64],
    *,
    probability: float,
    mask_id: int,
    vocab_size: int,
    generator: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose tokens at random, and hide them.

    Args:
        ids: [tokens].
        words: [tokens], the number of the word that each belongs to, from 0; words are chosen
            whole. Below 0 stands what is never chosen.
        probability: the part of the tokens that is chosen, rounded, and one at least.
        mask_id: the mask token's id.
        vocab_size: random tokens are below it.
        generator: of the choice.

    Returns:
        What the model sees, and the label ids, which are those of the chosen tokens alone.
    """
    allowed = words >= 0
    labels = np.full(len(ids), IGNORED)
    if not allowed.any():
        return ids, labels
    sizes = np.bincount(words[allowed])
    order = generator.permutation(np.flatnonzero(sizes))
    wanted = max(1, round(probability * int(allowed.sum())))
    chosen_words = order[: int(np.searchsorted(sizes[order].cumsum(), wanted)) + 1]
    chosen = np.isin(words, chosen_words)
    labels[chosen] = ids[chosen]
    draws = generator.random(len(ids))
    seen = np.where(chosen & (draws < SHOWN_AS_MASK), mask_id, ids)
    randomly = chosen & (draws >= SHOWN_AS_MASK) & (draws < SHOWN_AS_MASK + SHOWN_AS_RANDOM)
    return np.where(randomly, generator.integers(vocab_size, size=len(ids)), seen), labels
