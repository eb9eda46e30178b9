"""The files of a test for people: rows and their errors as csv, and analysis.json for programs."""

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from plcli.errors import ModelError
from plcli.runs import atomic_files, predictions

ANALYSIS, PREDICTIONS = "analysis{}.json", "test_predictions{}.csv"
ERRORS, SUSPECTED = "errors{}.csv", "suspected_labels{}.csv"


def write_csv(
    folder: Path, name: str, rows: Iterable[Mapping[str, Any]], *, escape_formulas: bool
) -> bool:
    """Write rows to a csv file, which replaces an earlier one; return whether there are any.

    Args:
        folder: the run folder.
        name: the name of the file.
        rows: the rows, with the same keys; lists and mappings are written as JSON.
        escape_formulas: whether cells that a spreadsheet would compute begin with a quote.
    """
    path = folder / name
    handle, temporary = atomic_files.new_file(folder)
    count = 0
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            writer: Any = None
            for row in rows:
                cells = predictions.csv_cells(row, escape_formulas=escape_formulas)
                if writer is None:
                    writer = csv.DictWriter(file, list(cells))
                    writer.writeheader()
                writer.writerow(cells)
                count += 1
        atomic_files.sync_file(temporary)
        if count:
            os.replace(temporary, path)
        else:
            path.unlink(missing_ok=True)  # of an earlier test
    finally:
        temporary.unlink(missing_ok=True)
    atomic_files.sync_folder(folder)
    return bool(count)


def named(rows: Iterable[Mapping[str, Any]], *, id_name: str) -> Iterator[dict[str, Any]]:
    """Yield rows of an analysis as a table has them: row, id, what is said, inputs, slices.

    An input column with the name of another one is called `input.NAME`, as beside predictions.

    Args:
        rows: rows with row, id, said, inputs and slices.
        id_name: the name of the ids.
    """
    for row in rows:
        found = {"row": row["row"], "id": row["id"], **row["said"]}
        if id_name != "id" and id_name not in found:
            found = {id_name if name == "id" else name: value for name, value in found.items()}
        for name, cell in {**row["inputs"], **row["slices"]}.items():
            if name == id_name:
                continue
            written = name
            while written in found:
                written = f"input.{written}"
            found[written] = cell
        yield found


def write_analysis(folder: Path, name: str, plain: Mapping[str, Any]) -> None:
    """Write an analysis as JSON, with a line for each of its parts.

    Args:
        folder: the run folder.
        name: the name of the file.
        plain: the analysis, plain values whose numbers are finite.
    """
    lines = [
        f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in plain.items()
    ]
    atomic_files.write_text(folder / name, "{\n" + ",\n".join(lines) + "\n}\n")


def read_analyses(folder: Path) -> Sequence[tuple[Path, dict[str, Any]]]:
    """Return the analyses of a run and their files; that of its own test split first.

    Raises:
        ModelError: if a file is damaged.
    """
    paths = [folder / ANALYSIS.format(""), *sorted(folder.glob(ANALYSIS.format("-*")))]
    found = []
    for path in (path for path in paths if path.is_file()):
        try:
            found.append((path, dict(json.loads(path.read_text(encoding="utf-8")))))
        except (ValueError, TypeError) as error:
            raise ModelError(
                f"{path}: is damaged ({error}). Write it again with `plcli test --run {folder}`."
            ) from None
    return found
