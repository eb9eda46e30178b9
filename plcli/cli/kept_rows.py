"""Keeps the test rows of an evaluation in the run folder, for `plcli compare`."""

from pathlib import Path
from typing import Any

from plcli.config.contracts import data_contract, module_contract
from plcli.runs import test_rows


def keep(folder: Path, model: Any, datamodule: Any) -> Path | None:
    """Write the rows of the last test to a run folder, and return the file; None without any.

    Args:
        folder: the run folder.
        model: the LightningModule that was tested.
        datamodule: its LightningDataModule; None if the model has its own data.
    """
    rows = module_contract(model).evaluated_rows.get("test")
    if rows is None or not callable(getattr(rows, "table", None)):
        return None
    data = data_contract(datamodule, model)
    fingerprint = data.fingerprints().get("test")
    return test_rows.write(
        folder,
        rows.table(data.ids("test", rows.index), fingerprint=fingerprint),
        fingerprint=fingerprint,
    )
