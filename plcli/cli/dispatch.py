"""Parses a command line, checks it against the classes that it names, and runs the command."""

import logging
import os
import sys
from collections.abc import Mapping, Sequence

from plcli import __version__
from plcli.cli import fragments, logs, processes, replaced, short_forms
from plcli.cli.arguments import Arguments, parse
from plcli.cli.plan import Plan, plan_fit, plan_use
from plcli.config import allowlist, checks, classes, own_modules
from plcli.config.files import Fragment
from plcli.errors import UsageError, listed
from plcli.runs import atomic_files
from plcli.training.signals import GRACE, signals

logger = logging.getLogger(__name__)


def run(command: str, words: Sequence[str]) -> int:
    """Run fit, validate, test or predict, and return the exit code."""
    logs.set_up(quiet="--quiet" in words)
    arguments = parse(command, words)
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
    plan = plan_fit(arguments, entered) if command == "fit" else plan_use(arguments, entered)
    try:
        _execute(plan)
    finally:
        if plan.lock is not None:
            plan.lock.release()
    return 0


def planned(arguments: Arguments, entered: list[Fragment]) -> Plan:
    """Return the checked plan of a command that uses weights.

    Args:
        arguments: the command line.
        entered: its config files.

    Raises:
        PlcliError: if there is no such run, or a config is not valid.
    """
    plan = plan_use(arguments, entered)
    _complete(plan)
    return plan


def _execute(plan: Plan) -> None:
    _complete(plan)
    from plcli.cli.lightning_cli import PlCLI

    signals.grace = _grace(plan.arguments.options.get("grace"))
    signals.take()
    with atomic_files.disk_errors_explained():
        PlCLI(plan)
    signals.check()


def _complete(plan: Plan) -> None:
    """Complete a plan, and check it against the classes that it names."""
    short_forms.expand(plan)
    replaced.leave_out(plan)
    if plan.merged.get("model") is None:
        raise UsageError(
            "no model given. Use --config FILE (such as configs/bert.yaml) or --model CLASS."
        )
    from plcli.cli import chosen_rate, loggers, precision
    from plcli.cli.lightning_cli import fixed_classes

    precision.resolve(plan)
    chosen_rate.replace_auto(plan)
    loggers.write_into_run_folder(plan)
    _check_bound(plan)
    _check(plan, fixed_classes())


def _grace(given: str | None) -> float:
    """Return the number of seconds of --grace.

    Raises:
        UsageError: if it is not a number of 0 or more.
    """
    if given is None:
        return GRACE
    try:
        seconds = float(given)
    except ValueError:
        seconds = -1
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"--grace: got '{given}', expected a number of seconds, 0 or more.")
    return seconds


def _help(plan: Plan) -> None:
    from rich.console import Console

    from plcli.cli import help_pages

    chosen = {
        section: classes.import_class(plan.merged[section]["class_path"], f"{section}.class_path")
        for section in ("model", "data")
        if isinstance(plan.merged.get(section), dict) and "class_path" in plan.merged[section]
    }
    help_pages.command(Console(), plan.arguments.command, chosen)


def _check_bound(plan: Plan) -> None:
    """Check that the arguments of model and data belong to a class.

    Raises:
        UsageError: if the class is missing, as in a config of a LightningCLI that fixes it.
    """
    for section in ("model", "data"):
        value = plan.merged.get(section)
        if isinstance(value, dict) and value.get("class_path") is None:
            given = listed(value.get("init_args") or value)
            raise UsageError(
                f"{section}: has arguments ({given}), but no class_path. If your LightningCLI "
                f"fixes the class, name it: --{section} CLASS."
            )


def _check(plan: Plan, fixed: Mapping[str, type]) -> None:
    merged = plan.merged
    checks.check_pair(merged)
    checks.check_nulls(plan.typed, merged=merged)
    for fragment in (*plan.base, *plan.fragments):
        checks.check_keys(fragment.values, merged=merged, source=fragment.source, classes=fixed)
    for key, _ in plan.arguments.overrides:
        checks.check_override(key, merged=merged, classes=fixed)
