"""Reference of the seq2seq task: a bare PyTorch loop, to compare its loss and chrF with plcli's.

It trains a small T5 from random weights on FOLDER/{train,validation,test}.jsonl with the columns
lang, source and target; the epoch of the least validation loss is scored on the test rows. The
tokenizer, and the order of the rows for a seed, are plcli's, so that the loops alone differ.
`reference_seq2seq.yaml` beside it says the same to plcli.
"""

import argparse
import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torchmetrics.text import CHRFScore
from transformers import AutoConfig, AutoModelForSeq2SeqLM, get_scheduler

from plcli.data.samplers import ShuffledBatches
from plcli.pretrained import fitted_tokenizers

VOCABULARY, MAX_LENGTH, TARGET_MAX_LENGTH = 1000, 64, 64
BATCH, EPOCHS, LEARNING_RATE, WARMUP = 32, 15, 2e-3, 0.1
SIZES = {
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 1,
    "num_heads": 4,
    "dropout_rate": 0.0,  # its noise would differ, and little else does
}


class Pairs(NamedTuple):
    """Token ids of a split, and its targets as they stand."""

    sources: list[list[int]]
    targets: list[list[int]]
    references: list[str]


def read(folder: Path, split: str) -> list[dict[str, str]]:
    """Read the rows of a split."""
    with open(folder / f"{split}.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def encode(tokenizer: Any, rows: list[dict[str, str]]) -> Pairs:
    """Tokenise rows."""
    sources = [f"{row['lang']}: {row['source']}" for row in rows]
    targets = [row["target"] for row in rows]
    return Pairs(
        tokenizer(sources, truncation=True, max_length=MAX_LENGTH)["input_ids"],
        tokenizer(targets, truncation=True, max_length=TARGET_MAX_LENGTH)["input_ids"],
        targets,
    )


def padded(rows: list[list[int]], fill: int) -> torch.Tensor:
    """Pad rows to the longest, int64 [rows, tokens]."""
    return torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(row) for row in rows], batch_first=True, padding_value=fill
    )


def batches(pairs: Pairs, order: list[int], pad: int) -> Iterator[tuple[list[int], dict[str, Any]]]:
    """Yield row numbers and tensors."""
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        sources = [pairs.sources[row] for row in rows]
        yield (
            rows,
            {
                "input_ids": padded(sources, pad),
                "attention_mask": padded([[1] * len(source) for source in sources], 0),
                "labels": padded([pairs.targets[row] for row in rows], -100),
            },
        )


@torch.no_grad()
def mean_loss(model: Any, pairs: Pairs, pad: int) -> float:
    """Return the mean loss of a target's token."""
    model.eval()
    total, tokens = 0.0, 0
    for _, batch in batches(pairs, list(range(len(pairs.sources))), pad):
        count = int((batch["labels"] != -100).sum())
        total += float(model(**batch).loss) * count
        tokens += count
    return total / tokens


@torch.no_grad()
def chrf(model: Any, pairs: Pairs, tokenizer: Any) -> float:
    """Return chrF of greedily generated texts, between 0 and 1."""
    model.eval()
    score: Any = CHRFScore(n_word_order=0)
    by_length = sorted(range(len(pairs.sources)), key=lambda row: len(pairs.sources[row]))
    for rows, batch in batches(pairs, by_length, tokenizer.pad_token_id):
        del batch["labels"]
        ids = model.generate(**batch, max_new_tokens=TARGET_MAX_LENGTH)
        texts = tokenizer.batch_decode(ids, skip_special_tokens=True)
        score.update([text.strip() for text in texts], [[pairs.references[row]] for row in rows])
    return float(score.compute())


def train(model: Any, train: Pairs, validation: Pairs, *, pad: int, seed: int) -> None:
    """Train, and leave the weights of the epoch of the least validation loss."""
    steps = -(-len(train.sources) // BATCH) * EPOCHS
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.ndim >= 2]},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    scheduler = get_scheduler("linear", optimizer, int(steps * WARMUP), steps)
    lengths = np.array([len(source) for source in train.sources], np.int32)
    order = ShuffledBatches(lengths, batch_size=BATCH, window=None, pieces=None, seed=seed)
    least, best = float("inf"), {}
    for epoch in range(EPOCHS):
        model.train()
        order.set_epoch(epoch)
        for _, batch in batches(train, [row for rows in order for row in rows], pad):
            model(**batch).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        loss = mean_loss(model, validation, pad)
        print(f"epoch {epoch + 1}: validation loss {loss:.4f}", flush=True)
        if loss < least:
            least, best = loss, copy.deepcopy(model.state_dict())
    model.load_state_dict(best)


def main() -> None:
    """Train, score the test rows, and write loss and chrF as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    rows = {split: read(options.data, split) for split in ("train", "validation", "test")}
    tokenizer = fitted_tokenizers.fit(
        "bytes-ended",
        lambda: (row[key] for row in rows["train"] for key in ("lang", "source", "target")),
        vocab_size=VOCABULARY,
        max_length=MAX_LENGTH,
        key=f"reference {options.data}",
    )
    pairs = {split: encode(tokenizer, rows[split]) for split in rows}
    torch.manual_seed(options.seed)
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = AutoConfig.for_model(
        "t5",
        **SIZES,
        vocab_size=len(tokenizer),
        pad_token_id=pad,
        eos_token_id=end,
        decoder_start_token_id=pad,
    )
    model = AutoModelForSeq2SeqLM.from_config(config)
    train(model, pairs["train"], pairs["validation"], pad=pad, seed=options.seed)
    scores = {
        "loss": mean_loss(model, pairs["test"], pad),
        "chrf": chrf(model, pairs["test"], tokenizer),
    }
    options.output.write_text(json.dumps(scores) + "\n", encoding="utf-8")
    print(scores)


if __name__ == "__main__":
    main()
