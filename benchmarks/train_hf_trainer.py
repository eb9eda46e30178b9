"""Contestant: the Hugging Face Trainer, padding to max_length, dynamically or grouped by length.

Its optimizer is its default, fused AdamW; it neither saves nor logs.
"""

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


clock = common.Clock()


class Timed(Trainer):
    """Stops the clock for evaluations."""

    def evaluate(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        training = clock.since is not None
        clock.stop()
        metrics = super().evaluate(*args, **kwargs)
        if training:
            clock.start()
        return metrics


class Notes(TrainerCallback):
    """Starts and ends the clock, and notes evaluations."""

    def on_train_begin(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        clock.start()

    def on_train_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
        clock.stop()

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):  # type: ignore[no-untyped-def]
        if "eval_accuracy" in metrics:  # the test split has another name
            control.should_training_stop |= clock.evaluated(
                step=state.global_step, accuracy=metrics["eval_accuracy"], until=options.until
            )


torch.manual_seed(options.seed)
model = AutoModelForSequenceClassification.from_pretrained(common.minilm(), num_labels=len(names))
steps = -(-len(train[0]) // options.batch)
curve_wanted = options.evaluations > 1
trainer = Timed(
    model=model,
    args=TrainingArguments(
        output_dir="/tmp/hf_trainer",
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch,
        per_device_eval_batch_size=options.batch,
        **({} if options.lr == "own" else {"learning_rate": float(options.lr)}),
        warmup_steps=common.WARMUP,
        weight_decay=0.01,
        seed=options.seed,
        train_sampling_strategy="group_by_length" if options.padding == "grouped" else "random",
        eval_strategy="steps" if curve_wanted else "no",
        eval_steps=max(1, steps // options.evaluations),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        bf16=options.precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
    ),
    train_dataset=dataset(train[0], train_ids),
    eval_dataset=dataset(validation[0], validation_ids),
    data_collator=default_data_collator if padding else DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda out: {
        "accuracy": float((out.predictions.argmax(-1) == out.label_ids).mean())
    },
    callbacks=[Notes()],
)
trainer.train()
accuracy = trainer.evaluate(dataset(test[0], test_ids), metric_key_prefix="test")["test_accuracy"]
seen = min(trainer.state.global_step * options.batch, len(train[0]) * options.epochs)
common.report(clock=clock, samples=seen, accuracy=accuracy)
