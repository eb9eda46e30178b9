"""Encodes rows of several texts as one entry per text."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from plcli.data.encoders.text import TextEncoder


class SideBySide:
    """Encodes each text of a row as a separate entry.

    Args:
        inner: the encoder of the texts, which truncates them.
        texts: the number of texts per row.
    """

    def __init__(self, inner: TextEncoder, texts: int) -> None:
        self.inner, self.texts = inner, texts
        self.key = ["side by side", texts, inner.key]
        self.columns = {**inner.columns, "row": pa.int32()}

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> dict[str, Sequence[Any]]:
        """Encode rows with one column for each text."""
        texts = [text for row in zip(*cells, strict=True) for text in row]
        rows = np.repeat(np.arange(len(cells[0])), self.texts).tolist()
        return {**self.inner([texts], where), "row": rows}
