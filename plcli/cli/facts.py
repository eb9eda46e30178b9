"""Facts: what data tell a model, such as label names, by the names of constructor arguments.

They come from the training split in fit, and from the artefact or checkpoint in validate, test and
predict. Only arguments that are marked as facts are set (plcli.config.marks); a value that
contradicts what the user gave is refused.
"""

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from plcli.cli.plan import Plan
from plcli.config.classes import parameters
from plcli.config.contracts import DataContract
from plcli.config.marks import CONVENTIONS, marked
from plcli.errors import UsageError
from plcli.runs import artefact


def of_data(data: DataContract, name: str) -> dict[str, Any]:
    """Return what a data module tells the model.

    Args:
        data: the data module.
        name: of its class, for messages.

    Raises:
        UsageError: if it is no mapping of names.
    """
    facts = data.facts()
    if not isinstance(facts, Mapping) or not all(isinstance(key, str) for key in facts):
        raise UsageError(
            f"{name}.facts: returns {facts!r:.60}, expected a mapping from names of the model's "
            "constructor arguments to plain values."
        )
    return dict(facts)


def of_weights(plan: Plan, state: Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    """Return the facts that weights come with, and the file that holds them.

    Args:
        plan: which weights.
        state: the content of the plan's checkpoint; None where the artefact is taken.

    Raises:
        ModelError: if they are no facts.
    """
    if state is not None:
        facts = (state.get("plcli") or {}).get("facts", {})
        artefact.check_facts(facts, str(plan.checkpoint))
        return dict(facts), str(plan.checkpoint)
    assert plan.artefact is not None
    return plan.artefact.facts, str(plan.artefact.folder / artefact.CARD)


def set_arguments(
    arguments: Namespace,
    facts: Mapping[str, Any],
    *,
    section: str,
    cls: type,
    typed: Mapping[str, Any],
    source: str,
    where: str,
) -> None:
    """Set the constructor arguments of a class that are facts.

    Args:
        arguments: of the class, changed in place.
        facts: the facts.
        section: model or data, for messages.
        cls: the class.
        typed: what the user gave.
        source: whose facts they are, for messages.
        where: the file that holds them, for messages.

    Raises:
        ModelError: if a fact names an argument that is none.
        UsageError: if the user gave another value.
    """
    taken = marked(cls, "fact")
    others = (parameters(cls).keys() | CONVENTIONS.keys()) - taken
    artefact.refuse_facts(others & facts.keys(), where)
    for name in sorted(taken & facts.keys()):
        # as its type reads it: YAML alone would make a mapping of "summarize: "
        given = arguments.get(name) if name in typed else None
        if given not in (None, facts[name]):
            raise UsageError(
                f"{section}.{name}: {given} is asked for, but {source} say {facts[name]}. "
                "Leave the key away."
            )
        arguments[name] = facts[name]
