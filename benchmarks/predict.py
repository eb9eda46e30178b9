"""Contestants at predicting a file: plcli with its engines, transformers.pipeline, a bare loop."""

import json
import shutil
import tempfile
import time
from pathlib import Path

import common

ENGINES = ["torch", "torch-bf16", "onnx", "openvino", "openvino-int8", "auto"]
options = common.arguments(
    tool=["model", "export", "plcli", "pipeline", "pipeline32", "bare"], engine=ENGINES
)

import torch  # noqa: E402

from plcli.__main__ import main  # noqa: E402

torch.set_num_threads(options.threads)
texts, labels = common.read(options.data, "test")
texts = (texts * (options.rows // len(texts) + 1))[: options.rows]
texts = [f"{text} {number}" for number, text in enumerate(texts)]  # no two rows are equal
folder = Path(tempfile.mkdtemp())
run = Path(tempfile.gettempdir()) / f"bench_predict_{len(set(labels))}"


def make_model() -> None:
    """Make an artefact by a fit of one step; what its weights say does not matter here."""
    where = common.paths(options.data)
    main(
        [
            *("fit", "--model", "TextClassifier", "--model.pretrained", common.minilm()),
            *("--data", "TextClassificationData", "--run", str(run)),
            *("--data.train", str(where["folder"] / "validation.jsonl")),
            *("--data.validation", str(where["folder"] / "validation.jsonl")),
            *("--data.text", where["text"], "--data.label", where["label"]),
            *("--data.max_length", str(common.MAX_LENGTH), "--trainer.limit_val_batches", "1"),
            *("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "1"),
        ]
    )


def make_export() -> None:
    """Export the model for an engine; the check says whether that may be used."""
    to = run / "export" / options.engine
    shutil.rmtree(to, ignore_errors=True)
    code = main(["export", str(run), "--to", options.engine])
    assert code in (0, 4), f"plcli ended with {code}"  # 4: it predicts otherwise


def bare() -> list[str]:
    """Predict in length order, with nothing but the forward pass."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    model = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    start.append(time.perf_counter())
    encoded = tokenizer(texts, truncation=True, max_length=common.MAX_LENGTH)["input_ids"]
    order = sorted(range(len(texts)), key=lambda index: -len(encoded[index]))
    found = [""] * len(texts)
    with torch.inference_mode():
        for first in range(0, len(order), options.batch):
            batch = order[first : first + options.batch]
            inputs = tokenizer.pad({"input_ids": [encoded[i] for i in batch]}, return_tensors="pt")
            for index, label in zip(batch, model(**inputs).logits.argmax(-1).tolist(), strict=True):
                found[index] = model.config.id2label[label]
    return found


def pipeline(batch_size: int) -> list[str]:
    """Predict with transformers.pipeline over a list of texts."""
    from transformers import pipeline as make

    classify = make("text-classification", model=str(run / "model"), device="cpu")
    start.append(time.perf_counter())
    settings = {"batch_size": batch_size, "truncation": True, "max_length": common.MAX_LENGTH}
    return [row["label"] for row in classify(texts, **settings)]


def plcli() -> list[str]:
    """Predict with plcli; reading the file, encoding, and writing the file included."""
    from lightning.pytorch import Trainer

    source = folder / "input.jsonl"
    column = common.paths(options.data)["text"]
    with open(source, "w", encoding="utf-8") as file:
        file.writelines(json.dumps({column: text}) + "\n" for text in texts)
    predict = Trainer.predict

    def timed(*arguments, **settings):  # type: ignore[no-untyped-def]
        start.append(time.perf_counter())  # the model stands, nothing of the file has been read
        return predict(*arguments, **settings)

    Trainer.predict = timed  # type: ignore[method-assign]
    words = ["predict", "--run", str(run), "--input", str(source), "--engine", options.engine]
    code = main([*words, "--output", str(folder / "o.jsonl")])
    assert code == 0, f"plcli ended with {code}"
    with open(folder / "o.jsonl", encoding="utf-8") as file:
        return [json.loads(line)["label"] for line in file]


if options.tool == "model":  # in a process of its own: a fit leaves its mark on what follows it
    make_model()
    common.done()
    raise SystemExit
if options.tool == "export":
    make_export()
    common.done()
    raise SystemExit
start: list[float] = []
if options.tool == "bare":
    found = bare()
elif options.tool == "plcli":
    found = plcli()
else:
    found = pipeline(32 if options.tool == "pipeline32" else 1)
seconds = time.perf_counter() - start[0]
common.done(rows_per_second=len(texts) / seconds, rows=len(found))
