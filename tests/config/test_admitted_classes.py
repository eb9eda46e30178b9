"""Classes that a config may name and that open files, start processes or use sockets.

Each is harmless for a reason given here. A new version of a library may add one: then the test
fails until it is listed, or excluded in plcli.config.allowlist.
"""

import functools
import importlib

import pytest

from plcli.cli import written_paths
from plcli.config import allowlist, classes
from plcli.errors import UsageError
from tests.config import admitted

PLACED = "its paths are kept inside the run folder (plcli.cli.written_paths)"
BY_TRAINER = "the trainer calls it, with paths that plcli gives; ranks run the same command again"
OWN_METHODS = "only a method that a user's own code calls"
REPLACED = "plcli writes checkpoints itself"
ENVIRONMENT = "reads what a scheduler gives, or looks for a free port of this machine"
HARMLESS = {
    "lightning.fabric.plugins.environments.lightning.LightningEnvironment": ENVIRONMENT,
    "lightning.fabric.plugins.environments.lsf.LSFEnvironment": ENVIRONMENT,
    "lightning.fabric.plugins.environments.mpi.MPIEnvironment": ENVIRONMENT,
    "lightning.fabric.plugins.io.torch_io.TorchCheckpointIO": REPLACED,
    "lightning.fabric.plugins.io.xla.XLACheckpointIO": REPLACED,
    "lightning.pytorch.callbacks.batch_size_finder.BatchSizeFinder": BY_TRAINER,
    "lightning.pytorch.callbacks.lr_finder.LearningRateFinder": BY_TRAINER,
    "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint": PLACED,
    "lightning.pytorch.callbacks.on_exception_checkpoint.OnExceptionCheckpoint": PLACED,
    "lightning.pytorch.callbacks.spike.SpikeDetection": PLACED,
    "lightning.pytorch.core.datamodule.LightningDataModule": OWN_METHODS,
    "lightning.pytorch.core.module.LightningModule": OWN_METHODS,
    "lightning.pytorch.loggers.csv_logs.CSVLogger": PLACED,
    "lightning.pytorch.loggers.litlogger.LitLogger": PLACED,
    "lightning.pytorch.loggers.mlflow.MLFlowLogger": PLACED,
    "lightning.pytorch.loggers.tensorboard.TensorBoardLogger": PLACED,
    "lightning.pytorch.plugins.io.async_plugin.AsyncCheckpointIO": REPLACED,
    "lightning.pytorch.profilers.advanced.AdvancedProfiler": PLACED,
    "lightning.pytorch.profilers.base.PassThroughProfiler": PLACED,
    "lightning.pytorch.profilers.profiler.Profiler": PLACED,
    "lightning.pytorch.profilers.pytorch.PyTorchProfiler": PLACED,
    "lightning.pytorch.profilers.simple.SimpleProfiler": PLACED,
    "lightning.pytorch.profilers.xla.XLAProfiler": "serves a TPU's profile where there is a TPU",
    "torch.distributed.optim.zero_redundancy_optimizer.ZeroRedundancyOptimizer": "copies its own "
    "state between ranks, in memory",
    "torch.utils.data.dataloader.DataLoader": "starts the processes of its workers",
    "torchmetrics.detection.mean_ap.MeanAveragePrecision": OWN_METHODS,
}
for _name in ("ddp.DDP", "fsdp.FSDP", "model_parallel.ModelParallel", "parallel.Parallel"):
    for _package in ("fabric", "pytorch"):
        HARMLESS[f"lightning.{_package}.strategies.{_name}Strategy"] = BY_TRAINER
for _name in ("single_device.SingleDevice", "single_xla.SingleDeviceXLA", "strategy.", "xla.XLA"):
    for _package in ("fabric", "pytorch"):
        HARMLESS[f"lightning.{_package}.strategies.{_name}Strategy"] = BY_TRAINER
for _name in ("dp.DataParallel", "xla_fsdp.XLAFSDP"):
    HARMLESS[f"lightning.fabric.strategies.{_name}Strategy"] = BY_TRAINER


@functools.cache
def found() -> dict[str, set[str]]:
    """Return what the packages of this machine have."""
    return admitted.found()


def test_every_admitted_class_that_opens_something_is_known() -> None:
    assert sorted(found()) == sorted(HARMLESS)


@pytest.mark.parametrize("path", [path for path, why in HARMLESS.items() if why is PLACED])
def test_a_class_whose_paths_are_placed_has_arguments_that_are_looked_at(path: str) -> None:
    names = classes.parameters(classes.import_class(path, "key")).keys()
    assert names & set(written_paths.PATHS)


FILE_WORDS = ("path", "dir", "folder", "file", "uri", "location")


@pytest.mark.parametrize("module", ["callbacks", "loggers", "profilers"])
def test_no_argument_that_looks_like_a_path_is_missed(module: str) -> None:
    package = importlib.import_module(f"lightning.pytorch.{module}")
    missed = {
        name
        for class_name in package.__all__
        for name in classes.parameters(getattr(package, class_name))
        if any(word in name for word in FILE_WORDS)
        and name not in (*written_paths.PATHS, *written_paths.NAMES)
    }
    assert missed == {"add_file_policy", "profile_batches"} & missed


REFUSED = {  # and what they would do
    "lightning.fabric.Fabric": "launches processes",
    "lightning.fabric.plugins.collectives.TorchCollective": "opens connections",
    "lightning.pytorch.demos.lstm.LightningLSTM": "downloads",
    "lightning.pytorch.demos.mnist_datamodule.MNISTDataModule": "downloads",
    "lightning.pytorch.demos.transformer.WikiText2": "downloads",
    "lightning.pytorch.serve.ServableModuleValidator": "starts a server",
    "lightning.pytorch.strategies.DeepSpeedStrategy": "writes where its config file says",
    "plcli.callbacks.predictions.PredictionWriter": "writes anywhere",
    "plcli.runs.predictions.Sink": "writes anywhere",
    "plcli.training.csv_logger.MetricsCsv": "writes anywhere",
    "torch.distributed.TCPStore": "listens",
    "torch.multiprocessing.Process": "starts a process",
    "torch.profiler.profile": "calls anything",
    "torch.utils.benchmark.Timer": "runs source text",
    "torch.utils.data.datapipes.iter.FileOpener": "opens files",
    "torch.utils.tensorboard.SummaryWriter": "writes anywhere",
    "torchmetrics.audio.NonIntrusiveSpeechQualityAssessment": "downloads",
    "torchmetrics.multimodal.CLIPScore": "downloads",
    "torchmetrics.text.BERTScore": "downloads",
    "torchmetrics.text.SacreBLEUScore": "downloads",
    "transformers.Trainer": "writes anywhere",
}


@pytest.mark.parametrize("path", REFUSED)
def test_a_class_that_would_do_harm_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="--allow-import"):
        classes.import_class(path, "key")


@pytest.mark.parametrize(
    "path",
    [
        "torch.nn.functional.gelu",
        "torch.nn.functional.cross_entropy",
        "torch.relu",
        "torch.nn.init.normal_",
        "torchmetrics.functional.regression.mean_squared_error",
    ],
)
def test_a_function_that_computes_may_be_named(path: str) -> None:
    module, _, name = path.rpartition(".")
    allowlist.check(path, "key")
    allowlist.check_found(path, getattr(importlib.import_module(module), name), "key")
