"""The losses of sentence embeddings: those of sentence-transformers, computed from vectors."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as functional

Form = Literal["scored", "pairs", "triplets", "margins"]
Objective = Literal[
    "cosent",
    "angle",
    "cosine",
    "multiple_negatives",
    "multiple_negatives_symmetric",
    "triplet",
    "margin_mse",
]
OBJECTIVES: dict[Form, tuple[Objective, ...]] = {  # the first is the default
    "scored": ("cosent", "angle", "cosine"),
    "pairs": ("multiple_negatives", "multiple_negatives_symmetric"),
    "triplets": ("multiple_negatives", "multiple_negatives_symmetric", "triplet"),
    "margins": ("margin_mse",),
}
RANKING = ("multiple_negatives", "multiple_negatives_symmetric")  # use in-batch negatives


def criterion(objective: Objective | None, *, scale: float, margin: float) -> Any:
    """Return a loss of sentence-transformers, without a model, as it is called with vectors."""
    from sentence_transformers.sentence_transformer import losses

    ranking = partial(losses.MultipleNegativesRankingLoss, None, scale=scale)
    cosine = losses.TripletDistanceMetric.COSINE
    made: dict[str | None, Callable[[], Any]] = {
        "cosent": lambda: losses.CoSENTLoss(None, scale=scale),
        "angle": lambda: losses.AnglELoss(None, scale=scale),
        "cosine": lambda: losses.CosineSimilarityLoss(None),
        "multiple_negatives": ranking,
        "multiple_negatives_symmetric": lambda: ranking(
            directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
        ),
        "triplet": lambda: losses.TripletLoss(None, cosine, margin),
        "margin_mse": lambda: losses.MarginMSELoss(None, cosine_of_pairs),
    }
    return made[objective]()


def cosine_of_pairs(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the cosine similarity of each vector with the other one of its row, [rows]."""
    return functional.cosine_similarity(one, other, dim=-1)


def false_negatives(keys: torch.Tensor) -> torch.Tensor:
    """Find the documents of other rows that are not negatives of a text.

    These are duplicates of its own pair, pairs of an equal text, and the text itself.

    Args:
        keys: int64 [rows, texts a row], equal for equal texts: text, pair, negative.

    Returns:
        Bool [rows, documents]: the pairs of all rows, then their negatives.
    """
    text, pair = keys[:, :1], keys[:, 1:2]
    documents = keys[:, 1:].T.reshape(1, -1)
    same = (documents == pair) | (documents == text)
    rows = len(keys)
    same[:, :rows] |= text == text.T
    return same & ~torch.eye(rows, documents.shape[1], dtype=torch.bool, device=keys.device)


def masked_cosines(
    texts: torch.Tensor, documents: torch.Tensor, *, masked: torch.Tensor
) -> torch.Tensor:
    """Return the cosines of all texts with all documents; masked ones are minus infinity."""
    cosines = functional.normalize(texts, dim=-1) @ functional.normalize(documents, dim=-1).T
    return cosines.masked_fill(masked[:, : len(documents)], -torch.inf)
