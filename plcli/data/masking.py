"""Random masking of tokens for masked language models."""

import numpy as np
import numpy.typing as npt

from plcli.pretrained.label_ids import IGNORED

SHOWN_AS_MASK, SHOWN_AS_RANDOM = 0.8, 0.1  # Devlin et al. 2019, section 3.1; the rest is unchanged


def mask(
    ids: npt.NDArray[np.int64],
    words: npt.NDArray[np.int64],
    *,
    probability: float,
    mask_id: int,
    vocab_size: int,
    generator: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Choose tokens at random, and mask them.

    Args:
        ids: [tokens].
        words: [tokens], the index of the word of each token, from 0, as whole words are chosen;
            tokens below 0 are never chosen.
        probability: the fraction of tokens to choose, rounded, and at least one token.
        mask_id: the id of the mask token.
        vocab_size: the exclusive limit of the ids of random tokens.
        generator: the random generator.

    Returns:
        The masked token ids, and the label ids, which are IGNORED except for chosen tokens.
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
