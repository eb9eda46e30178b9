"""A project in which everything is random, for fits that are killed and resumed."""

import os
import random
import signal

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

ROWS = 32


class Rows(Dataset):
    """Rows with the noise of three libraries."""

    def __init__(self, rows: int = ROWS):
        generator = torch.Generator().manual_seed(0)
        self.features = torch.randn(rows, 8, generator=generator)

    def __len__(self):
        return len(self.features)

    def __getitem__(self, index):
        noise = torch.randn(8) + random.random() + float(np.random.rand())
        return self.features[index] + 0.1 * noise, self.features[index].sum(0, keepdim=True)


class Data(pl.LightningDataModule):
    """Loaders of several kinds, eight batches an epoch."""

    def __init__(
        self,
        kind: str = "shuffled",
        num_workers: int = 0,
        persistent_workers: bool = False,
        batch_size: int = 4,
    ):
        super().__init__()
        self.kind, self.batch_size = kind, batch_size
        self.workers = {"num_workers": num_workers, "persistent_workers": persistent_workers}

    def loader(self, **arguments):
        rows = arguments.pop("rows", ROWS)
        size = self.batch_size
        return DataLoader(Rows(rows), batch_size=size, **self.workers, **arguments)

    def train_dataloader(self):
        if self.kind == "weighted":
            return self.loader(sampler=WeightedRandomSampler(torch.ones(ROWS), ROWS))
        if self.kind == "several":
            return [self.loader(shuffle=True), self.loader(shuffle=True, rows=12)]
        if self.kind == "named":
            return {"long": self.loader(shuffle=True), "short": self.loader(rows=12)}
        return self.loader(shuffle=True)

    def val_dataloader(self):
        return DataLoader(Rows(8), batch_size=4)


def joined(batch):
    """Return one batch from those of several loaders."""
    parts = list(batch.values()) if isinstance(batch, dict) else batch
    if isinstance(parts[0], torch.Tensor):
        return parts
    return [torch.cat(columns) for columns in zip(*parts, strict=True)]


class Network(pl.LightningModule):
    """Dropout, batch normalization, and a loss that a callback scales."""

    def __init__(self, lr: float = 0.01):
        super().__init__()
        self.lr, self.scale = lr, 1.0
        self.backbone = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16))
        self.head = nn.Sequential(nn.Dropout(0.3), nn.ReLU(), nn.Linear(16, 1))

    def loss(self, batch):
        features, targets = joined(batch)
        return nn.functional.mse_loss(self.head(self.backbone(features)), targets)

    def training_step(self, batch, batch_idx):
        loss = self.scale * self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        if batch_idx % 2 == 0:
            self.log("even_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    def configure_optimizers(self):
        trained = filter(lambda parameter: parameter.requires_grad, self.parameters())
        return torch.optim.AdamW(trained, lr=self.lr)


class SecondOrder(Network):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class ByHand(Network):
    """Two optimizers, stepped by the module."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            loss = self.loss(batch)
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.log("train_loss", loss, on_step=True, on_epoch=True)

    def configure_optimizers(self):
        parts = (self.backbone, self.head)
        return [torch.optim.SGD(part.parameters(), lr=0.01, momentum=0.9) for part in parts]


class Scale(pl.Callback):
    """Acts at the start of an epoch, and counts."""

    def __init__(self):
        self.count = 0

    def on_train_epoch_start(self, trainer, pl_module):
        self.count += 1
        pl_module.scale = 1 / (1 + self.count + trainer.current_epoch)


class Hooks(Network):
    """Freezes a norm, changes layers and makes objects at the start of an epoch."""

    def __init__(self):
        super().__init__()
        self.starts = 0

    def on_train_start(self):
        self.backbone[0].requires_grad_(False)

    def on_train_epoch_start(self):
        self.starts += 1
        if self.current_epoch == 1:
            self.backbone[0].requires_grad_(True)
        if self.current_epoch > 0:
            self.backbone[1].eval()
        self.backbone[1].momentum *= 0.5
        self.head[0].p *= 0.7
        self.trainer.gradient_clip_val = 1.0 / (1 + self.current_epoch)
        power = 1.0 + self.starts / 10
        self.criterion = lambda loss: loss**power
        self.optimizers().param_groups[0]["lr"] *= 0.9

    def training_step(self, batch, batch_idx):
        return self.criterion(super().training_step(batch, batch_idx))


class Exponent(pl.Callback):
    """Gives the module an object at the start of an epoch, and counts."""

    def __init__(self):
        self.starts = 0

    def on_train_start(self, trainer, pl_module):
        self.starts = 0

    def on_train_epoch_start(self, trainer, pl_module):
        self.starts += 1
        self.scale = nn.Softmax(dim=0) if self.starts > 1 else torch.sigmoid
        pl_module.lr = 0.1

    def on_after_backward(self, trainer, pl_module):
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                parameter.grad *= float(self.scale(torch.tensor([0.1 * self.starts]))[0])


class Collecting(Network):
    """Keeps what validation steps return until the end of the validation."""

    def __init__(self):
        super().__init__()
        self.outputs = []

    def validation_step(self, batch, batch_idx):
        super().validation_step(batch, batch_idx)
        self.outputs.append(self.loss(batch))

    def on_validation_epoch_end(self):
        self.log("val_largest", torch.stack(self.outputs).max())
        self.log("val_number", float(len(self.outputs)))
        self.outputs.clear()


class Kill(pl.Callback):
    """Kills the process before a batch, as kill -9 does; or stops it in a validation."""

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        at = int(os.environ.get("STOP_IN_VALIDATION", "-1"))
        if trainer.global_step == at and batch_idx == 1 and not trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == int(os.environ.get("KILL_BEFORE", "-1")):
            os.kill(os.getpid(), signal.SIGKILL)
