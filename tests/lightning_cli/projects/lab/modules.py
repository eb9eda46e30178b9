"""Modules as projects on LightningCLI have them. None has dropout, so that numbers compare."""

import dataclasses
import enum
import pathlib
from collections.abc import Callable

import lightning.pytorch as pl
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau
from torch.utils.data import DataLoader

from lab.data import points


class Encoder(nn.Module):
    def __init__(self, width: int = 16):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, width), nn.ReLU())

    def forward(self, features):
        return self.net(features)


class WithoutOptimizer(pl.LightningModule):
    """LightningCLI gives it the optimizer of the config."""

    separator = "_"

    def __init__(self, num_classes: int = 3, width: int = 16):
        super().__init__()
        self.save_hyperparameters()
        self.backbone = Encoder(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, features):
        return self.head(self.backbone(features))

    def step(self, batch, stage):
        features, targets = batch
        outputs = self(features)
        loss = nn.functional.cross_entropy(outputs, targets)
        accuracy = (outputs.argmax(1) == targets).float().mean()
        self.log(f"{stage}{self.separator}loss", loss, prog_bar=True)
        self.log(f"{stage}{self.separator}acc", accuracy)
        return loss

    def training_step(self, batch, batch_idx):
        return self.step(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.step(batch, "val")

    def test_step(self, batch, batch_idx):
        self.step(batch, "test")

    def predict_step(self, batch, batch_idx):
        return self(batch[0]).argmax(1)


class Classifier(WithoutOptimizer):
    def __init__(self, lr: float = 0.01, num_classes: int = 3, width: int = 16):
        super().__init__(num_classes, width)
        self.save_hyperparameters()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class NeedsClasses(Classifier):
    """A LightningCLI links its argument to the data."""

    def __init__(self, num_classes: int, lr: float = 0.01):
        super().__init__(lr, num_classes)


class Frozen(Classifier):
    """Trains what is not frozen, for BackboneFinetuning."""

    def configure_optimizers(self):
        trained = filter(lambda parameter: parameter.requires_grad, self.parameters())
        return torch.optim.Adam(trained, lr=self.hparams.lr)


class LateLayers(Classifier):
    """Makes a layer once the data are known."""

    def setup(self, stage):
        if isinstance(self.head, nn.Linear):
            self.head = nn.Sequential(
                nn.Linear(16, 8), nn.Linear(8, self.trainer.datamodule.num_classes)
            )


class OnPlateau(Classifier):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()
        schedule = ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "monitor": "val_loss"},
        }


class Slashes(Classifier):
    separator = "/"


class TwoValidations(Classifier):
    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.step(batch, "val")


class Callables(WithoutOptimizer):
    def __init__(
        self,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable = ConstantLR,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.optimizer, self.scheduler = optimizer, scheduler

    def configure_optimizers(self):
        optimizer = self.optimizer(self.parameters())
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}


class SecondOrder(Classifier):
    def configure_optimizers(self):
        return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=3)


class Adversaries(pl.LightningModule):
    """Two optimizers by hand."""

    def __init__(self, lr: float = 0.01):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator, self.judge = nn.Linear(4, 8), nn.Linear(8, 1)

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        real = batch[0]
        made = self.generator(real[:, :4])
        loss = -self.judge(made).mean()
        self.log("generator_loss", loss)
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        loss = self.judge(made.detach()).mean() - self.judge(real).tanh().mean()
        self.log("judge_loss", loss)
        second.zero_grad()
        self.manual_backward(loss)
        second.step()

    def configure_optimizers(self):
        parts = (self.generator, self.judge)
        return [torch.optim.SGD(part.parameters(), lr=self.hparams.lr) for part in parts], []


class Speed(enum.Enum):
    slow = 0.001
    fast = 0.1


@dataclasses.dataclass
class Sizes:
    width: int = 16
    name: str = "small"


SMALL = Sizes()


class Hyperparameters(WithoutOptimizer):
    """Hyperparameters that are not plain values."""

    def __init__(
        self,
        encoder: nn.Module,
        extra: list[nn.Module] | None = None,
        speed: Speed = Speed.slow,
        sizes: Sizes = SMALL,
        path: pathlib.Path = pathlib.Path("weights"),
        activation: Callable[[torch.Tensor], torch.Tensor] = nn.functional.relu,
    ):
        super().__init__(width=sizes.width)
        self.save_hyperparameters()
        self.backbone, self.activation, self.speed = encoder, activation, speed
        self.extra = nn.ModuleList(extra or [])

    def forward(self, features):
        hidden = self.activation(self.backbone(features))
        for part in self.extra:
            hidden = part(hidden)
        return self.head(hidden)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.speed.value)


class WithData(Classifier):
    """The loaders belong to the module; a step returns a mapping."""

    def training_step(self, batch, batch_idx):
        return {"loss": super().training_step(batch, batch_idx)}

    def train_dataloader(self):
        return DataLoader(points(), 8)

    def val_dataloader(self):
        return DataLoader(points(), 8)


class Draws(Classifier):
    """Writes to its logger by itself."""

    def on_validation_epoch_end(self):
        self.logger.experiment.add_scalar("drawn", 1.0, self.global_step)
