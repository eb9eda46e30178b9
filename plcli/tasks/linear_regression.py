"""Linear regression on numeric columns of a table: one linear layer, mean squared error, Adam."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection, R2Score

from plcli.config.marks import FACT, OTHER_ROWS, TRAIN, USE, VALIDATION
from plcli.data import folds
from plcli.data.cells import Kind
from plcli.data.sources import Decimal, Format, Quoting
from plcli.data.split import Batch, Split
from plcli.data.split_data import Source, SplitData
from plcli.errors import DataError, UsageError
from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.numeric import Numbers
from plcli.metrics.row_scores import RowCollector


class _R2(R2Score):
    """R2Score that is NaN for a single row, where torchmetrics raises an error."""

    def compute(self) -> torch.Tensor:
        """Return the score, or NaN for a single row."""
        return super().compute() if int(self.total) > 1 else torch.tensor(float("nan"))


def _make_metrics() -> MetricCollection:
    return MetricCollection(
        {
            "mse": MeanSquaredError(),
            "rmse": MeanSquaredError(squared=False),
            "mae": MeanAbsoluteError(),
            "r2": _R2(),
        },
        compute_groups=False,
    )


class SimpleLinearModel(LightningModule):
    """One linear layer on standardized columns, trained with the mean squared error.

    Args:
        optimizer: by default Adam at 0.01.
        input_dim: a fact of the data: the number of feature columns.
        output_dim: a fact of the data: the number of target columns.
        target_names: a fact of the data: the target columns.
        feature_mean: a fact of the training split, in each feature's unit; saved with the model.
        feature_std: a fact of the training split, in each feature's unit; saved with the model.
        target_mean: a fact of the training split, in each target's unit; saved with the model.
        target_std: a fact of the training split, in each target's unit; saved with the model.
    """

    task = "linear-regression"
    feature_mean: torch.Tensor
    feature_std: torch.Tensor
    target_mean: torch.Tensor
    target_std: torch.Tensor

    def __init__(
        self,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        input_dim: int | None = None,
        output_dim: int | None = None,
        target_names: list[str] | None = None,
        feature_mean: list[float] | None = None,
        feature_std: list[float] | None = None,
        target_mean: list[float] | None = None,
        target_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        self.optimizer = optimizer
        self.target_names = target_names or [f"target_{i}" for i in range(output_dim or 1)]
        input_dim, output_dim = input_dim or 1, output_dim or 1
        self.layer = torch.nn.Linear(input_dim, output_dim)
        for name, values, size, default in (
            ("feature_mean", feature_mean, input_dim, 0.0),
            ("feature_std", feature_std, input_dim, 1.0),
            ("target_mean", target_mean, output_dim, 0.0),
            ("target_std", target_std, output_dim, 1.0),
        ):
            self.register_buffer(
                name, torch.tensor(values or [default] * size, dtype=torch.float64)
            )
        self.results: dict[str, dict[str, Any]] = {}
        self.evaluated_rows: dict[str, EvaluatedRows] = {}
        self._collectors = {"val": RowCollector(), "test": RowCollector(analysed=True)}
        self._knows_mean = target_mean is not None
        self._metrics = torch.nn.ModuleDict({split: _make_metrics() for split in ("val", "test")})

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the arguments with which Lightning's `load_from_checkpoint` makes the module."""
        checkpoint["hyper_parameters"] = {
            "input_dim": self.layer.in_features,
            "output_dim": self.layer.out_features,
            "target_names": self.target_names,
        }

    @property
    def monitor(self) -> tuple[str, Literal["min", "max"]]:
        """The root mean squared error, in the target's unit."""
        return "val_rmse", "min"

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map features, float64 [rows, input_dim], to targets, float64 [rows, output_dim].

        Both are in their own units; only standardized values are rounded to the layer's precision.
        """
        scaled = ((features - self.feature_mean) / self.feature_std).to(self.layer.weight.dtype)
        predicted: torch.Tensor = self.layer(scaled)
        return predicted.double() * self.target_std + self.target_mean

    def training_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the mean squared error of standardized targets."""
        error = (self(batch["features"]) - batch["targets"]) / self.target_std
        loss: torch.Tensor = error.square().mean()
        self.log("train_loss", loss, prog_bar=True, batch_size=len(error))
        return loss

    def validation_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> None:
        """Add a batch to the validation metrics."""
        self._evaluate(batch, "val")

    def test_step(self, batch: Mapping[str, torch.Tensor], batch_idx: int) -> None:
        """Add a batch to the test metrics."""
        self._evaluate(batch, "test")

    def _evaluate(self, batch: Mapping[str, Any], split: str) -> None:
        metrics: Any = self._metrics[split]
        # subtracted, because sums of squares lose precision if the mean is large
        mean = self.target_mean
        predicted, truth = (
            (each - mean).float() for each in (self(batch["features"]), batch["targets"])
        )
        metrics.update(predicted, truth)
        kept = {"truth": truth, "prediction": predicted}
        index, groups = batch.get("index"), batch.get("group")
        self._collectors[split].add(index, kept, groups=groups)

    def _scoring(self, collector: RowCollector) -> Numbers:
        """Return how the scores follow from truth and prediction, as distances from the mean."""
        centre = self.target_mean.tolist()
        mean = [0.0] * len(centre) if self._knows_mean else None
        return Numbers(names=["mse", "rmse", "mae", "r2"], mean=mean, centre=centre)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self._finish("test")

    def _finish(self, split: str) -> None:
        metrics: Any = self._metrics[split]
        self.results[split] = {name: float(value) for name, value in metrics.compute().items()}
        metrics.reset()
        self.evaluated_rows.pop(split, None)
        if found := self._collectors[split].finish(self._scoring, None, self.trainer.world_size):
            self.evaluated_rows[split] = found
        logged = {f"{split}_{name}": value for name, value in self.results[split].items()}
        self.log_dict(logged, sync_dist=True)  # the metrics are synchronized already

    def averaged(
        self, outputs: Sequence[torch.Tensor], batch: Any, modules: Sequence[Any]
    ) -> torch.Tensor:
        """Return the mean of the predicted targets, float64 [rows, output_dim]."""
        return torch.stack(list(outputs)).mean(0)

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> list[dict[str, Any]]:
        """Return one plain dict per row: its id and every predicted target."""
        values = self(batch["features"]).tolist()
        return [
            {"id": row_id, **dict(zip(self.target_names, row, strict=True))}
            for row_id, row in zip(batch["id"], values, strict=True)
        ]

    def configure_optimizers(self) -> Any:
        """Return the optimizer; the learning rate is constant."""
        return self.optimizer(self.parameters())


