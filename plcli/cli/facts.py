"""Facts: values that the data provide for constructor arguments of the model, such as label names.

They come from the training split in fit, and from the artefact or checkpoint in validate, test and
predict. Only arguments that are marked as facts are set (plcli.config.marks). A fact that
contradicts a value given by the user is refused.
"""

from collections.abc import Mapping
from typing import Any

from jsonargparse import Namespace

from plcli.cli.plan import Plan
from plcli.config.classes import parameters
from plcli.config.contracts import DataContract, data_contract
from plcli.config.marks import CONVENTIONS, class_of, marked
from plcli.errors import UsageError, shown
from plcli.runs import artefact


def provided(plan: Plan) -> set[str]:
    """Return the required arguments of the model that the data or the weights may provide.

    Those that a config gives stay required: jsonargparse would leave the others out of configs.
    """
    model, data = (class_of(plan.merged.get(section)) for section in ("model", "data"))
    by_weights = plan.arguments.command != "fit" and plan.run is not None
    if model is None or not (by_weights or data_contract(data).offers("facts")):
        return set()
    names = parameters(model)
    given = (plan.merged.get("model") or {}).get("init_args") or {}
    return {
        name
        for name in marked(model, "fact") - given.keys()
        if names[name].default is names[name].empty
    }


def check_told(plan: Plan, told: Mapping[str, Any], state: Mapping[str, Any] | None) -> None:
    """Check that the required arguments of the model that no config gives are facts.

    Args:
        plan: the plan.
        told: the facts of the data; without any, those of the weights.
        state: the content of the plan's checkpoint; None if the artefact is used.

    Raises:
        UsageError: if an argument is missing.
    """
    if plan.pretrained is not None:
        return
    if not told and plan.arguments.command != "fit" and (state is not None or plan.artefact):
        told = of_weights(plan, state)[0]
    for name in sorted(provided(plan) - told.keys()):
        raise UsageError(
            f"model: '{name}' is missing, and no fact of the data. Set it in a config, under "
            f"model, or with --model.{name} VALUE."
        )


def of_data(data: DataContract, name: str) -> dict[str, Any]:
    """Return the facts of a data module.

    Args:
        data: the data module.
        name: the name of its class, for messages.

    Raises:
        UsageError: if they are not a mapping with string keys.
    """
    facts = data.facts()
    if not isinstance(facts, Mapping) or not all(isinstance(key, str) for key in facts):
        raise UsageError(
            f"{name}.facts: returns {facts!r:.60}, expected a mapping from names of the model's "
            "constructor arguments to plain values."
        )
    return dict(facts)


def of_weights(plan: Plan, state: Mapping[str, Any] | None) -> tuple[dict[str, Any], str]:
    """Return the facts saved with the weights, and the file that contains them.

    Args:
        plan: the plan, which says where the weights are.
        state: the content of the plan's checkpoint; None if the artefact is used.

    Raises:
        ModelError: if the facts are not valid.
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
        arguments: the constructor arguments, changed in place.
        facts: the facts.
        section: model or data, for messages.
        cls: the class.
        typed: the arguments given by the user.
        source: where the facts come from, for messages; a plural noun.
        where: the file that contains them, for messages.

    Raises:
        ModelError: if a fact names an argument that is not marked as one.
        UsageError: if the user gave a different value.
    """
    taken = marked(cls, "fact")
    others = (parameters(cls).keys() | CONVENTIONS.keys()) - taken
    artefact.refuse_facts(others & facts.keys(), where)
    for name in sorted(taken & facts.keys()):
        # the value parsed by its type: plain YAML would read "summarize: " as a mapping
        given = arguments.get(name) if name in typed else None
        if given not in (None, facts[name]):
            raise UsageError(
                f"{section}.{name}: got {given}, but {source} require {shown(facts[name])}. "
                "Remove the key."
            )
        arguments[name] = facts[name]
