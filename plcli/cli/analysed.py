"""The analysis of a test: what the data say of its rows, and the files in the run folder."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from plcli.cli.arguments import Arguments
from plcli.cli.predict import escapes_formulas
from plcli.config.contracts import data_contract, module_contract
from plcli.data.split_data import SplitData
from plcli.errors import UsageError
from plcli.metrics.evaluated import EvaluatedRows
from plcli.runs import metric_names

if TYPE_CHECKING:  # imported after a test alone, so that a training begins sooner
    from plcli.metrics.analysis.details import Described
    from plcli.metrics.analysis.whole import Analysis

logger = logging.getLogger(__name__)

LENGTH = "length"  # the slice that is no column
MOST_ERRORS = 1000  # rows of errors.csv and suspected_labels.csv


def wanted_slices(arguments: Arguments) -> list[str]:
    """Return the columns of --slice.

    Raises:
        UsageError: if it names none.
    """
    given = arguments.options.get("slice")
    if given is None:
        return []
    names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    if not names:
        raise UsageError("--slice: names no column. Name some, such as --slice source,length.")
    return names


def check(arguments: Arguments, datamodule: Any) -> None:
    """Check the options of an analysis before anything is trained or scored.

    Raises:
        UsageError: if an option has another value, or the data cannot be sliced.
        DataError: if the test rows lack a column.
    """
    escapes_formulas(arguments)
    names = wanted_slices(arguments)
    data = data_contract(datamodule)
    if names and not data.has("test"):
        raise UsageError("--slice: there are no test rows. Give data.test.")
    if names and not data.offers("cells_of"):
        name = "the model" if datamodule is None else type(datamodule).__name__
        raise UsageError(f"--slice: {name} does not define cells_of, which reads the columns.")
    if LENGTH in names and not data.offers("lengths_of"):
        raise UsageError(
            f"--slice length: {type(datamodule).__name__} has no texts. Name a column instead."
        )
    for name, cells in _cells(names, data).items():
        from plcli.metrics.analysis import slices

        if reason := slices.refusal(cells):
            raise UsageError(
                f"--slice {name}: the column {reason}. Name a column of which several rows have "
                "the same text, or one of numbers or of dates such as 2026-03-31."
            )


def _cells(names: Sequence[str], data: Any) -> dict[str, Sequence[Any]]:
    columns = [name for name in names if name != LENGTH]
    return dict(data.cells_of("test", columns, option="--slice")) if columns else {}


def analysis(
    model: Any, datamodule: Any, arguments: Arguments, scores: Mapping[str, Any]
) -> "Analysis | None":
    """Return the analysis of the test that has just ended; None if its rows are not known.

    Args:
        model: the LightningModule that was tested.
        datamodule: its LightningDataModule; None if the model has its own data.
        arguments: the command line.
        scores: the results of the test, with their intervals.
    """
    from plcli.metrics.analysis.whole import About, analysed

    own = module_contract(model)
    rows = own.evaluated_rows.get("test")
    if not isinstance(rows, EvaluatedRows):
        return None
    data = data_contract(datamodule, model)
    thresholds = own.artefact_facts().get("thresholds")
    main = None if own.monitor is None else own.monitor[0]
    about = About(
        own.task,
        source=_source(datamodule),
        fingerprint=data.fingerprints().get("test"),
        main=None if main is None else metric_names.without_stage(main, "validation"),
        group=data.group,
        intervals=scores.get("intervals") or {},
        thresholds=thresholds if isinstance(thresholds, Mapping) else {},
    )
    return analysed(rows, _described(rows, data, wanted_slices(arguments)), about)


def _source(datamodule: Any) -> str | None:
    source = datamodule.sources["test"] if isinstance(datamodule, SplitData) else None
    return source if source is None or isinstance(source, str) else ", ".join(source)


def _described(rows: EvaluatedRows, data: Any, names: Sequence[str]) -> "Described":
    """Return what the data say of the rows that were scored."""
    from plcli.metrics.analysis.details import Described, Lengths

    numbers = np.unique(rows.index)
    if not len(numbers):
        if names:
            logger.info("--slice: the scores of this task are not of rows, so there are no slices")
        return Described(numbers, [], lambda positions: [])
    found = data.lengths_of("test", numbers) or {}
    lengths = (
        Lengths(
            np.asarray(found["values"]),
            truncated=None if found.get("truncated") is None else np.asarray(found["truncated"]),
            limit=found.get("limit"),
        )
        if found
        else None
    )
    cells = _cells(names, data)
    return Described(
        numbers,
        ids=data.ids("test", numbers),
        inputs=lambda positions: data.inputs_of("test", numbers[positions]),
        slices={
            name: [cells[name][row] for row in numbers] if name in cells else [None] * len(numbers)
            for name in names
        },
        lengths=lengths,
    )


def write(
    folder: Path,
    made: "Analysis",
    *,
    suffix: str,
    id_name: str,
    escape_formulas: bool,
    engine: str | None = None,
) -> list[str]:
    """Write the files of an analysis to a run folder, and return their names.

    Args:
        folder: the run folder.
        made: the analysis.
        suffix: what the names of the files end with, for rows of another source.
        id_name: the name of the ids.
        escape_formulas: whether csv cells that a spreadsheet would compute begin with a quote.
        engine: what ran the network, which is noted; None for torch.
    """
    from plcli.metrics.analysis.whole import suspected
    from plcli.runs import test_files

    files: dict[str, str] = {}

    def table(key: str, form: str, rows: Any) -> None:
        name = form.format(suffix)
        if test_files.write_csv(folder, name, rows, escape_formulas=escape_formulas):
            files[key] = name

    details = made.details
    if details is not None:
        if made.plain["problem"] != "tokens":  # which predicts nothing of a row
            everything = made.told(np.arange(len(made.described.numbers)))
            named = test_files.named(everything, id_name=id_name)
            table("predictions", test_files.PREDICTIONS, named)
        worst = made.told(details.worst(MOST_ERRORS))
        table("errors", test_files.ERRORS, test_files.named(worst, id_name=id_name))
        table("suspected_labels", test_files.SUSPECTED, suspected(made, MOST_ERRORS))
    name = test_files.ANALYSIS.format(suffix)
    noted = {} if engine is None else {"engine": engine}
    test_files.write_analysis(folder, name, {**made.plain, **noted, "files": files})
    return [*files.values(), name]
