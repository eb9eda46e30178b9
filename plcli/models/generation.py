"""Text generation: checks the options of a config and stores them in the model's generation config.

transformers saves the generation config as generation_config.json next to the weights, and reads it
from there.
"""

import inspect
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from plcli.errors import UsageError
from plcli.pretrained import weights

logger = logging.getLogger(__name__)

OPTIONS = (  # with the names that transformers uses
    *("max_new_tokens", "num_beams", "length_penalty", "no_repeat_ngram_size"),
    *("do_sample", "temperature", "top_p"),
)
OF_BEAMS = ("length_penalty", "early_stopping")  # no effect without beam search
OF_SAMPLING = (
    *("temperature", "top_p", "top_k", "min_p", "top_h", "typical_p"),
    *("epsilon_cutoff", "eta_cutoff"),
)


def check(options: Mapping[str, Any]) -> None:
    """Check the values of options; None means that an option is not set.

    Raises:
        UsageError: if an option is out of range or has no effect.
    """
    for name, least in (("max_new_tokens", 1), ("num_beams", 1), ("no_repeat_ngram_size", 0)):
        value = options.get(name)
        if value is not None and value < least:
            raise UsageError(f"model.{name}: got {value}, expected {least} or more.")
    temperature, top_p = options["temperature"], options["top_p"]
    if temperature is not None and not 0 < temperature < math.inf:
        raise UsageError(
            f"model.temperature: got {temperature}, expected more than 0. To always choose the "
            "most likely token, set model.do_sample: false and model.temperature: null."
        )
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"model.top_p: got {top_p}, expected more than 0 and at most 1.")
    if options["do_sample"] is False:
        _refuse(options, "temperature", "do_sample: true")
        _refuse(options, "top_p", "do_sample: true")


def _refuse(options: Mapping[str, Any], name: str, needed: str) -> None:
    """Refuse an option that has no effect without another one."""
    if options.get(name) is not None:
        raise UsageError(
            f"model.{name}: {options[name]} has no effect without model.{needed}. "
            f"Set that, or model.{name}: null."
        )


def settle(model: Any, options: Mapping[str, Any], *, most: int | None) -> None:
    """Store options in a model's generation config.

    The model's own settings for beam search or sampling are removed where these are not used,
    because transformers would refuse to save them with the weights after training.

    Args:
        model: a transformers model.
        options: those that are not None replace the model's own.
        most: the maximum number of new tokens if neither the options nor the model set it.

    Raises:
        UsageError: if an option has no effect without another one, or contradicts the model's own.
    """
    settled = model.generation_config
    for name, value in options.items():
        if value is not None:
            setattr(settled, name, value)
    if settled.max_new_tokens is None:
        settled.max_new_tokens = most or weights.most_positions(model, decoder=True)
    settled.max_length = None  # transformers' own limit, which counts the start token as well
    settled.num_return_sequences = None  # each predicted row has one text
    for name, used, needed in (
        ("temperature", settled.do_sample, "do_sample: true"),
        ("top_p", settled.do_sample, "do_sample: true"),
        ("length_penalty", (settled.num_beams or 1) > 1, "num_beams: 4, or another number"),
    ):
        if not used:
            _refuse(options, name, needed)
    unused = (
        *(() if settled.do_sample else OF_SAMPLING),
        *(OF_BEAMS if (settled.num_beams or 1) == 1 else ()),
    )
    for name in unused:
        setattr(settled, name, None)
    try:
        settled.validate(strict=True)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UsageError(
            f"pretrained: its generation_config.json is not valid: {reason} Correct that file."
        ) from None


def generate(model: Any, batch: Mapping[str, Any], *, seed: int) -> torch.Tensor:
    """Generate tokens for a batch, int64 [rows, tokens].

    Sampled tokens depend only on the seed and the batch, not on earlier samples.
    """
    do_sample = bool(model.generation_config.do_sample)
    with isolate_rng() if do_sample else nullcontext():
        if do_sample:
            torch.manual_seed(seed)
        ids: torch.Tensor = model.generate(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        )
    return ids


