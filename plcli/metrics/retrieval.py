"""Retrieval as a running metric: whether the vector of a query finds its documents."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

DEEPEST = 10  # cut-off of the ranking, for MRR and nDCG
PART = 1024  # number of queries whose similarities are in memory at once


class Retrieval(Metric):
    """Recall at k, MRR and nDCG at 10, of all queries and all documents by cosine similarity.

    Queries, or documents, with equal keys are merged, so that a text in several rows is found once,
    and a query may have several documents. A document with the text of the query is excluded,
    unless it is relevant. All vectors are kept until the end, which takes 31 MB for 10,000 pairs of
    384 numbers, and are gathered from all processes.

    Args:
        at: the values of k for recall, at most 10.
    """

    full_state_update = False
    of_queries: Mapping[str, torch.Tensor] = {}  # [queries], the scores of the last compute

    def __init__(self, at: Sequence[int] = (1, 5, 10)) -> None:
        super().__init__()
        self.at = at
        for name in ("queries", "documents", "query_keys", "document_keys"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(
        self,
        queries: torch.Tensor,
        documents: torch.Tensor,
        query_keys: torch.Tensor,
        document_keys: torch.Tensor,
    ) -> None:
        """Add pairs of a query and a relevant document.

        Args:
            queries: float [pairs, dimension].
            documents: float [pairs, dimension].
            query_keys: int64 [pairs], equal for equal texts.
            document_keys: int64 [pairs].
        """
        states: Any = self
        states.queries.append(functional.normalize(queries.float(), dim=-1))
        states.documents.append(functional.normalize(documents.float(), dim=-1))
        states.query_keys.append(query_keys)
        states.document_keys.append(document_keys)

    def compute(self) -> dict[str, torch.Tensor]:
        """Return the means of recall_at_1, ..., mrr and ndcg over all queries."""
        states: Any = self
        queries, query_keys, query_of = _distinct(states.queries, states.query_keys)
        documents, document_keys, document_of = _distinct(states.documents, states.document_keys)
        relevant = torch.unique(query_of * len(documents) + document_of)
        wanted = torch.bincount(relevant // len(documents), minlength=len(queries))
        depth = min(DEEPEST, len(documents))
        numbers, hits = torch.arange(len(queries), device=queries.device), []
        itself = torch.searchsorted(document_keys, query_keys).clamp(max=len(documents) - 1)
        excluded = (document_keys[itself] == query_keys) & ~torch.isin(
            numbers * len(documents) + itself, relevant
        )
        for part in torch.split(numbers, PART):
            cosines = queries[part] @ documents.T
            cosines[excluded[part], itself[part][excluded[part]]] = -torch.inf
            best = cosines.topk(depth).indices
            hits.append(torch.isin(part[:, None] * len(documents) + best, relevant))
        found = torch.cat(hits).double()  # [queries, depth], whether each document is relevant
        ranks = torch.arange(1, depth + 1, device=queries.device)
        gains = (ranks + 1).double().log2().reciprocal()
        ideal = gains.cumsum(0)[wanted.clamp(max=depth) - 1]
        self.of_queries = {
            **{f"recall_at_{k}": found[:, :k].sum(1) / wanted for k in self.at},
            "mrr": (found / ranks).max(1).values,
            "ndcg": (found * gains).sum(1) / ideal,
        }
        self.num_documents = len(documents)
        return {name: values.mean() for name, values in self.of_queries.items()}

    def rows(self) -> dict[str, torch.Tensor]:
        """Return the scores of each query of the last compute, and those of a random ranking.

        A random ranking of n documents finds a relevant one among the first k with k / n.
        """
        n, found = self.num_documents, dict(self.of_queries)
        for k in self.at:
            chance = torch.full_like(found[f"recall_at_{k}"], min(1.0, k / n))
            found[f"baseline.recall_at_{k}"] = chance
        return found


def _distinct(vectors: Any, keys: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a vector for every distinct key, the sorted keys, and the key index of each row."""
    vectors, keys = dim_zero_cat(vectors), dim_zero_cat(keys)
    distinct, inverse = keys.unique(return_inverse=True)
    rows = torch.arange(len(keys), device=keys.device)
    first = rows.new_full((len(distinct),), len(keys)).scatter_reduce(0, inverse, rows, "amin")
    return vectors[first], distinct, inverse
