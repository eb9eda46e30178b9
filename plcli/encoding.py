"""Text columns -> token ids, once, in a memory-mapped Arrow file.

The ids go there straight from the fast tokenizer's batch call. The file is keyed by the content of
the rows, the tokenizer and the settings, so that a second start does not tokenise and a changed row
does. Rows are stored without padding; a batch is padded to its own longest row when it is taken
out.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from plcli.arrow import array
from plcli.cache import ArrowFile, build_once, cache_folder
from plcli.pretrained import tokenizer_key
from plcli.rows import Rows
from plcli.sources import BATCH_ROWS

logger = logging.getLogger(__name__)

VERSION = 1  # of the cache files' layout
WORTH_A_LINE = 20_000  # rows: about a second's work


class Encoded:
    """The token ids of a split, memory-mapped.

    Attributes:
        lengths: int32 [rows], tokens a row.
        truncated: bool [rows], which were cut to max_length.
    """

    def __init__(self, file: ArrowFile, *, tokenizer: Any) -> None:
        self._file, self._taken, table = file, 0, file.table
        self._ids = _Ragged(table.column("input_ids"))
        self._type_ids = (
            _Ragged(table.column("token_type_ids"))
            if "token_type_ids" in table.column_names
            else None
        )
        self._takes_type_ids = "token_type_ids" in tokenizer.model_input_names
        self._pad = tokenizer.pad_token_id
        self._left = tokenizer.padding_side == "left"
        self.lengths = self._ids.lengths
        self.truncated = table.column("truncated").to_numpy()

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> dict[str, torch.Tensor]:
        """Take rows out as one padded batch.

        Returns:
            input_ids and attention_mask, int64 [rows, longest row], and token_type_ids where the
            model takes them.
        """
        self._taken += len(indices)
        if self._taken >= BATCH_ROWS:
            self._taken = 0
            self._file.release()
        width = int(self.lengths[list(indices)].max())
        batch = {
            "input_ids": self._padded(self._ids, indices, width, self._pad),
            "attention_mask": self._mask(indices, width),
        }
        if self._takes_type_ids:
            batch["token_type_ids"] = (
                self._padded(self._type_ids, indices, width, 0)
                if self._type_ids
                else torch.zeros_like(batch["input_ids"])
            )
        return batch

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

    def _mask(self, indices: Sequence[int] | npt.NDArray[np.int64], width: int) -> torch.Tensor:
        array = np.zeros((len(indices), width), dtype=np.int64)
        for row, index in enumerate(indices):
            array[row, self._span(int(self.lengths[index]), width)] = 1
        return torch.from_numpy(array)

    def _span(self, length: int, width: int) -> slice:
        return slice(width - length, width) if self._left else slice(0, length)


class _Ragged:
    """A list column, read without copying.

    Its chunks all hold BATCH_ROWS rows (the last one fewer).
    """

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._chunks = [
            (chunk.offsets.to_numpy(), chunk.values.to_numpy()) for chunk in column.chunks
        ]
        parts = [np.diff(offsets) for offsets, _ in self._chunks]
        self.lengths = np.concatenate(parts).astype(np.int32) if parts else np.zeros(0, np.int32)

    def __getitem__(self, index: int) -> npt.NDArray[Any]:
        chunk, row = divmod(index, BATCH_ROWS)
        offsets, values = self._chunks[chunk]
        cell: npt.NDArray[Any] = values[offsets[row] : offsets[row + 1]]
        return cell


def encode(
    rows: Rows,
    columns: Sequence[str],
    tokenizer: Any,
    *,
    max_length: int,
    cache: Path | None = None,
) -> Encoded:
    """Tokenise one text column, or two as a pair.

    Args:
        rows: the rows; their fingerprint keys the cache.
        columns: one text column or two.
        tokenizer: of transformers; a fast one is called past its Python wrapper.
        max_length: tokens a row at most; longer rows are cut and counted.
        cache: the cache folder; None takes `cache_folder()`.
    """
    key = json.dumps(
        [VERSION, rows.fingerprint, list(columns), tokenizer_key(tokenizer), max_length]
    )
    target = (
        (cache or cache_folder())
        / "tokens"
        / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.arrow"
    )
    build_once(target, lambda path: _write(path, rows, columns, tokenizer, max_length))
    return Encoded(ArrowFile(target), tokenizer=tokenizer)


def _write(path: Path, rows: Rows, columns: Sequence[str], tokenizer: Any, max_length: int) -> None:
    fields = [("input_ids", pa.list_(pa.int32())), ("truncated", pa.bool_())]
    if len(columns) == 2:
        fields.append(("token_type_ids", pa.list_(pa.uint8())))
    schema = pa.schema(fields)
    encode_batch = (
        _fast(tokenizer, max_length) if tokenizer.is_fast else _slow(tokenizer, max_length)
    )
    if len(rows) >= WORTH_A_LINE:
        logger.info("encoding %s: %d rows", rows.source, len(rows))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for cells in rows.parts(columns):
            ids, type_ids, truncated = encode_batch(
                cells[0] if len(cells) == 1 else list(zip(*cells, strict=True))
            )
            values = [ids, truncated, type_ids][: len(schema)]
            arrays = [array(each, field.type) for each, field in zip(values, schema, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _fast(tokenizer: Any, max_length: int) -> Any:
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(
        max_length, strategy="longest_first", direction=tokenizer.truncation_side
    )

    def encode_batch(texts: Sequence[Any]) -> tuple[list[list[int]], list[list[int]], list[bool]]:
        encodings = backend.encode_batch_fast(texts)
        pairs = isinstance(texts[0], tuple)
        return (
            [encoding.ids for encoding in encodings],
            [encoding.type_ids for encoding in encodings] if pairs else [],
            [bool(encoding.overflowing) for encoding in encodings],
        )

    return encode_batch


def _slow(tokenizer: Any, max_length: int) -> Any:
    def encode_batch(texts: Sequence[Any]) -> tuple[list[list[int]], list[list[int]], list[bool]]:
        pairs = isinstance(texts[0], tuple)
        first, second = zip(*texts, strict=True) if pairs else (texts, None)
        whole = tokenizer(
            list(first), list(second) if second else None, return_token_type_ids=True, verbose=False
        )
        cut = tokenizer(
            list(first),
            list(second) if second else None,
            truncation=True,
            max_length=max_length,
            return_token_type_ids=True,
        )
        truncated = [
            len(a) > len(b) for a, b in zip(whole["input_ids"], cut["input_ids"], strict=True)
        ]
        return cut["input_ids"], cut["token_type_ids"], truncated

    return encode_batch
