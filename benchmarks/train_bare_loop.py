"""Contestant: a bare PyTorch loop, the limit: on random batches, or on those that plcli makes."""

import contextlib

import common

options = common.arguments(batches=["random", "same"])

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_scheduler  # noqa: E402

from plcli.data.samplers import ShuffledBatches  # noqa: E402

torch.set_num_threads(options.threads)
train, test = (
    common.read(options.data, split, options.rows if split == "train" else None)
    for split in ("train", "test")
)
names, (train_ids, test_ids) = common.label_ids(train[1], test[1])
tokenizer = AutoTokenizer.from_pretrained(common.minilm())


def encode(texts: list[str]) -> list[list[int]]:
    """Tokenise a split."""
    ids: list[list[int]] = tokenizer(texts, truncation=True, max_length=common.MAX_LENGTH)[
        "input_ids"
    ]
    return ids


def padded(rows: list[list[int]]) -> dict[str, torch.Tensor]:
    """Pad rows to the longest."""
    width = max(map(len, rows))
    ids = np.zeros((len(rows), width), np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


torch.manual_seed(options.seed)
model = AutoModelForSequenceClassification.from_pretrained(
    common.minilm(), num_labels=len(names)
).train()
encoded, labels = encode(train[0]), torch.tensor(train_ids)
steps = -(-len(encoded) // options.batch) * options.epochs
groups = [
    {"params": [p for p in model.parameters() if p.ndim >= 2]},
    {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=common.LEARNING_RATE, weight_decay=0.01, fused=True)
scheduler = get_scheduler("linear", optimizer, int(steps * common.WARMUP), steps)
plain = options.batches == "random"
window, num_pieces = (1, 1) if plain else (options.window, options.pieces)
lengths = np.array([len(row) for row in encoded])
batches = ShuffledBatches(
    lengths, batch_size=options.batch, window=window, pieces=num_pieces, seed=options.seed
)
half = torch.autocast("cpu", torch.bfloat16) if options.precision == "bf16" else None
clock = common.Clock()
clock.start()
for epoch in range(options.epochs):
    batches.set_epoch(epoch)
    for rows in batches:
        batch = np.array(rows)
        by_length = batch[np.argsort(lengths[batch], kind="stable")]
        pieces = np.array_split(by_length, min(batches.pieces, len(batch)))
        loss = torch.zeros(())
        for piece in pieces:
            inputs = padded([encoded[i] for i in piece])
            with half or contextlib.nullcontext():
                outputs = model(**inputs, labels=labels[piece])
            loss = loss + outputs.loss * (len(piece) / len(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
clock.stop()
model.eval()
right = 0
rows = encode(test[0])
with torch.inference_mode():
    for first in range(0, len(rows), options.batch):
        logits = model(**padded(rows[first : first + options.batch])).logits
        right += int(
            (logits.argmax(-1) == torch.tensor(test_ids[first : first + options.batch])).sum()
        )
common.report(clock=clock, samples=len(train[0]) * options.epochs, accuracy=right / len(rows))
