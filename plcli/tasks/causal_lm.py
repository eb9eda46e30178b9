"""Causal language modelling of texts, prompts with responses, or conversations.

Texts are cut into blocks. Every token of a block except the first is predicted from the tokens
before it, so that every token is scored once, except for the first of each block. For predictions,
prompts are continued.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torchmetrics import MeanMetric, MetricCollection

from plcli.config.marks import FACT, instead_of
from plcli.data import templates
from plcli.data.cells import Kind
from plcli.data.encoders.conversations import ConversationEncoder, PromptEncoder, ResponseEncoder
from plcli.data.encoders.documents import Blocks, DocumentEncoder, attention_mask, padded
from plcli.data.encoders.encoder import Encoder
from plcli.data.sources import Documents
from plcli.data.split import Batch
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import DataError, ModelError, UsageError, listed
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Scoring
from plcli.metrics.texts import TokenLosses
from plcli.models import generation, losses
from plcli.models.transformer_module import TransformerModule
from plcli.pretrained import tasks, weights
from plcli.pretrained.label_ids import IGNORED

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class CausalLM(TransformerModule):
    """A causal language model, loaded with `AutoModelForCausalLM`.

    The generation options are saved with the artefact. Other options, such as repetition_penalty,
    come from the pretrained model's generation_config.json, except for num_return_sequences: a row
    always has one continuation. The other arguments are those of TransformerModule.

    Args:
        max_new_tokens: maximum number of tokens to generate.
        num_beams: number of beams; 1 is greedy search, or sampling.
        do_sample: whether to sample tokens, regardless of the pretrained model's setting; otherwise
            greedy or beam search.
        temperature: for sampling, by default 1: below 1, likely tokens are sampled more often.
        top_p: samples from the most likely tokens with this total probability; by default from all.
        eos_token_id: a fact of the data: the token that ends a text.
        bos_token_id: a fact of the data: the token that begins a text.
    """

    task = "text-generation"
    auto_class = "AutoModelForCausalLM"
    terms = "labels"

    max_new_tokens: int = 64
    num_beams: int = 1
    do_sample: bool = False
    temperature: float | None = None
    top_p: float | None = None
    eos_token_id: int | None = field(default=None, metadata=FACT)
    bos_token_id: int | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the settings, and build the network."""
        names = ("max_new_tokens", "num_beams", "do_sample", "temperature", "top_p")
        options = {name: getattr(self, name) for name in names}
        generation.check(options)
        if self.num_beams > 1 and self.do_sample:
            raise UsageError(
                f"model.num_beams: {self.num_beams} searches for the most likely continuation, but "
                "model.do_sample: true samples one. Set model.num_beams: 1, or set "
                "model.do_sample: false and temperature and top_p: null."
            )
        super().__post_init__()
        weights.warn_of_random_weights(self.model, self.pretrained)
        self._check_direction()
        limit = weights.most_positions(self.model)
        if limit is not None and self.max_new_tokens >= limit:
            raise UsageError(
                f"model.max_new_tokens: {self.max_new_tokens} leaves no room for a prompt within "
                f"the model's {limit} positions. Set it below {limit}."
            )
        if self.do_sample:  # the pretrained model's sampling settings are not used
            for name in generation.OF_SAMPLING:
                setattr(self.model.generation_config, name, None)
            defaults = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
            options |= {name: options.get(name) or value for name, value in defaults.items()}
        generation.settle(self.model, options, most=None)

    def _check_direction(self) -> None:
        if tasks.is_bidirectional(self.model.config):
            raise ModelError(f"model: {tasks.bidirectional(self.model.config)}")

    def settings(self) -> dict[str, Any]:
        """The tokens that end and begin a text; a pretrained model has its own."""
        if self.architecture is None:
            return {}
        return {"eos_token_id": self.eos_token_id, "bos_token_id": self.bos_token_id}

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Run the network on whole blocks, without a key-value cache."""
        return self.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        )

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss over predicted tokens; logits at a position are for the next one."""
        return torch.nn.functional.cross_entropy(
            outputs.logits[:, :-1].flatten(0, 1).float(),
            batch["labels"][:, 1:].flatten(),
            ignore_index=IGNORED,
        )

    def metrics(self) -> MetricCollection:
        """The mean number of bytes per predicted token."""
        return MetricCollection({"bytes_per_token": MeanMetric()})

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns:
        """Add a batch: the bytes of its predicted tokens, int64 [blocks]."""
        if count := self.count(batch):
            metrics.update(batch["bytes"].sum() / count, weight=count)
        logits, labels = outputs.logits[:, :-1], batch["labels"][:, 1:]
        self.count_tokens(labels[labels != IGNORED], size=logits.shape[-1])
        return {"loss": losses.of_rows(logits, labels), "bytes": batch["bytes"]}

    def scoring(self, collector: RowCollector) -> Scoring:
        """Return how the scores follow from the blocks; the baseline are token frequencies."""
        return TokenLosses.of_counts(collector.token_counts)

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The loss and the perplexity per token, and both per UTF-8 byte.

        Values per byte can be compared between tokenizers: the total loss, including that of end
        tokens, is divided by the number of bytes of the predicted text.
        """
        loss = values["loss"].double()
        of_byte = loss / values["bytes_per_token"].double()
        return {
            "loss": float(loss),
            "perplexity": float(loss.exp()),
            "perplexity_per_byte": float(of_byte.exp()),
            "bits_per_byte": float(of_byte / math.log(2)),
            "bytes_per_token": float(values["bytes_per_token"]),
        }

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Continue each prompt, int64 [rows, tokens], padded on the left."""
        return generation.continued(
            self.model,
            self.tokenizer,
            batch,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            seed=self.seed if self.do_sample else None,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class CausalLMData(TextData):
    """Texts in blocks; or prompts with responses, or conversations, trained on their answers only.

    A block has at most max_length tokens. A text ends with the tokenizer's end token. The other
    arguments are those of TextData.

    Args:
        text: the text column; by default text, if neither prompt nor messages is given.
        prompt: a column of prompts, which are not trained on; or columns joined by a template, such
            as "{instruction} {input}: ".
        response: the column of responses to the prompts.
        messages: a column of conversations: lists of messages with role and content, formatted with
            the tokenizer's chat template. Only the assistant's messages are trained on. Or two
            columns, such as [prompt, completion]: then only those of the second one.
        cross_documents: whether a block continues from one row to the next, so that all are full;
            otherwise each row starts a new block, and answers are cut at max_length.
        documents: what a row of a .txt file is: a line; a paragraph, separated by blank lines; or
            the whole file, including its line breaks.
    """

    task = "text-generation"
    default_bucket_batches = 1  # the loss is a mean over tokens
    fits = "bytes"

    text: str | None = field(default=None, metadata=instead_of("prompt", "response", "messages"))
    prompt: str | None = field(default=None, metadata=instead_of("text", "messages"))
    response: str | None = field(default=None, metadata=instead_of("text", "messages"))
    messages: str | list[str] | None = field(
        default=None, metadata=instead_of("text", "prompt", "response")
    )
    cross_documents: bool = False
    documents: Documents = "lines"

    def __post_init__(self) -> None:
        """Check the columns."""
        if (self.prompt is None) != (self.response is None):
            one, other = ("response", "prompt") if self.prompt is None else ("prompt", "response")
            raise UsageError(f"data.{one}: needs data.{other}. Give both, or neither.")
        forms = {"text": self.text, "prompt": self.prompt, "messages": self.messages}
        given = [name for name, column in forms.items() if column is not None]
        if len(given) > 1:
            raise UsageError(f"data.{given[0]} and data.{given[1]}: both are given; give one.")
        columns = [self.messages] if isinstance(self.messages, str) else list(self.messages or [])
        if len(columns) > 2 or len(set(columns)) < len(columns):
            raise UsageError(
                f"data.messages: got {listed(columns)}; give one column, or two: the messages "
                "before, and those to train on."
            )
        self.conversation = columns
        if self.prompt is not None and "{" in self.prompt:
            self.template = self.prompt
            self.inputs = templates.parse(self.prompt, key="data.prompt")
        else:
            self.inputs = columns[:1] or [self.prompt or self.text or "text"]
        super().__post_init__()

    def columns(self, split: str) -> dict[str, Kind]:
        """The text; the prompt and, except for rows to predict, the response; or the messages."""
        kind = Kind.TEXT if self.messages is None else Kind.OBJECT
        answers = self.conversation[1:] + ([self.response] if self.response else [])
        return dict.fromkeys(self.inputs + (answers if split != "predict" else []), kind)

    def encoded_columns(self, split: str) -> list[str]:
        """The columns except the id."""
        return list(self.columns(split))

    def fitted_columns(self) -> list[str]:
        """The prompt and the response."""
        return self.encoded_columns("train")

    @property
    def _has_answers(self) -> bool:
        return self.prompt is not None or self.messages is not None

    @property
    def _end(self) -> int:
        end: int | None = self.loaded_tokenizer.eos_token_id
        if end is None:
            raise ModelError(
                "data.tokenizer: has no end token, which must follow every text. "
                "Set eos_token in its tokenizer_config.json, or use another model."
            )
        return end

    def encoder(self, split: str) -> Encoder:
        """Return an encoder of texts, of prompts with responses, or of conversations."""
        tokenizer, conversations = self.loaded_tokenizer, self.messages is not None
        if split == "predict":
            return PromptEncoder(
                tokenizer,
                end=self._end,
                max_length=self.longest,
                conversations=conversations,
                template=self.template,
            )
        if conversations:
            return ConversationEncoder(tokenizer)
        if self.prompt is not None:
            return ResponseEncoder(tokenizer, end=self._end, template=self.template)
        return DocumentEncoder(tokenizer, special=True, end=self._end)

    def cut_blocks(self, split: str) -> Blocks | None:
        """Cut the rows into blocks; rows to predict stay whole."""
        if split == "predict":
            return None
        encoded, rows = self.encoded(split), self.subset(split)
        blocks = Blocks(
            encoded.lengths,
            rows,
            size=self.longest,
            joined=self.cross_documents,
            whole=self._has_answers,
            least=2,  # nothing is predicted in a block of one token
            in_loss=encoded.flat("in_loss", rows) if self._has_answers else None,
        )
        if blocks.num_without_targets and not len(blocks):
            raise DataError(
                f"{self.rows(split).source}: in the {split} split, no answer begins within the "
                f"first {self.longest} tokens, so there is nothing to train on. "
                "Increase data.max_length, or shorten the prompts."
            )
        return blocks

    def describe(self, split: str) -> str:
        """Rows, their blocks, and what is left out of training."""
        description, blocks = super().describe(split), self.blocks(split)
        if blocks is None or not blocks.num_without_targets:
            return description
        if self.cross_documents:
            return f"{description}, {blocks.num_without_targets} blocks without an answer left out"
        cut = f"{blocks.num_without_targets} whose whole answer is cut (data.max_length)"
        return f"{description}, {cut}"

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of blocks, or of prompts that are padded on the left."""
        blocks = self.blocks(split)
        if blocks is None:
            prompts = [encoded.numbers("input_ids", index) for index in indices]
            return {
                "input_ids": padded(prompts, self.loaded_tokenizer.pad_token_id, left=True),
                "attention_mask": attention_mask(prompts, left=True),
            }
        ids, labels, counts = [], [], []
        for block in indices:
            ids.append(blocks.take(encoded, "input_ids", block))
            in_loss = np.ones(len(ids[-1]), bool)
            if self._has_answers:
                in_loss = blocks.take(encoded, "in_loss", block).astype(bool)
            in_loss[0] = False
            labels.append(np.where(in_loss, ids[-1], IGNORED))
            counts.append(int(blocks.take(encoded, "bytes", block)[in_loss].sum()))
        return {
            "input_ids": padded(ids, self.loaded_tokenizer.pad_token_id),
            "attention_mask": attention_mask(ids),
            "labels": padded(labels, IGNORED),
            "bytes": torch.tensor(counts),
        }

    def facts(self) -> dict[str, Any]:
        """The tokens that end and begin a text."""
        tokenizer = self.loaded_tokenizer
        ends = {"eos_token_id": self._end, "bos_token_id": tokenizer.bos_token_id}
        return {**ends, **super().facts()}
