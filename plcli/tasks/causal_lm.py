"""Causal language models: texts, prompts with responses, or conversations; and their continuations.

A text is cut into blocks. Each token of a block but its first is predicted from those before it, so
that every token is scored once, but for the first of each block.
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

from plcli.config.marks import FACT
from plcli.data.cells import Kind
from plcli.data.encoders.conversations import ConversationEncoder, PromptEncoder, ResponseEncoder
from plcli.data.encoders.documents import Blocks, DocumentEncoder, attention_mask, padded
from plcli.data.encoders.encoder import Encoder
from plcli.data.sources import Documents
from plcli.data.split_data import Batch
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import DataError, ModelError, UsageError
from plcli.models import generation
from plcli.models.transformer_module import TransformerModule
from plcli.pretrained import weights
from plcli.pretrained.label_ids import IGNORED

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False, repr=False)
class CausalLM(TransformerModule):
    """A language model that goes on from what it has read, as `AutoModelForCausalLM` loads it.

    Its generation options are kept with the artefact. What they do not say, such as a
    repetition_penalty, is what the pretrained model's generation_config.json says; but a row has
    one continuation, whatever its num_return_sequences. The arguments not named here are those of
    TransformerModule.

    Args:
        max_new_tokens: of a continuation, at most.
        num_beams: continuations that are pursued side by side, to find the likeliest.
        do_sample: whether tokens are drawn, whatever the pretrained model says; else the likeliest
            is taken each time, or looked for by beams.
        temperature: of drawn tokens, by default 1: below it the likely ones are drawn more often.
        top_p: draws from the likeliest tokens that have this probability together; by default all.
        eos_token_id: a fact of the data: the token that ends a text.
        bos_token_id: a fact of the data: the token that begins one.
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
        """Check the values and build."""
        names = ("max_new_tokens", "num_beams", "do_sample", "temperature", "top_p")
        options = {name: getattr(self, name) for name in names}
        generation.check(options)
        if self.num_beams > 1 and self.do_sample:
            raise UsageError(
                f"model.num_beams: {self.num_beams} look for the likeliest continuation, "
                "model.do_sample: true draws one. Set model.num_beams: 1, or else "
                "model.do_sample: false and temperature and top_p: null."
            )
        super().__post_init__()
        weights.tell_of_fresh_weights(self.model, self.pretrained)
        self._check_direction()
        limit = weights.most_positions(self.model)
        if limit is not None and self.max_new_tokens >= limit:
            raise UsageError(
                f"model.max_new_tokens: {self.max_new_tokens} leave no room for a prompt within "
                f"the model's {limit} positions. Set it below {limit}."
            )
        if self.do_sample:  # from all tokens, whatever the pretrained model says
            for name in generation.OF_SAMPLING:
                setattr(self.model.generation_config, name, None)
            defaults = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}
            options |= {name: options.get(name) or value for name, value in defaults.items()}
        generation.settle(self.model, options, most=None)

    def _check_direction(self) -> None:
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

        config = self.model.config
        both = config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        if both and not getattr(config, "is_decoder", False) and not config.is_encoder_decoder:
            raise ModelError(
                f"model: a {config.model_type} reads a text in both directions, so that it would "
                "see the tokens it has to predict. Use another model, such as a gpt2 or llama, or "
                "the task masked_lm."
            )

    def settings(self) -> dict[str, Any]:
        """The tokens that end and begin a text; a pretrained model knows its own."""
        if self.architecture is None:
            return {}
        return {"eos_token_id": self.eos_token_id, "bos_token_id": self.bos_token_id}

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Run the network on whole blocks, so that it need not keep keys and values."""
        return self.model(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        )

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss of the predicted tokens: a place's logits are for the next one."""
        return torch.nn.functional.cross_entropy(
            outputs.logits[:, :-1].flatten(0, 1).float(),
            batch["labels"][:, 1:].flatten(),
            ignore_index=IGNORED,
        )

    def metrics(self) -> MetricCollection:
        """The mean bytes of a token that is predicted."""
        return MetricCollection({"bytes_per_token": MeanMetric()})

    def update(self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]) -> None:
        """Add a batch: the bytes of its predicted tokens, int64 [blocks]."""
        if count := self.count(batch):
            metrics.update(batch["bytes"].sum() / count, weight=count)

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The loss and the perplexity of a token, and both of a UTF-8 byte.

        Those of a byte can be compared between tokenizers: the whole loss, with that of the tokens
        that end texts, is divided by the bytes of the text that is predicted.
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
        """Continue each prompt, int64 [rows, tokens], padded at the left."""
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
    """Texts in blocks; or prompts with responses, or conversations, to learn the answers of.

    The arguments not named here are those of TextData. A block has max_length tokens at most. A
    text ends with the tokenizer's end token.

    Args:
        text: the text column; by default text, where neither prompt nor messages is given.
        prompt: a column of prompts, which are read but not learnt.
        response: the column of responses to them.
        messages: a column of conversations: lists of messages with a role and a content, written
            by the tokenizer's chat template. What the assistant says is learnt.
        cross_documents: whether a block goes on from one row to the next, so that all are full;
            else a row begins a block, and an answer is cut at max_length.
        documents: what a row of a .txt file is: a line; a paragraph, with blank lines between
            them; or the whole file, whose line ends are kept.
    """

    task = "text-generation"
    usual_window = 1  # the loss is a mean over tokens
    fits = "bytes"

    text: str | None = None
    prompt: str | None = None
    response: str | None = None
    messages: str | None = None
    cross_documents: bool = False
    documents: Documents = "lines"

    def __post_init__(self) -> None:
        """Check the columns."""
        if (self.prompt is None) != (self.response is None):
            one, other = ("response", "prompt") if self.prompt is None else ("prompt", "response")
            raise UsageError(f"data.{one}: needs data.{other} beside it.")
        forms = {"text": self.text, "prompt": self.prompt, "messages": self.messages}
        given = [name for name, column in forms.items() if column is not None]
        if len(given) > 1:
            raise UsageError(f"data.{given[0]} and data.{given[1]}: are both given; give one.")
        self.inputs = [self.prompt or self.messages or self.text or "text"]
        super().__post_init__()

    def columns(self, split: str) -> dict[str, Kind]:
        """The text, or the prompt and, but for rows to predict, the response; or the messages."""
        kind = Kind.TEXT if self.messages is None else Kind.OBJECT
        answers = [self.response] if self.response and split != "predict" else []
        return {self.inputs[0]: kind} | dict.fromkeys(answers, Kind.TEXT)

    def encoded_columns(self, split: str) -> list[str]:
        """The columns without the id."""
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
                "data.tokenizer: has no end token, which has to stand behind every text. "
                "Set eos_token in its tokenizer_config.json, or use another model."
            )
        return end

    def encoder(self, split: str) -> Encoder:
        """Return what makes tokens of texts, of prompts with responses, or of conversations."""
        tokenizer, talks = self.loaded_tokenizer, self.messages is not None
        if split == "predict":
            return PromptEncoder(
                tokenizer, end=self._end, max_length=self.longest, conversations=talks
            )
        if talks:
            return ConversationEncoder(tokenizer)
        if self.prompt is not None:
            return ResponseEncoder(tokenizer, end=self._end)
        return DocumentEncoder(tokenizer, special=True, end=self._end)

    def cut_blocks(self, split: str) -> Blocks | None:
        """Cut the rows into blocks; those to predict stay whole."""
        if split == "predict":
            return None
        encoded, rows = self.encoded(split), self.subset(split)
        blocks = Blocks(
            encoded.lengths,
            rows,
            size=self.longest,
            joined=self.cross_documents,
            whole=self._has_answers,
            least=2,  # of a single token nothing is predicted
            learnt=encoded.flat("learnt", rows) if self._has_answers else None,
        )
        if blocks.num_unlearnt and not len(blocks):
            raise DataError(
                f"{self.rows(split).source}: of the {split} split no answer begins within the "
                f"first {self.longest} tokens, so that there is nothing to learn. "
                "Raise data.max_length, or shorten the prompts."
            )
        return blocks

    def describe(self, split: str) -> str:
        """Rows, their blocks, and what of them is left out."""
        said, blocks = super().describe(split), self.blocks(split)
        if blocks is None or not blocks.num_unlearnt:
            return said
        if self.cross_documents:
            return f"{said}, {blocks.num_unlearnt} blocks that hold no answer left out"
        return f"{said}, {blocks.num_unlearnt} whose answer is cut away whole (data.max_length)"

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of blocks, or of prompts that are padded at the left."""
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
            learnt = np.ones(len(ids[-1]), bool)
            if self._has_answers:
                learnt = blocks.take(encoded, "learnt", block).astype(bool)
            learnt[0] = False
            labels.append(np.where(learnt, ids[-1], IGNORED))
            counts.append(int(blocks.take(encoded, "bytes", block)[learnt].sum()))
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
