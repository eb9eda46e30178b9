"""The protocol of encoders."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

IDS = pa.list_(pa.int32())


class Encoder(Protocol):
    """Turns the cells of some rows into columns of numbers.

    Attributes:
        key: plain values that identify the output of the encoder; part of the cache key.
        columns: the type of each column. input_ids is required, truncated (bool) is optional. If a
            row may have several entries, the column `row` (int32) says which row an entry is from.
    """

    @property
    def key(self) -> Any:
        """Plain values that identify the output."""

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """The type of each column."""

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode rows.

        Args:
            cells: the cells of each column, [columns][rows].
            where: returns the location of a row by its position, such as "source, row 7", for
                messages.
        """