def continued(
    model: Any,
    tokenizer: Any,
    batch: Mapping[str, Any],
    *,
    max_new_tokens: int,
    num_beams: int,
    seed: int | None,
) -> list[dict[str, Any]]:
    """Continue prompts and return one row for each: id, text, and whether it reached an end token.

    Args:
        model: a transformers model.
        tokenizer: turns tokens into text.
        batch: input_ids and attention_mask, int64 [rows, tokens], padded on the left; id and index.
        max_new_tokens: the maximum number of tokens in a continuation.
        num_beams: the number of beams.
        seed: for sampling; None always chooses the most likely token.
    """
    from transformers import GenerationConfig

    prompts, settled = _with_room(model, batch, max_new_tokens), model.generation_config
    written: dict[int, list[int]] = {}
    for rows, ids in _without_shifts(model, prompts):
        processors = None
        if seed is not None:
            index = [batch["index"][row] for row in rows]
            processors = [Sampling(settled.temperature, settled.top_p, index, seed=seed)]
        with weights.quiet():  # it warns about a missing mask if no row is padded
            tokens = model.generate(
                **ids,
                generation_config=GenerationConfig(
                    max_new_tokens=max_new_tokens,
                    num_beams=num_beams,
                    do_sample=False,  # Sampling does the sampling
                    pad_token_id=tokenizer.pad_token_id,
                ),
                logits_processor=processors,
            )
        new = tokens[:, ids["input_ids"].shape[1] :].tolist()
        written |= dict(zip(rows, new, strict=True))
    ends = settled.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends])
    found = []
    for row, row_id in enumerate(batch["id"]):
        stop = next((at for at, token in enumerate(written[row]) if token in ends), None)
        text = tokenizer.decode(written[row][:stop], skip_special_tokens=True)
        found.append({"id": row_id, "text": text, "finished": stop is not None})
    return found


def _without_shifts(
    model: Any, prompts: dict[str, torch.Tensor]
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Yield the rows of a batch in parts in which padding does not shift the tokens' positions.

    Most models take position_ids, which transformers computes from the attention mask. Others, such
    as the decoder of BART, number the tokens with their padding: their prompts are continued
    together with those of the same length only.
    """
    lengths = prompts["attention_mask"].sum(1)
    if "position_ids" in inspect.signature(model.forward).parameters:
        yield list(range(len(lengths))), prompts
        return
    for length in sorted({int(length) for length in lengths}):
        rows = (lengths == length).nonzero()[:, 0]
        yield rows.tolist(), {name: tensor[rows, -length:] for name, tensor in prompts.items()}


def _with_room(
    model: Any, batch: Mapping[str, Any], max_new_tokens: int
) -> dict[str, torch.Tensor]:
    """Return the prompts, truncated on the left where the continuation would not fit."""
    tensors = {name: batch[name] for name in ("input_ids", "attention_mask")}
    limit = weights.most_positions(model)
    if limit is None or tensors["input_ids"].shape[1] <= limit - max_new_tokens:
        return tensors
    room = limit - max_new_tokens
    lengths = tensors["attention_mask"].sum(1).tolist()
    cut = [row_id for row_id, length in zip(batch["id"], lengths, strict=True) if length > room]
    logger.warning(
        "prompts truncated on the left to %d tokens, so that model.max_new_tokens: %d fits "
        "into the model's %d positions: %d, the first has the id %s",
        room, max_new_tokens, limit, len(cut), cut[0],
    )  # fmt: skip
    return {name: tensor[:, -room:] for name, tensor in tensors.items()}


def until_end(ids: torch.Tensor, ends: int | list[int] | None) -> torch.Tensor:
    """Return a mask of the tokens up to and including the first end token, bool [rows, tokens]."""
    if ends is None:
        return torch.ones_like(ids, dtype=torch.bool)
    ending = torch.isin(ids, torch.as_tensor(ends, device=ids.device)).long()
    return ending.cumsum(-1) - ending < 1


class Sampling:
    """Adds Gumbel noise to the scores, so that the token with the highest score is a sample.

    The noise of a row depends only on the seed and the row, so that its continuation does not
    depend on the other rows of its batch. See Maddison et al. 2014, A* Sampling, section 2.

    Args:
        temperature: scores are divided by it.
        top_p: the total probability of the tokens that are sampled from.
        rows: the row numbers of the batch.
        seed: for the noise.
    """

    def __init__(self, temperature: float, top_p: float, rows: list[int], *, seed: int) -> None:
        self.temperature, self.top_p = temperature, top_p
        self.generators = [np.random.default_rng((seed, row)) for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Return the scores with noise, float32 [rows, vocabulary]."""
        from transformers import TopPLogitsWarper

        scores = scores / self.temperature
        if self.top_p < 1:
            scores = TopPLogitsWarper(self.top_p)(input_ids, scores)
        noise = np.stack([each.gumbel(size=scores.shape[1]) for each in self.generators])
        return scores + torch.from_numpy(noise).to(scores)
