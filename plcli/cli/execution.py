"""Runs a plan, after checking it against the classes that it names."""

from collections.abc import Callable, Mapping

from plcli.cli import engines, replaced, short_forms
from plcli.cli.arguments import Arguments
from plcli.cli.plan import Plan, plan_fit, plan_use
from plcli.config import checks
from plcli.config.files import Fragment
from plcli.errors import UsageError, listed
from plcli.runs import atomic_files
from plcli.training.signals import GRACE, signals


def planned(arguments: Arguments, entered: list[Fragment]) -> Plan:
    """Return the checked plan of a command that uses weights.

    Args:
        arguments: the command line.
        entered: its config files.

    Raises:
        PlcliError: if there is no such run, or a config is not valid.
    """
    plan = plan_use(arguments, entered)
    complete(plan)
    return plan


def execute(plan: Plan, run: Callable[[Plan], object] | None = None) -> None:
    """Complete a plan, and run it.

    Args:
        plan: the plan.
        run: what runs it; by default PlCLI.
    """
    complete(plan)
    from plcli.cli.lightning_cli import PlCLI

    signals.grace = _grace(plan.arguments.options.get("grace"))
    signals.take()
    with atomic_files.disk_errors_explained():
        (run or PlCLI)(plan)
    signals.check()


def fit(arguments: Arguments, entered: list[Fragment], *, member: str | None = None) -> None:
    """Run a fit.

    Args:
        arguments: the command line.
        entered: its config files.
        member: what it is of a campaign, for messages; None for a run of its own.
    """
    plan = plan_fit(arguments, entered)
    plan.member = member
    try:
        execute(plan)
    finally:
        if plan.lock is not None:
            plan.lock.release()


def complete(plan: Plan) -> None:
    """Complete a plan, and check it against the classes that it names."""
    engines.check(plan)
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
