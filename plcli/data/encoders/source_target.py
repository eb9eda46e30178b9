"""Encodes sources and targets for encoder-decoder models."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from plcli.data import templates
from plcli.data.encoders.encoder import IDS
from plcli.data.encoders.text import TextEncoder


class SourceTargetEncoder:
    """Encodes sources, and targets if their length is given.

    Args:
        tokenizer: a tokenizer of transformers; a second vocabulary is used for targets.
        max_length: maximum number of tokens per source.
        target_max_length: maximum number of tokens per target; None without targets.
        prefix: text before every source.
        template: joins several columns to a source; None for a single column.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        target_max_length: int | None,
        prefix: str,
        template: str | None,
    ) -> None:
        self.tokenizer, self.target_max_length = tokenizer, target_max_length
        self.prefix, self.template = prefix, template
        self._sources = TextEncoder(tokenizer, max_length=max_length)
        other = getattr(tokenizer, "target_encoder", None)  # Marian's second vocabulary
        self.key = [
            *(self._sources.key, target_max_length, prefix, template),
            *(getattr(tokenizer, "src_lang", None), getattr(tokenizer, "tgt_lang", None)),
            sorted(other.items()) if other else None,
        ]
        columns = dict(self._sources.columns)
        if target_max_length is not None:
            columns |= {"labels": IDS, "target_truncated": pa.bool_()}
        self.columns: Mapping[str, pa.DataType] = columns

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode the columns of the source, followed by the column of targets if there is one."""
        inputs = cells if self.target_max_length is None else cells[:-1]
        texts = inputs[0] if self.template is None else templates.render(self.template, inputs)
        values = dict(self._sources([[self.prefix + text for text in texts]], where))
        if self.target_max_length is not None:
            values |= self._targets(list(cells[-1]))
        return values

    def _targets(self, texts: list[str]) -> dict[str, Any]:
        cut = self.tokenizer(text_target=texts, truncation=True, max_length=self.target_max_length)
        if self.tokenizer.is_fast:
            truncated = [bool(encoding.overflowing) for encoding in cut.encodings]
        else:
            whole = self.tokenizer(text_target=texts, verbose=False)["input_ids"]
            truncated = [len(a) > len(b) for a, b in zip(whole, cut["input_ids"], strict=True)]
        return {"labels": cut["input_ids"], "target_truncated": truncated}
