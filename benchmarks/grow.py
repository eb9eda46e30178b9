"""What grows with the rows: encoding, the second start, an epoch's loader, and predict.

One process measures one of them for one number of rows.
"""

import json
import os
import tempfile
import time
from pathlib import Path

import common

options = common.arguments(tool=["prepare", "encode", "second", "loader", "predict"])
folder = Path(tempfile.gettempdir()) / "bench_growth"
os.environ["PLCLI_CACHE"] = str(folder / "cache")

from plcli.__main__ import main  # noqa: E402

source = folder / f"{options.rows}.jsonl"
run = folder / "run"


def make_rows() -> None:
    """Write short rows, no two of them equal."""
    folder.mkdir(exist_ok=True)
    texts, labels = common.read(options.data, "train")
    with open(source, "w", encoding="utf-8") as file:
        for number in range(options.rows):
            text, label = (values[number % len(texts)] for values in (texts, labels))
            file.write(json.dumps({"text": f"{text} {number}", "label": label}) + "\n")


def make_run() -> None:
    """Fit a tiny model for one step; predict's growth is plcli's, not the model's."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    sizes |= {"intermediate_size": 16, "max_position_embeddings": common.MAX_LENGTH}
    words = ["fit", "--model", "TextClassifier", "--run", str(run)]
    words += ["--model.architecture", json.dumps({"model_type": "bert", **sizes})]
    words += ["--data", "TextClassificationData", "--data.train", str(source)]
    words += ["--data.max_length", str(common.MAX_LENGTH), "--trainer.max_epochs", "1"]
    assert main([*words, "--trainer.limit_train_batches", "1"]) == 0


def data():  # type: ignore[no-untyped-def]
    """Return the data module of the rows."""
    from plcli.tasks.text_classification import TextClassificationData

    return TextClassificationData(
        train=str(source),
        validation_fraction=0,
        tokenizer=common.minilm(),
        max_length=common.MAX_LENGTH,
    )


start = time.perf_counter()
if options.tool == "prepare":
    make_rows()
    if not run.exists():
        make_run()
elif options.tool in ("encode", "second"):
    from plcli.data import rows, token_cache
    from plcli.data.rows import Kind
    from plcli.pretrained.weights import load_tokenizer

    tokenizer = load_tokenizer(common.minilm())
    start = time.perf_counter()
    table = rows.load(str(source), {"text": Kind.TEXT, "label": Kind.NAME})
    token_cache.encode(table, ["text"], tokenizer, max_length=common.MAX_LENGTH)
elif options.tool == "loader":
    module = data()
    module.setup("fit")
    batches = module.train_dataloader()
    start = time.perf_counter()
    for _ in batches:
        pass
else:
    output = folder / f"{options.rows}.csv"
    output.unlink(missing_ok=True)
    words = ["predict", "--run", str(run), "--input", str(source), "--output", str(output)]
    assert main([*words, "--data.batch_size", "256"]) == 0
common.done(seconds=time.perf_counter() - start)
