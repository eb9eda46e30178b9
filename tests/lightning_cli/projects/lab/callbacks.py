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
