"""Counts the rows of other splits that are also in the training split.

Rows are compared by 64-bit hashes of their inputs. Only the hashes of validation and test are kept,
8 bytes per row; training rows are streamed.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from plcli.data.rows import Rows

MOST_ROWS = 1_000_000  # only the first rows of a split are compared, to bound memory


def hashes(
    rows: Rows, columns: Sequence[str], subset: npt.NDArray[np.int64] | None
) -> npt.NDArray[np.int64]:
    """Return the hashes of the first rows of a split, int64 [rows]."""
    parts: list[npt.NDArray[np.int64]] = []
    for part in _parts(rows, columns, subset):
        parts.append(part)
        if sum(map(len, parts)) >= MOST_ROWS:
            break
    return np.concatenate(parts)[:MOST_ROWS] if parts else np.zeros(0, np.int64)


def counted(
    rows: Rows,
    columns: Sequence[str],
    subset: npt.NDArray[np.int64] | None,
    others: Mapping[str, npt.NDArray[np.int64]],
) -> dict[str, int]:
    """Return the number of rows of each other split that are in the training split.

    Args:
        rows: the rows of the training source.
        columns: the input columns, by which rows are compared.
        subset: the row numbers of the training split within its rows; None means all.
        others: the hashes of the other splits.
    """
    distinct = {split: np.unique(values) for split, values in others.items() if len(values)}
    found = {split: np.zeros(len(values), bool) for split, values in distinct.items()}
    for part in _parts(rows, columns, subset) if distinct else ():
        for split, values in distinct.items():
            at = np.searchsorted(values, part).clip(max=len(values) - 1)
            found[split][at[values[at] == part]] = True
    return {
        split: int(np.isin(others[split], values[found[split]]).sum())
        for split, values in distinct.items()
    }


def _parts(
    rows: Rows, columns: Sequence[str], subset: npt.NDArray[np.int64] | None
) -> Iterator[npt.NDArray[np.int64]]:
    used = None if subset is None else np.isin(np.arange(len(rows)), subset)
    start = 0
    for cells in rows.parts(columns):
        plain = [map(tuple, column) if isinstance(column[0], list) else column for column in cells]
        each = plain[0] if len(plain) == 1 else zip(*plain, strict=True)
        part = np.fromiter(map(hash, each), np.int64)
        yield part if used is None else part[used[start : start + len(part)]]
        start += len(part)


def warnings(
    splits: Mapping[str, tuple[Rows, list[str], npt.NDArray[np.int64] | None]],
) -> list[str]:
    """Return a warning for validation and test each, if they share rows with training.

    Args:
        splits: the rows, the input columns and the row numbers (None for all) of train and others.
    """
    found = {name: hashes(*each) for name, each in splits.items() if name != "train"}
    return [
        f"{split}: {count} of {len(found[split])} rows are also in the training split "
        f"({count / len(found[split]):.1%}), so that its score is too optimistic; remove them "
        f"from data.{split} or data.train"
        for split, count in counted(*splits["train"], found).items()
        if count
    ]
