"""Tokenises columns of rows once, into a memory-mapped Arrow file.

The file is keyed by the content of the rows and the key of the encoder, so that only changes lead
to another tokenisation. An encoder makes one entry per row, or several if a long text is cut into
windows. Entries are stored without padding; a batch is padded to its longest entry.
"""

import hashlib
import json
import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch

from plcli.data.arrow import array
from plcli.data.cache import ArrowFile, ArrowMemory, build_once, cache_folder
from plcli.data.encoders.encoder import Encoder
from plcli.data.encoders.text import TextEncoder
from plcli.data.progress import Progress
from plcli.data.rows import Rows
from plcli.data.sources import BATCH_ROWS
from plcli.pretrained.label_ids import IGNORED
from plcli.pretrained.tokenizers import tokenizer_key

logger = logging.getLogger(__name__)
VERSION = 3  # of the layout of cache files
WORTH_A_LINE = 20_000  # rows, which take about a second


class Encoded:
    """The memory-mapped entries of the source of a split.

    Args:
        file: the cache file, or a table in memory.
        tokenizer: a tokenizer of transformers.
        rows: the number of rows.

    Attributes:
        lengths: int32 [entries], number of tokens per entry.
        first: int64 [rows + 1], the first entry of each row; the entries of a row are consecutive.
        row_lengths: int32 [rows], number of tokens of all entries of a row.
        truncated: bool [rows], which rows were truncated to max_length.
        pads_left: whether batches are padded on the left. A network classifies the first token, or
            the last one that is not padding, and many number the tokens with their padding, so that
            batches are padded on the right whatever side the tokenizer uses for prompts. Only
            XLNet, whose [CLS] is at the end, classifies the last token of a batch.
    """

    def __init__(self, file: ArrowFile | ArrowMemory, *, tokenizer: Any, rows: int) -> None:
        self._file, self._num_read, table = file, 0, file.table
        self._ragged = {
            field.name: _Ragged(table.column(field.name))
            for field in table.schema
            if pa.types.is_list(field.type)
        }
        self._takes_type_ids = "token_type_ids" in tokenizer.model_input_names
        self._pad = tokenizer.pad_token_id
        self.lengths = self._ragged["input_ids"].lengths
        self.pads_left = tokenizer.padding_side == "left" and self._ends_with(
            tokenizer.cls_token_id
        )
        self._one_each = "row" not in table.column_names
        cut = (
            table.column("truncated").to_numpy()
            if "truncated" in table.column_names
            else np.zeros(len(self.lengths), bool)
        )
        if self._one_each:
            self.first = np.arange(rows + 1)
            self.row_lengths, self.truncated = self.lengths, cut
        else:
            self.first = np.searchsorted(self.column("row"), np.arange(rows + 1))
            self.row_lengths = np.add.reduceat(self.lengths, self.first[:-1]).astype(np.int32)
            self.truncated = np.logical_or.reduceat(cut, self.first[:-1])

    def __len__(self) -> int:
        return len(self.lengths)

    def _ends_with(self, token: int | None) -> bool:
        """Whether the first entry ends with a token."""
        return bool(self.lengths[:1].any() and self._ragged["input_ids"][0][-1] == token)

    def column(self, name: str) -> npt.NDArray[Any]:
        """Return a column of one number per entry, [entries]."""
        column: npt.NDArray[Any] = self._file.table.column(name).to_numpy()
        return column

    def numbers(self, name: str, entry: int) -> npt.NDArray[Any]:
        """Return the values of a list column for an entry."""
        self._count(1)
        return self._ragged[name][entry]

    def flat(self, name: str, rows: npt.NDArray[np.int64] | None) -> npt.NDArray[Any]:
        """Return the concatenated values of a list column for some entries, or for all."""
        column = self._file.table.column(name)
        selected = column if rows is None else column.take(pa.array(rows))
        values: npt.NDArray[Any] = pc.list_flatten(selected).to_numpy()
        return values

    def entries(
        self, rows: Sequence[int] | npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the entries of some rows, in order, and the row index of each within `rows`."""
        rows = np.asarray(rows, np.int64)
        if self._one_each:
            return rows, np.arange(len(rows))
        counts = self.first[rows + 1] - self.first[rows]
        row_index = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        return self.first[rows][row_index] + within, row_index

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Return entries as one padded batch.

        Args:
            indices: the entries.

        Returns:
            input_ids and attention_mask, int64 [entries, longest entry], and token_type_ids if
            the model has them as inputs.
        """
        self._count(len(indices))
        cells = self._ragged["input_ids"]
        width = int(cells.lengths[list(indices)].max())
        batch = {
            "input_ids": self._padded(cells, indices, width, self._pad),
            "attention_mask": self._mask(cells, indices, width),
        }
        if self._takes_type_ids:
            types = self._ragged.get("token_type_ids")
            batch["token_type_ids"] = (
                self._padded(types, indices, width, 0)
                if types
                else torch.zeros_like(batch["input_ids"])
            )
        return batch

    def _count(self, num_entries: int) -> None:
        self._num_read += num_entries
        if self._num_read >= BATCH_ROWS:
            self._num_read = 0
            self._file.release()

    def padded(
        self, name: str, indices: Sequence[int] | npt.NDArray[np.int64], *, fill: int = IGNORED
    ) -> torch.Tensor:
        """Return a list column for some entries, padded with `fill`, int64 [entries, longest]."""
        cells = self._ragged[name]
        return self._padded(cells, indices, int(cells.lengths[list(indices)].max()), fill)

    def _padded(
        self,
        cells: "_Ragged",
        indices: Sequence[int] | npt.NDArray[np.int64],
        width: int,
        fill: int,
    ) -> torch.Tensor:
        array = np.full((len(indices), width), fill, dtype=np.int64)
        for row, index in enumerate(indices):
            cell = cells[index]
            array[row, self._span(len(cell), width)] = cell
        return torch.from_numpy(array)

    def _mask(
        self, cells: "_Ragged", indices: Sequence[int] | npt.NDArray[np.int64], width: int
    ) -> torch.Tensor:
        array = np.zeros((len(indices), width), dtype=np.int64)
        for row, index in enumerate(indices):
            array[row, self._span(int(cells.lengths[index]), width)] = 1
        return torch.from_numpy(array)

    def _span(self, length: int, width: int) -> slice:
        return slice(width - length, width) if self.pads_left else slice(0, length)


class _Ragged:
    """A list column, read without a copy."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = [
            (chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in column.chunks
        ]
        parts = [np.diff(offsets) for offsets, _ in self._chunks]
        self._starts = np.cumsum([0, *map(len, parts)])[:-1].tolist()
        self.lengths = np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, np.int32)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        chunk = bisect_right(self._starts, index) - 1
        offsets, values = self._chunks[chunk]
        row = index - self._starts[chunk]
        cell: npt.NDArray[Any] = values[offsets[row] : offsets[row + 1]]
        return cell


def encode(
    rows: Rows,
    columns: Sequence[str],
    tokenizer: Any,
    *,
    max_length: int | None = None,
    encoder: Encoder | None = None,
    cache: Path | None = None,
    in_memory: bool = False,
) -> Encoded:
    """Tokenise columns, or open the cache file.

    Args:
        rows: the rows; their fingerprint is part of the cache key.
        columns: the columns of the encoder; by default one text column, or two for pairs.
        tokenizer: a tokenizer of transformers; the backend of a fast one is called directly.
        max_length: maximum number of tokens per row of the default encoder.
        encoder: by default a TextEncoder.
        cache: the cache folder; None is `cache_folder()`.
        in_memory: whether to write no cache file.
    """
    if encoder is None:
        assert max_length is not None
        encoder = TextEncoder(tokenizer, max_length=max_length, pairs=len(columns) == 2)
    if in_memory:
        table = pa.Table.from_batches(_encoded(rows, columns, encoder), schema=_schema(encoder))
        return Encoded(ArrowMemory(table), tokenizer=tokenizer, rows=len(rows))
    key = [VERSION, rows.fingerprint, list(columns), tokenizer_key(tokenizer), encoder.key]
    target = (
        (cache or cache_folder())
        / "tokens"
        / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]}.arrow"
    )
    path = build_once(target, lambda path: _write(path, rows, columns, encoder))
    return Encoded(ArrowFile(path), tokenizer=tokenizer, rows=len(rows))


def _write(path: Path, rows: Rows, columns: Sequence[str], encoder: Encoder) -> None:
    if len(rows) >= WORTH_A_LINE:
        logger.info("encoding %s: %d rows", rows.source, len(rows))
    schema = _schema(encoder)
    progress = Progress(logger, f"encoding {rows.source}", len(rows))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in _encoded(rows, columns, encoder):
            writer.write_batch(batch)
            progress.add(batch.num_rows)


def _schema(encoder: Encoder) -> pa.Schema:
    return pa.schema(list(encoder.columns.items()))


def _encoded(rows: Rows, columns: Sequence[str], encoder: Encoder) -> Iterator[pa.RecordBatch]:
    schema, start = _schema(encoder), 0
    for cells in rows.parts(columns):
        values: dict[str, Any] = dict(encoder(cells, _Places(rows.source, start)))
        if "row" in values:
            values["row"] = np.asarray(values["row"], np.int32) + start
        arrays = [array(values[field.name], field.type) for field in schema]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        start += len(cells[0])


class _Places:
    """Returns the location of a row, for messages."""

    def __init__(self, source: str, start: int) -> None:
        self.source, self.start = source, start

    def __call__(self, position: int) -> str:
        return f"{self.source}, row {self.start + position + 1}"
