"""The rows of several folds as those of one evaluation: each was predicted by one model."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from plcli.metrics.evaluated import EvaluatedRows, KeptRows

SAME = ("kind", "labels", "names", "types")  # of scorings; others depend on the training rows


def joined(parts: Sequence[KeptRows]) -> KeptRows | None:
    """Return the rows that the folds have held out, in their order.

    Args:
        parts: the held-out rows of each fold, as its model predicts them.

    Returns:
        The rows; None if their scores are not of rows of one source, or of the same classes.
    """
    forms = [
        {key: value for key, value in each.rows.scoring.plain().items() if key in SAME}
        for each in parts
    ]
    sources = {each.fingerprint for each in parts}
    if any(form != forms[0] for form in forms) or len(sources) > 1:
        return None
    readable = [each.rows.scoring.readable(each.rows.columns) for each in parts]
    names = [name for name in readable[0] if all(name in each for each in readable)]
    columns: dict[str, list[Any]] = {
        name: [value for each in readable for value in each[name]] for name in names
    }
    index = np.concatenate([each.rows.index for each in parts])
    order = np.argsort(index, kind="stable")
    scoring = parts[0].rows.scoring
    found = scoring.from_readable(
        {name: [cells[row] for row in order] for name, cells in columns.items()}
    )
    groups = [each.rows.groups for each in parts]
    grouped = (
        np.concatenate([each for each in groups if each is not None])
        if all(each is not None for each in groups)
        else None
    )
    ids = [row_id for each in parts for row_id in each.ids]
    rows = EvaluatedRows(
        index[order], found, scoring, groups=None if grouped is None else grouped[order]
    )
    return KeptRows(rows, [ids[row] for row in order], parts[0].fingerprint)
