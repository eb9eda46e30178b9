"""Keeps the test rows of an evaluation in the run folder, and what is said of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from plcli.cli import analysed
from plcli.config.contracts import data_contract, module_contract
from plcli.runs import test_rows

if TYPE_CHECKING:
    from plcli.metrics.analysis.whole import Analysis


def keep(
    folder: Path,
    model: Any,
    datamodule: Any,
    *,
    made: "Analysis | None",
    escape_formulas: bool,
    engine: str | None = None,
) -> list[str]:
    """Write the rows of the last test to a run folder, and return the names of further files.

    Args:
        folder: the run folder.
        model: the LightningModule that was tested.
        datamodule: its LightningDataModule; None if the model has its own data.
        made: the analysis of the rows; None without one.
        escape_formulas: whether csv cells that a spreadsheet would compute begin with a quote.
        engine: what ran the network; None for torch.
    """
    rows = module_contract(model).evaluated_rows.get("test")
    if rows is None or not callable(getattr(rows, "table", None)):
        return []
    data = data_contract(datamodule, model)
    fingerprint = data.fingerprints().get("test")
    table = rows.table(data.ids("test", rows.index), fingerprint=fingerprint)
    if engine is not None:
        known = table.schema.metadata or {}
        table = table.replace_schema_metadata({**known, "engine": engine})
    path = test_rows.write(folder, table, fingerprint=fingerprint)
    if made is None:
        return []
    return analysed.write(
        folder,
        made,
        suffix=path.stem.removeprefix(Path(test_rows.NAME).stem),
        id_name=data.id_name,
        escape_formulas=escape_formulas,
        engine=engine,
    )
