"""`--ensemble`: test and predict with all models of a campaign, whose outputs are averaged."""

import copy
import json
import logging
from collections.abc import Mapping
from typing import Any

from plcli.cli import engines, execution
from plcli.cli.arguments import Arguments
from plcli.cli.lightning_cli import PlCLI
from plcli.cli.loaded import Opened, seed_kept
from plcli.cli.plan import Plan, plan_use
from plcli.config.contracts import module_contract
from plcli.errors import ModelError, UsageError
from plcli.models import ensemble
from plcli.runs import campaign, metrics_file
from plcli.runs.artefact import Artefact
from plcli.runs.folder import Run

logger = logging.getLogger(__name__)

SAME_FACTS = ("labels", "problem", "target_names", "max_length")
TOKENIZER = "tokenizer.json"
LAST_USE = ("truncation", "padding")
NO_TOKENIZER = ("README.md", "config.json", "generation_config.json", "adapter_config.json")


def execute(plan: Plan) -> None:
    """Run a plan of test or predict with the average of all models of its campaign.

    Raises:
        UsageError: if it has no campaign, or its task has no outputs that can be averaged.
        ModelError: if the models do not have the same classes and tokenizer.
    """
    engines.check(plan)
    runs = _others(plan)
    others = [_opened(plan, run) for run in runs]
    plan.ensemble = [str(each.card["sha256"]) for each, _ in others]
    logger.info("the outputs of %d models are averaged", 1 + len(others))

    class Ensemble(PlCLI):
        """Joins the models after the first one is loaded."""

        def instantiate_classes(self) -> None:
            super().instantiate_classes()
            ensemble.join(self.model, [module for _, module in others])

    execution.execute(plan, Ensemble)


def _others(plan: Plan) -> list[Run]:
    """Return the sub-runs of the campaign of a plan, without the best one, which the plan loads."""
    run = plan.run
    if run is None or not campaign.exists(run.folder):
        where = "it" if run is None else str(run.folder)
        raise UsageError(
            f"--ensemble: averages the models of a campaign, but {where} is none. Name the folder "
            "of a `plcli fit --seeds` or `--folds` with --run."
        )
    if plan.arguments.explain:
        raise UsageError(
            "--explain and --ensemble: both are given, but what moved a decision is that of one "
            "model. Remove one of them."
        )
    if "ckpt_path" in plan.arguments.options:
        raise UsageError("--ensemble: averages the models of a campaign. Remove --ckpt_path.")
    found = campaign.read(run.folder)
    best = metrics_file.read(run)[campaign.MARK]["best"]
    runs = [each for each in found.runs.values() if each.folder.name != best]
    if missing := [each for each in runs if not each.finished]:
        raise ModelError(
            f"{missing[0].folder}: is not finished, but belongs to the campaign. Run the command "
            "of the campaign again."
        )
    return runs


def _opened(plan: Plan, run: Run) -> tuple[Artefact, Any]:
    """Return the artefact and the module of a sub-run, loaded as those of the plan are."""
    arguments: Arguments = copy.deepcopy(plan.arguments)
    arguments.texts, arguments.keep, arguments.with_truth = [], [], False
    arguments.ensemble = False
    arguments.options = {"run": str(run.folder)}
    own = plan_use(arguments, copy.deepcopy(plan.fragments))
    assert own.artefact is not None
    assert plan.artefact is not None
    execution.complete(own)
    check_same(plan.artefact, own.artefact)
    with seed_kept():
        module = Opened(own).model
    if not module_contract(module).offers("averaged"):
        raise UsageError(
            f"--ensemble: {type(module).__name__} gives nothing that can be averaged, such as "
            "probabilities or numbers. Without it, the best model of the campaign is used."
        )
    return own.artefact, module


def check_same(first: Artefact, other: Artefact) -> None:
    """Check that two models read the same tokens and have the same outputs.

    Raises:
        ModelError: if they do not.
    """
    for name in SAME_FACTS:
        if first.facts.get(name) != other.facts.get(name):
            raise ModelError(
                f"{other.folder}: has other {name.replace('_', ' ')} than {first.folder}, so that "
                "their outputs cannot be averaged. Use one of them alone."
            )
    if _tokenizer(first) != _tokenizer(other):
        raise ModelError(
            f"{other.folder}: has another tokenizer than {first.folder}, as each was fitted on its "
            "own training rows, so that they cannot read the same tokens. Train the campaign with "
            "a pretrained one (data.tokenizer), or with --seeds."
        )


def _tokenizer(found: Artefact) -> dict[str, Any]:
    """Return the sums of the files beside the weights and their config.

    That of tokenizer.json is its content, without how it last truncated and padded.
    """
    files: Mapping[str, Any] = found.card.get("files") or {}
    sums = {name: value for name, value in files.items() if name not in NO_TOKENIZER}
    if TOKENIZER in sums:
        content = json.loads((found.folder / TOKENIZER).read_text(encoding="utf-8"))
        sums[TOKENIZER] = {name: content[name] for name in content if name not in LAST_USE}
    return sums
