"""Data modules as projects on LightningCLI have them, with rows made from a seed."""

from collections.abc import Callable

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset


def points(rows: int = 48, classes: int = 3) -> Dataset:
    """Points of eight numbers, and which of some linear functions is largest there."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(rows, 8, generator=generator)
    weights = torch.randn(8, classes, generator=generator)
    return TensorDataset(features, (features @ weights).argmax(1))


class Points(pl.LightningDataModule):
    """Most points for training, the rest for everything else."""

    def __init__(self, batch_size: int = 8, num_classes: int = 3, root: str = "data"):
        super().__init__()
        self.save_hyperparameters()
        self.num_classes = num_classes

    def setup(self, stage: str | None = None):
        rows = points(classes=self.hparams.num_classes)
        self.training = Subset(rows, range(32))
        self.held_out = Subset(rows, range(32, 48))

    def train_dataloader(self):
        return DataLoader(self.training, batch_size=self.hparams.batch_size)

    def val_dataloader(self):
        return DataLoader(self.held_out, batch_size=self.hparams.batch_size)

    def test_dataloader(self):
        return DataLoader(self.held_out, batch_size=self.hparams.batch_size)

    def predict_dataloader(self):
        return DataLoader(self.held_out, batch_size=self.hparams.batch_size)


class PointsWithFacts(Points):
    """Says how many classes there are, for the model."""

    def facts(self):
        return {"num_classes": self.hparams.num_classes}


class Transformed(Points):
    """An object as a default."""

    def __init__(self, transform: Callable = torch.nn.Identity()):  # noqa: B008
        super().__init__()


class TwoHeldOut(Points):
    """Two loaders for validation."""

    def val_dataloader(self):
        return [DataLoader(self.held_out, 8), DataLoader(self.training, 16)]


class Stream(IterableDataset):
    """Points in a row, without a length."""

    def __iter__(self):
        rows = points()
        return (rows[index] for index in range(len(rows)))


class Streamed(pl.LightningDataModule):
    """Points from a stream."""

    def train_dataloader(self):
        return DataLoader(Stream(), 8)

    def val_dataloader(self):
        return DataLoader(Stream(), 8)
