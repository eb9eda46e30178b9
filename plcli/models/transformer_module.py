"""TransformerModule: the LightningModule that every transformer task builds on.

The module and its tasks are dataclasses whose fields are the keys of a config. The base class
builds the network and has the steps, optimizer groups, schedule and saving. A task's module
provides:

- `auto_class`: the name of the `transformers.Auto...` class; `settings()`: the settings of the
  network's config that depend on facts;
- `metrics()`: a new MetricCollection; `update(metrics, outputs, batch)`: adds a batch to it, and
  returns the columns to keep of its rows, from which `scoring(collector)` gives intervals;
- `summary(values)`: plain numbers and nested tables of an evaluation; plain numbers are logged as
  `val_NAME`;
- `predict_rows(outputs, batch)`: one plain dict per row, with its id;
- `monitor`: the validation metric that chooses the best epoch, and its direction.

A task overrides the following if it needs to: `loss(outputs, batch)`, the mean over `count(batch)`
terms; `loss_options`, the options of the loss that it supports; `network_loss`, whether the network
gets the labels and computes the loss; `evaluate(batch, split)`, if an evaluation step is more than
a loss and an update; `distils`, how it learns from a teacher. Facts of the data, such as label
names, are constructor arguments.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torchmetrics import MeanMetric, MetricCollection

from plcli.config.marks import FACT, LEARNING, LOCAL, WEIGHTS, WEIGHTS_PATH
from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.row_scores import RowCollector, RowColumns
from plcli.metrics.scoring import Scoring
from plcli.models import (
    build,
    dropout,
    hyperparameters,
    layers,
    lora,
    losses,
    optimization,
    padding,
    rates,
    step_loss,
    unpadded,
)
from plcli.models.adversarial import Adversarial, Attack
from plcli.models.distillation import Distillation, Teacher
from plcli.models.kept_layers import Kept
from plcli.models.layers import Freeze
from plcli.models.lora import Lora
from plcli.models.losses import ClassWeights
from plcli.models.optimization import AdamW, Plateau, Schedule
from plcli.pretrained import tokenizers
from plcli.pretrained.label_ids import IGNORED

Architecture = dict[str, int | float | str]
# as in BERT's original training; `trainer.gradient_clip_val` overrides it, 0 turns clipping off
MAX_GRADIENT_NORM = 1.0


@dataclass(kw_only=True, eq=False, repr=False)
class TransformerModule(LightningModule):
    """A transformer with the head of a task, and its losses, metrics, optimizer and schedule.

    Args:
        pretrained: a hub id, a folder, or package:NAME/FOLDER for those of an installed package.
        architecture: instead of pretrained: a model_type and sizes, to train from random weights.
        init_from: instead of pretrained: a run to start from; its head is matched by label name.
        keep_layers: the number of layers to keep of these weights, evenly spaced, or a list of
            their numbers from 1; the network starts with these alone.
        teacher: a run of the same task to learn from, beside the labels (distillation).
        lora: trains low-rank updates instead of the network.
        freeze: the number of lowest layers to freeze together with the embeddings; or embeddings;
            or all for everything except the head.
        optimizer: by default AdamW; without lr, the rate is chosen by the size of the network and
            the number of steps; biases and norms have no weight decay.
        head_lr: the learning rate of the head and of newly initialized parameters; by default that
            of the optimizer.
        layer_decay: the factor of the learning rate from each layer to the one below it.
        schedule: the learning rate schedule after the warm-up, stepped every optimizer step.
        warmup: number of warm-up steps; below 1, a fraction of all steps.
        plateau: settings of `schedule: plateau`, which follows the metric that the task monitors,
            such as val_f1.
        class_weights: the weights of the classes in the loss: a list in their order, a mapping by
            name, or auto for the inverse of their frequency.
        focal: the exponent of the focal loss, which reduces the loss of well-classified examples; 0
            is plain cross-entropy.
        label_smoothing: the probability that is spread over all classes.
        huber: for regression: the Huber loss, which is linear for errors beyond this value.
        r_drop: the weight of the divergence between two passes with different dropout; 0 runs one
            pass.
        adversarial: also trains with weights that are perturbed to increase the loss.
        compile: whether to use torch.compile, with dynamic shapes.
        gradient_checkpointing: whether to recompute activations in the backward pass, which needs
            less memory and about a third more time.
        unpadded: whether training batches are run without padding, which does not change their
            gradient; by default on a CPU for encoders whose outputs stay the same.
        vocab_size: a fact of the data.
        pad_token_id: a fact of the data.
        max_length: a fact of the data.
        label_frequencies: a fact of the data: the fraction of the training rows or tokens with each
            label.
    """

    task: ClassVar[str]
    auto_class: ClassVar[str]
    terms: ClassVar[Literal["rows", "labels"]] = "rows"  # what the loss is the mean of
    network_loss: ClassVar[bool] = True  # whether the network gets the labels
    distils: ClassVar[type | None] = None  # what is learned of a teacher: plcli.models.distillation
    gradient_norm = None  # a tensor if the norm of this step was computed before clipping
    _evaluating = "val"
    given_tokenizer = None  # the tokenizer of the data, set by use_tokenizer
    seed = 0  # for sampling during generation
    chosen_rate = None  # the learning rate, where the config gives none
    has_loaded_weights = False  # from a checkpoint, in place of those it was made with

    pretrained: str | None = field(default=None, metadata=WEIGHTS_PATH)
    architecture: Architecture | None = field(default=None, metadata={**WEIGHTS, **LEARNING})
    init_from: str | None = field(default=None, metadata={**WEIGHTS_PATH, **LEARNING})
    keep_layers: Kept | None = field(default=None, metadata={**WEIGHTS, **LEARNING})
    teacher: Teacher | str | None = field(default=None, metadata={**WEIGHTS_PATH, **LEARNING})
    lora: Lora | None = field(default=None, metadata={**WEIGHTS, **LEARNING})
    freeze: Freeze | None = field(default=None, metadata={**WEIGHTS, **LEARNING})  # type: ignore[assignment]  # hides LightningModule.freeze
    optimizer: OptimizerCallable = field(default_factory=AdamW, metadata={**LOCAL, **LEARNING})
    head_lr: float | None = field(default=None, metadata=LEARNING)
    layer_decay: float | None = field(default=None, metadata=LEARNING)
    schedule: Schedule = field(default="linear", metadata=LEARNING)
    warmup: float = field(default=0.1, metadata=LEARNING)
    plateau: Plateau | None = field(default=None, metadata=LEARNING)
    class_weights: ClassWeights | None = None
    focal: float = 0.0
    label_smoothing: float = 0.0
    huber: float | None = None
    r_drop: float = field(default=0.0, metadata=LEARNING)
    adversarial: Adversarial | None = field(default=None, metadata=LEARNING)
    compile: bool = False  # type: ignore[assignment]  # hides Module.compile, of which none is made
    gradient_checkpointing: bool = field(default=False, metadata=LEARNING)
    unpadded: bool | None = field(default=None, metadata=LEARNING)
    vocab_size: int | None = field(default=None, metadata=FACT)
    pad_token_id: int | None = field(default=None, metadata=FACT)
    max_length: int | None = field(default=None, metadata=FACT)
    label_frequencies: list[float] | None = field(default=None, metadata=FACT)

    def __post_init__(self) -> None:
        """Check the settings, and build or load the network; a task sets its own ones before."""
        super().__init__()
        hyperparameters.complete(self)
        build.check(self)
        self.weights_of_classes = losses.class_weights(
            self.class_weights,
            names=self.class_names,
            frequencies=self.label_frequencies,
            several=self.several_labels,
        )
        self.results: dict[str, dict[str, Any]] = {}
        self.evaluated_rows: dict[str, EvaluatedRows] = {}
        self._collectors = {"val": RowCollector(), "test": RowCollector(analysed=True)}
        self.model, self.fresh_names = build.build(self)
        self.attack = Attack(self.model, self.adversarial) if self.adversarial else None
        self.distillation = Distillation(self) if self.teacher else None
        self.check_sizes()
        self._metrics = torch.nn.ModuleDict({split: self.metrics() for split in ("val", "test")})
        self._losses = torch.nn.ModuleDict({split: MeanMetric() for split in ("val", "test")})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note that the weights are trained ones."""
        self.has_loaded_weights = True
        if self.distillation is not None:
            self.distillation.check_resumed(checkpoint.get("teacher"))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the arguments with which Lightning's `load_from_checkpoint` makes the module."""
        checkpoint["hyper_parameters"] = hyperparameters.of(self)
        if self.distillation is not None:
            checkpoint["teacher"] = self.distillation.digest

    @cached_property
    def parts(self) -> layers.Parts:
        """The parts of the network by depth."""
        return layers.Parts(self.model, self.fresh_names)

    def check_sizes(self) -> None:
        """Check that the network can take the data's tokens."""
        build.check_sizes(self.model, longest=self.max_length, vocab_size=self.vocab_size)

    # what a task provides

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The validation metric that chooses the best epoch, and its direction."""
        return "val_loss", "min"

    def settings(self) -> dict[str, Any]:
        """Return the task's settings of the model's config."""
        return {}

    def metrics(self) -> MetricCollection:
        """Return new running metrics."""
        raise NotImplementedError

    def update(
        self, metrics: MetricCollection, outputs: Any, batch: Mapping[str, Any]
    ) -> RowColumns | None:
        """Add a batch's outputs to the metrics, and return what to keep of its rows, if any."""
        raise NotImplementedError

    def count_tokens(self, ids: torch.Tensor, *, size: int) -> None:
        """Count the tokens of an evaluation for its baseline, int64 [tokens]."""
        self._collectors[self._evaluating].count_tokens(ids, size=size)

    @property
    def analyses(self) -> bool:
        """Whether the rows of this evaluation, a test, are analysed one by one afterwards."""
        return self._evaluating == "test"

    def scoring(self, collector: RowCollector) -> Scoring | None:
        """Return how scores follow from what `update` returns; None if there are no intervals."""
        return None

    def late_rows(self, metrics: MetricCollection) -> RowColumns | None:
        """Return what to keep of all rows that is only known at the end of an evaluation."""
        return None

    def summary(self, values: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Convert the mean loss and the computed metrics to plain numbers and tables."""
        return {name: float(value) for name, value in values.items()}

    def predict_rows(self, outputs: Any, batch: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Convert the outputs of a batch to one plain dict per row."""
        raise NotImplementedError

    def loss(self, outputs: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the mean loss over the terms of a batch."""
        loss: torch.Tensor = outputs.loss
        return loss

    def count(self, batch: Mapping[str, Any]) -> float:
        """Return the number of terms that the loss of a batch is a mean over; see `terms`."""
        if self.terms == "rows":
            return float(len(batch["input_ids"]))
        return float((batch["labels"] != IGNORED).sum())

    # options of the loss, for tasks that name them in loss_options

    @property
    def loss_options(self) -> frozenset[str]:
        """Which of class_weights, focal, label_smoothing, huber and r_drop the loss supports."""
        return frozenset()

    @property
    def several_labels(self) -> bool:
        """Whether the task is multi-label: a row has a target of 0 or 1 for each label."""
        return False

    @property
    def class_names(self) -> Sequence[str]:
        """The classes in order."""
        return getattr(self, "labels", None) or []

    def classification_loss(self, logits: torch.Tensor, label_ids: torch.Tensor) -> torch.Tensor:
        """Return the mean classification loss with the options of the config.

        Args:
            logits: float [..., classes].
            label_ids: int64 [...], -100 without a label; or multi-label targets of 0 and 1, float
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
        """Return the total weight of the terms of `classification_loss`."""
        if self.several_labels:
            return float(len(label_ids))
        return losses.total_weight(label_ids, self.weights_of_classes)

    def divergence(self, first: Any, second: Any, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the divergence between the outputs of two passes, a mean over the loss's terms."""
        return losses.divergence(
            first.logits, second.logits, batch["labels"], weights=self.weights_of_classes
        )

    # steps

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Run the network on a batch.

        The batch contains input_ids and attention_mask, int64 [rows, tokens], and labels if they
        are known. The network gets those tensors that its forward method has arguments for.
        """
        inputs = {
            key: value
            for key, value in batch.items()
            if key in self._network_arguments and isinstance(value, torch.Tensor)
        }
        mask = batch.get("attention_mask")  # a data module of one's own may give none
        return padding.run(
            self.model, inputs, mask=mask, arguments=self._network_arguments, count=self.count
        )

    @cached_property
    def _network_arguments(self) -> set[str]:
        arguments = set(inspect.signature(self.model.forward).parameters)
        return arguments if self.network_loss else arguments - {"labels"}

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> torch.Tensor:
        """Return the mean loss of a batch.

        The batch is split into micro-batches of rows with similar length, which saves padding.
        """
        loss, terms = step_loss.of_batch(self, batch["pieces"])
        self.log("train_loss", loss, prog_bar=True, batch_size=max(1, int(terms)))
        return loss

    def on_after_backward(self) -> None:
        """Restore the weights that were perturbed for this batch."""
        if self.attack is not None:
            self.attack.restore()

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self.evaluate(batch, "val")

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self.evaluate(batch, "test")

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Return one plain dict per row."""
        return self.predict_rows(self(batch), batch)

    def evaluate(self, batch: Mapping[str, Any], split: str) -> Any:
        """Add a batch to the metrics of val or test, and return the network's outputs."""
        self._evaluating = split
        outputs = self(batch)
        if count := self.count(batch):
            self._losses[split].update(self.loss(outputs, batch), weight=count)  # type: ignore[operator]  # a ModuleDict's
        kept = self.update(self._metrics[split], outputs, batch)  # type: ignore[arg-type]  # a ModuleDict's
        if kept:
            self._collectors[split].add(batch.get("index"), kept, groups=batch.get("group"))
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
        late = self.late_rows(metrics)
        metrics.reset()
        loss.reset()
        self.results[split] = values
        self.evaluated_rows.pop(split, None)
        ranks = getattr(self._trainer, "world_size", 1)
        if found := self._collectors[split].finish(self.scoring, late, ranks):
            self.evaluated_rows[split] = found
        if split == "val" and self.schedule == "plateau":
            optimization.observe(self, float(values[self.monitor[0].removeprefix("val_")]))
        self.log_dict(
            {
                f"{split}_{name}": value
                for name, value in values.items()
                if isinstance(value, float)
            },
            sync_dist=True,  # the metrics are synchronized already, which Lightning cannot know
        )

    # optimization

    def configure_optimizers(self) -> Any:
        """Return the optimizer and a schedule that is stepped every optimizer step.

        Biases and norms have no weight decay.
        """
        return optimization.configure(self)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the gradient to 1.0, unless the trainer sets another value."""
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

    # methods that plcli calls: see plcli.config.contracts

    def use_tokenizer(self, tokenizer: Any) -> None:
        """Set the tokenizer of the data, which decodes generated tokens and fits the teacher's."""
        self.given_tokenizer = tokenizer
        if self.distillation is not None:
            self.distillation.check_tokenizer(tokenizer)

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the data, or that of the pretrained model if the data have none.

        Raises:
            UsageError: if there is neither.
        """
        if self.given_tokenizer is None:
            self.given_tokenizer = tokenizers.of_model(self.pretrained, type(self).__name__)
        return self.given_tokenizer

    @tokenizer.setter
    def tokenizer(self, tokenizer: Any) -> None:
        self.given_tokenizer = tokenizer

    def use_seed(self, seed: int) -> None:
        """Set the seed of the run."""
        self.seed = seed

    def use_gradient_norm(self, norm: torch.Tensor) -> None:
        """Set the norm of this step's gradient, so that clipping need not compute it again."""
        self.gradient_norm = norm

    def use_device(self, kind: str) -> bool:
        """Prepare for training on cpu, cuda, ...; return whether batches are without padding."""
        if kind == "cpu" and not self.compile:
            dropout.quicken(self.model)
        return unpadded.prepare(self, kind)

    def choose_epochs(self, steps: float) -> int:
        """Return the number of epochs of a training for which none is given."""
        return rates.epochs(steps=steps)

    # the artefact

    def save_pretrained(self, folder: Path) -> None:
        """Save the network so that transformers loads it: config.json and model.safetensors."""
        if self.adapter_base is not None:
            lora.save(self.model, folder, base=self.adapter_base["name"])
        else:
            self.whole_model().save_pretrained(folder)

    def whole_model(self) -> Any:
        """Return the network as it is saved, with any low-rank updates merged."""
        return lora.merged(self.model) if lora.is_adapted(self.model) else self.model

    @cached_property
    def adapter_base(self) -> dict[str, str] | None:
        """The pretrained weights that an adapter needs; None if all weights are saved."""
        if self.lora is None or self.lora.save == "merged":
            return None
        assert self.pretrained is not None
        return lora.describe_base(self.pretrained)

    def artefact_facts(self) -> dict[str, Any]:
        """Return additional entries about the model for the artefact's plcli.json."""
        return {} if self.distillation is None else {"teacher": self.distillation.facts()}
