"""What an encoder is: the cells of some rows -> columns of numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import pyarrow as pa

IDS = pa.list_(pa.int32())


class Encoder(Protocol):
    """Turns the cells of some rows into columns of numbers.

    Attributes:
        key: plain values that are equal for encoders that do the same.
        columns: the type of each column; input_ids is one of them, truncated (bool) may be. A
            column row (int32) holds each entry's row where a row may have several entries.
    """

    @property
    def key(self) -> Any: ...

    @property
    def columns(self) -> Mapping[str, pa.DataType]: ...

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode rows.

        Args:
            cells: the cells of each column, [columns][rows].
            where: a row's position -> "source, row 7", for messages.
        """
