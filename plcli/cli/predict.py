"""plcli predict: selects the rows to predict and the destination of the predictions."""

import logging
import sys
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from plcli.callbacks.predictions import PredictionWriter
from plcli.cli import standard_input, streams
from plcli.cli.arguments import Arguments
from plcli.config.contracts import DataContract, data_contract
from plcli.errors import UsageError
from plcli.runs.folder import Run
from plcli.runs.predictions import Lines, Sink, free_file

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
    if (option := _further_option(arguments)) and (source == "-" or arguments.texts):
        raise UsageError(
            f"{option}: texts have no further columns. Give a file with --input FILE, or remove "
            f"{option}."
        )
    if source is not None and arguments.texts:
        raise UsageError(
            f"--input {source} and the text '{arguments.texts[0]}' are both given; "
            "give one of them."
        )
    if source == "-":
        escapes_formulas(arguments)
        standard_input.check_format(arguments.options.get("input-format"))
        arguments.texts = standard_input.lines()
    elif source is not None:
        if "predict" not in init_args:
            raise UsageError(f"--input {source}: {class_path} does not accept an input file.")
        init_args.predict = source
    elif not arguments.texts and init_args.get("predict") is None and "predict" in init_args:
        init_args.predict = init_args.get("test")
        if init_args.predict is None:
            raise UsageError("nothing to predict. Give --input FILE, --input - or a text.")
        logger.info("predicting the test split; use --input FILE to predict another file")


def give_texts(arguments: Arguments, data: DataContract, class_path: str) -> None:
    """Give the texts of the command line, or the rows of standard input, to a data module.

    Raises:
        UsageError: if it does not accept texts.
        DataError: if a row is not valid.
    """
    if arguments.texts and not data.offers("predict_values"):
        raise UsageError(f"{class_path} does not accept texts. Give --input FILE.")
    if not arguments.texts:
        return
    texts, source = arguments.texts, "the command line"
    if arguments.options.get("input") == "-":
        columns = list(data.columns("predict")) if data.offers("columns") else []
        wanted = arguments.options.get("input-format")
        texts, source = standard_input.rows(texts, columns, wanted), standard_input.SOURCE
    data.predict_values(texts, source=source)


def _further_option(arguments: Arguments) -> str | None:
    """Return the option that asks for further columns; None if there is none."""
    return "--keep" if arguments.keep else "--with-truth" if arguments.with_truth else None


def further_columns(arguments: Arguments, datamodule: LightningDataModule | None) -> Any:
    """Return the columns to write beside predictions; None if the command line asks for none.

    Raises:
        UsageError: if the data module does not have them.
        DataError: if a column does not exist.
    """
    option = _further_option(arguments)
    if option is None:
        return None
    data = data_contract(datamodule)
    if datamodule is None or not data.offers("further_columns"):
        name = "the model" if datamodule is None else type(datamodule).__name__
        raise UsageError(
            f"{option}: {name} does not define further_columns, which reads them. Remove {option}, "
            "or join the files by the id."
        )
    names = None if "all" in arguments.keep else list(dict.fromkeys(arguments.keep))
    return data.further_columns(names, truth=arguments.with_truth)


def predict(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule | None,
    *,
    sink: Sink | Lines,
    further: Any = None,
) -> None:
    """Predict, and write or print the rows in the order of the input."""
    id_name = data_contract(datamodule).id_name
    writer = PredictionWriter(sink, id_name=id_name, further=further)
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set while it runs
    callbacks.append(writer)
    trainer.predict(model, datamodule=datamodule, return_predictions=False)
    if isinstance(sink, Sink):
        logger.info("%d rows written to %s", writer.count, sink.path)


def output_of(arguments: Arguments, run: Run | None, source: Any) -> Sink | Lines:
    """Return the destination of the predictions.

    Args:
        arguments: the command line. With --output it is that file, for texts standard output.
        run: the run, whose predictions/ folder is used otherwise.
        source: the source of the rows, which names the file in that folder.
    """
    output, escape = arguments.options.get("output"), escapes_formulas(arguments)
    if output is not None:
        return Sink(Path(output), escape_formulas=escape)
    if arguments.texts:
        if streams.is_closed("stdout"):
            raise UsageError("standard output is closed. Name a file with --output.")
        return Lines(sys.stdout)
    given = source.partition("?")[0] if isinstance(source, str) else ""  # `?sig=` of an address
    named = Path(given).stem.replace("*", "all")
    folder = Path() if run is None else run.folder  # a checkpoint of plain Lightning has no run
    path = free_file(folder / "predictions", named or "predictions")
    return Sink(path, escape_formulas=escape)


def escapes_formulas(arguments: Arguments) -> bool:
    """Return the value of --escape-formulas.

    Raises:
        UsageError: if it is neither true nor false.
    """
    given = arguments.options.get("escape-formulas", "false")
    if given not in ("true", "false"):
        raise UsageError(f"--escape-formulas: got '{given}', expected true or false.")
    return given == "true"
