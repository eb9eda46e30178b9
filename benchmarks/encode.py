"""Contestants at encoding rows that were read before: plcli, datasets.map, the bare tokenizer.

plcli and datasets.map leave a memory-mapped file, the bare tokenizer leaves nothing.
"""

import json
import tempfile
import time
from pathlib import Path

import common

options = common.arguments(tool=["plcli", "datasets", "bare"])

from transformers import AutoTokenizer  # noqa: E402

texts, _ = common.read(options.data, "train")
texts = (texts * (options.rows // len(texts) + 1))[: options.rows]
texts = [f"{text} {number}" for number, text in enumerate(texts)]
tokenizer = AutoTokenizer.from_pretrained(common.minilm())
folder = Path(tempfile.mkdtemp())
source = folder / "rows.jsonl"
with open(source, "w", encoding="utf-8") as file:
    file.writelines(json.dumps({"text": text}) + "\n" for text in texts)


if options.tool == "plcli":
    from plcli.data import cells, rows, token_cache

    table = rows.load(str(source), {"text": cells.Kind.TEXT}, cache=folder)
    start = time.perf_counter()
    encoded = token_cache.encode(
        table, ["text"], tokenizer, max_length=common.MAX_LENGTH, cache=folder
    )
    assert len(encoded) == len(texts)
elif options.tool == "datasets":
    from datasets import load_dataset

    data = load_dataset("json", data_files=str(source), cache_dir=str(folder / "hf"), split="train")
    start = time.perf_counter()
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
common.done(rows_per_second=len(texts) / seconds, seconds=seconds)
