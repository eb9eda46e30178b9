"""Texts to texts, as in summarisation and translation: encoders with decoders as T5, BART, Marian.

The decoder's inputs are the labels, shifted by the model itself. Scores are of generated texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torchmetrics import MetricCollection

from plcli.config.marks import FACT
from plcli.data import templates
from plcli.data.cells import Kind
from plcli.data.encoders.source_target import SourceTargetEncoder
from plcli.data.split_data import Batch, Split
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import ModelError, UsageError
from plcli.metrics import generation as generation_scores
from plcli.models import generation
from plcli.models.transformer_module import TransformerModule
from plcli.pretrained import weights
from plcli.pretrained.label_ids import IGNORED


@dataclass(kw_only=True, eq=False, repr=False)
class Seq2SeqModel(TransformerModule):
    """An encoder with a decoder, as `AutoModelForSeq2SeqLM` loads it.

    What is not said of generation is what the pretrained model's generation_config.json says. It is
    kept with the artefact. The arguments not named here are those of TransformerModule.

    Args:
        scores: of generated texts: chrf, bleu (as sacrebleu computes them) and rouge (1, 2, L);
            the first one chooses the best epoch.
        validation_generates: whether validation generates texts and scores them, which costs time;
            else the loss alone chooses the best epoch.
        max_new_tokens: of a generated text at most; by default data.target_max_length.
        num_beams: hypotheses that are kept at each step; 1 takes the likeliest token each time.
        length_penalty: of beams: above 0 favours long texts, below 0 short ones.
        no_repeat_ngram_size: of so many tokens none may stand twice in a text; 0 allows all.
        do_sample: whether tokens are drawn; what is drawn depends on seed_everything and the batch.
        temperature: of drawn tokens: below 1 the likely ones are drawn more often.
        top_p: draws from the likeliest tokens that have this probability together.
        target_max_length: a fact of the data.
        eos_token_id: a fact of the data.
    """

    task = "seq2seq"  # transformers 5 has no pipeline of it any more
    auto_class = "AutoModelForSeq2SeqLM"
    terms = "labels"

    scores: list[generation_scores.Score] = field(default_factory=lambda: ["chrf", "bleu", "rouge"])
    validation_generates: bool = True
    max_new_tokens: int | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    target_max_length: int | None = field(default=None, metadata=FACT)
    eos_token_id: int | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check how texts are to be generated, and build."""
        options = {name: getattr(self, name) for name in generation.OPTIONS}
        generation.check(options)
        if twice := [score for score in self.scores if self.scores.count(score) > 1]:
            raise UsageError(f"model.scores: names {twice[0]} twice. Name it once.")
        super().__post_init__()
        generation.settle(self.model, options, most=self.target_max_length)
        if not self.validation_generates:
            self._metrics["val"] = MetricCollection({})

    def check_sizes(self) -> None:
        """Check that encoder and decoder can take the data's tokens."""
        super().check_sizes()
        limit = weights.most_positions(self.model)
        for key, longest in (
            ("data.target_max_length", self.target_max_length),
            ("model.max_new_tokens", self.max_new_tokens),
        ):
            if limit is not None and longest is not None and longest > limit:
                raise ModelError(
                    f"{key}: {longest} tokens are more than the decoder's {limit} positions. "
                    f"Set it to {limit} or less."
                )

    def settings(self) -> dict[str, Any]:
        """Give a model from scratch the ids of its tokenizer instead of those of its kind."""
        from transformers import CONFIG_MAPPING

        kind = (self.architecture or {}).get("model_type")
        if kind not in CONFIG_MAPPING:
            return {}  # a pretrained model has its own; a kind that is not known is refused
        usual = CONFIG_MAPPING[kind]()
        start = getattr(usual, "decoder_start_token_id", None)
        pads = start in (None, usual.pad_token_id)  # T5 and Marian begin with padding, BART not
        return {
            "bos_token_id": self.eos_token_id,
            "eos_token_id": self.eos_token_id,
            "forced_eos_token_id": None,
            "decoder_start_token_id": self.pad_token_id if pads else self.eos_token_id,
        }

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The first of the scores, if validation generates; else the loss."""
        if not (self.scores and self.validation_generates):
            return "val_loss", "min"
        return f"val_{generation_scores.MAIN[self.scores[0]]}", "max"

    def metrics(self) -> MetricCollection:
        """Running scores of generated texts."""
        return generation_scores.collection(self.scores)

    def update(self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]) -> None:
        """Generate texts for a batch and add them, if there is a score of them."""
        if len(metrics):
            texts = self._texts(self.generate(batch))
            metrics.update(texts, [[reference] for reference in batch["references"]])

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The mean loss of a target's token, and the scores, between 0 and 1."""
        return dict(generation_scores.summary(values))

    @property
    def loss_options(self) -> frozenset[str]:
        """Label smoothing."""
        return frozenset({"label_smoothing"})

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss of the targets' tokens."""
        if not self.label_smoothing:
            return super().loss(outputs, batch)
        return self.classification_loss(outputs.logits, batch["labels"])

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Return a text a row, and the mean log probability of its tokens."""
        return self.predict_rows(self.generate(batch), batch)

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return a text a row, and the mean log probability of its tokens.

        Args:
            outputs: generated tokens, int64 [rows, tokens].
            batch: of rows to predict.
        """
        scores = self.mean_log_probabilities(outputs, batch).tolist()
        return [
            {"id": id, "text": text, "score": score}
            for id, text, score in zip(batch["id"], self._texts(outputs), scores, strict=True)
        ]

    def generate(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Generate tokens after the decoder's start token, int64 [rows, tokens]."""
        return generation.generate(self.model, batch, seed=self.seed)[:, 1:]

    def _texts(self, ids: torch.Tensor) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def mean_log_probabilities(self, ids: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean log probability of generated tokens up to the end token, float [rows].

        It is the model's own, before beams, bans and temperature: one run over what stands there.
        """
        used = generation.until_end(ids, self.model.generation_config.eos_token_id)
        outputs = self({**batch, "labels": ids.masked_fill(~used, IGNORED)})
        chosen = outputs.logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        mean: torch.Tensor = chosen.masked_fill(~used, 0.0).sum(-1) / used.sum(-1)
        return mean


@dataclass(kw_only=True, eq=False, repr=False)
class Seq2SeqData(TextData):
    """Texts with a text to be written for each.

    The arguments not named here are those of TextData.

    Args:
        source: the column that is read; by default source, or those that the template names.
        target: the column that is to be written.
        template: instead of source: a text with columns in braces, such as "{lang}: {source}".
        prefix: stands before every text that is read, such as "summarize: " for T5.
        target_max_length: tokens of a target at most; by default max_length.
    """

    task = "seq2seq"
    usual_window = 1  # the loss is a mean over tokens
    fits = "bytes-ended"

    source: str | None = None
    target: str = "target"
    template: str | None = None
    prefix: str = field(default="", metadata=FACT)
    target_max_length: int | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the columns."""
        if self.template is not None and self.source is not None:
            raise UsageError(
                "data.source and data.template: both say what is read. Give one of them."
            )
        if self.template is None:
            self.inputs = [self.source or "source"]
        else:
            self.inputs = templates.parse(self.template)
        if self.target in self.inputs:
            raise UsageError(
                f"data.target: the column '{self.target}' is read, too, so that there is nothing "
                "to learn. Name another one."
            )
        if self.target_max_length is not None and self.target_max_length < 2:
            raise UsageError(
                f"data.target_max_length: got {self.target_max_length}, expected 2 or more."
            )
        super().__post_init__()

    @property
    def longest_target(self) -> int:
        """Tokens of a target at most."""
        return self.target_max_length or self.longest

    def columns(self, split: str) -> dict[str, Kind]:
        """The target column, but for rows to predict."""
        return super().columns(split) | ({} if split == "predict" else {self.target: Kind.TEXT})

    def fitted_columns(self) -> list[str]:
        """A tokenizer is fitted on sources and targets."""
        return [*self.inputs, self.target]

    def facts(self) -> dict[str, Any]:
        """The end token, the prefix, and the longest target."""
        return {
            "eos_token_id": self.loaded_tokenizer.eos_token_id,
            "prefix": self.prefix,
            "target_max_length": self.longest_target,
            **super().facts(),
        }

    def encoder(self, split: str) -> SourceTargetEncoder:
        """Tokens of sources and, but for rows to predict, of targets."""
        return SourceTargetEncoder(
            self.loaded_tokenizer,
            max_length=self.longest,
            target_max_length=None if split == "predict" else self.longest_target,
            prefix=self.prefix,
            template=self.template,
        )

    def encoded_columns(self, split: str) -> list[str]:
        """Return the inputs, and the target but for rows to predict."""
        return self.inputs if split == "predict" else [*self.inputs, self.target]

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Add labels, int64 [rows, tokens], and to score them the texts as they stand."""
        batch: Batch = dict(encoded.batch(indices))
        if split != "predict":
            batch["labels"] = encoded.padded("labels", indices)
        if split in ("validation", "test"):
            cells = self.rows(split).table.column(self.target)
            batch["references"] = cells.take(pa.array(indices)).to_pylist()
        return batch

    def open(self, split: str) -> Split:
        """Check that there is something to write, and tokenise a split."""
        if split != "predict":
            self.check_filled(split, [self.target])
        return super().open(split)

    def describe(self, split: str) -> str:
        """Rows, cut and empty sources, and cut and empty targets."""
        said = super().describe(split)
        if split == "predict":
            return said
        truncated = self.encoded(split).column("target_truncated")
        cut = int(truncated[self.split(split).subset].sum())
        empty = len(self.empty_rows(split, [self.target]))
        said += (
            f", {cut} of the targets cut to {self.longest_target} tokens (data.target_max_length)"
            if cut
            else ""
        )
        return said + (f", {empty} with an empty target (data.empty_text)" if empty else "")
