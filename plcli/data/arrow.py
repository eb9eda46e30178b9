"""Converts Python values to Arrow arrays.

`pyarrow.array` is not used, because its first call imports pandas, which takes more than half a
second.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

# other types have the names of NumPy; `to_pandas_dtype` imports pandas
_FLOATS = {pa.float16(): "float16", pa.float32(): "float32", pa.float64(): "float64"}


def array(cells: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return an array of strings, numbers, booleans or lists of these, without missing cells.

    Raises:
        UnicodeEncodeError: if a string contains half of a surrogate pair.
    """
    if pa.types.is_list(kind):
        offsets = _offsets(cells)
        values = array(list(itertools.chain.from_iterable(cells)), kind.value_type)
        return pa.ListArray.from_arrays(_fixed(offsets, pa.int32()), values)
    if pa.types.is_string(kind):
        encoded = [cell.encode() for cell in cells]
        buffers = [None, pa.py_buffer(_offsets(encoded)), pa.py_buffer(b"".join(encoded))]
        return pa.Array.from_buffers(kind, len(cells), buffers)
    if pa.types.is_boolean(kind):
        bits = np.packbits(np.asarray(cells, bool), bitorder="little")
        return pa.Array.from_buffers(kind, len(cells), [None, pa.py_buffer(bits)])
    return _fixed(np.fromiter(cells, _FLOATS.get(kind, str(kind)), len(cells)), kind)


def nullable(cells: Sequence[Any], kind: pa.DataType) -> pa.Array:
    """Return an array like `array`, in which None is a missing cell."""
    if None not in cells:
        return array(cells, kind)
    missing = np.array([cell is None for cell in cells])
    empty = "" if pa.types.is_list(kind) or pa.types.is_string(kind) else 0
    made = array([empty if cell is None else cell for cell in cells], kind)
    bitmap = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    children = [made.values] if pa.types.is_list(kind) else []
    own = made.buffers()[1 : kind.num_buffers]
    return pa.Array.from_buffers(kind, len(cells), [bitmap, *own], children=children)


def _offsets(cells: Sequence[Any]) -> npt.NDArray[np.int32]:
    offsets = np.zeros(len(cells) + 1, np.int32)
    np.cumsum([len(cell) for cell in cells], out=offsets[1:])
    return offsets


def _fixed(values: npt.NDArray[Any], kind: pa.DataType) -> pa.Array:
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
