"""Columns of label names: the names, their ids, and the strata of a validation cut."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plcli.data.cells import normalized
from plcli.errors import DataError, UsageError, did_you_mean, listed
from plcli.pretrained.label_ids import IGNORED

SHOWN = 10  # names in a log line
MANY_ROWS = 8  # fewer rows are too few to tell a label from an id
MOST_DIFFERENT = 0.9  # of the values of a label column


def given(labels: Sequence[str] | None) -> list[str] | None:
    """Return data.labels in Unicode's form NFC, as the labels of rows are.

    Raises:
        UsageError: if a name is a duplicate.
    """
    labels = None if labels is None else [normalized(name, "data.labels") for name in labels]
    if duplicates := [name for name, count in Counter(labels or ()).items() if count > 1]:
        raise UsageError(f"data.labels: names {listed(duplicates)} more than once. Name each once.")
    return labels


def counted(names: Sequence[str], counts: npt.NDArray[Any]) -> str:
    """Return the numbers of rows with each label for a log line: of ten labels, and how many more.

    Args:
        names: the label names.
        counts: the number of rows of each, [names].
    """
    shown = [f"{name} {int(count)}" for name, count in zip(names[:SHOWN], counts, strict=False)]
    more = [f"... ({len(names) - SHOWN:,} more labels)"] if len(names) > SHOWN else []
    return ", ".join(shown + more)


def of_rows(cells: Any) -> list[list[str]]:
    """Return the label names of each row, of a column of names or of lists of names."""
    names: list[Any] = cells.to_pylist()
    if several(cells):
        return [row or [] for row in names]
    return [[] if name is None else [name] for name in names]


def labelled(cells: Any, *, ignored: str) -> npt.NDArray[np.int64]:
    """Return the numbers of the rows with another label than the one that marks rows without."""
    marked = pc.fill_null(pc.equal(cells, ignored), False)
    return np.flatnonzero(~marked.to_numpy(zero_copy_only=False)).astype(np.int64)


def check_flags(flags: list[str], labels: list[str] | None, *, regression: bool) -> None:
    """Check the columns of data.label, if there are several, and data.labels beside them.

    Raises:
        UsageError: if they cannot be the labels of a multi_label problem.
    """
    if regression or len(set(flags)) < 2 or len(set(flags)) < len(flags):
        raise UsageError(
            f"data.label: got {flags}; several columns are labels of a multi_label problem. "
            "Give two or more different columns of 0 and 1, or one column."
        )
    if labels not in (None, flags):
        raise UsageError(
            f"data.labels: got {listed(labels or [])}, but data.label names the labels: "
            f"{listed(flags)}. Remove data.labels."
        )


def check_columns(columns: Sequence[str], inputs: Sequence[str]) -> None:
    """Check that no label column is one of the inputs.

    Raises:
        UsageError: if one is.
    """
    for column in columns:
        if column in inputs:
            raise UsageError(
                f"data.label: the column '{column}' is also in data.text, so that the answer "
                "would be in the text. Name another column."
            )


def several(cells: Any) -> bool:
    """Whether the cells of an Arrow array are lists of names instead of single names."""
    return bool(pa.types.is_list(cells.type) or pa.types.is_large_list(cells.type))


def found(cells: Any, *, source: str, column: str) -> list[str]:
    """Return the names of an Arrow array of names or of lists of names, sorted.

    Raises:
        DataError: if there are fewer than two.
    """
    single = cells.flatten() if several(cells) else cells
    names = in_order(single.drop_null().unique().to_pylist())
    if len(names) < 2:
        raise DataError(
            f"{source}: column '{column}' contains {len(names)} label ({listed(names)}); two or "
            "more are needed. Name another column with data.label, or add rows."
        )
    return names


def check_repeated(cells: Any, ignored: str | None, *, source: str, column: str) -> None:
    """Refuse a column of single labels of which nearly every value is its own, such as ids.

    Args:
        cells: the labels of all rows of the source, also of those that are split off.
        ignored: the label that marks rows without a label; None without one.
        source: the source of the rows, for messages.
        column: the column, for messages.

    Raises:
        DataError: if more than MOST_DIFFERENT of the values differ, in MANY_ROWS or more.
    """
    cells = cells.drop_null()
    if ignored is not None:
        cells = cells.filter(pc.not_equal(cells, ignored))
    names = in_order(cells.unique().to_pylist())
    if len(names) <= MOST_DIFFERENT * len(cells) or len(cells) < MANY_ROWS:
        return
    numbers = all(name.lstrip("-").isdigit() for name in names)
    other = "; for numbers to predict, set data.problem: regression" if numbers else ""
    raise DataError(
        f"{source}: column '{column}' has {len(names)} different values in {len(cells)} rows, "
        f"such as {listed(names[:3])}, so that it is no label: nothing can be learned from labels "
        f"that do not repeat. Name another column with data.label{other}."
    )


def in_order(names: Sequence[str]) -> list[str]:
    """Return names sorted: as whole numbers if all are, otherwise as text."""
    try:
        return sorted(names, key=lambda name: (int(name), name))
    except ValueError:
        return sorted(names)


def check_missing(names: Sequence[str], *, source: str, column: str) -> None:
    """Refuse names that usually mark rows without a label, as in SNLI and its kin.

    These are `-`, and `-1` beside two or more other whole numbers.

    Raises:
        DataError: if there is one.
    """
    others = [name for name in names if name != "-1"]
    numbers = len(others) > 1 and all(name.isdigit() for name in others)
    for mark in ["-"] + (["-1"] if numbers else []):
        if mark in names:
            raise DataError(
                f"{source}: column '{column}' contains the label '{mark}', which often marks rows "
                f"without a label. Leave them out with data.ignore_label: '{mark}', or keep it as "
                f"a label with data.labels: [{listed(names)}]."
            )


def ids(
    cells: Any, names: Sequence[str], *, source: str, row_of: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Return the label id of each name of an Arrow array, int64 [cells]; -100 without a name.

    Args:
        cells: the array.
        names: the label names; the index of a name is its label id.
        source: the source of the rows, for messages.
        row_of: [cells], the row of each cell; by default each cell is a row.

    Raises:
        DataError: if a name is not one of the label names.
    """
    encoded = cells.dictionary_encode()
    known = {name: index for index, name in enumerate(names)}
    table = np.array([known.get(name, -1) for name in encoded.dictionary.to_pylist()], np.int64)
    missing = encoded.indices.is_null().to_numpy(zero_copy_only=False)
    places: npt.NDArray[np.int64] = np.full(len(missing), IGNORED)
    places[~missing] = table[encoded.indices.drop_null().to_numpy()]
    if (unknown := (places < 0) & ~missing).any():
        first = int(np.argmax(unknown))
        name = cells[first].as_py()
        row = first if row_of is None else row_of[first]
        raise DataError(
            f"{source}, row {row + 1}: label '{name}' is not one of "
            f"{listed(known)}.{did_you_mean(name, known) or ' Correct it, or remove the row.'}"
        )
    return places


