"""Samples of a language model that do not depend on what else is in the batch."""

import numpy as np
import torch


class Sampling:
    """Lets the largest score be a sample: Gumbel noise is added to the scores.

    A row's noise depends on the seed and the row alone, so that its continuation does not depend on
    the rows that share its batch. See Maddison et al. 2014, A* Sampling, section 2.

    Args:
        temperature: scores are divided by it.
        top_p: the probability of the tokens that are sampled among.
        rows: the numbers of the batch's rows.
    """

    def __init__(self, temperature: float, top_p: float, rows: list[int]) -> None:
        self.temperature, self.top_p = temperature, top_p
        seed = torch.initial_seed()
        self.generators = [np.random.default_rng((seed, row)) for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return scores float32 [rows, vocabulary] with noise."""
        from transformers import TopPLogitsWarper

        scores = scores / self.temperature
        if self.top_p < 1:
            scores = TopPLogitsWarper(self.top_p)(input_ids, scores)
        noise = np.stack([each.gumbel(size=scores.shape[1]) for each in self.generators])
        return scores + torch.from_numpy(noise).to(scores)
