"""Rows that belong together: data.group."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from plcli.errors import UsageError


def numbered(cells: Any, *, key: str, name: str) -> npt.NDArray[np.int64]:
    """Return the group of each row, int64 [rows], numbered from 0 in the order of the rows.

    A row with an empty cell is a group of its own.

    Args:
        cells: the cells of the column, an Arrow array of texts or numbers.
        key: the config key that names the column, for messages.
        name: the column.

    Raises:
        UsageError: if the column holds lists.
    """
    if pa.types.is_nested(cells.type):
        raise UsageError(
            f"{key}: the column '{name}' holds lists, which cannot name a group. Name a column of "
            "texts or numbers."
        )
    codes = pc.dictionary_encode(cells, null_encoding="encode").combine_chunks()
    found = codes.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    empty = pc.fill_null(pc.equal(pc.cast(cells, pa.string()), ""), True)
    alone = np.flatnonzero(empty.to_numpy(zero_copy_only=False))
    found[alone] = len(codes.dictionary) + np.arange(len(alone))
    _, first, codes_of = np.unique(found, return_index=True, return_inverse=True)
    order = np.empty(len(first), np.int64)
    order[np.argsort(first, kind="stable")] = np.arange(len(first))
    numbers: npt.NDArray[np.int64] = order[codes_of.reshape(-1)]
    return numbers
