"""Contestant: the Hugging Face Trainer, padding to max_length, dynamically or grouped by length."""

import time

import common

options = common.arguments(padding=["dynamic", "max_length", "grouped"])

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import (  # noqa: E402
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
)

torch.set_num_threads(options.threads)
train, validation, test = (
    common.read(options.data, split, options.rows if split == "train" else None)
    for split in ("train", "validation", "test")
)
names, (train_ids, validation_ids, test_ids) = common.label_ids(train[1], validation[1], test[1])
tokenizer = AutoTokenizer.from_pretrained(common.minilm())
padding = "max_length" if options.padding == "max_length" else False


def dataset(texts: list[str], ids: list[int]) -> Dataset:
    """Tokenise a split."""
    rows = Dataset.from_dict({"text": texts, "label": ids})
    return rows.map(
        lambda batch: tokenizer(
            batch["text"], truncation=True, max_length=common.MAX_LENGTH, padding=padding
        ),
        batched=True,
        remove_columns=["text"],
    )


curve: list[dict[str, float]] = []
start = 0.0


class Clock(TrainerCallback):
    """Notes when each evaluation was there."""

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):  # type: ignore[no-untyped-def]
        if "eval_accuracy" not in metrics:
            return  # the test split, after training
        curve.append({"seconds": time.perf_counter() - start, "accuracy": metrics["eval_accuracy"]})


torch.manual_seed(options.seed)
model = AutoModelForSequenceClassification.from_pretrained(common.minilm(), num_labels=len(names))
steps = -(-len(train[0]) // options.batch)
curve_wanted = options.evaluations > 1
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="/tmp/hf_trainer",
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        learning_rate=common.LEARNING_RATE,
        warmup_steps=common.WARMUP,
        weight_decay=0.01,
        seed=options.seed,
        train_sampling_strategy="group_by_length" if options.padding == "grouped" else "random",
        eval_strategy="steps" if curve_wanted else "no",
        eval_steps=max(1, steps // options.evaluations),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
    ),
    train_dataset=dataset(train[0], train_ids),
    eval_dataset=dataset(validation[0], validation_ids),
    data_collator=default_data_collator if padding else DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda out: {
        "accuracy": float((out.predictions.argmax(-1) == out.label_ids).mean())
    },
    callbacks=[Clock()] if curve_wanted else [],
)
start = time.perf_counter()
trainer.train()
seconds = time.perf_counter() - start
accuracy = trainer.evaluate(dataset(test[0], test_ids), metric_key_prefix="test")["test_accuracy"]
common.report(
    samples_per_second=len(train[0]) * options.epochs / seconds, accuracy=accuracy, curve=curve
)
