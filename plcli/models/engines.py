"""Measures forms of one network on stand-ins for its inputs.

Stand-ins are batches that plcli made of validation rows, with their lengths and special tokens, in
which all other tokens are drawn at random: a folder that is handed on says nothing of the rows.
"""

import random
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from plcli.errors import ModelError
from plcli.models.exporting import Inputs

BATCHES, ROWS = 4, 32  # batches that are kept, and rows of each
SECONDS = 1.0  # for all networks together; the first call of each takes as long again
LEAST = 4  # rows of a call, on a slow machine
ORDER = (2, 1, 3, 0)  # of batches by length: where there is time for one, the middle


def stand_ins(calls: Sequence[Inputs], *, special: Collection[int]) -> list[Inputs]:
    """Return stand-ins for the inputs of calls: some of them by length, with other tokens.

    Args:
        calls: the inputs of each call, with input_ids, int64 [rows, ..., tokens].
        special: the ids of special tokens, which stay.

    Returns:
        Up to 4 batches with ascending lengths.
    """
    ordered = sorted(calls, key=lambda call: call["input_ids"].shape[-1])
    count = min(BATCHES, len(ordered))
    chosen = [ordered[(2 * number + 1) * len(ordered) // (2 * count)] for number in range(count)]
    seen = {number for call in calls for number in call["input_ids"].flatten().tolist()}
    words = sorted(seen - set(special))
    draw, kept = random.Random(0), torch.tensor(sorted(special), dtype=torch.int64)
    made = []
    for call in chosen:
        batch = {name: value[:ROWS].clone().contiguous() for name, value in call.items()}
        ids = batch["input_ids"]
        free = ~torch.isin(ids, kept)
        if words:
            drawn = [_word(draw, words, special) for _ in range(int(free.sum()))]
            ids[free] = torch.tensor(drawn, dtype=ids.dtype)
        made.append(batch)
    return made


def _word(draw: random.Random, words: Sequence[int], special: Collection[int]) -> int:
    """Return a random id between the smallest and the largest of some ids, which is not special."""
    while (found := draw.randint(words[0], words[-1])) in special:
        pass
    return found


def save(batches: Sequence[Inputs], path: Path) -> None:
    """Write stand-ins."""
    from safetensors.torch import save_file

    save_file(
        {
            f"{number}.{name}": value
            for number, batch in enumerate(batches)
            for name, value in batch.items()
        },
        path,
    )


def load(path: Path) -> list[Inputs]:
    """Read stand-ins.

    Raises:
        ModelError: if the file is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path}: is damaged ({error}). Export the run again.") from None
    found: dict[int, Inputs] = {}
    for name, value in tensors.items():
        number, _, inside = name.partition(".")
        found.setdefault(int(number), {})[inside] = value
    return [found[number] for number in sorted(found)]


def rates(networks: Mapping[str, Any], batches: Sequence[Inputs], *, rows: int) -> dict[str, float]:
    """Return the number of rows per second of networks, measured in turns on the same batches.

    Args:
        networks: the networks by name, in eval mode.
        batches: stand-ins with ascending lengths.
        rows: number of rows of a call, or fewer where the first network takes long; those of a
            batch are repeated.
    """
    order = [number for number in ORDER if number < len(batches)]
    best: dict[int, dict[str, float]] = {}
    with torch.inference_mode():
        most = SECONDS / 2 / len(networks)  # for a call
        rows = _rows_within(most, next(iter(networks.values())), batches[order[0]], rows=rows)
        sized = [_repeated(batch, rows) for batch in batches]
        for network in networks.values():
            network(**sized[order[0]])  # the first call also prepares
        end = time.perf_counter() + SECONDS
        turn = 0
        while not turn or time.perf_counter() < end:
            number = order[turn % len(order)]
            times = best.setdefault(number, {})
            for name, network in networks.items():
                start = time.perf_counter()
                network(**sized[number])
                took = time.perf_counter() - start
                times[name] = min(took, times.get(name, took))
            turn += 1
    return {
        name: rows * len(best) / sum(times[name] for times in best.values()) for name in networks
    }


def _rows_within(seconds: float, network: Any, batch: Inputs, *, rows: int) -> int:
    """Return the number of rows that a network takes in a time: 4 or more, `rows` or fewer."""
    least = min(LEAST, rows)
    some = _repeated(batch, least)
    network(**some)  # the first call also prepares
    start = time.perf_counter()
    network(**some)
    took = time.perf_counter() - start
    return max(least, min(rows, int(least * seconds / took)))


def _repeated(batch: Inputs, rows: int) -> Inputs:
    """Return so many rows of a batch, which are repeated."""
    places = {name: torch.arange(rows) % len(value) for name, value in batch.items()}
    return {name: value[places[name]].contiguous() for name, value in batch.items()}
