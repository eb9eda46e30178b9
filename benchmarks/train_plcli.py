"""Contestant: `plcli fit`, in this process, with its saves of every epoch."""

import json
import random
import sys
import tempfile
from pathlib import Path

import common

options = common.arguments(unpadded=["default", "true", "false"])

import torch  # noqa: E402
from lightning.pytorch import Callback  # noqa: E402

from plcli.__main__ import main  # noqa: E402

torch.set_num_threads(options.threads)
where = common.paths(options.data)
folder = Path(tempfile.mkdtemp())
lines = (where["folder"] / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
if options.rows < len(lines):
    lines = random.Random(7).sample(lines, options.rows)
(folder / "train.jsonl").write_text("".join(lines), encoding="utf-8")
clock = common.Clock()
seen = 0


class Notes(Callback):
    """Starts and ends the clock, and notes evaluations."""

    def on_train_start(self, trainer, module):  # type: ignore[no-untyped-def]
        clock.start()

    def on_fit_end(self, trainer, module):  # type: ignore[no-untyped-def]
        global seen
        clock.stop()
        seen = min(trainer.global_step * options.batch, len(lines) * options.epochs)

    def on_validation_start(self, trainer, module):  # type: ignore[no-untyped-def]
        self.training = clock.since is not None
        clock.stop()

    def on_validation_epoch_end(self, trainer, module):  # type: ignore[no-untyped-def]
        if self.training:
            clock.start()  # before the checkpoints of plcli are saved

    def on_validation_end(self, trainer, module):  # type: ignore[no-untyped-def]
        if self.training:
            accuracy = float(trainer.callback_metrics["val_accuracy"])
            trainer.should_stop |= clock.evaluated(
                step=trainer.global_step, accuracy=accuracy, until=options.until
            )


Notes.__module__ = "bench_clock"  # a name that a config may be let name
sys.modules["bench_clock"] = sys.modules[__name__]
PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "auto": "auto"}
words = [
    *("fit", "--model", "TextClassifier", "--model.pretrained", common.minilm()),
    *("--data", "TextClassificationData", "--data.train", str(folder / "train.jsonl")),
    *("--data.validation", str(where["folder"] / "validation.jsonl")),
    *("--data.test", str(where["folder"] / "test.jsonl")),
    *("--data.text", where["text"], "--data.label", where["label"]),
    *("--data.max_length", str(common.MAX_LENGTH), f"--data.batch_size={options.batch}"),
    *("--trainer.max_epochs", str(options.epochs), "--seed_everything", str(options.seed)),
    *("--allow-import", "bench_clock", "--trainer.callbacks+", "bench_clock.Notes"),
    *("--run", str(folder / "run")),
    *("--trainer.precision", PRECISION[options.precision]),
    f"--trainer.val_check_interval={1 / options.evaluations}",
]
for name, value in (("bucket_batches", options.window), ("pieces", options.pieces)):
    if value is not None:
        words.append(f"--data.{name}={value}")
if options.lr != "own":
    words += ["--model.optimizer", "torch.optim.AdamW", f"--model.optimizer.lr={options.lr}"]
if options.unpadded != "default":
    words.append(f"--model.unpadded={options.unpadded}")
code = main(words)
assert code == 0, f"plcli ended with {code}"
metrics = json.loads((folder / "run" / "metrics.json").read_text())
common.report(clock=clock, samples=seen, accuracy=metrics["test"]["accuracy"])
