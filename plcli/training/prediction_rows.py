"""The rows of what a `predict_step` returns."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from plcli.errors import UsageError

Row = Mapping[str, Any]


def numbered(row: Row, index: int) -> Row:
    """Return a row with an id: its own, or its index in the input."""
    return row if "id" in row else {"id": index, **row}


def places_of(batch: Any, *, first: int, count: int) -> Sequence[int]:
    """Return the indices in the input of a batch's rows: those that it names, or the next ones.

    Args:
        batch: the batch, which may have them as `index`.
        first: the number of rows before it.
        count: the number of its rows.
    """
    if isinstance(batch, Mapping) and "index" in batch:
        named: Sequence[int] = batch["index"]
        return named
    return range(first, first + count)


def rows_of(outputs: Any, *, name: str) -> list[Row]:
    """Return what a predict_step returns for a batch as rows.

    A list of mappings has a row each, as has a list of texts or numbers, and a tensor along its
    first dimension. A mapping has columns by key, a tuple columns by position. A single text or
    number is one row.

    Args:
        outputs: what predict_step returns.
        name: the name of the method, for messages.

    Raises:
        UsageError: if it is None or of another type, or if columns differ in length.
    """
    if outputs is None:
        raise UsageError(f"{name}: returns None, so there is nothing to write. Return predictions.")
    outputs = _plain(outputs)
    if isinstance(outputs, Mapping):
        return _of_columns(outputs, name)
    if isinstance(outputs, tuple):
        columns = {f"prediction_{number}": column for number, column in enumerate(outputs)}
        return _of_columns(columns, name)
    if isinstance(outputs, list):
        return [row if isinstance(row, Mapping) else {"prediction": row} for row in outputs]
    if isinstance(outputs, (str, int, float, bool)):
        return [{"prediction": outputs}]
    raise UsageError(
        f"{name}: returns a {type(outputs).__name__}, which cannot be written. Return a tensor, a "
        "mapping or a tuple of columns, or a list of rows."
    )


def _of_columns(columns: Mapping[str, Any], name: str) -> list[Row]:
    """Return rows from columns; a text, a number or None is repeated."""
    lengths = {key: len(value) for key, value in columns.items() if isinstance(value, list)}
    if len(set(lengths.values())) > 1:
        described = ", ".join(f"{key} {length}" for key, length in lengths.items())
        raise UsageError(
            f"{name}: its columns have different lengths ({described}). Return one value per row."
        )
    number = next(iter(lengths.values()), 1)
    return [
        {key: value[row] if key in lengths else value for key, value in columns.items()}
        for row in range(number)
    ]


def _plain(value: Any) -> Any:
    """Return tensors and arrays, at any depth, as lists and numbers."""
    if hasattr(value, "tolist"):  # a tensor, or an array of NumPy
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu()
            value = value.float() if value.dtype == torch.bfloat16 else value
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return list(map(_plain, value)) if isinstance(value, list) else value
