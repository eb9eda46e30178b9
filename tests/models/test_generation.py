"""Samples of scores: their frequencies, and what they depend on."""

import pytest
import torch

from plcli.models.generation import Sampling

SCORES = torch.tensor([[0.5, 0.3, 0.2]]).log()
NO_IDS = torch.zeros(0)


def sampled(*rows: int, seed: int = 0, top_p: float = 1.0) -> list[int]:
    """Sample for some rows."""
    scores = SCORES.repeat(len(rows), 1)
    sampling = Sampling(1.0, top_p, list(rows), seed=seed)
    chosen: list[int] = sampling(NO_IDS, scores).argmax(-1).tolist()
    return chosen


def test_samples_are_as_frequent_as_their_probability() -> None:
    scores = SCORES.repeat(3000, 1)
    sampled = Sampling(2.0, 1.0, list(range(3000)), seed=0)(NO_IDS, scores).argmax(-1)
    expected = torch.tensor([0.5, 0.3, 0.2]).sqrt()
    shares = torch.bincount(sampled) / 3000
    assert shares.tolist() == pytest.approx((expected / expected.sum()).tolist(), abs=0.03)


def test_a_row_has_its_own_sample_whatever_the_batch() -> None:
    assert sampled(*range(20)) == [sampled(row)[0] for row in range(20)]


def test_another_seed_samples_others() -> None:
    assert sampled(*range(20)) != sampled(*range(20), seed=1)


def test_unlikely_tokens_are_left_out() -> None:
    assert set(sampled(*range(200), top_p=0.6)) == {0, 1}
