"""Contestants at encoding rows: plcli, datasets.map with as many processes, the bare tokenizer."""

import json
import tempfile
import time
from pathlib import Path

import common

options = common.arguments(tool=["plcli", "datasets", "bare", "second"])

from transformers import AutoTokenizer  # noqa: E402

texts, _ = common.read(options.data, "train")
texts = (texts * (options.rows // len(texts) + 1))[: options.rows]
texts = [f"{text} {number}" for number, text in enumerate(texts)]
tokenizer = AutoTokenizer.from_pretrained(common.minilm())
folder = Path(tempfile.mkdtemp())
source = folder / "rows.jsonl"
with open(source, "w", encoding="utf-8") as file:
    file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


def by_plcli() -> float:
    """Read and encode the file into the cache."""
    from plcli import encoding, rows
    from plcli.rows import Kind

    start = time.perf_counter()
    table = rows.load(str(source), {"text": Kind.TEXT}, cache=folder)
    encoded = encoding.encode(
        table, ["text"], tokenizer, max_length=common.MAX_LENGTH, cache=folder
    )
    assert len(encoded) == len(texts)
    return time.perf_counter() - start


if options.tool == "plcli":
    seconds = by_plcli()
elif options.tool == "second":
    by_plcli()
    seconds = by_plcli()
elif options.tool == "datasets":
    from datasets import load_dataset

    start = time.perf_counter()
    data = load_dataset("json", data_files=str(source), cache_dir=str(folder / "hf"), split="train")
    data = data.map(
        lambda batch: tokenizer(batch["text"], truncation=True, max_length=common.MAX_LENGTH),
        batched=True,
        num_proc=options.threads,
    )
    seconds = time.perf_counter() - start
else:
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(common.MAX_LENGTH)
    start = time.perf_counter()
    for first in range(0, len(texts), 8192):
        backend.encode_batch_fast(texts[first : first + 8192])
    seconds = time.perf_counter() - start
common.report(rows_per_second=len(texts) / seconds, seconds=seconds)
