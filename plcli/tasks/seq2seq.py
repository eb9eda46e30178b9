"""Sequence to sequence, as in summarization and translation: encoder-decoders such as T5 and BART.

The decoder's inputs are the labels, which the model itself shifts. Scores are computed from
generated texts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torchmetrics import MetricCollection

from plcli.config.marks import FACT, instead_of
from plcli.data import templates
from plcli.data.cells import Kind
from plcli.data.encoders.source_target import SourceTargetEncoder
from plcli.data.split import Batch, Split
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import DataError, ModelError, UsageError, listed
from plcli.metrics import generation as generation_scores
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Scoring
from plcli.metrics.texts import GeneratedTexts
from plcli.models import generation, losses
from plcli.models.transformer_module import TransformerModule
from plcli.pretrained import languages, weights
from plcli.pretrained.languages import Languages

WRAPPING = ("mbart", "plbart")  # their decoders' inputs start with the last token of the labels


@dataclass(kw_only=True, eq=False, repr=False)
class Seq2SeqModel(TransformerModule):
    """An encoder-decoder, loaded with `AutoModelForSeq2SeqLM`.

    Generation options that are not set come from the pretrained model's generation_config.json,
    which is saved with the artefact. The other arguments are those of TransformerModule.

    Args:
        scores: scores of generated texts: chrf and bleu (sacrebleu's, 0 to 100) and rouge (1, 2, L
            and Lsum, 0 to 1); the first one chooses the best epoch.
        bleu_tokenizer: sacrebleu's tokenizer for bleu, such as zh for Chinese.
        validation_generates: whether validation generates and scores texts, which takes time;
            otherwise the loss chooses the best epoch.
        max_new_tokens: maximum number of tokens to generate; by default data.target_max_length.
        num_beams: number of beams; 1 is greedy search, or sampling.
        length_penalty: for beam search: above 0 favours long texts, below 0 short ones.
        no_repeat_ngram_size: n-grams of this size may occur only once in a text; 0 allows all.
        do_sample: whether to sample tokens; samples depend on seed_everything and the batch.
        temperature: for sampling: below 1, likely tokens are sampled more often.
        top_p: samples from the most likely tokens with this total probability.
        target_max_length: a fact of the data.
        eos_token_id: a fact of the data.
        forced_bos_token_id: a fact of the data: the token of the target language, if every
            translation begins with it.
        decoder_start_token_id: likewise, if it is the start token of the decoder.
    """

    task = "seq2seq"  # transformers 5 no longer has a pipeline for it
    auto_class = "AutoModelForSeq2SeqLM"
    terms = "labels"

    scores: list[generation_scores.Score] = field(default_factory=lambda: ["chrf", "bleu", "rouge"])
    bleu_tokenizer: generation_scores.BleuTokenizer = "13a"
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
    forced_bos_token_id: int | None = field(default=None, metadata=FACT)
    decoder_start_token_id: int | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the generation options, and build the network."""
        options = {name: getattr(self, name) for name in generation.OPTIONS}
        generation.check(options)
        if duplicates := [score for score in self.scores if self.scores.count(score) > 1]:
            raise UsageError(f"model.scores: contains {duplicates[0]} twice. Remove one of them.")
        super().__post_init__()
        generation.settle(self.model, options, most=self.target_max_length)
        for name in ("forced_bos_token_id", "decoder_start_token_id"):
            if (token := getattr(self, name)) is not None:
                setattr(self.model.generation_config, name, token)
        if not self.validation_generates:
            self._metrics["val"] = MetricCollection({})

    def check_sizes(self) -> None:
        """Check that encoder and decoder have enough positions for the data's tokens."""
        super().check_sizes()
        limit = weights.most_positions(self.model, decoder=True)
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
        """Return the tokenizer's special token ids for a model that starts from random weights."""
        from transformers import CONFIG_MAPPING

        model_type = (self.architecture or {}).get("model_type")
        if model_type not in CONFIG_MAPPING:
            return {}  # a pretrained model has its own ids; an unknown model type is refused later
        defaults = CONFIG_MAPPING[model_type]()
        start = getattr(defaults, "decoder_start_token_id", None)
        # T5 and Marian start decoding with the padding token, BART and mBART do not
        pads = start in (None, defaults.pad_token_id) and model_type not in WRAPPING
        return {
            "bos_token_id": self.eos_token_id,
            "eos_token_id": self.eos_token_id,
            "forced_eos_token_id": None,
            "decoder_start_token_id": self.pad_token_id if pads else self.eos_token_id,
        }

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The first of the scores if validation generates texts, otherwise the loss."""
        if not (self.scores and self.validation_generates):
            return "val_loss", "min"
        return f"val_{generation_scores.MAIN[self.scores[0]]}", "max"

    def metrics(self) -> MetricCollection:
        """Running scores of generated texts."""
        return generation_scores.collection(self.scores, bleu_tokenizer=self.bleu_tokenizer)

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns:
        """Generate texts for a batch and add them to the scores, if there are any."""
        kept = {} if self.label_smoothing else {"loss": self._row_losses(outputs, batch)}
        if not len(metrics):
            return {**kept}
        texts, references = self._texts(self.generate(batch)), batch["references"]
        metrics.update(texts, references)
        found = kept | generation_scores.of_rows(metrics, batch.get("sources", []), references)
        told = {"truth": references, "prediction": texts} if self.analyses else {}
        return {**found, **told}

    def _row_losses(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        return losses.of_rows(outputs.logits, batch["labels"])

    def scoring(self, collector: RowCollector) -> Scoring:
        """Return how the scores follow from the counts of each row."""
        return GeneratedTexts()

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """The mean loss per target token, the scores, and the signatures to report with them."""
        return generation_scores.summary(values, self.scores, bleu_tokenizer=self.bleu_tokenizer)

    @property
    def loss_options(self) -> frozenset[str]:
        """Label smoothing."""
        return frozenset({"label_smoothing"})

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss over the target tokens."""
        if not self.label_smoothing:
            return super().loss(outputs, batch)
        return self.classification_loss(outputs.logits, batch["labels"])

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Return the generated text of each row, and the mean log probability of its tokens."""
        return self.predict_rows(self.generate(batch), batch)

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the text of each row, and the mean log probability of its tokens.

        Args:
            outputs: generated tokens with the decoder's start token, int64 [rows, tokens].
            batch: a batch of rows to predict.
        """
        scores = self.mean_log_probabilities(outputs, batch).tolist()
        return [
            {"id": row_id, "text": text, "score": score}
            for row_id, text, score in zip(batch["id"], self._texts(outputs), scores, strict=True)
        ]

    def generate(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Generate the decoder's start token and the tokens after it, int64 [rows, tokens]."""
        return generation.generate(self.model, batch, seed=self.seed)

    def _texts(self, ids: torch.Tensor) -> list[str]:
        texts: list[str] = self.tokenizer.batch_decode(ids[:, 1:], skip_special_tokens=True)
        return [text.strip() for text in texts]

    def mean_log_probabilities(self, ids: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean log probability of generated tokens up to the end token, float [rows].

        It is computed in one forward pass over the generated tokens, without beam search, banned
        n-grams or temperature. A token that is always the first, such as that of a language, does
        not count.
        """
        tokens, settled = ids[:, 1:], self.model.generation_config
        used = generation.until_end(tokens, settled.eos_token_id)
        if settled.forced_bos_token_id is not None:
            used[:, 0] = False
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        outputs = self({**inputs, "decoder_input_ids": ids[:, :-1]})
        chosen = outputs.logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        mean: torch.Tensor = chosen.masked_fill(~used, 0.0).sum(-1) / used.sum(-1).clamp(min=1)
        return mean


@dataclass(kw_only=True, eq=False, repr=False)
class Seq2SeqData(TextData):
    """Pairs of a source text and a target text.

    The other arguments are those of TextData.

    Args:
        source: the column of source texts; by default source.
        target: the column of target texts.
        template: instead of source: a text with columns in braces, such as "{lang}: {source}".
        prefix: a text that is put before every source text, such as "summarize: " for T5.
        src_lang: the language of the sources, for models that mark it, such as de_DE for mBART,
            deu_Latn for NLLB or de for M2M100.
        tgt_lang: the language of the targets, likewise, or of a Marian model with several.
        target_max_length: maximum number of tokens in a target; by default max_length.
    """

    task = "seq2seq"
    default_bucket_batches = 1  # the loss is a mean over tokens
    fits = "bytes-ended"

    source: str | None = field(default=None, metadata=instead_of("template"))
    target: str = "target"
    template: str | None = field(default=None, metadata=instead_of("source"))
    prefix: str = field(default="", metadata=FACT)
    src_lang: str | None = field(default=None, metadata=FACT)
    tgt_lang: str | None = field(default=None, metadata=FACT)
    target_max_length: int | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the columns."""
        if self.template is not None and self.source is not None:
            raise UsageError(
                "data.source and data.template: both define the source text. Give one of them."
            )
        if self.template is None:
            self.inputs = [self.source or "source"]
        else:
            self.inputs = templates.parse(self.template)
        if self.target in self.inputs:
            raise UsageError(
                f"data.target: the column '{self.target}' is also an input, so there is nothing "
                "to learn. Name another column."
            )
        if self.target_max_length is not None and self.target_max_length < 2:
            raise UsageError(
                f"data.target_max_length: got {self.target_max_length}, expected 2 or more."
            )
        super().__post_init__()

    @cached_property
    def languages(self) -> Languages:
        """What the languages mean for sources and the decoder; the tokenizer is set to them."""
        return languages.use(self.loaded_tokenizer, source=self.src_lang, target=self.tgt_lang)

    @property
    def longest_target(self) -> int:
        """The maximum number of tokens in a target."""
        return self.target_max_length or self.longest

    def columns(self, split: str) -> dict[str, Kind]:
        """The target column, except for rows to predict."""
        return super().columns(split) | ({} if split == "predict" else {self.target: Kind.TEXT})

    def fitted_columns(self) -> list[str]:
        """The columns that a tokenizer is fitted on: sources and targets."""
        return [*self.inputs, self.target]

    def facts(self) -> dict[str, Any]:
        """The end token, the prefix, the languages, and the maximum length of a target."""
        return {
            "eos_token_id": self.loaded_tokenizer.eos_token_id,
            "forced_bos_token_id": self.languages.forced_bos_token_id,
            "decoder_start_token_id": self.languages.decoder_start_token_id,
            "prefix": self.prefix,
            "src_lang": self.src_lang,
            "tgt_lang": self.tgt_lang,
            "target_max_length": self.longest_target,
            **super().facts(),
        }

    def encoder(self, split: str) -> SourceTargetEncoder:
        """Return an encoder of sources and, except for rows to predict, of targets."""
        return SourceTargetEncoder(
            self.loaded_tokenizer,
            max_length=self.longest,
            target_max_length=None if split == "predict" else self.longest_target,
            prefix=self.languages.prefix + self.prefix,
            template=self.template,
        )

    def encoded_columns(self, split: str) -> list[str]:
        """Return the inputs and, except for rows to predict, the target."""
        return self.inputs if split == "predict" else [*self.inputs, self.target]

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Add labels, int64 [rows, tokens], and the unchanged target texts that scores need."""
        batch: Batch = dict(encoded.batch(indices))
        if split != "predict":
            batch["labels"] = encoded.padded("labels", indices)
        if split in ("validation", "test"):
            cells = self.rows(split).table.column(self.target)
            batch["references"] = cells.take(pa.array(indices)).to_pylist()
        if split == "test":
            batch["sources"] = self._sources(indices)
        return batch

    def _sources(self, indices: npt.NDArray[np.int64]) -> list[str]:
        """Return the source texts of rows of the test split, without a prefix."""
        table = self.rows("test").table
        cells = [table.column(name).take(pa.array(indices)).to_pylist() for name in self.inputs]
        return cells[0] if self.template is None else list(templates.render(self.template, cells))

    def open(self, split: str) -> Split:
        """Check that targets are not empty, and tokenize a split."""
        if split != "predict":
            self.check_filled(split, [self.target])
        self._check_target_language(split)
        return super().open(split)

    def _check_target_language(self, split: str) -> None:
        """Check that every source names its target language, where the model has several.

        Raises:
            DataError: if one does not.
        """
        codes = languages.target_codes(self.loaded_tokenizer)
        before = self.languages.prefix + self.prefix + (self.template or "")
        if not codes:
            return
        if before and not before.startswith("{"):
            without = [] if before.startswith(tuple(codes)) else [0]
        else:
            cells = self.rows(split).table.column(self.inputs[0])
            known = [pc.starts_with(cells, code).to_numpy() for code in codes]
            without = np.flatnonzero(~np.logical_or.reduce(known)).tolist()
        if without:
            row = "" if before else f", row {without[0] + 1}"
            raise DataError(
                f"{self.rows(split).source}{row}: the model translates to several languages, but "
                "the source does not begin with one of its tokens, such as "
                f"{listed(codes[:3])}. Set data.tgt_lang: {codes[0].strip('><')}, or another."
            )

    def describe(self, split: str) -> str:
        """Rows, truncated and empty sources, and truncated and empty targets."""
        description = super().describe(split)
        if split == "predict":
            return description
        truncated = self.encoded(split).column("target_truncated")
        cut = int(truncated[self.split(split).subset].sum())
        empty = len(self.empty_rows(split, [self.target]))
        if cut:
            description += (
                f", {cut} with a target cut to {self.longest_target} tokens "
                "(data.target_max_length)"
            )
        return description + (f", {empty} with an empty target (data.empty_text)" if empty else "")
