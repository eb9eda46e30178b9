"""Contestant: `plcli fit`, in this process, with its own clock around the training epochs."""

import json
import sys
import tempfile
import time
from pathlib import Path

import common

options = common.arguments()

import torch  # noqa: E402
from lightning.pytorch import Callback  # noqa: E402

from plcli.__main__ import main  # noqa: E402

torch.set_num_threads(options.threads)
where = common.paths(options.data)
folder = Path(tempfile.mkdtemp())
lines = (where["folder"] / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
if options.rows < len(lines):
    lines = __import__("random").Random(7).sample(lines, options.rows)
(folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
clock: dict[str, float] = {"training": 0.0, "evaluating": 0.0}
curve: list[dict[str, float]] = []


class Clock(Callback):
    """Times the training steps without validations and saves, and each validation with them."""

    def on_train_start(self, trainer, module):  # type: ignore[no-untyped-def]
        clock["start"] = time.perf_counter()

    def on_train_epoch_start(self, trainer, module):  # type: ignore[no-untyped-def]
        clock["epoch"], clock["evaluating"] = time.perf_counter(), 0.0

    def on_train_batch_end(self, trainer, module, outputs, batch, index):  # type: ignore[no-untyped-def]
        if trainer.is_last_batch:
            now = time.perf_counter()
            clock["training"] += now - clock["epoch"] - clock["evaluating"]

    def on_validation_start(self, trainer, module):  # type: ignore[no-untyped-def]
        clock["pause"] = time.perf_counter()

    def on_validation_end(self, trainer, module):  # type: ignore[no-untyped-def]
        if "start" in clock and not trainer.sanity_checking:
            now = time.perf_counter()
            clock["evaluating"] += now - clock["pause"]
            accuracy = float(trainer.callback_metrics["val_accuracy"])
            curve.append({"seconds": now - clock["start"], "accuracy": accuracy})


Clock.__module__ = "bench_clock"  # a name that a config may be let name
sys.modules["bench_clock"] = sys.modules[__name__]
words = [
    *("fit", "--model", "TextClassifier", "--model.pretrained", common.minilm()),
    *("--model.optimizer", "torch.optim.AdamW", f"--model.optimizer.lr={common.LEARNING_RATE}"),
    *("--data", "TextClassificationData", "--data.train", str(folder / "train.jsonl")),
    *("--data.validation", str(where["folder"] / "validation.jsonl")),
    *("--data.test", str(where["folder"] / "test.jsonl")),
    *("--data.text", where["text"], "--data.label", where["label"]),
    *("--data.max_length", str(common.MAX_LENGTH), f"--data.batch_size={options.batch}"),
    *("--trainer.max_epochs", str(options.epochs), "--seed_everything", str(options.seed)),
    *("--allow-import", "bench_clock", "--trainer.callbacks+", "bench_clock.Clock"),
    *("--run", str(folder / "run")),
    f"--trainer.val_check_interval={1 / options.evaluations}",
]
for name, value in (("bucket_batches", options.window), ("pieces", options.pieces)):
    if value is not None:
        words.append(f"--data.{name}={value}")
code = main(words)
assert code == 0, f"plcli ended with {code}"
metrics = json.loads((folder / "run" / "metrics.json").read_text())
common.report(
    samples_per_second=len(lines) * options.epochs / clock["training"],
    accuracy=metrics["test"]["accuracy"],
    curve=curve if options.evaluations > 1 else [],
)
