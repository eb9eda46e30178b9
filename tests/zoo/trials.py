"""Tries a model type on a task: fit, test and predict, at batch sizes 1 and 8.

Everything runs in this process.
"""

import math
import shutil
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.conftest import Result, message, write_config, write_rows
from tests.running import adamw, own_cache, read_json, read_rows, run_plcli
from tests.zoo import models
from tests.zoo.tasks import LONGEST, TASKS, Row, Task

TOLERANCE = 1e-5
LANGUAGES = {"src_lang": "en_XX", "tgt_lang": "de_DE"}


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Attributes:
        kind: works; refused, with one message; or fails.
        said: the message, or what failed.
    """

    kind: str
    said: str = ""


def prepare(name: str, task_name: str, folder: Path, *, base: Path | None = None) -> Path:
    """Write the rows and the config of a trial into a folder, and return the config."""
    task = TASKS[task_name]
    base = base or models.save(name, folder / "base")
    rows = str(write_rows(folder / "rows.jsonl", task.rows))
    module = f"plcli.tasks.{task.module or task_name}"
    return write_config(
        folder / "fit.yaml",
        model={
            "class_path": f"{module}.{task.classes[0]}",
            "init_args": {"pretrained": str(base), "optimizer": adamw(1e-3), **task.model},
        },
        data={
            "class_path": f"{module}.{task.classes[1]}",
            "init_args": {
                **dict.fromkeys(("train", "validation", "test"), rows),
                "batch_size": 8,
                "max_length": LONGEST,
                **task.data,
                **(LANGUAGES if (name, task_name) == ("mbart", "seq2seq") else {}),
            },
        },
        trainer={"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
    )


def fit(folder: Path, *words: object, run: str = "run") -> Result:
    """Fit the config of a folder."""
    with own_cache(folder):
        return run_plcli("fit", "-c", folder / "fit.yaml", "--run", folder / run, *words)


def try_out(
    name: str, task_name: str, folder: Path, *, base: Path | None = None, quick: bool = False
) -> Outcome:
    """Fit, test and predict, and compare the predictions.

    Args:
        name: a model type of the zoo.
        task_name: a task of the zoo.
        folder: a folder for all files.
        base: the folder of the model, if it is not to be made.
        quick: whether to leave out what is done at batch size 1, except predictions.
    """
    prepare(name, task_name, folder, base=base)
    result = fit(folder)
    if result.code == 4:
        return Outcome("refused", message(result).strip())
    if result.code:
        return Outcome("fails", f"fit: exit {result.code}: {result.err[-1500:]}")
    if not quick and (failed := _fails_at_batch_1(folder, task_name)):
        return Outcome("fails", failed)
    return _compared(TASKS[task_name], folder)


def _fails_at_batch_1(folder: Path, task_name: str) -> str:
    """Fit and test at batch size 1, and return what fails, or an empty text."""
    result = fit(folder, "--data.batch_size", 1, "--trainer.max_steps", 2, run="run1")
    if result.code:
        return f"fit at batch 1: exit {result.code}: {result.err[-1500:]}"
    whole = read_json(folder / "run/metrics.json")["test"]
    with own_cache(folder):
        result = run_plcli("test", "--run", folder / "run", "--data.batch_size", 1)
    if result.code:
        return f"test: exit {result.code}: {result.err[-1500:]}"
    single = read_json(folder / "run/metrics.json")["test"]
    if task_name == "sentence_embedding":  # its loss compares the rows of a batch
        return ""
    found = difference(whole, single, 10 * TOLERANCE)  # means of float32 losses
    return f"test at batch 1 and 8: {found}" if found else ""


def _compared(task: Task, folder: Path) -> Outcome:
    """Predict at batch sizes 8 and 1, and compare with transformers."""
    run, predicted = folder / "run", []
    to_predict = _to_predict(task, run)
    source = write_rows(folder / "predict.jsonl", to_predict)
    for size in (8, 1):
        output = folder / f"predicted-{size}.jsonl"
        words = ("--input", source, "--output", output, "--data.batch_size", size)
        with own_cache(folder):
            result = run_plcli("predict", "--run", run, *words)
        if result.code:
            return Outcome("fails", f"predict: exit {result.code}: {result.err[-1500:]}")
        predicted.append(read_rows(output))
    if found := difference(*predicted, TOLERANCE):
        return Outcome("fails", f"predictions at batch 8 and 1: {found}")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of transformers' own call
        reference = task.reference(run / "model", to_predict)
    unlike = difference(reference, predicted[0], TOLERANCE, part=True)
    return Outcome("fails", f"transformers and plcli: {unlike}") if unlike else Outcome("works")


def _to_predict(task: Task, run: Path) -> list[Row]:
    rows = [dict(row.items()) for row in task.to_predict or task.rows]
    if any("MASK" in row.get("text", "") for row in rows):
        import transformers

        mask = transformers.AutoTokenizer.from_pretrained(run / "model").mask_token
        rows = [{"text": row["text"].replace("MASK", mask)} for row in rows]
    return rows


def difference(first: Any, second: Any, tolerance: float, *, part: bool = False) -> str:
    """Return where two values differ, or an empty text.

    Args:
        first: plain values.
        second: likewise.
        tolerance: the difference that numbers may have, relative to those above 1.
        part: whether the second may have more keys.
    """
    if isinstance(first, dict) and isinstance(second, dict):
        if not part and first.keys() != second.keys():
            return f"keys {sorted(first)} and {sorted(second)}"
        pairs = [(key, first[key], second.get(key)) for key in first]
    elif isinstance(first, Sequence) and not isinstance(first, str) and isinstance(second, list):
        if len(first) != len(second):
            return f"{len(first)} and {len(second)} values"
        pairs = [(n, *pair) for n, pair in enumerate(zip(first, second, strict=True))]
    elif isinstance(first, float) and isinstance(second, (int, float)):
        allowed = tolerance * max(1.0, abs(first))
        alike = abs(first - second) <= allowed or (math.isnan(first) and math.isnan(second))
        return "" if alike else f"{first} and {second}"
    else:
        return "" if first == second else f"{first!r:.200} and {second!r:.200}"
    for key, *values in pairs:
        if found := difference(*values, tolerance, part=part):
            return f"{key}: {found}"
    return ""


def in_folder(name: str, task_name: str, folder: Path) -> Outcome:
    """Try a model type on a task in a folder that is removed afterwards."""
    try:
        return try_out(name, task_name, folder)
    except Exception:  # of plcli: an exit with 70, when it is not run in this process
        return Outcome("fails", traceback.format_exc()[-1500:])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
