"""Classes with a mistake each."""

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset

from lab.data import Points
from lab.modules import Classifier, OnPlateau, WithoutOptimizer


class Constructor(Classifier):
    def __init__(self):
        super().__init__()
        raise ValueError("the width has to be even")


class Required(Classifier):
    def __init__(self, depth: int):
        super().__init__()


class Steps(Classifier):
    """Raises in the method that is named."""

    def __init__(self, raises: str):
        super().__init__()
        self.raises = raises

    def check(self, name):
        if name == self.raises and not self.trainer.sanity_checking:
            raise RuntimeError(f"my own mistake in {name}")

    def training_step(self, batch, batch_idx):
        self.check("training_step")
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.check("validation_step")
        super().validation_step(batch, batch_idx)

    def test_step(self, batch, batch_idx):
        self.check("test_step")
        super().test_step(batch, batch_idx)

    def configure_optimizers(self):
        self.check("configure_optimizers")
        return super().configure_optimizers()

    def setup(self, stage):
        self.check("setup")

    def on_fit_start(self):
        self.check("on_fit_start")

    def on_train_start(self):
        self.check("on_train_start")

    def on_train_epoch_start(self):
        self.check("on_train_epoch_start")

    def on_before_zero_grad(self, optimizer):
        self.check("on_before_zero_grad")

    def on_train_epoch_end(self):
        self.check("on_train_epoch_end")

    def on_validation_epoch_end(self):
        self.check("on_validation_epoch_end")

    def on_fit_end(self):
        self.check("on_fit_end")

    def on_save_checkpoint(self, checkpoint):
        self.check("on_save_checkpoint")


class WrongShape(Classifier):
    def forward(self, features):
        return super().forward(features[:, :4])


class ReturnsText(Classifier):
    def training_step(self, batch, batch_idx):
        return "0.3"


class NoLoss(Classifier):
    def training_step(self, batch, batch_idx):
        return {"error": super().training_step(batch, batch_idx)}


class NoGradient(Classifier):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx).detach()


class LogsMany(Classifier):
    def training_step(self, batch, batch_idx):
        self.log("scores", torch.zeros(3))
        return super().training_step(batch, batch_idx)


class LogsInWrongHook(Classifier):
    def configure_optimizers(self):
        self.log("lr", 0.1)
        return super().configure_optimizers()


class OptimizerIsText(Classifier):
    def configure_optimizers(self):
        return "adam"


class NegativeRate(Classifier):
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=-1.0)


class PlateauWithoutMonitor(OnPlateau):
    def configure_optimizers(self):
        found = super().configure_optimizers()
        del found["lr_scheduler"]["monitor"]
        return found


class PlateauOfNothing(OnPlateau):
    def configure_optimizers(self):
        found = super().configure_optimizers()
        found["lr_scheduler"]["monitor"] = "val_los"
        return found


class PlateauOfAccuracy(OnPlateau):
    def configure_optimizers(self):
        found = super().configure_optimizers()
        found["lr_scheduler"]["monitor"] = "val_acc"
        return found


class SeveralWithoutManual(Classifier):
    def configure_optimizers(self):
        return [super().configure_optimizers(), super().configure_optimizers()]


class WithoutMessage(Classifier):
    def on_train_start(self):
        raise AssertionError


class Recursion(Classifier):
    def forward(self, features):
        return self.forward(features)


class NotAModule:
    pass


def function():
    return Classifier()


class BadRows(Dataset):
    def __len__(self):
        return 32

    def __getitem__(self, index):
        raise OSError(f"row {index} of my own file is broken")


class BadData(Points):
    """Raises in the method that is named."""

    def __init__(self, raises: str, num_workers: int = 0):
        super().__init__()
        self.raises, self.num_workers = raises, num_workers
        if raises == "__init__":
            raise FileNotFoundError(2, "No such file or directory", "/no/such/folder")

    def setup(self, stage=None):
        super().setup(stage)
        if self.raises == "setup":
            raise FileNotFoundError(2, "No such file or directory", "/no/such/file.h5")

    def prepare_data(self):
        if self.raises == "prepare_data":
            raise ConnectionError("my server is down")

    def train_dataloader(self):
        if self.raises == "rows":
            workers = self.num_workers
            context = "fork" if workers else None
            return DataLoader(BadRows(), 8, num_workers=workers, multiprocessing_context=context)
        if self.raises == "collate":
            return DataLoader(self.training, 8, collate_fn=lambda rows: rows["features"])
        if self.raises == "no loader":
            return None
        if self.raises == "train_dataloader":
            raise KeyError("train.csv")
        return super().train_dataloader()

    def val_dataloader(self):
        if self.raises == "val_dataloader":
            raise KeyError("val.csv")
        return super().val_dataloader()

    def facts(self):
        return ["lr"] if self.raises == "facts" else {}


class BadCallback(pl.Callback):
    """Raises in the method that is named."""

    def __init__(self, raises: str = "__init__"):
        self.raises = raises
        self.check("__init__")

    def check(self, name):
        if name == self.raises:
            raise RuntimeError(f"my own mistake in {name}")

    def setup(self, trainer, pl_module, stage):
        self.check("setup")

    def on_train_start(self, trainer, pl_module):
        self.check("on_train_start")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.check("on_train_batch_end")

    def on_validation_end(self, trainer, pl_module):
        self.check("on_validation_end")

    def on_fit_end(self, trainer, pl_module):
        self.check("on_fit_end")

    def state_dict(self):
        self.check("state_dict")
        return {}


class NeedsPackage(pl.Callback):
    def __init__(self):
        import a_package_that_is_not_there  # noqa: F401


class BadLogger(pl.loggers.CSVLogger):
    def log_metrics(self, metrics, step=None):
        raise RuntimeError("my own logger is full")


class NoOptimizer(WithoutOptimizer):
    pass