def indicator_width(cells: Any) -> int | None:
    """Return the number of labels of an Arrow array of lists of 0 and 1, such as [0, 0, 1].

    None if the lists are names: if they differ in length, or have other cells than 0 and 1. Lists
    of names never name a label twice.
    """
    lengths = set(cells.value_lengths().unique().to_pylist())
    if len(lengths) != 1 or (width := lengths.pop()) < 2:
        return None
    values = set(cells.flatten().unique().to_pylist())
    return width if values <= {"0", "1"} and _repeats(cells) else None


def _repeats(cells: Any) -> bool:
    """Whether a list of an Arrow array has an item twice."""
    return any(len(set(row)) < len(row) for row in cells.to_pylist())


def named(cells: Any, names: Sequence[str] | None, *, source: str, column: str) -> Any:
    """Return an Arrow array of lists of names, with names in place of indicators.

    Args:
        cells: lists of names, or indicators such as [0, 0, 1].
        names: the label names, if they are known.
        source: the source of the rows, for messages.
        column: the column, for messages.

    Raises:
        DataError: if the cells are indicators, and there is not one name for each.
    """
    width = indicator_width(cells.drop_null())
    if width is None:
        return cells
    if names is None or len(names) != width:
        got = "no data.labels" if names is None else f"{len(names)} data.labels"
        raise DataError(
            f"{source}: column '{column}' contains indicators of {width} labels, such as "
            f"{cells[0].as_py()}, but {got}. Give their names in this order: data.labels: [...]."
        )
    rows = [
        None
        if row is None
        else [name for name, flag in zip(names, row, strict=True) if flag == "1"]
        for row in cells.to_pylist()
    ]
    return pa.array(rows, pa.list_(pa.string()))


def of_flags(columns: Sequence[str], flags: Sequence[Any], *, source: str) -> Any:
    """Return lists of names, an Arrow array, from one array of flags for each name.

    A row without any flag has no list.

    Raises:
        DataError: if a row has only some of the flags.
    """
    found: list[list[str] | None] = []
    for number, row in enumerate(zip(*(each.to_pylist() for each in flags), strict=True), start=1):
        empty = [name for name, flag in zip(columns, row, strict=True) if flag is None]
        if empty and len(empty) < len(columns):
            raise DataError(
                f"{source}, row {number}: column '{empty[0]}' is empty, but other label columns "
                "are not. Fill in all of them, or none for a row without labels."
            )
        names = [name for name, flag in zip(columns, row, strict=True) if flag]
        found.append(None if empty else names)
    return pa.array(found, pa.list_(pa.string()))


def indicators(cells: Any, names: Sequence[str], *, source: str) -> npt.NDArray[np.float32]:
    """Return the multi-hot labels of an Arrow array of lists, float32 [rows, labels].

    Those of a row without a list are NaN.

    Raises:
        DataError: if a name is not one of the label names.
    """
    row_of = _row_of(cells)
    table = np.zeros((len(cells), len(names)), np.float32)
    table[cells.is_null().to_numpy(zero_copy_only=False)] = np.nan
    table[row_of, ids(cells.flatten(), names, source=source, row_of=row_of)] = 1
    return table


def _row_of(cells: Any) -> npt.NDArray[np.int64]:
    """Return the row of each item of an Arrow array of lists, int64 [items]."""
    return np.repeat(np.arange(len(cells)), cells.value_lengths().fill_null(0).to_numpy())


def strata(cells: Any) -> npt.NDArray[Any]:
    """Return the stratum of each row, int [rows].

    This is its label, the rarest of several labels, or one of its own if it has no label; -1 if
    its labels are not known.
    """
    if not several(cells):
        codes: npt.NDArray[Any] = cells.dictionary_encode().indices.fill_null(-1).to_numpy()
        return codes
    names = cells.flatten().dictionary_encode().indices.to_numpy()
    rarest = np.argsort(np.argsort(np.bincount(names), kind="stable"), kind="stable")
    rows = np.full(len(cells), len(rarest))
    np.minimum.at(rows, _row_of(cells), rarest[names])
    rows[cells.is_null().to_numpy(zero_copy_only=False)] = -1
    return rows
