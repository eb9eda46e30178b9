"""A bare loop beside plcli's language models: the same sizes, optimizer, schedule and steps.

    python benchmarks/reference_lm.py --data FOLDER --kind causal --output causal.json
    plcli fit -c configs/causal_lm.yaml --run causal --data.documents file --data.text text \
        --data.train FOLDER/train.txt --data.validation FOLDER/validation.txt \
        --data.test FOLDER/test.txt --trainer.max_epochs 3

The folder holds train.txt, validation.txt and test.txt. Shared with plcli are the tokenizer, so
that perplexities of tokens can be compared, and for the kind masked the choice of what is hidden,
so that they are measured on the same tokens.
"""

import argparse
import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel, get_scheduler

from plcli.data.fitted_tokenizers import fit
from plcli.data.masking import mask

BLOCK, BATCH, RATE, WARMUP, PIECES = 128, 16, 1e-3, 0.1, 2000  # as configs/causal_lm.yaml has them

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path, required=True)
parser.add_argument("--kind", choices=["causal", "masked"], required=True)
parser.add_argument("--epochs", type=int, default=3)
parser.add_argument("--layers", type=int, default=4)
parser.add_argument("--width", type=int, default=128)
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--output", type=Path, required=True)
options = parser.parse_args()
causal = options.kind == "causal"

texts = {
    split: (options.data / f"{split}.txt").read_bytes().decode()
    for split in ("train", "validation", "test")
}
tokenizer = fit(
    "bytes" if causal else "wordpiece",
    lambda: iter([texts["train"]]),
    vocab_size=PIECES,
    max_length=BLOCK,
    key=texts["train"],
)

never_hidden = [i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]


def blocks(text: str) -> torch.Tensor:
    """Cut a text into blocks, int64 [blocks, tokens]; the last one is padded with -1."""
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    size = BLOCK if causal else BLOCK - 2
    ids += [tokenizer.eos_token_id] if causal else []
    ids += [-1] * (-len(ids) % size)
    return torch.tensor(ids).reshape(-1, size)


def inputs(rows: torch.Tensor, seeds: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what the model sees, and the labels, of some blocks."""
    if causal:
        labels = torch.where(rows < 0, -100, rows)
        labels[:, 0] = -100
        return rows.clamp(min=0), labels.roll(-1, 1)
    seen, hidden = [], []
    for row, seed in zip(rows, seeds, strict=True):
        ids = row[row >= 0].numpy()
        shown, labels = mask(
            ids,
            np.where(np.isin(ids, never_hidden), -1, np.arange(len(ids))),
            probability=0.15,
            mask_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
            generator=np.random.default_rng(seed),
        )
        around = [tokenizer.cls_token_id], [tokenizer.sep_token_id]
        fill = np.zeros(len(row) - len(ids), np.int64)
        seen.append(np.concatenate([around[0], shown, around[1], fill]))
        hidden.append(np.pad(labels, (1, 1 + len(fill)), constant_values=-100))
    return torch.from_numpy(np.stack(seen)), torch.from_numpy(np.stack(hidden))


def losses(model: Any, rows: torch.Tensor, seeds: list[int]) -> tuple[torch.Tensor, int]:
    """Return the summed loss of some blocks, and of how many tokens."""
    ids, labels = inputs(rows, seeds)
    logits = model(input_ids=ids, attention_mask=(ids != tokenizer.pad_token_id).long()).logits
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), reduction="sum"
    )
    return loss, int((labels != -100).sum())


def score(model: Any, split: str) -> dict[str, float]:
    """Return the perplexity of a split, and the bits of a byte of what is predicted of it."""
    rows, total, count = blocks(texts[split]), 0.0, 0
    model.eval()
    with torch.inference_mode():
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            loss, tokens = losses(model, part, [*range(first, first + len(part))])
            total, count = total + float(loss), count + tokens
    model.train()
    found = {"perplexity": math.exp(total / count)}
    if causal:
        unscored = sum(len(tokenizer.decode([row[0]]).encode()) for row in rows.tolist())
        found["bits_per_byte"] = total / (len(texts[split].encode()) - unscored) / math.log(2)
    return found


torch.manual_seed(options.seed)
model: Any
if causal:
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    sizes = {"n_layer": options.layers, "n_embd": options.width, "n_head": 4, "n_positions": 256}
    model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes, **ends))
else:
    sizes = {"hidden_size": options.width, "num_hidden_layers": options.layers}
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer),
            intermediate_size=4 * options.width,
            num_attention_heads=4,
            **sizes,
        )
    )
groups = [
    {"params": [p for p in model.parameters() if p.ndim >= 2]},
    {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
]
optimizer = torch.optim.AdamW(groups, lr=RATE, fused=True)
rows = blocks(texts["train"])
steps = -(-len(rows) // BATCH) * options.epochs
scheduler = get_scheduler("linear", optimizer, int(steps * WARMUP), steps)
generator = np.random.default_rng(options.seed)
curve, best = [], copy.deepcopy(model.state_dict())
for epoch in range(1, options.epochs + 1):
    for chosen in torch.randperm(len(rows)).split(BATCH):
        loss, tokens = losses(
            model, rows[chosen], generator.integers(2**31, size=BATCH).tolist()[: len(chosen)]
        )
        (loss / tokens).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    curve.append(score(model, "validation"))
    print(f"epoch {epoch}: {curve[-1]}", flush=True)
    if curve[-1]["perplexity"] == min(point["perplexity"] for point in curve):
        best = copy.deepcopy(model.state_dict())
model.load_state_dict(best)
result = {"validation": curve, "test": score(model, "test")}
options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
print(f"test: {result['test']}")
