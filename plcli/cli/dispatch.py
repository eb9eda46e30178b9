"""Parses a command line, and runs the command."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from plcli import __version__
from plcli.cli import execution, fragments, logs, parts, processes
from plcli.cli.arguments import Arguments, parse
from plcli.cli.plan import Plan, plan_use
from plcli.config import allowlist, classes, own_modules
from plcli.config.files import Fragment
from plcli.runs.folder import CAMPAIGN

logger = logging.getLogger(__name__)


def run(command: str, words: Sequence[str]) -> int:
    """Run fit, validate, test or predict, and return the exit code."""
    logs.set_up(quiet="--quiet" in words)
    arguments = parse(command, words)
    if not arguments.help and (count := parts.number_of_processes(arguments)) > 1:
        return parts.predict(arguments, words, count)
    if not arguments.help and "torch" not in sys.modules:
        logger.info("plcli %s, %s: loading libraries for some seconds", __version__, command)
    allowlist.allow(arguments.allowed)
    own_modules.find(arguments.allowed, os.getcwd())
    entered = fragments.of_arguments(arguments)
    if arguments.help:
        _help(Plan(arguments, entered))
        return 0
    if command == "predict" and (found := processes.launched()) is not None and found.rank:
        return 0  # the first process predicts, and writes one file
    if command == "fit":
        if not _fits_a_campaign(arguments, entered):
            execution.fit(arguments, entered)
        return 0
    parts.end_with_parent()
    plan = plan_use(arguments, entered)
    if arguments.ensemble:
        from plcli.cli import ensembled

        ensembled.execute(plan)
    else:
        execution.execute(plan)
    return 0


def _fits_a_campaign(arguments: Arguments, entered: list[Fragment]) -> bool:
    """Run the fit of a campaign; return False if a single run is asked for."""
    named = Path(arguments.options.get("run") or "", CAMPAIGN)
    if not {"seeds", "folds"} & arguments.options.keys() and not named.is_file():
        return False
    from plcli.cli import campaign_fit  # which a single run does not need

    campaign = campaign_fit.asked(arguments, entered)
    if campaign is None:
        return False
    campaign.run()
    return True


def _help(plan: Plan) -> None:
    from rich.console import Console

    from plcli.cli import help_pages

    chosen = {
        section: classes.import_class(plan.merged[section]["class_path"], f"{section}.class_path")
        for section in ("model", "data")
        if isinstance(plan.merged.get(section), dict) and "class_path" in plan.merged[section]
    }
    help_pages.command(Console(), plan.arguments.command, chosen)
