"""Sentence embeddings: vectors of texts whose cosine measures similarity.

They are trained on scored pairs, matching pairs, triplets, or triplets with the margin of a
teacher. The losses are those of sentence-transformers, and `SentenceTransformer(folder)` loads the
model.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import torch
import torch.nn.functional as functional
from torchmetrics import MeanMetric, MetricCollection, PearsonCorrCoef, SpearmanCorrCoef

from plcli.config.marks import FACT
from plcli.data.cells import Kind
from plcli.data.encoders.encoder import Encoder
from plcli.data.encoders.side_by_side import SideBySide
from plcli.data.encoders.text import TextEncoder
from plcli.data.rows import Rows
from plcli.data.split import Batch
from plcli.data.text_data import TextData
from plcli.data.token_cache import Encoded
from plcli.errors import DataError, ModelError, UsageError
from plcli.metrics.numeric import Numbers
from plcli.metrics.retrieval import Retrieval
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Means, Scoring
from plcli.models import distillation
from plcli.models.init_from import artefact_folder
from plcli.models.sentence_losses import (
    OBJECTIVES,
    RANKING,
    Form,
    Objective,
    cosine_of_pairs,
    criterion,
    false_negatives,
    masked_cosines,
)
from plcli.models.transformer_module import TransformerModule
from plcli.packages import need
from plcli.pretrained import location, sentence_modules, tasks, weights

logger = logging.getLogger(__name__)

Pooling = Literal["mean", "cls", "max"]
RETRIEVED = ("recall_at_1", "recall_at_5", "recall_at_10", "mrr", "ndcg")
PARTS = 4  # the number of parts of similar length that a batch is split into on a CPU


@dataclass(kw_only=True, eq=False, repr=False)
class SentenceEmbedder(TransformerModule):
    """An encoder that pools token vectors into a sentence embedding.

    `SentenceTransformer` and `AutoModel` load it. `transformers.pipeline("feature-extraction")`
    returns the token vectors before pooling. The other arguments are those of TransformerModule.

    Args:
        pooling: how token vectors are pooled; by default as in the pretrained model or the run of
            init_from, or mean if they do not specify it.
        normalize: whether vectors are scaled to length 1; by default as in the pretrained model or
            the run of init_from, or false if they do not specify it. Losses and metrics use the
            cosine in any case.
        objective: the loss: for scored pairs cosent (the default), angle or cosine; for pairs and
            triplets multiple_negatives (the default) or multiple_negatives_symmetric, which use the
            other rows of a batch as negatives; for triplets also triplet; for margins margin_mse.
            All except cosine, triplet and margin_mse compare the rows of a batch with each other,
            so that the loss depends on data.batch_size; each process compares only its own rows.
        scale: the factor of cosines in cosent, angle and multiple_negatives, 1 / temperature.
        margin: for triplet: the minimum difference between the cosines of a text with its pair and
            with its negative.
        form: a fact of the data.
    """

    task = "feature-extraction"
    auto_class = "AutoModel"
    distils = distillation.Vectors

    pooling: Pooling | None = None
    normalize: bool | None = None
    objective: Objective | None = None
    scale: float = 20.0
    margin: float = 0.5
    form: Form | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the loss, and build the network."""
        self.form = self.form or "pairs"
        supported = OBJECTIVES[self.form]
        self.objective = self.objective or supported[0]
        if self.objective not in supported:
            raise UsageError(
                f"model.objective: {self.objective} does not support data of the form {self.form}, "
                "which follows from the columns that data names. "
                f"Choose {' or '.join(supported)}."
            )
        if self.scale <= 0:
            raise UsageError(f"model.scale: got {self.scale}, expected more than 0.")
        need("sentence_transformers", extra="embedding", purpose=f"model: {type(self).__name__}")
        found, normalized = None, None
        source = self.pretrained and location.resolve(self.pretrained)
        if self.init_from is not None:
            source = str(artefact_folder(self.init_from))
        if source is not None:
            found, normalized = sentence_modules.read(source)
            if prompt := sentence_modules.default_prompt(source):
                logger.warning(
                    "pretrained: sentence-transformers puts %r before every text for %s; plcli "
                    "does not. Write it into the texts",
                    prompt,
                    self.pretrained,
                )
        pooling = self.pooling or found or "mean"
        if pooling not in get_args(Pooling):
            raise ModelError(
                f"pretrained: {source} uses {pooling} pooling; plcli supports "
                f"{', '.join(get_args(Pooling))}. Choose one with model.pooling."
            )
        self.normalize = bool(normalized) if self.normalize is None else self.normalize
        if self.lora is not None and self.lora.save == "adapter":
            raise UsageError(
                "model.lora.save: SentenceTransformer cannot load an adapter. Set it to merged."
            )
        self.auto_class = self._encoder_class()  # type: ignore[misc]  # of this model type
        super().__post_init__()
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler.requires_grad_(False)  # not used, so it would get no gradient
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            raise UsageError(f"model.freeze: {self.freeze} leaves nothing to train. Freeze less.")
        from sentence_transformers.sentence_transformer.modules import Pooling as TokenPooling

        self.pool = TokenPooling(self.model.config.hidden_size, pooling)
        self.criterion = criterion(self.objective, scale=self.scale, margin=self.margin)

    def _encoder_class(self) -> str:
        """Return the Auto class of the encoder: of a T5, for example, its encoder alone.

        Raises:
            ModelError: if transformers has no class for the encoder of a model with a decoder.
        """
        from transformers import CONFIG_MAPPING

        if self.pretrained is not None:
            tasks.check(self.auto_class, self.pretrained)
            return tasks.encoder_class(weights.load_config(self.pretrained)) or self.auto_class
        model_type = (self.architecture or {}).get("model_type")
        if self.init_from is not None:
            model_type = weights.load_config(str(artefact_folder(self.init_from))).model_type
        if model_type not in CONFIG_MAPPING:
            return self.auto_class  # an unknown model type is refused when it is built
        config = CONFIG_MAPPING[model_type]()
        found = tasks.encoder_class(config)
        if found is None:
            raise ModelError(f"model: {tasks.without_encoder(config)}")
        return found

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """Spearman's rank correlation if there are scores, otherwise nDCG."""
        return ("val_spearman" if self.form in ("scored", "margins") else "val_ndcg"), "max"

    def metrics(self) -> MetricCollection:
        """Correlation of cosines with scores; or retrieval metrics, which keep all vectors."""
        if self.form in ("scored", "margins"):
            correlations: dict[str, Any] = {
                "pearson": PearsonCorrCoef(),
                "spearman": SpearmanCorrCoef(),
            }
            return MetricCollection(correlations, compute_groups=False)
        found: dict[str, Any] = {"retrieval": Retrieval()}
        if self.form == "triplets":
            found["triplet_accuracy"] = MeanMetric()
        return MetricCollection(found, compute_groups=False)

    def forward(self, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the vectors of a batch's texts, [rows, texts per row, dimension].

        The parts of a batch have texts of similar length; order, int64 [rows, texts per row], has
        the position of each text in the concatenated parts.
        """
        vectors = []
        for part in batch["parts"]:
            tokens = super().forward(part).last_hidden_state
            features = {"token_embeddings": tokens, "attention_mask": part["attention_mask"]}
            vectors.append(self.pool(features)["sentence_embedding"])
        found = torch.cat(vectors)[batch["order"]]
        return functional.normalize(found, dim=-1) if self.normalize else found

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return the number of rows in a batch."""
        return float(len(batch["order"]))

    def loss(self, outputs: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the loss of a whole batch."""
        if self.objective in RANKING:
            same = false_negatives(batch["keys"])
            self.criterion.similarity_fct = partial(masked_cosines, masked=same)
        loss: torch.Tensor = self.criterion.compute_loss_from_embeddings(
            list(outputs.float().unbind(1)), batch.get("labels")
        )
        return loss

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns | None:
        """Add a batch."""
        text, pair, *negative = outputs.float().unbind(1)
        cosines = cosine_of_pairs(text, pair)
        margins = cosines - cosine_of_pairs(text, negative[0]) if negative else cosines
        if self.form in ("scored", "margins"):
            metrics.update(margins, batch["labels"])
            return {"truth": batch["labels"], "prediction": margins}
        metrics["retrieval"].update(text, pair, *batch["keys"][:, :2].unbind(1))
        if negative:
            metrics["triplet_accuracy"].update((margins > 0).float())
            return {"triplet_accuracy": (margins > 0).float()}
        return None

    def scoring(self, collector: RowCollector) -> Scoring:
        """Return how the scores follow from rows; those of retrieval are means over queries."""
        if self.form in ("scored", "margins"):
            return Numbers(names=["pearson", "spearman"])
        names = [*RETRIEVED, "triplet_accuracy"]
        return Means(
            names=names, proportions=["triplet_accuracy"], only={}, baseline_name="random ranking"
        )

    def late_rows(self, metrics: MetricCollection) -> RowColumns | None:
        """Return the scores of each query, which are known once all documents are."""
        if "retrieval" not in metrics:
            return None
        retrieval: Any = metrics["retrieval"]
        found: RowColumns = retrieval.rows()
        return found

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return the vector of a text, or the cosine of a pair."""
        vectors = outputs.float()
        if vectors.shape[1] == 1:
            name, values = "embedding", vectors[:, 0].tolist()
        else:
            name, values = "score", cosine_of_pairs(vectors[:, 0], vectors[:, 1]).tolist()
        return [
            {"id": row_id, name: value} for row_id, value in zip(batch["id"], values, strict=True)
        ]

    def save_pretrained(self, folder: Any) -> None:
        """Save the network, and the other files that SentenceTransformer needs."""
        super().save_pretrained(folder)
        sentence_modules.write(
            folder, pooling=self.pool, normalize=bool(self.normalize), max_length=self.max_length
        )

    def artefact_facts(self) -> dict[str, Any]:
        """Return how vectors are pooled and normalized, and their dimension."""
        return {
            **super().artefact_facts(),
            "pooling": self.pool.pooling_mode,
            "normalize": self.normalize,
            "dimension": self.model.config.hidden_size,
        }


@dataclass(kw_only=True, eq=False, repr=False)
class SentenceData(TextData):
    """Pairs of texts with scores, matching pairs, or triplets.

    The form of the data follows from the columns that are named. The other arguments are those of
    TextData; pieces is the number of parts of similar length in which the texts of a batch are
    run, which does not change the loss.

    Args:
        text: the text column; the only one that rows to predict need.
        pair: the column of texts that match the text or, with a score, that it was compared with.
            A list of texts is a row for each of them.
        negative: the column of texts that do not match the text; a list likewise.
        score: the column of scores: the similarity of text and pair or, with negative, the margin
            by which a teacher scores the pair above the negative.
        score_range: the lowest and the highest score, which scale scores to 0 to 1 as the loss
            cosine needs; by default those of the training rows.
        predict_pairs: whether rows to predict have text and pair, and predictions their cosine;
            otherwise rows have a text, and predictions its vector.
    """

    task = "feature-extraction"

    text: str = "text"
    pair: str = "pair"
    negative: str | None = None
    score: str | None = None
    score_range: list[float] | None = field(default=None, metadata=FACT)
    predict_pairs: bool = False

    def __post_init__(self) -> None:
        """Check the columns."""
        self.sides = [column for column in (self.text, self.pair, self.negative) if column]
        for name, column in (("pair", self.pair), ("negative", self.negative)):
            if self.sides.count(column or "") > 1:
                raise UsageError(
                    f"data.{name}: '{column}' is a duplicate. Name a different column for each "
                    "text of a row."
                )
        low, high = self.score_range if self.score_range and len(self.score_range) == 2 else (1, 0)
        if self.score_range is not None and not low < high:
            raise UsageError(
                f"data.score_range: got {self.score_range}, expected the lowest and the highest "
                "score, such as [0, 5]."
            )
        self.inputs = self.sides[:2] if self.predict_pairs else [self.text]
        super().__post_init__()

    @property
    def longest(self) -> int:
        """Maximum number of tokens per text; by default also that of a pretrained model."""
        found = None
        if self.max_length is None and self.tokenizer is not None:
            found = sentence_modules.longest(location.resolve(self.tokenizer))
        return min(super().longest, found or super().longest)

    @property
    def form(self) -> Form:
        """The form of the rows."""
        if self.score:
            return "margins" if self.negative else "scored"
        return "triplets" if self.negative else "pairs"

    def input_columns(self, split: str) -> list[str]:
        """Return the columns of a row's texts."""
        return self.inputs if split == "predict" else self.sides

    def columns(self, split: str) -> dict[str, Kind]:
        """The texts and, except for rows to predict, their score."""
        names = [] if split == "predict" else self.label_columns
        scored = dict.fromkeys(names, self.label_kind(Kind.NUMBER, split))
        columns = super().columns(split) | scored
        lists = [] if split == "predict" else [self.pair, self.negative]
        return columns | {name: Kind.EACH for name in lists if name is not None}

    @property
    def label_columns(self) -> Sequence[str]:
        """The column of scores, if there is one."""
        return [self.score] if self.score else []

    def encoder(self, split: str) -> Encoder:
        """Return an encoder that makes one entry per text of a row."""
        inner = TextEncoder(self.loaded_tokenizer, max_length=self.longest)
        return SideBySide(inner, len(self.input_columns(split)))

    @cached_property
    def lowest_and_highest(self) -> list[float]:
        """The range of the scores.

        Raises:
            DataError: if all scores of the training rows are equal.
        """
        if self.score_range is not None:
            return [float(number) for number in self.score_range]
        if self.train is None:
            raise UsageError(
                "data.score_range: is needed without training rows. Give the lowest and the "
                "highest score, such as [0, 5]."
            )
        scores = self.rows("train").table.column(str(self.score)).take(self.labelled("train"))
        found = pc.min_max(scores).as_py()
        if found["min"] == found["max"]:
            raise DataError(
                f"{self.rows('train').source}: column '{self.score}' is {found['min']:g} in all "
                "rows, so there is nothing to learn. Name another column with data.score."
            )
        return [found["min"], found["max"]]

    def facts(self) -> dict[str, Any]:
        """The form of the rows, and the range of their scores."""
        scores = {"score_range": self.lowest_and_highest} if self.form == "scored" else {}
        return {"form": self.form, **scores, **super().facts()}

    def targets(self, rows: Rows) -> npt.NDArray[np.float32] | None:
        """Scores scaled to 0 to 1, or unscaled margins, float32 [rows]; NaN without a score."""
        if self.score is None:
            return None
        numbers = rows.table.column(self.score).to_numpy()
        if self.form == "scored":
            low, high = self.lowest_and_highest
            numbers = (numbers - low) / (high - low)
        return np.asarray(numbers, np.float32)

    def train_dataloader(self) -> Any:
        """Return batches of random rows, not split, because losses compare rows of a batch."""
        loader = super().train_dataloader()
        self.num_pieces = 1
        return loader

    def collate(self, split: str, encoded: Encoded, indices: npt.NDArray[np.int64]) -> Batch:
        """Make a batch of whole rows: parts with texts of similar length, and the texts' order.

        The keys, int64 [rows, texts per row], are equal for texts with the same tokens.
        """
        entries, _ = encoded.entries(indices)
        by_length = np.argsort(encoded.lengths[entries], kind="stable")
        order = np.empty_like(by_length)
        order[by_length] = np.arange(len(entries))
        parts = min(
            self.pieces or (1 if self.whole_batches or self._on_gpu() else PARTS), len(entries)
        )
        keys = [_key(encoded.numbers("input_ids", entry)) for entry in entries]
        return {
            "parts": [encoded.batch(entries[part]) for part in np.array_split(by_length, parts)],
            "order": torch.from_numpy(order).view(len(indices), -1),
            "keys": torch.tensor(keys).view(len(indices), -1),
        }

    def describe(self, split: str) -> str:
        """Rows, and their form."""
        return f"{super().describe(split)}; {'texts' if split == 'predict' else self.form}"


def _key(ids: npt.NDArray[Any]) -> int:
    """Return a 64-bit hash of the tokens of a text."""
    digest = hashlib.blake2b(ids.astype(np.int32).tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
