"""Rows of several texts -> an entry of every text."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from plcli.data.encoders.text import TextEncoder


class SideBySide:
    """Encodes the texts of a row as entries of its own, each cut to a length."""

    def __init__(self, inner: TextEncoder, texts: int) -> None:
        self.inner, self.texts = inner, texts
        self.key = ["side by side", texts, inner.key]
        self.columns = {**inner.columns, "row": pa.int32()}

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> dict[str, Sequence[Any]]:
        """Encode rows of as many columns as a row has texts."""
        texts = [text for row in zip(*cells, strict=True) for text in row]
        rows = np.repeat(np.arange(len(cells[0])), self.texts).tolist()
        return {**self.inner([texts], where), "row": rows}
