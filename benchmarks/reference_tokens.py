"""Reference for token classification: the Hugging Face Trainer, written by hand.

Reads train, validation and test.jsonl with the columns tokens and tags (BIO) from --data and
writes the scores of the best epoch by validation span F1 to --output.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from common import minilm
from datasets import Dataset
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

IGNORED = -100  # the label of what is no first piece of a word
SPLITS = ("train", "validation", "test")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the three splits")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the scores")
    parser.add_argument("--model", default=minilm(), help="folder of the pretrained model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=3)
    return parser.parse_args()


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON lines file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def encode(
    rows: list[dict[str, Any]], names: list[str], tokenizer: hf.PreTrainedTokenizerBase
) -> Dataset:
    """Tokenise a split and put every word's label on its first piece."""
    encoded = tokenizer(
        [row["tokens"] for row in rows], is_split_into_words=True, truncation=True, max_length=512
    )
    labels = []
    for index, row in enumerate(rows):
        words = encoded.word_ids(index)
        firsts = [
            w is not None and w != last for w, last in zip(words, [None, *words[:-1]], strict=True)
        ]
        labels.append(
            [
                names.index(row["tags"][word]) if first else IGNORED
                for word, first in zip(words, firsts, strict=True)
            ]
        )
    return Dataset.from_dict({**encoded, "labels": labels})


def scores(prediction: hf.EvalPrediction, names: list[str]) -> dict[str, float]:
    """Return strict span scores and token accuracy over the first pieces of words."""
    guesses, labels = prediction.predictions.argmax(-1), prediction.label_ids
    counted = labels != IGNORED
    rows = list(zip(guesses, labels, counted, strict=True))
    guessed = [[names[i] for i in guess[mask]] for guess, _, mask in rows]
    true = [[names[i] for i in label[mask]] for _, label, mask in rows]
    strict = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    return {
        "precision": float(precision_score(true, guessed, **strict)),
        "recall": float(recall_score(true, guessed, **strict)),
        "f1": float(f1_score(true, guessed, **strict)),
        "accuracy": float(np.mean(guesses[counted] == labels[counted])),
        "words": int(counted.sum()),
    }


def main() -> None:
    """Train, choose the best epoch, test."""
    options = arguments()
    hf.set_seed(options.seed)
    splits = {split: read(options.data / f"{split}.jsonl") for split in SPLITS}
    names = sorted({tag for row in splits["train"] for tag in row["tags"]})
    tokenizer = hf.AutoTokenizer.from_pretrained(options.model)
    data = {split: encode(rows, names, tokenizer) for split, rows in splits.items()}
    model = hf.AutoModelForTokenClassification.from_pretrained(
        options.model,
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        dtype=torch.float32,
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = hf.Trainer(
            model=model,
            args=hf.TrainingArguments(
                output_dir=folder,
                seed=options.seed,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=32,
                per_device_eval_batch_size=32,
                learning_rate=options.lr,
                weight_decay=0.01,
                lr_scheduler_type="linear",
                warmup_steps=0.1,  # a part of all steps
                max_grad_norm=1.0,
                eval_strategy="epoch",
                save_strategy="epoch",
                save_only_model=True,
                load_best_model_at_end=True,
                metric_for_best_model="f1",
                greater_is_better=True,
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            data_collator=hf.DataCollatorForTokenClassification(tokenizer),
            compute_metrics=partial(scores, names=names),
        )
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        validation = [entry for entry in trainer.state.log_history if "eval_f1" in entry]
        test = trainer.evaluate(data["test"], metric_key_prefix="test")
    settings = {key: getattr(options, key) for key in ("seed", "lr", "epochs")}
    best = max(validation, key=lambda entry: entry["eval_f1"])
    words = {split: sum(len(row["tokens"]) for row in rows) for split, rows in splits.items()}
    result = {**settings, "train_seconds": seconds, "best": best, "test": test, "words": words}
    result |= {"validation": validation, "steps": trainer.state.global_step}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
