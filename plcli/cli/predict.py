"""plcli predict: selects the rows to predict and the destination of the predictions."""

import hashlib
import json
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from plcli import __version__
from plcli.callbacks.predictions import PredictionWriter
from plcli.cli.arguments import Arguments
from plcli.cli.plan import Plan
from plcli.data.samplers import ORDERED_ROWS
from plcli.data.split_data import SplitData
from plcli.errors import UsageError
from plcli.runs import atomic_files
from plcli.runs.folder import Run
from plcli.runs.predictions import Lines, Sink

logger = logging.getLogger(__name__)


def take_input(arguments: Arguments, init_args: Namespace, class_path: str) -> None:
    """Set the rows to predict: --input, or the test split if nothing else is given.

    Args:
        arguments: the command line; the lines of standard input become its texts.
        init_args: the arguments of the data class, changed in place.
        class_path: the path of the data class, for messages.

    Raises:
        UsageError: if there is no input, or both a file and texts are given.
    """
    source = arguments.options.get("input")
    if source is not None and arguments.texts:
        raise UsageError(
            f"--input {source} and the text '{arguments.texts[0]}' are both given; "
            "give one of them."
        )
    if source == "-":
        arguments.texts = [line.rstrip("\r\n") for line in sys.stdin]
        if not any(text.strip() for text in arguments.texts):
            raise UsageError("--input -: standard input is empty.")
    elif source is not None:
        if "predict" not in init_args:
            raise UsageError(f"--input {source}: {class_path} does not accept an input file.")
        init_args.predict = source
    elif not arguments.texts and init_args.get("predict") is None and "predict" in init_args:
        init_args.predict = init_args.get("test")
        if init_args.predict is None:
            raise UsageError("nothing to predict. Give --input FILE, --input - or a text.")
        logger.info("predicting the test split; use --input FILE to predict another file")


def predict(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule | None,
    *,
    sink: Sink | Lines,
) -> int:
    """Predict, write or print the rows in the order of the input, and return their number."""
    chunk = ORDERED_ROWS if isinstance(datamodule, SplitData) else None
    writer = PredictionWriter(sink, chunk=chunk)
    if sink.rows:
        assert isinstance(datamodule, SplitData)
        logger.info("continuing after %d rows that were written before", sink.rows)
        datamodule.first_predicted = sink.rows
        if sink.rows >= len(datamodule.split("predict")):  # killed before it was renamed
            sink.close()
            return sink.rows
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set while it runs
    callbacks.append(writer)
    try:
        trainer.predict(model, datamodule=datamodule, return_predictions=False)
    finally:
        callbacks.remove(writer)
    if isinstance(sink, Sink):
        logger.info("%d rows written to %s", writer.count, sink.path)
    return writer.count


def key_of(plan: Plan, config: Mapping[str, Any], data: Any) -> str | None:
    """Return what identifies the rows of a prediction, so that it can continue after a kill.

    Args:
        plan: the plan.
        config: the resolved config.
        data: the data module.

    Returns:
        A hash of the weights, the config and the rows; None if a prediction always starts over:
        with a data module of the user's own, texts, or a limit on the number of batches.
    """
    trainer = config.get("trainer") or {}
    limits = {trainer.get("limit_predict_batches"), trainer.get("fast_dev_run") or None}
    if not isinstance(data, SplitData) or plan.arguments.texts or limits - {None, 1.0}:
        return None
    weights: Any = plan.pretrained
    if plan.checkpoint is not None:
        weights = atomic_files.sha256(plan.checkpoint)
    elif plan.artefact is not None:
        weights = plan.artefact.card["sha256"]
    sections = {name: config.get(name) for name in ("model", "data", "seed_everything")}
    rows = data.rows("predict").fingerprint
    parts = [__version__, weights, sections, trainer.get("precision"), rows, data.sizes]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def output_of(
    arguments: Arguments, run: Run | None, source: Any, *, key: str | None
) -> Sink | Lines:
    """Return the destination of the predictions.

    Args:
        arguments: the command line. With --output it is that file, for texts standard output.
        run: the run, whose predictions/ folder is used otherwise.
        source: the source of the rows, which names the file in that folder.
        key: identifies the rows; see `key_of`.
    """
    output = arguments.options.get("output")
    if output is not None:
        return Sink(Path(output), key=key)
    if arguments.texts:
        return Lines(sys.stdout)
    named = Path(source if isinstance(source, str) else "").stem.replace("*", "all")
    folder = Path() if run is None else run.folder  # a checkpoint of plain Lightning has no run
    for path in _free(folder / "predictions", named or "predictions"):
        try:
            return Sink(path, key=key)
        except UsageError as error:  # an interrupted prediction of other rows
            refused = error
    raise refused


def _free(folder: Path, stem: str) -> Iterator[Path]:
    names = (f"{stem}.csv", *(f"{stem}-{number}.csv" for number in range(2, 10_000)))
    yield from (folder / name for name in names if not (folder / name).exists())
