"""TransformerModule: the LightningModule that every transformer task builds on.

It and its tasks are dataclasses: their fields are the keys of a config. A task's module gives
these, and the rest stands here: building, the steps, optimizer groups, schedule, saving.

- `auto_class`: the name of the `transformers.Auto...` class; `settings()`: what it needs of the
  facts;
- `metrics()`: a fresh MetricCollection; `update(metrics, outputs, batch)`: one batch into it;
- `summary(values)`: plain numbers and nested tables of an evaluation; plain numbers are logged as
  `val_NAME`;
- `predict_rows(outputs, batch)`: one plain dict a row, with its id;
- `monitor`: the validation metric that chooses the best epoch, and its direction.

And where it needs to: `loss(outputs, batch)`, the mean over `count(batch)` terms; `loss_options`,
which of the options of losses it takes; `network_loss`, whether the network is given the labels and
makes the loss; `evaluate(batch, split)`, for more than a loss and an update.

The module knows nothing of the data module: facts such as label names are constructor arguments.
"""

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torchmetrics import MeanMetric, MetricCollection

from plcli.config.marks import FACT, LOCAL, WEIGHTS, WEIGHTS_PATH
from plcli.errors import UsageError
from plcli.models import build, layers, lora, losses, optimization
from plcli.models.adversarial import Adversarial, Attack
from plcli.models.layers import Freeze
from plcli.models.lora import Lora
from plcli.models.losses import ClassWeights
from plcli.models.optimization import Plateau, Schedule, WarmupPlateau
from plcli.pretrained import tokenizers
from plcli.pretrained.label_ids import IGNORED

logger = logging.getLogger(__name__)

Architecture = dict[str, int | float | str]
MAX_GRADIENT_NORM = (
    1.0  # what BERT's authors clip at; `trainer.gradient_clip_val` overrides it, 0 turns it off
)


class AdamW(dict[str, Any]):
    """AdamW at 2e-5 as a config says it, so that a key of it can be overridden; called, it is made.

    jsonargparse reads such a default from a constructor's source, which a dataclass has not.
    """

    def __init__(self) -> None:
        super().__init__(class_path="torch.optim.AdamW", init_args={"lr": 2e-5})

    def __call__(self, parameters: Any) -> torch.optim.Optimizer:
        """Make the optimizer."""
        return torch.optim.AdamW(parameters, **self["init_args"])


