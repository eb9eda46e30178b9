"""From a command line to its command: read, checked against the classes it names, and run."""

import os
import sys
from collections.abc import Mapping, Sequence

from plcli.cli import logs, short_names
from plcli.cli.arguments import Arguments, parse
from plcli.cli.plan import Plan, plan_fit, plan_use
from plcli.config import allowlist, checks, classes, yaml_core
from plcli.config.files import Fragment, read
from plcli.errors import UsageError
from plcli.runs import atomic_files
from plcli.training.signals import signals


def run(command: str, words: Sequence[str]) -> int:
    """Run fit, validate, test or predict, and return the exit code."""
    logs.set_up()
    sys.path.append(
        os.getcwd()
    )  # where modules of the user's own stand; behind all that is installed
    arguments = parse(command, words)
    allowlist.allow(arguments.allowed)
    fragments = [fragment for path in arguments.configs for fragment in read(path, command)]
    _name_classes(fragments, arguments)
    _check_imports(fragments, arguments)
    if arguments.help:
        _help(Plan(arguments, fragments))
        return 0
    plan = plan_fit(arguments, fragments) if command == "fit" else plan_use(arguments, fragments)
    _check_imports((*plan.base, *plan.fragments), arguments)  # also what a run or an artefact names
    if plan.merged.get("model") is None:
        raise UsageError(
            "no model is named. "
            "Give a config with --config FILE (such as configs/bert.yaml), or --model CLASS."
        )
    from plcli.cli.lightning_cli import PlCLI, fixed_classes

    _check(plan, fixed_classes())
    signals.take()
    with atomic_files.told():
        PlCLI(plan)
    return 0


def _name_classes(fragments: Sequence[Fragment], arguments: Arguments) -> None:
    """Give classes that are named without dots their full path, and open `model: CLASS`."""
    for fragment in fragments:
        for section in ("model", "data"):
            value = fragment.values.get(section)
            if isinstance(value, str):
                fragment.values[section] = {"class_path": short_names.task_class_path(value)}
            elif isinstance(value, dict) and isinstance(value.get("class_path"), str):
                value["class_path"] = short_names.task_class_path(value["class_path"])
    arguments.overrides = [
        (key, _named_class(key.removesuffix(".class_path"), value))
        for key, value in arguments.overrides
    ]


def _named_class(key: str, value: str) -> str:
    if key in ("model", "data"):
        return short_names.task_class_path(value)
    return short_names.optimizer_class_path(value) if key.endswith(".optimizer") else value


def _check_imports(fragments: Sequence[Fragment], arguments: Arguments) -> None:
    """Check every class path before anything that a config names is imported."""
    for fragment in fragments:
        allowlist.check_all(fragment.values, f"{fragment.source}: ")
    for key, value in arguments.overrides:
        if "." in value and (key in ("model", "data") or key.endswith("class_path")):
            allowlist.check(value, f"--{key}")
        else:
            allowlist.check_all(yaml_core.parse_value(value), f"--{key}: ")


def _help(plan: Plan) -> None:
    from rich.console import Console

    from plcli.cli import help_pages

    chosen = {
        section: classes.import_class(plan.merged[section]["class_path"], f"{section}.class_path")
        for section in ("model", "data")
        if isinstance(plan.merged.get(section), dict) and "class_path" in plan.merged[section]
    }
    help_pages.command(Console(), plan.arguments.command, chosen)


def _check(plan: Plan, fixed: Mapping[str, type]) -> None:
    merged = plan.merged
    checks.check_pair(merged)
    for fragment in (*plan.base, *plan.fragments):
        checks.check_keys(fragment.values, merged=merged, source=fragment.source, classes=fixed)
    for key, _ in plan.arguments.overrides:
        checks.check_override(key, merged=merged, classes=fixed)
