"""Reference for extractive question answering: the Hugging Face Trainer, written by hand.

Reads train, validation and test.jsonl with the columns id, context, question and answers (text and
answer_start, lists) from --data and writes the scores of the best epoch by validation F1 to
--output, beside those of no training.
"""

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from common import minilm
from datasets import Dataset
from torchmetrics.functional.text import squad

N_BEST = 20
MAX_ANSWER = 30  # tokens
SPLITS = ("train", "validation", "test")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the three splits")
    parser.add_argument("--output", type=Path, required=True, help="JSON file for the scores")
    parser.add_argument("--model", default=minilm(), help="folder of the pretrained model")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--epochs", type=int, default=4)
    return parser.parse_args()


class Split:
    """The rows of a JSON lines file and their windows."""

    def __init__(self, path: Path, tokenizer: hf.PreTrainedTokenizerBase) -> None:
        with path.open(encoding="utf-8") as file:
            self.rows: list[dict[str, Any]] = [json.loads(line) for line in file]
        encoded = tokenizer(
            [row["question"].lstrip() for row in self.rows],
            [row["context"] for row in self.rows],
            truncation="only_second",
            max_length=384,
            stride=128,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        self.row_of_window: list[int] = encoded.pop("overflow_to_sample_mapping")
        self.offsets = [np.array(offsets) for offsets in encoded.pop("offset_mapping")]
        sequences = [encoded.sequence_ids(i) for i in range(len(self.offsets))]
        self.in_context = [np.array([s == 1 for s in sequence]) for sequence in sequences]
        spans = [self.answer(window) for window in range(len(self.offsets))]
        starts, ends = zip(*spans, strict=True)
        self.cut = sum(span == (0, 0) for span in spans)
        self.data = Dataset.from_dict({**encoded, "start_positions": starts, "end_positions": ends})

    def answer(self, window: int) -> tuple[int, int]:
        """Return the first and last token of a window's answer: those of [CLS] without one."""
        answers = self.rows[self.row_of_window[window]]["answers"]
        start = answers["answer_start"][0]
        end = start + len(answers["text"][0])
        tokens, offsets = np.flatnonzero(self.in_context[window]), self.offsets[window]
        if offsets[tokens[0], 0] > start or offsets[tokens[-1], 1] < end:
            return 0, 0
        first = tokens[offsets[tokens, 0] <= start][-1]
        return int(first), int(tokens[offsets[tokens, 1] >= end][0])

    def texts(self, starts: np.ndarray, ends: np.ndarray) -> list[str]:
        """Return every row's best span over all its windows, by the sum of both logits."""
        best = [(-np.inf, "empty") for _ in self.rows]
        for window, row in enumerate(self.row_of_window):
            length, allowed = len(self.offsets[window]), self.in_context[window]
            start, end = starts[window, :length], ends[window, :length]
            for i in np.argsort(-start)[:N_BEST]:
                for j in np.argsort(-end)[:N_BEST]:
                    fits = allowed[i] and allowed[j] and i <= j < i + MAX_ANSWER
                    if fits and start[i] + end[j] > best[row][0]:
                        first, last = self.offsets[window][i, 0], self.offsets[window][j, 1]
                        text = self.rows[row]["context"][first:last]
                        best[row] = (start[i] + end[j], text)
        return [text for _, text in best]

    def scores(self, texts: list[str]) -> dict[str, float]:
        """Return SQuAD exact match and F1, as parts of 1."""
        pairs = list(zip(self.rows, texts, strict=True))
        guesses = [{"id": row["id"], "prediction_text": text} for row, text in pairs]
        truths = [{"id": row["id"], "answers": row["answers"]} for row in self.rows]
        found = squad(guesses, truths)
        return {name: float(value) / 100 for name, value in found.items()}

    def predicted(self, prediction: hf.EvalPrediction) -> dict[str, float]:
        """Return the scores of a model's logits."""
        return self.scores(self.texts(*prediction.predictions))

    def fixed(self) -> dict[str, dict[str, float]]:
        """Return the scores of guesses that look at no question."""
        contexts = [row["context"] for row in self.rows]
        firsts = [re.split(r"(?<=[.!?])\s", context.strip())[0] for context in contexts]
        return {"first sentence": self.scores(firsts), "whole context": self.scores(contexts)}


def main() -> None:
    """Score without training, train, choose the best epoch, test."""
    options = arguments()
    hf.set_seed(options.seed)
    tokenizer = hf.AutoTokenizer.from_pretrained(options.model)
    splits = {name: Split(options.data / f"{name}.jsonl", tokenizer) for name in SPLITS}
    model = hf.AutoModelForQuestionAnswering.from_pretrained(options.model, dtype=torch.float32)
    with tempfile.TemporaryDirectory() as folder:
        trainer = hf.Trainer(
            model=model,
            args=hf.TrainingArguments(
                output_dir=folder,
                seed=options.seed,
                num_train_epochs=options.epochs,
                per_device_train_batch_size=16,
                per_device_eval_batch_size=16,
                learning_rate=options.lr,
                weight_decay=0.01,
                lr_scheduler_type="linear",
                warmup_steps=0.1,  # a part of all steps
                max_grad_norm=1.0,
                # not group_by_length: it reorders evaluation too, and windows are matched by place
                eval_strategy="epoch",
                save_strategy="epoch",
                save_only_model=True,
                load_best_model_at_end=True,
                metric_for_best_model="f1",
                greater_is_better=True,
                disable_tqdm=True,
                use_cpu=True,
            ),
            train_dataset=splits["train"].data,
            eval_dataset=splits["validation"].data,
            data_collator=hf.DataCollatorWithPadding(tokenizer),
            compute_metrics=splits["validation"].predicted,
        )

        def score(name: str) -> dict[str, float]:
            trainer.compute_metrics = splits[name].predicted
            return trainer.evaluate(splits[name].data, metric_key_prefix=name)

        baseline = {name: {**splits[name].fixed(), "untrained": score(name)} for name in SPLITS[1:]}
        trainer.compute_metrics = splits["validation"].predicted
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        validation = [entry for entry in trainer.state.log_history if "eval_f1" in entry]
        test = score("test")
    windows = {name: [len(s.rows), len(s.offsets), s.cut] for name, s in splits.items()}
    result = {key: getattr(options, key) for key in ("seed", "lr", "epochs")}
    result |= {"train_seconds": seconds, "steps": trainer.state.global_step, "test": test}
    result["best"] = max(validation, key=lambda entry: entry["eval_f1"])
    result |= {"validation": validation, "baseline": baseline, "rows, windows, cut": windows}
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