@dataclass(kw_only=True, eq=False, repr=False)
class TransformerModule(LightningModule):
    """A transformer with a task's head, its losses, metrics, optimizer and schedule.

    Args:
        pretrained: a hub id, a folder, or package:NAME/FOLDER for weights inside an installed
            package.
        architecture: instead of pretrained: a model_type and sizes, for training from random
            weights.
        init_from: instead of pretrained: a run or its model/ folder to go on from; the head's rows
            follow the names of the labels.
        lora: low-rank updates are trained instead of the network.
        freeze: leaves the embeddings and so many of the lowest layers as they are; or embeddings
            alone, or all but the head.
        optimizer: by default AdamW at 2e-5 (Devlin et al. 2019, appendix A.3); weight decay spares
            biases and norms.
        head_lr: the learning rate of the head and of what is fresh; by default the optimizer's.
        layer_decay: what the learning rate is multiplied with from each layer to the one below it.
        schedule: of the learning rate after the warm-up, stepped every optimizer step.
        warmup: steps of rising learning rate; below 1, a part of all steps.
        plateau: for `schedule: plateau`, which follows the task's own metric, such as val_f1.
        class_weights: of the classes in the loss: a list in their order, a mapping by name, or auto
            for the inverse of their frequency.
        focal: the exponent that makes little of what is right already; 0 is cross-entropy.
        label_smoothing: the part of a label that all classes share.
        huber: for numbers: errors beyond it count in a straight line instead of squared.
        r_drop: how much two passes with other dropout are held to agree; 0 makes one pass.
        adversarial: trains on weights moved against the loss as well.
        compile: whether torch.compile makes kernels for the model, of any shape of batch.
        gradient_checkpointing: whether activations are computed again instead of kept: less memory,
            about a third more time.
        vocab_size: a fact of the data.
        pad_token_id: a fact of the data.
        max_length: a fact of the data.
        label_frequencies: a fact of the data: the part of the training rows or tokens that has each
            label.
    """

    task: ClassVar[str]
    auto_class: ClassVar[str]
    terms: ClassVar[Literal["rows", "labels"]] = "rows"  # what the loss is the mean of
    network_loss: ClassVar[bool] = True  # whether the network is given the labels
    gradient_norm = None  # a tensor where this step's was computed before clipping
    given_tokenizer = None  # the data's, once it is handed over
    seed = 0  # of what is drawn while generating

    pretrained: str | None = field(default=None, metadata=WEIGHTS_PATH)
    architecture: Architecture | None = field(default=None, metadata=WEIGHTS)
    init_from: str | None = field(default=None, metadata=WEIGHTS_PATH)
    lora: Lora | None = field(default=None, metadata=WEIGHTS)
    freeze: Freeze | None = field(default=None, metadata=WEIGHTS)  # type: ignore[assignment]  # hides LightningModule.freeze
    optimizer: OptimizerCallable = field(default_factory=AdamW, metadata=LOCAL)
    head_lr: float | None = None
    layer_decay: float | None = None
    schedule: Schedule = "linear"
    warmup: float = 0.1
    plateau: Plateau | None = None
    class_weights: ClassWeights | None = None
    focal: float = 0.0
    label_smoothing: float = 0.0
    huber: float | None = None
    r_drop: float = 0.0
    adversarial: Adversarial | None = None
    compile: bool = False  # type: ignore[assignment]  # hides Module.compile, of which none is made
    gradient_checkpointing: bool = False
    vocab_size: int | None = field(default=None, metadata=FACT)
    pad_token_id: int | None = field(default=None, metadata=FACT)
    max_length: int | None = field(default=None, metadata=FACT)
    label_frequencies: list[float] | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the values, and build or load the network; a task sets its own values before."""
        super().__init__()
        build.check(self)
        self.weights_of_classes = losses.class_weights(
            self.class_weights,
            names=self.class_names,
            frequencies=self.label_frequencies,
            several=self.several_labels,
        )
        self.results: dict[str, dict[str, Any]] = {}
        self.model, self.fresh_names = build.build(self)
        self._attack = Attack(self.model, self.adversarial) if self.adversarial else None
        self.check_sizes()
        self._metrics = torch.nn.ModuleDict({split: self.metrics() for split in ("val", "test")})
        self._losses = torch.nn.ModuleDict({split: MeanMetric() for split in ("val", "test")})

    @cached_property
    def parts(self) -> layers.Parts:
        """The parts of the network by depth."""
        return layers.Parts(self.model, self.fresh_names)

    def check_sizes(self) -> None:
        """Check that the network can take the data's tokens."""
        build.check_sizes(self.model, longest=self.max_length, pieces=self.vocab_size)

    # what a task gives

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The validation metric that chooses the best epoch, and its direction."""
        return "val_loss", "min"

    def settings(self) -> dict[str, Any]:
        """Return what the model's config has to say of the task."""
        return {}

    def metrics(self) -> MetricCollection:
        """Return fresh running metrics."""
        raise NotImplementedError

    def update(self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]) -> None:
        """Add a batch's outputs to the metrics."""
        raise NotImplementedError

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Turn the mean loss and computed metrics into plain numbers and tables."""
        return {name: float(value) for name, value in values.items()}

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Turn a batch's outputs into one plain dict a row."""
        raise NotImplementedError

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss of a batch's terms."""
        loss: torch.Tensor = outputs.loss
        return loss

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return the number of terms that the loss of a batch is the mean of, see `terms`."""
        if self.terms == "rows":
            return float(len(batch["input_ids"]))
        return float((batch["labels"] != IGNORED).sum())

    # options of the loss: a task that names them in loss_options makes its loss of these

    @property
    def loss_options(self) -> frozenset[str]:
        """Which of class_weights, focal, label_smoothing, huber and r_drop the loss takes."""
        return frozenset()

    @property
    def several_labels(self) -> bool:
        """Whether a row has any number of labels, and its targets are 0 and 1 for each."""
        return False

    @property
    def class_names(self) -> Sequence[str]:
        """The classes in order."""
        return getattr(self, "labels", None) or []

    def classification_loss(self, logits: torch.Tensor, label_ids: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of logits [..., classes] with the options that were chosen.

        Args:
            logits: float [..., classes].
            label_ids: int64 [...], -100 where there is none; of several labels 0 and 1, float
                [rows, classes].
        """
        loss = losses.binary_cross_entropy if self.several_labels else losses.cross_entropy
        return loss(
            logits,
            label_ids,
            weights=self.weights_of_classes,
            focal=self.focal,
            smoothing=self.label_smoothing,
        )

    def classification_count(self, label_ids: torch.Tensor) -> float:
        """Return what the terms of `classification_loss` weigh together."""
        if self.several_labels:
            return float(len(label_ids))
        return losses.total_weight(label_ids, self.weights_of_classes)

    def divergence(self, first: Any, second: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return how far the outputs of two passes are apart, a mean over the terms of the loss."""
        return losses.divergence(
            first.logits, second.logits, batch["labels"], weights=self.weights_of_classes
        )

    # steps

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Run the network on a batch.

        It holds input_ids and attention_mask, int64 [rows, tokens], and labels where known; the
        network is given the tensors that it has arguments for.
        """
        return self.model(
            **{
                key: value
                for key, value in batch.items()
                if key in self._network_arguments and isinstance(value, torch.Tensor)
            }
        )

    @cached_property
    def _network_arguments(self) -> set[str]:
        taken = set(inspect.signature(self.model.forward).parameters)
        return taken if self.network_loss else taken - {"labels"}

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> torch.Tensor:
        """Return the mean loss of a batch.

        The batch comes in pieces of like length that save padding.
        """
        pieces = batch["pieces"]
        counts = [self.count(piece) for piece in pieces]
        total = sum(counts)

        def passed() -> torch.Tensor:
            parts = [
                self._piece_loss(piece) * (count / total)
                for piece, count in zip(pieces, counts, strict=True)
                if count
            ]
            if not parts:  # no term in the whole batch: every gradient is zero
                parts = [parameter.sum() * 0.0 for parameter in self.model.parameters()]
            return torch.stack(parts).sum()

        if self._attack is None:
            loss = passed()
        else:
            scaler = getattr(self.trainer.precision_plugin, "scaler", None)
            scale = 1.0 if scaler is None else scaler.get_scale()
            loss = self._attack.loss(passed, scale=scale)
        self.log("train_loss", loss, prog_bar=True, batch_size=max(1, int(total)))
        return loss

    def _piece_loss(self, piece: Mapping[str, Any]) -> torch.Tensor:
        outputs = self(piece)
        loss = self.loss(outputs, piece)
        if not self.r_drop:
            return loss
        other = self(piece)
        both = (loss + self.loss(other, piece)) / 2
        return both + self.r_drop * self.divergence(outputs, other, piece)

    def on_after_backward(self) -> None:
        """Put weights back that were moved for this batch."""
        if self._attack is not None:
            self._attack.restore()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self.evaluate(batch, "val")

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self.evaluate(batch, "test")

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Return one plain dict a row."""
        return self.predict_rows(self(batch), batch)

    def evaluate(self, batch: Mapping[str, Any], split: str) -> Any:
        """Add a batch to the metrics of val or test, and return the network's outputs."""
        outputs = self(batch)
        if count := self.count(batch):
            self._losses[split].update(self.loss(outputs, batch), weight=count)  # type: ignore[operator]  # a ModuleDict's
        self.update(self._metrics[split], outputs, batch)  # type: ignore[arg-type]  # a ModuleDict's
        return outputs

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._finish("test")

    def _finish(self, split: str) -> None:
        metrics: Any = self._metrics[split]
        loss: Any = self._losses[split]
        values = self.summary({"loss": loss.compute(), **metrics.compute()})
        metrics.reset()
        loss.reset()
        self.results[split] = values
        if split == "val" and self.schedule == "plateau":
            self._observe(values)
        self.log_dict(
            {
                f"{split}_{name}": value
                for name, value in values.items()
                if isinstance(value, float)
            },
            sync_dist=True,  # the metrics have synchronised themselves; Lightning cannot know
        )

    def _observe(self, values: Mapping[str, Any]) -> None:
        """Tell the schedule what a validation has come to."""
        if self.trainer.state.fn != "fit" or self.trainer.sanity_checking:
            return
        schedule = self.lr_schedulers()
        assert isinstance(schedule, WarmupPlateau)
        if schedule.observe(float(values[self.monitor[0].removeprefix("val_")])):
            logger.info(
                "no better for a while: the learning rate is now %.3g of its full", schedule.scale
            )

    # optimization

    def configure_optimizers(self) -> Any:
        """Return the optimizer and a schedule that is stepped every step.

        There is no decay on biases and norms.
        """
        optimizer = optimization.make_optimizer(
            self.optimizer,
            self.model,
            parts=self.parts if self.head_lr or self.layer_decay else None,
            head_lr=self.head_lr,
            layer_decay=self.layer_decay,
        )
        if self.schedule == "plateau" and not self.trainer.enable_validation:
            raise UsageError(
                "model.schedule: plateau follows the validation, but there is none. "
                "Choose another schedule."
            )
        scheduler = optimization.schedule(
            self.schedule,
            optimizer,
            warmup=self.warmup,
            total=self.trainer.estimated_stepping_batches,
            plateau=self.plateau,
            mode=self.monitor[1],
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step", "name": "lr"},
        }

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient's norm to 1.0, unless the trainer says otherwise."""
        value = MAX_GRADIENT_NORM if gradient_clip_val is None else gradient_clip_val
        norm, self.gradient_norm = self.gradient_norm, None
        if norm is not None and value and gradient_clip_algorithm in (None, "norm"):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grads_with_norm_(parameters, value, norm)
            return
        self.clip_gradients(
            optimizer,
            gradient_clip_val=value,
            gradient_clip_algorithm=gradient_clip_algorithm or "norm",
        )

    # the artefact

    # what plcli hands over: plcli.config.contracts

    def use_tokenizer(self, tokenizer: Any) -> None:
        """Take the data's tokenizer, which turns generated tokens into text."""
        self.given_tokenizer = tokenizer

    @property
    def tokenizer(self) -> Any:
        """The data's tokenizer; where the data have none, that of the pretrained model.

        Raises:
            UsageError: if there is neither.
        """
        if self.given_tokenizer is None:
            if self.pretrained is None:
                raise UsageError(
                    f"model: {type(self).__name__} turns tokens into text and has no tokenizer. "
                    "Name model.pretrained, or let the data module have the tokenizer as its "
                    "attribute loaded_tokenizer."
                )
            self.given_tokenizer = tokenizers.load_tokenizer(self.pretrained)
        return self.given_tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self.given_tokenizer = tokenizer

    def use_seed(self, seed: int) -> None:
        """Take the run's seed."""
        self.seed = seed

    def use_gradient_norm(self, norm: torch.Tensor) -> None:
        """Keep the norm of this step's gradient, which clipping then need not take again."""
        self.gradient_norm = norm

    def save_pretrained(self, folder: Path) -> None:
        """Save the network so that transformers loads it: config.json and model.safetensors."""
        if self.adapter_base is not None:
            lora.save(self.model, folder, base=self.adapter_base["name"])
        else:
            self.whole_model().save_pretrained(folder)

    def whole_model(self) -> Any:
        """Return the network as it is saved: with what was learnt beside its weights merged in."""
        return lora.merged(self.model) if lora.is_adapted(self.model) else self.model

    @cached_property
    def adapter_base(self) -> dict[str, str] | None:
        """Where the weights are that an adapter is saved without; None where all are saved."""
        if self.lora is None or self.lora.save == "merged":
            return None
        assert self.pretrained is not None
        return lora.describe_base(self.pretrained)

    def artefact_facts(self) -> dict[str, Any]:
        """Return what else the artefact's plcli.json says of the model."""
        return {}
