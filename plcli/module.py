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

And where it needs to: `loss(outputs, batch)`, the mean over `count(batch)` terms; `aside`, the
tensors of a batch that the network does not take; `evaluate(batch, split)`, for more than a loss
and an update.

The module knows nothing of the data module: facts such as label names are constructor arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torchmetrics import MeanMetric, MetricCollection

from plcli import hardware
from plcli import pretrained as loading
from plcli.errors import ModelError, UsageError

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
        optimizer: by default AdamW at 2e-5 (Devlin et al. 2019, appendix A.3); weight decay spares
            biases and norms.
        schedule: of the learning rate after the warm-up, stepped every optimizer step.
        warmup: steps of rising learning rate; below 1, a part of all steps.
        compile: whether torch.compile makes kernels for the model, of any shape of batch.
        gradient_checkpointing: whether activations are computed again instead of kept: less memory,
            about a third more time.
        vocab_size: a fact of the data.
        pad_token_id: a fact of the data.
        max_length: a fact of the data.
    """

    task: ClassVar[str]
    auto_class: ClassVar[str]
    aside: ClassVar[frozenset[str]] = frozenset()  # tensors of a batch that are not the network's
    gradient_norm = None  # a tensor where this step's was computed before clipping

    pretrained: str | None = None
    architecture: Architecture | None = None
    optimizer: OptimizerCallable = field(default_factory=AdamW)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.1
    compile: bool = False  # type: ignore[assignment]  # hides Module.compile, of which none is made
    gradient_checkpointing: bool = False
    vocab_size: int | None = None
    pad_token_id: int | None = None
    max_length: int | None = None

    def __post_init__(self) -> None:
        """Check the values, and build or load the network; a task sets its own values before."""
        super().__init__()
        if (self.pretrained is None) == (self.architecture is None):
            raise UsageError(
                "model: give either pretrained (weights to start from) "
                "or architecture (a model_type and sizes)."
            )
        self.results: dict[str, dict[str, Any]] = {}
        self.model = self._build()
        self._check_sizes()
        self._metrics = torch.nn.ModuleDict({split: self.metrics() for split in ("val", "test")})
        self._losses = torch.nn.ModuleDict({split: MeanMetric() for split in ("val", "test")})

    def _build(self) -> Any:
        import transformers

        auto_class = getattr(transformers, self.auto_class)
        if self.pretrained is not None:
            model = loading.load_model(auto_class, self.pretrained, **self.settings())
        else:
            known = {"vocab_size": self.vocab_size, "pad_token_id": self.pad_token_id}
            sizes = {key: value for key, value in known.items() if value is not None}
            model = loading.build_model(
                auto_class, self.architecture or {}, **{**sizes, **self.settings()}
            )
        if self.gradient_checkpointing:
            new_name = getattr(model, "activation_checkpointing_enable", None)
            (new_name or model.gradient_checkpointing_enable)()
        if self.compile:
            hardware.check_compiler()
            model.compile(dynamic=True)
        return model

    def _check_sizes(self) -> None:
        limit, longest = loading.most_positions(self.model), self.max_length
        if limit is not None and longest is not None and longest > limit:
            raise ModelError(
                f"data.max_length: {longest} tokens are more than the model's {limit} positions. "
                f"Set it to {limit} or less."
            )
        known, pieces = loading.vocabulary(self.model), self.vocab_size
        if known is not None and pieces is not None and pieces > known:
            raise ModelError(
                f"data.tokenizer: its {pieces} tokens are more than the {known} that the model "
                "knows. Leave the key away, so that the tokenizer is the model's own."
            )

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
        """Return how many terms the loss of a batch is the mean of: here, its rows."""
        return float(len(batch["input_ids"]))

    # steps

    def forward(self, batch: Mapping[str, Any]) -> Any:
        """Run the network on a batch.

        It holds input_ids and attention_mask, int64 [rows, tokens], and labels where known.
        """
        return self.model(
            **{
                key: value
                for key, value in batch.items()
                if isinstance(value, torch.Tensor) and key not in self.aside
            }
        )

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> torch.Tensor:
        """Return the mean loss of a batch.

        The batch comes in pieces of like length that save padding.
        """
        counts = [self.count(piece) for piece in batch["pieces"]]
        total = sum(counts)
        losses = [
            self.loss(self(piece), piece) * (count / total)
            for piece, count in zip(batch["pieces"], counts, strict=True)
            if count
        ] or [self(batch["pieces"][0])[0].sum() * 0.0]  # nothing to learn from
        loss = torch.stack(losses).sum()
        self.log("train_loss", loss, prog_bar=True, batch_size=max(1, int(total)))
        return loss

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
            self._losses[split].update(self.loss(outputs, batch), weight=count)  # type: ignore[operator]
        self.update(self._metrics[split], outputs, batch)  # type: ignore[arg-type]
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
        self.log_dict(
            {
                f"{split}_{name}": value
                for name, value in values.items()
                if isinstance(value, float)
            },
            sync_dist=True,  # the metrics have synchronised themselves; Lightning cannot know
        )

    # optimization

    def configure_optimizers(self) -> Any:
        """Return the optimizer and a schedule that is stepped every step.

        There is no decay on biases and norms.
        """
        from transformers import get_scheduler

        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimizer = self.optimizer(
            [
                {"params": [parameter for parameter in trained if parameter.ndim >= 2]},
                {
                    "params": [parameter for parameter in trained if parameter.ndim < 2],
                    "weight_decay": 0.0,
                },
            ]
        )
        for group in optimizer.param_groups:
            if group.get("fused", False) is None and group.get("foreach") is None:
                # one kernel for all parameters, wherever the optimizer has it and nothing was
                # chosen
                group["fused"] = True
        total = int(self.trainer.estimated_stepping_batches)
        warmup = int(self.warmup if self.warmup >= 1 else total * self.warmup)
        scheduler = get_scheduler(
            "constant_with_warmup" if self.schedule == "constant" else self.schedule,
            optimizer,
            warmup,
            total,
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

    def save_pretrained(self, folder: Path) -> None:
        """Save the network so that transformers loads it: config.json and model.safetensors."""
        self.model.save_pretrained(folder)

    def artefact_facts(self) -> dict[str, Any]:
        """Return what else the artefact's plcli.json says of the model."""
        return {}
