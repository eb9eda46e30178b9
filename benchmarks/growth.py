"""How time and memory grow with rows: encoding, one epoch of batches, predicting."""

import json
import os
import tempfile
import time
from pathlib import Path

import common

options = common.arguments(part=["encode", "epoch", "predict"])
folder = Path(os.environ.get("BENCH_GROWTH", tempfile.gettempdir())) / f"growth_{options.rows}"
folder.mkdir(parents=True, exist_ok=True)
os.environ["PLCLI_CACHE"] = str(folder / "cache")

import torch  # noqa: E402

from plcli.__main__ import main  # noqa: E402
from plcli.tasks.text_classification import TextClassificationData  # noqa: E402

torch.set_num_threads(options.threads)
source = folder / "rows.jsonl"
if not source.exists():
    texts, _ = common.read(options.data, "train")
    with open(source, "w", encoding="utf-8") as file:
        for number in range(options.rows):
            text = " ".join(texts[number % len(texts)].split()[:12])
            row = {"text": f"{text} {number}", "label": "even" if number % 2 == 0 else "odd"}
            file.write(json.dumps(row) + "\n")
start = time.perf_counter()
if options.part in ("encode", "epoch"):
    data = TextClassificationData(
        train=str(source), validation_fraction=0, tokenizer=common.minilm(), max_length=64
    )
    data.setup("fit")
if options.part == "epoch":
    start = time.perf_counter()
    count = sum(
        len(piece["labels"]) for batch in data.train_dataloader() for piece in batch["pieces"]
    )
    assert count == options.rows
if options.part == "predict":
    run = folder / "run"
    if not run.exists():
        small = folder / "small.jsonl"
        with open(source, encoding="utf-8") as file:
            small.write_text("".join(next(file) for _ in range(200)), encoding="utf-8")
        sizes = (
            "{model_type: bert, hidden_size: 16, num_hidden_layers: 1, "
            "num_attention_heads: 2, intermediate_size: 16}"
        )
        main(
            [
                *("fit", "--model", "TextClassifier", "--model.architecture", sizes),
                *("--data", "TextClassificationData", "--data.train", str(small)),
                *("--data.max_length", "64", "--trainer.max_epochs", "1", "--run", str(run)),
            ]
        )
        raise SystemExit("the model stands; call again")
    output = folder / "predictions.parquet"
    output.unlink(missing_ok=True)
    start = time.perf_counter()
    words = ["--data.batch_size", "256", "--input", str(source), "--output", str(output)]
    assert main(["predict", "--run", str(run), *words]) == 0
common.report(seconds=time.perf_counter() - start, rows=options.rows)
