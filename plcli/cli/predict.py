"""plcli predict: selects the rows to predict and the destination of the predictions."""

import hashlib
import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from plcli import __version__
from plcli.callbacks.explanations import Explanations
from plcli.callbacks.predictions import PredictionWriter
from plcli.cli import parts, standard_input, streams
from plcli.cli.arguments import Arguments
from plcli.cli.explaining import Explainer
from plcli.cli.plan import Plan
from plcli.config.contracts import DataContract, data_contract
from plcli.data.samplers import ALL, ORDERED_ROWS
from plcli.data.split_data import SplitData
from plcli.errors import UsageError
from plcli.runs import atomic_files
from plcli.runs.folder import Run
from plcli.runs.predictions import Lines, Sink, free_files, is_of_another

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


def additions(
    arguments: Arguments, model: LightningModule, datamodule: LightningDataModule | None
) -> dict[str, Any]:
    """Return what is to be written beside predictions, as arguments of `predict`.

    Raises:
        UsageError: if the model or the data module does not have it.
        DataError: if a column does not exist.
    """
    return {
        "further": further_columns(arguments, datamodule),
        "explainer": Explainer(model, datamodule) if arguments.explain else None,
        "rows": _rows(arguments, datamodule),
    }


def _rows(arguments: Arguments, data: LightningDataModule | None) -> slice:
    """Return the range of the rows to predict.

    Raises:
        UsageError: if --part is not possible.
    """
    part = parts.asked(arguments)
    if part is None:
        return ALL
    if arguments.texts or not isinstance(data, SplitData):
        what = "texts are" if arguments.texts else "a data module of your own is"
        raise UsageError(f"--part {part}: {what} predicted as a whole. Remove --part.")
    return part.rows(len(data.split("predict")), together=ORDERED_ROWS)


def predict(
    trainer: Trainer,
    model: LightningModule,
    datamodule: LightningDataModule | None,
    *,
    sink: Sink | Lines,
    further: Any = None,
    explainer: Explainer | None = None,
    rows: slice = ALL,
) -> int:
    """Predict, write or print the rows in the order of the input, and return their number."""
    explaining = [] if explainer is None else [Explanations(explainer.words)]
    id_name = data_contract(datamodule).id_name
    chunk = ORDERED_ROWS if isinstance(datamodule, SplitData) else None
    first = rows.start or 0
    writer = PredictionWriter(sink, first=first, chunk=chunk, id_name=id_name, further=further)
    if isinstance(datamodule, SplitData):
        datamodule.predicted = slice(first + sink.rows, rows.stop)
    if sink.rows:
        assert isinstance(datamodule, SplitData)
        logger.info("continuing after %d rows that were written before", sink.rows)
        count = len(range(len(datamodule.split("predict")))[rows])
        if sink.rows >= count:  # killed before it was renamed
            sink.close()
            return sink.rows
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # set while it runs
    added = [*explaining, writer]
    callbacks.extend(added)
    try:
        trainer.predict(model, datamodule=datamodule, return_predictions=False)
    finally:
        for callback in added:
            callbacks.remove(callback)
    if isinstance(sink, Sink) and not sink.joined:
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
    own = plan.arguments
    written = [own.keep, own.with_truth, escapes_formulas(own), *(["explain"] * own.explain)]
    written += [*plan.ensemble, *plan.engine]
    written += filter(None, [own.options.get("part")])
    precision = trainer.get("precision")
    hashed = [__version__, weights, sections, precision, rows, data.sizes, written]
    return hashlib.sha256(json.dumps(hashed, sort_keys=True, default=str).encode()).hexdigest()


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
    output, escape = arguments.options.get("output"), escapes_formulas(arguments)
    if output is not None:
        joined = parts.is_joined()
        if joined and key is None:
            raise UsageError("--processes: a limit on the number of batches needs one process.")
        return Sink(Path(output), key=key, escape_formulas=escape, joined=joined)
    if arguments.texts:
        if streams.is_closed("stdout"):
            raise UsageError("standard output is closed. Name a file with --output.")
        return Lines(sys.stdout)
    given = source.partition("?")[0] if isinstance(source, str) else ""  # `?sig=` of an address
    named = Path(given).stem.replace("*", "all") or "predictions"
    if (part := parts.asked(arguments)) is not None:
        named = parts.name(named, part)
    folder = Path() if run is None else run.folder  # a checkpoint of plain Lightning has no run
    for path in free_files(folder / "predictions", named):
        if not is_of_another(path, key):
            break
    return Sink(path, key=key, escape_formulas=escape)


def escapes_formulas(arguments: Arguments) -> bool:
    """Return the value of --escape-formulas.

    Raises:
        UsageError: if it is neither true nor false.
    """
    given = arguments.options.get("escape-formulas", "false")
    if given not in ("true", "false"):
        raise UsageError(f"--escape-formulas: got '{given}', expected true or false.")
    return given == "true"