@dataclass(kw_only=True, eq=False, repr=False)
class TableData(SplitData):
    """Numeric columns of csv, parquet and other tables.

    Args:
        train: training rows: a path, a glob, a list, s3://..., hf:NAME or package:NAME/FILE.
        validation: validation rows; by default a part of the training rows.
        test: test rows.
        predict: rows to predict; no target column is needed.
        features: the feature columns.
        target: the target column, or a list of several.
        id: the column of row ids in predictions; by default rows are numbered from 0.
        group: a column with equal values for rows that belong together: they are split off
            together, and intervals are of groups instead of rows.
        batch_size: number of rows per batch and device.
        validation_fraction: the fraction of the training rows that is used for validation if
            validation is not given.
        folds: divides the training rows into this number of folds, for `fold`.
        fold: the fold, from 1, whose rows are the validation split; the others are trained on.
        seed: for the order of the training rows and the validation split; by default
            seed_everything.
        split_seed: the seed of the validation split and of folds alone; by default `seed`.
        encoding: the encoding of text files, such as cp1252; by default UTF-8.
        quoting: whether quotes enclose the cells of csv and tsv files (csv), or are plain
            characters (none); by default they do, and cells that look like several rows are
            refused.
        delimiter: what separates the cells of csv and tsv files, such as ';'; by default a comma
            in .csv and a tab in .tsv files.
        decimal: the decimal separator of numbers in text files; '.' and ',' also allow separated
            thousands. By default a point, and numbers such as 1,000 are refused.
        format: the annotation tool that wrote json and jsonl files, or rows for none; by default
            the content says it.
    """

    task = "linear-regression"

    features: list[str] = field(metadata=FACT)
    target: str | list[str] = field(metadata=FACT)
    train: Source | None = field(default=None, metadata=TRAIN)
    validation: Source | None = field(default=None, metadata=VALIDATION)
    test: Source | None = field(default=None, metadata=OTHER_ROWS)
    predict: Source | None = field(default=None, metadata=OTHER_ROWS)
    id: str | None = field(default=None, metadata=USE)
    group: str | None = None
    batch_size: int = field(default=32, metadata=USE)
    validation_fraction: float = 0.1
    folds: int | None = None
    fold: int | None = None
    split_seed: int | None = None
    seed: int | None = None
    encoding: str | None = field(default=None, metadata=USE)
    quoting: Quoting | None = field(default=None, metadata=USE)
    delimiter: str | None = field(default=None, metadata=USE)
    decimal: Decimal | None = field(default=None, metadata=USE)
    format: Format | None = field(default=None, metadata=USE)

    def __post_init__(self) -> None:
        """Check that columns are given."""
        self.target_columns = [self.target] if isinstance(self.target, str) else self.target
        if not self.features or not self.target_columns:
            raise UsageError("data: features and target must each name at least one column.")
        for column in self.features:
            if column in self.target_columns or self.features.count(column) > 1:
                kind = "the target" if column in self.target_columns else "named twice"
                raise UsageError(
                    f"data.features: the column '{column}' is {kind}. Remove it from the features."
                )
        super().__init__(
            sources={
                "train": self.train,
                "validation": self.validation,
                "test": self.test,
                "predict": self.predict,
            },
            inputs=self.features,
            id=self.id,
            group=self.group,
            batch_size=self.batch_size,
            validation_fraction=self.validation_fraction,
            num_workers=0,
            seed=self.seed,
            split_seed=self.split_seed,
            fold=folds.given(self.folds, self.fold, validation=self.validation),
            encoding=self.encoding,
            quoting=self.quoting,
            delimiter=self.delimiter,
            decimal=self.decimal,
            format=self.format,
        )

    def columns(self, split: str) -> dict[str, Kind]:
        """The feature columns and, except for rows to predict, the target columns."""
        return dict.fromkeys(
            self.features + ([] if split == "predict" else self.target_columns), Kind.NUMBER
        )

    def facts(self) -> dict[str, Any]:
        """The numbers of columns, and the mean and standard deviation of each in training."""
        features, targets = (
            np.stack([self.training_column(column).to_numpy() for column in columns], axis=1)
            for columns in (self.features, self.target_columns)
        )
        for column, spread in zip(self.features, features.std(0), strict=True):
            if spread == 0:
                raise DataError(
                    f"{self.rows('train').source}: the feature '{column}' has the same value in "
                    "all training rows. Remove it from data.features."
                )
        return {
            "input_dim": len(self.features),
            "output_dim": len(self.target_columns),
            "target_names": self.target_columns,
            "features": self.features,
            "target": self.target,
            "feature_mean": features.mean(0).tolist(),
            "feature_std": features.std(0).tolist(),
            "target_mean": targets.mean(0).tolist(),
            "target_std": np.where(targets.std(0) == 0, 1.0, targets.std(0)).tolist(),
        }

    def open(self, split: str) -> Split:
        """Read the values of a split; batches have features, and targets or the ids of rows."""
        table = self.rows(split).table
        features = self._matrix(table, self.features)
        targets = None if split == "predict" else self._matrix(table, self.target_columns)
        groups = self.groups(split) if split in ("validation", "test") else None

        def make_batch(indices: npt.NDArray[np.int64], seed: int | None) -> Batch:
            batch: Batch = {"features": features[indices]}
            if targets is None:
                return batch | {"index": indices.tolist(), "id": self.ids(split, indices)}
            if groups is not None:
                batch["group"] = groups[indices].tolist()
            return batch | {"targets": targets[indices], "index": indices.tolist()}

        return Split(make_batch, np.ones(len(features), np.int32), self.subset(split))

    @staticmethod
    def _matrix(table: Any, columns: list[str]) -> torch.Tensor:
        return torch.from_numpy(
            np.stack([table.column(column).to_numpy() for column in columns], axis=1)
        )
