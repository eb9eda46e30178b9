"""plcli predict: selects the rows to predict and the destination of the predictions."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from plcli.callbacks.predictions import PredictionWriter
from plcli.cli.arguments import Arguments
from plcli.errors import UsageError
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
    writer = PredictionWriter(sink)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set while it runs
    callbacks.append(writer)
    try:
        trainer.predict(model, datamodule=datamodule, return_predictions=False)
    finally:
        callbacks.remove(writer)
    if isinstance(sink, Sink):
        logger.info("%d rows written to %s", writer.count, sink.path)
    return writer.count


def output_of(arguments: Arguments, run: Run | None, source: Any) -> Sink | Lines:
    """Return the destination of the predictions.

    Args:
        arguments: the command line. With --output it is that file, for texts standard output.
        run: the run, whose predictions/ folder is used otherwise.
        source: the source of the rows, which names the file in that folder.
    """
    output = arguments.options.get("output")
    if output is not None:
        return Sink(Path(output))
    if arguments.texts:
        return Lines(sys.stdout)
    named = Path(source if isinstance(source, str) else "").stem.replace("*", "all")
    folder = Path() if run is None else run.folder  # a checkpoint of plain Lightning has no run
    return Sink(next(_free(folder / "predictions", named or "predictions")))


def _free(folder: Path, stem: str) -> Iterator[Path]:
    names = (f"{stem}.csv", *(f"{stem}-{number}.csv" for number in range(2, 10_000)))
    yield from (folder / name for name in names if not (folder / name).exists())
