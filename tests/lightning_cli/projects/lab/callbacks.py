"""A callback as projects on LightningCLI have them."""

import pathlib

import lightning.pytorch as pl


class BestPath(pl.Callback):
    """Writes where the best checkpoint is."""

    def __init__(self, file: str = "best_path.txt"):
        self.file = file

    def on_fit_end(self, trainer, pl_module):
        pathlib.Path(self.file).write_text(trainer.checkpoint_callback.best_model_path)


def batch_size(batch):
    """Return the number of rows in a batch, for ThroughputMonitor."""
    return len(batch[0])


class Writer(pl.callbacks.BasePredictionWriter):
    """Writes a file for each batch."""

    def write_on_batch_end(self, trainer, pl_module, prediction, indices, batch, batch_idx, loader):
        folder = pathlib.Path("written")
        folder.mkdir(exist_ok=True)
        (folder / f"{batch_idx}.txt").write_text(str(prediction.tolist()))


class EveryLogger(pl.Callback):
    """Draws with every logger that can."""

    def on_validation_end(self, trainer, pl_module):
        for logger in trainer.loggers:
            if hasattr(logger.experiment, "add_scalar"):
                logger.experiment.add_scalar("drawn", 1.0, trainer.global_step)
