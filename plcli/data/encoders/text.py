"""Encodes texts or pairs of texts, truncated or cut into windows."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import pyarrow as pa

from plcli.data import templates
from plcli.data.encoders import places
from plcli.data.encoders.encoder import IDS
from plcli.errors import ModelError, UsageError


class TextEncoder:
    """Encodes texts or pairs of texts, truncated or cut into windows.

    Args:
        tokenizer: a tokenizer of transformers; the backend of a fast one is called directly.
        max_length: maximum number of tokens per entry.
        pairs: whether the rows are pairs of two columns.
        template: joins the columns to one text; see plcli.data.templates.
        stride: number of tokens that a window repeats of the window before it; None truncates the
            row instead.
        max_windows: maximum number of windows per row; the rest is cut.

    Raises:
        ModelError: if there is a stride, but the tokenizer is not a fast tokenizer.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        pairs: bool = False,
        template: str | None = None,
        stride: int | None = None,
        max_windows: int | None = None,
    ) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.stride, self.max_windows = stride, max_windows
        self.template = template
        self.key = [max_length, stride, max_windows, template]
        columns = {"input_ids": IDS, "truncated": pa.bool_()}
        if pairs:
            columns["token_type_ids"] = pa.list_(pa.uint8())
        if stride is not None:
            need_fast(tokenizer, "windows")
            columns["row"] = pa.int32()
        self.columns: Mapping[str, pa.DataType] = columns

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode one column of texts, two columns as pairs, or the columns of the template."""
        if self.template is not None:
            cells = [templates.render(self.template, cells)]
        texts = cells[0] if len(cells) == 1 else list(zip(*cells, strict=True))
        return self._fast(texts) if self.tokenizer.is_fast else self._slow(texts)

    def _fast(self, texts: Sequence[Any]) -> dict[str, Sequence[Any]]:
        set_truncation(self.tokenizer, self.max_length, stride=self.stride or 0)
        encodings = self.tokenizer.backend_tokenizer.encode_batch_fast(texts)
        values: dict[str, Sequence[Any]] = {}
        if self.stride is None:
            values["truncated"] = [bool(encoding.overflowing) for encoding in encodings]
        else:
            cut = [len(encoding.overflowing) >= (self.max_windows or inf) for encoding in encodings]
            values["row"], encodings = windows(encodings, most=self.max_windows)
            values["truncated"] = [cut[row] for row in values["row"]]
        values["input_ids"] = [encoding.ids for encoding in encodings]
        if "token_type_ids" in self.columns:
            values["token_type_ids"] = [encoding.type_ids for encoding in encodings]
        return values

    def places(self, cells: Sequence[Any]) -> places.Places:
        """Return where the tokens of a row are in its texts.

        Args:
            cells: the cell of each column.

        Raises:
            ModelError: if the tokenizer is not a fast tokenizer.
        """
        need_fast(self.tokenizer, "explanations")
        texts = [*cells]
        if self.template is not None:
            texts = templates.render(self.template, [[cell] for cell in cells])
        set_truncation(self.tokenizer, self.max_length, stride=self.stride or 0)
        source = texts[0] if len(texts) == 1 else tuple(texts)
        (encoding,) = self.tokenizer.backend_tokenizer.encode_batch([source])
        whole = [encoding]
        if self.stride is not None:
            _, whole = windows([encoding], most=self.max_windows)
        return places.of(texts, whole)

    def _slow(self, texts: Sequence[Any]) -> dict[str, Sequence[Any]]:
        pairs = "token_type_ids" in self.columns
        first, second = zip(*texts, strict=True) if pairs else (texts, None)
        settings = {"return_token_type_ids": True}
        both = (list(first), list(second) if second else None)
        whole = self.tokenizer(*both, **settings, verbose=False)
        cut = self.tokenizer(*both, truncation=True, max_length=self.max_length, **settings)
        truncated = [
            len(a) > len(b) for a, b in zip(whole["input_ids"], cut["input_ids"], strict=True)
        ]
        return {**cut, "truncated": truncated}


def need_fast(tokenizer: Any, purpose: str) -> None:
    """Check that a tokenizer is a fast tokenizer, which returns offsets and windows.

    Raises:
        ModelError: if it is not.
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"pretrained: {purpose} need a tokenizer with a tokenizer.json, but "
            f"{type(tokenizer).__name__} has none. Use another model, or save its tokenizer again."
        )


def set_truncation(
    tokenizer: Any, max_length: int, *, stride: int = 0, strategy: str = "longest_first"
) -> None:
    """Set a fast tokenizer to truncate to `max_length` tokens, without padding."""
    backend = tokenizer.backend_tokenizer
    backend.no_padding()
    backend.enable_truncation(
        max_length, stride=stride, strategy=strategy, direction=tokenizer.truncation_side
    )


def windows(encodings: Sequence[Any], *, most: int | None = None) -> tuple[list[int], list[Any]]:
    """Return the row and the encoding of every window, in order.

    Args:
        encodings: the encoding of each row, with its overflowing windows.
        most: maximum number of windows per row; None means all.
    """
    pairs = [
        (row, window)
        for row, encoding in enumerate(encodings)
        for window in (encoding, *encoding.overflowing)[:most]
    ]
    return [row for row, _ in pairs], [window for _, window in pairs]


def check_windows(
    stride: int | None, max_windows: int, inputs: Sequence[str], *, pairs: bool
) -> None:
    """Check the settings of windows.

    Args:
        stride: data.stride; None without windows.
        max_windows: data.max_windows.
        inputs: the text columns.
        pairs: whether the two columns are a pair.

    Raises:
        UsageError: if they cannot be.
    """
    if stride is not None and pairs:
        raise UsageError(
            "data.stride: windows need a single text, but data.text names two columns. "
            "Join them with a template, such as "
            f"'{{{inputs[0]}}} [SEP] {{{inputs[1]}}}', or remove the key."
        )
    if stride is not None and stride < 0:
        raise UsageError(f"data.stride: got {stride}, expected 0 or more.")
    if max_windows < 1:
        raise UsageError(f"data.max_windows: got {max_windows}, expected 1 or more.")
