"""The retrieval metric against torchmetrics, scikit-learn and numbers by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score
from torchmetrics.retrieval import RetrievalMRR, RetrievalNormalizedDCG, RetrievalRecall

from plcli.metrics.retrieval import Retrieval


def pairs(count: int, *, texts: int, documents: int) -> tuple[torch.Tensor, ...]:
    """Make pairs of random vectors; equal keys have equal vectors, and some keys come again."""
    generator = torch.Generator().manual_seed(0)
    query_keys = torch.randint(0, texts, (count,), generator=generator) * 7 - 3
    document_keys = torch.randint(0, documents, (count,), generator=generator) * 5 - 9999
    vectors = torch.randn(20_000, 8, generator=generator)
    return vectors[query_keys + 10_000], vectors[document_keys + 9999], query_keys, document_keys


def measured(*inputs: torch.Tensor, parts: int = 3) -> dict[str, float]:
    """Put pairs through the metric in some parts."""
    metric = Retrieval()
    for part in torch.arange(len(inputs[0])).chunk(parts):
        metric.update(*(values[part] for values in inputs))
    return {name: float(value) for name, value in metric.compute().items()}


def lists(*inputs: torch.Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return similarities and relevance of distinct texts and documents, by plain loops."""
    queries = {int(key): vector.numpy() for vector, key in zip(inputs[0], inputs[2], strict=True)}
    documents = {int(key): vector.numpy() for vector, key in zip(inputs[1], inputs[3], strict=True)}
    belongs = {(int(q), int(d)) for q, d in zip(inputs[2], inputs[3], strict=True)}

    def cosine(one: Any, other: Any) -> float:
        return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))

    similar = [[cosine(q, d) for d in documents.values()] for q in queries.values()]
    relevant = [[(q, d) in belongs for d in documents] for q in queries]
    return np.array(similar), np.array(relevant)


SAMPLES = {
    "all distinct": {"count": 60, "texts": 700, "documents": 900},
    "texts and documents again": {"count": 60, "texts": 20, "documents": 15},
    "fewer documents than places": {"count": 12, "texts": 9, "documents": 4},
}


@pytest.fixture(params=SAMPLES)
def sample(request: pytest.FixtureRequest) -> tuple[torch.Tensor, ...]:
    """Pairs of every kind in turn."""
    return pairs(**SAMPLES[request.param])


def test_ndcg_is_that_of_scikit_learn(sample: tuple[torch.Tensor, ...]) -> None:
    similar, relevant = lists(*sample)
    assert measured(*sample)["ndcg"] == pytest.approx(ndcg_score(relevant, similar, k=10), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("recall_at_1", RetrievalRecall(top_k=1)),
        ("recall_at_5", RetrievalRecall(top_k=5)),
        ("recall_at_10", RetrievalRecall(top_k=10)),
        ("mrr", RetrievalMRR(top_k=10)),
        ("ndcg", RetrievalNormalizedDCG(top_k=10)),
    ],
)
def test_a_retrieval_metric_is_that_of_torchmetrics(
    sample: tuple[torch.Tensor, ...], name: str, theirs: Any
) -> None:
    similar, relevant = lists(*sample)
    numbers = torch.arange(len(similar)).repeat_interleave(similar.shape[1])
    theirs.reset()
    above_zero = torch.tensor(similar).flatten() + 1  # theirs finds nothing at or below zero
    theirs.update(above_zero, torch.tensor(relevant).flatten(), indexes=numbers)
    assert measured(*sample)[name] == pytest.approx(float(theirs.compute()), abs=1e-6)


def test_numbers_by_hand() -> None:
    # documents at 0, 90 and 180 degrees; the second text is nearest to the first document, and the
    # third, which is nearest to the second, to which nothing but itself belongs
    queries = torch.tensor([[1.0, 0.1], [1.0, 0.5], [0.1, 1.0]])
    documents = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    found = measured(queries, documents, torch.arange(3), torch.arange(3), parts=1)
    assert found["mrr"] == pytest.approx((1 + 1 / 2 + 1 / 3) / 3)


def test_the_length_of_a_vector_does_not_matter() -> None:
    queries, documents, *keys = pairs(60, texts=20, documents=15)
    scaled = documents * torch.rand(15, 1, generator=torch.Generator().manual_seed(1))[keys[1] % 15]
    assert measured(queries, scaled, *keys) == pytest.approx(measured(queries, documents, *keys))


def test_rows_in_another_order_have_the_same_numbers() -> None:
    sample = pairs(60, texts=20, documents=15)
    turned = [values.flip(0) for values in sample]
    assert measured(*turned, parts=7) == pytest.approx(measured(*sample))


def test_more_queries_than_are_in_memory_together(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = pairs(60, texts=40, documents=15)
    whole = measured(*sample)
    monkeypatch.setattr("plcli.metrics.retrieval.PART", 7)
    assert measured(*sample) == pytest.approx(whole)


def test_not_every_pair_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up, whole = [], torch.isin

    def isin(elements: torch.Tensor, tests: torch.Tensor) -> torch.Tensor:
        looked_up.append(elements.numel())
        return whole(elements, tests)

    monkeypatch.setattr(torch, "isin", isin)
    measured(*pairs(400, texts=1400, documents=3900))
    assert sum(looked_up) <= 400 * (10 + 1)  # the places of a ranking and the text itself


def test_a_document_that_is_the_text_of_the_query_is_left_out() -> None:
    queries, documents = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 1.0], [1, 0]])
    found = measured(queries, documents, torch.tensor([1, 2]), torch.tensor([3, 1]), parts=1)
    # of the first, its own text, which belongs to the second, would be nearest
    assert found["mrr"] == pytest.approx((1 + 1 / 2) / 2)


def test_a_document_that_is_the_text_of_the_query_counts_if_it_belongs_to_it() -> None:
    queries, documents = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0, 1]])
    assert measured(queries, documents, torch.arange(2), torch.arange(2))["mrr"] == 1
