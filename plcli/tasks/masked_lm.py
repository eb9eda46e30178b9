"""Masked language modelling: masked tokens are predicted, and the masks of texts are filled.

Texts are cut into blocks. In training, different tokens of a block are masked in each epoch. In
validation and test, the masked tokens depend only on the index of the block, so that scores can be
compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import MeanMetric, MetricCollection

from plcli.data.encoders.documents import Blocks, DocumentEncoder, attention_mask, padded
from plcli.data.encoders.encoder import Encoder
from plcli.data.encoders.masks import MaskedTextEncoder, fill_in
from plcli.data.masking import mask
from plcli.data.sources import Documents
from plcli.data.split import Batch
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import ModelError, UsageError
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Scoring
from plcli.metrics.texts import TokenLosses
from plcli.models import losses
from plcli.models.transformer_module import TransformerModule
from plcli.pretrained import weights
from plcli.pretrained.label_ids import IGNORED


@dataclass(kw_only=True, eq=False, repr=False)
class MaskedLM(TransformerModule):
    """A masked language model, loaded with `AutoModelForMaskedLM`.

    The other arguments are those of TransformerModule.

    Args:
        candidates: number of most likely tokens to return for each mask in predictions.
    """

    task = "fill-mask"
    auto_class = "AutoModelForMaskedLM"
    terms = "labels"

    candidates: int = 5

    def __post_init__(self) -> None:
        """Check the settings, and build the network."""
        if self.candidates < 1:
            raise UsageError(f"model.candidates: got {self.candidates}, expected 1 or more.")
        super().__post_init__()
        weights.warn_of_random_weights(self.model, self.pretrained)

    def metrics(self) -> MetricCollection:
        """The accuracy on masked tokens."""
        return MetricCollection({"accuracy": MeanMetric()})

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns:
        """Add a batch: logits [blocks, tokens, vocabulary] and labels int64 [blocks, tokens]."""
        labels = batch["labels"]
        masked = labels != IGNORED
        right = torch.zeros_like(labels)
        if masked.any():
            correct = outputs.logits[masked].argmax(-1) == labels[masked]
            metrics.update(correct.float())
            right[masked] = correct.long()
        self.count_tokens(labels[masked], size=outputs.logits.shape[-1])
        return {"loss": losses.of_rows(outputs.logits, labels), "right": right.sum(1)}

    def scoring(self, collector: RowCollector) -> Scoring:
        """Return how the scores follow from the blocks; the baseline are token frequencies."""
        return TokenLosses.of_counts(collector.token_counts)

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The loss, the perplexity and the accuracy on masked tokens."""
        perplexity = float(values["loss"].double().exp())
        return {"loss": float(values["loss"]), "perplexity": perplexity} | super().summary(
            {"accuracy": values["accuracy"]}
        )

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Each text with its masks filled independently, and the candidates for each mask."""
        tokenizer, rows = self.tokenizer, []
        for number, (row_id, text) in enumerate(zip(batch["id"], batch["text"], strict=True)):
            masks = batch["input_ids"][number] == tokenizer.mask_token_id
            probabilities = outputs.logits[number][masks].float().softmax(-1)
            best = probabilities.topk(min(self.candidates, probabilities.shape[-1]))
            fills = [
                {
                    "token": tokenizer.decode(tokens[:1]),
                    "score": scores[0],
                    "candidates": [
                        {"token": tokenizer.decode([token]), "score": score}
                        for token, score in zip(tokens, scores, strict=True)
                    ],
                }
                for tokens, scores in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
            filled = fill_in(tokenizer, text, [fill["token"].strip() for fill in fills])
            rows.append({"id": row_id, "text": filled, "fills": fills})
        return rows


@dataclass(kw_only=True, eq=False, repr=False)
class MaskedLMData(TextData):
    """Texts in blocks of at most max_length tokens, some of which are masked.

    The other arguments are those of TextData.

    Args:
        text: the text column.
        mask_probability: the fraction of tokens to predict, at least one per block. 80 % of them
            are replaced by the mask token, 10 % by a random token, and 10 % are unchanged.
        whole_word: whether all tokens of a word are masked together.
        cross_documents: whether a block continues from one row to the next, so that all are full.
        documents: what a row of a .txt file is: a line; a paragraph, separated by blank lines; or
            the whole file.
    """

    task = "fill-mask"
    default_bucket_batches = 1  # the loss is a mean over tokens

    text: str = "text"
    mask_probability: float = 0.15
    whole_word: bool = False
    cross_documents: bool = False
    documents: Documents = "lines"

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 < self.mask_probability < 1:
            raise UsageError(
                f"data.mask_probability: got {self.mask_probability}, expected above 0 and below 1."
            )
        self.inputs = [self.text]
        super().__post_init__()

    @property
    def _mask_id(self) -> int:
        mask_id: int | None = self.loaded_tokenizer.mask_token_id
        if mask_id is None:
            raise ModelError(
                "data.tokenizer: has no mask token. Use a masked language model, such as BERT, or "
                "the task causal_lm."
            )
        return mask_id

    @cached_property
    def _around(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer adds before and after a text."""
        encoding = self.loaded_tokenizer.backend_tokenizer.encode("a")
        text = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
        return encoding.ids[: text[0]], encoding.ids[text[-1] + 1 :]

    @cached_property
    def _never_hidden(self) -> set[int]:
        tokenizer = self.loaded_tokenizer
        return set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}

    def encoder(self, split: str) -> Encoder:
        """Return an encoder of whole documents or, to predict, of texts with masks."""
        tokenizer, mask_id = self.loaded_tokenizer, self._mask_id
        if split == "predict":
            return MaskedTextEncoder(tokenizer, mask_id=mask_id, max_length=self.longest)
        if self.whole_word and getattr(tokenizer, "backend_tokenizer", None) is not None:
            self._check_words()
        between = tokenizer.sep_token_id if self.cross_documents else None
        return DocumentEncoder(tokenizer, special=False, end=between)

    def _check_words(self) -> None:
        if self.loaded_tokenizer.backend_tokenizer.pre_tokenizer is None:
            raise ModelError(
                "data.whole_word: the tokenizer does not split text into words. Remove the key."
            )

    def cut_blocks(self, split: str) -> Blocks | None:
        """Cut the rows into blocks; rows to predict stay whole."""
        if split == "predict":
            return None
        return Blocks(
            self.encoded(split).lengths,
            self.subset(split),
            size=self.longest - sum(map(len, self._around)),
            joined=self.cross_documents,
        )

    def collate_drawn(
        self,
        split: str,
        encoded: Encoded,
        indices: npt.NDArray[np.int64],
        draws: np.random.RandomState,
    ) -> Batch:
        """Make a batch of blocks with masked tokens or, to predict, of texts with masks."""
        blocks = self.blocks(split)
        if blocks is None:
            texts = self.rows(split).table.column(self.text).take(indices).to_pylist()
            return {**encoded.batch(indices), "text": texts}
        before, behind = self._around
        seen, labels = [], []
        for block in indices:
            seed = draws.randint(2**31) if split == "train" else int(block)
            ids, label_ids = self._hide(blocks, encoded, block, np.random.default_rng(seed))
            seen.append(np.concatenate([before, ids, behind]))
            labels.append(np.pad(label_ids, (len(before), len(behind)), constant_values=IGNORED))
        return {
            "input_ids": padded(seen, self.loaded_tokenizer.pad_token_id),
            "attention_mask": attention_mask(seen),
            "labels": padded(labels, IGNORED),
        }

    def _hide(
        self, blocks: Blocks, encoded: Encoded, block: int, generator: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        ids = blocks.take(encoded, "input_ids", block).astype(np.int64)
        words = np.arange(len(ids))
        if self.whole_word:
            begins = blocks.take(encoded, "begins", block).astype(bool)
            words = np.maximum(begins.cumsum() - 1, 0)  # a block can begin inside a word
        words[np.isin(ids, list(self._never_hidden))] = -1
        return mask(
            ids,
            words,
            probability=self.mask_probability,
            mask_id=self._mask_id,
            vocab_size=len(self.loaded_tokenizer),
            generator=generator,
        )
