"""What a model and its data are given before they are used: a tokenizer, a seed, a device."""

from typing import Any

from plcli.callbacks import chosen
from plcli.cli import trainer_setup
from plcli.cli.plan import Plan
from plcli.config.contracts import data_contract, module_contract
from plcli.training.loops import ExactFitLoop


def pass_objects(
    plan: Plan, trainer: Any, model: Any, datamodule: Any, *, seed: int, open_ended: bool
) -> None:
    """Pass the seed and the tokenizer to the model, and prepare both for training.

    Args:
        plan: the plan.
        trainer: the trainer.
        model: the LightningModule.
        datamodule: the LightningDataModule; None if the model has its own data.
        seed: the seed of the run.
        open_ended: whether the config gives the training no end.
    """
    module, data = module_contract(model), data_contract(datamodule)
    module.use_seed(seed)
    if module.offers("use_tokenizer") and data.loaded_tokenizer is not None:
        module.use_tokenizer(data.loaded_tokenizer)
    if not isinstance(trainer.fit_loop, ExactFitLoop):
        return
    kind = trainer.strategy.root_device.type
    if not trainer_setup.predates(plan, "unpadded") and module.use_device(kind):
        data.use_whole_batches()
    if not module.offers("choose_epochs") or not open_ended or trainer.fast_dev_run:
        return
    if plan.checkpoint is None:
        trainer.fit_loop.choose_epochs = module.choose_epochs
    elif plan.run is not None and (before := chosen.epochs(plan.run.folder)) is not None:
        trainer.fit_loop.choose_epochs = lambda steps: before
