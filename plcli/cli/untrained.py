"""validate, test and predict with pretrained weights as they are, named by --model.pretrained.

Where fit or an artefact would give facts, the model's own config.json gives them: its labels and
the kind of its problem. Without a config file, it also names the task.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

from plcli.cli.arguments import Arguments
from plcli.cli.fragments import entered
from plcli.config import yaml_core
from plcli.config.files import Fragment
from plcli.errors import ModelError, UsageError
from plcli.runs.artefact import Artefact

logger = logging.getLogger(__name__)

TASKS = {  # module, model and data, by the end of the class name in config.json
    "ForSequenceClassification": (
        "text_classification",
        "TextClassifier",
        "TextClassificationData",
    ),
    "ForTokenClassification": (
        "token_classification",
        "TokenClassifier",
        "TokenClassificationData",
    ),
    "ForQuestionAnswering": ("question_answering", "QuestionAnswerer", "QuestionAnsweringData"),
    "ForMultipleChoice": ("multiple_choice", "MultipleChoiceModel", "MultipleChoiceData"),
    "ForMaskedLM": ("masked_lm", "MaskedLM", "MaskedLMData"),
    "ForCausalLM": ("causal_lm", "CausalLM", "CausalLMData"),
    "LMHeadModel": ("causal_lm", "CausalLM", "CausalLMData"),
    "ForConditionalGeneration": ("seq2seq", "Seq2SeqModel", "Seq2SeqData"),
    "MTModel": ("seq2seq", "Seq2SeqModel", "Seq2SeqData"),
}
PROBLEMS = {  # of config.json, which need not name one
    "regression": "regression",
    "multi_label_classification": "multi_label",
    "single_label_classification": "single_label",
}
UNNAMED = re.compile(r"LABEL_\d+")  # what transformers calls labels without a name


def named(arguments: Arguments) -> str | None:
    """Return the pretrained weights that the command line names; None if it names none."""
    for key, value in reversed(arguments.overrides):
        if key in ("model.pretrained", "model.init_args.pretrained"):
            found = yaml_core.parse_value(value)
            return None if found is None else str(found)
    return None


def sections(name: str) -> Fragment:
    """Return the model and data sections for pretrained weights, from the class of their config.

    Raises:
        ModelError: if config.json names no class of a task.
    """
    from plcli.pretrained import weights

    written = (weights.load_config(name).architectures or ["no class"])[0]
    for end, (module, model, data) in TASKS.items():
        if written.endswith(end):
            return entered(
                f"pretrained: {name}",
                {
                    "model": {"class_path": f"plcli.tasks.{module}.{model}"},
                    "data": {"class_path": f"plcli.tasks.{module}.{data}"},
                },
            )
    raise ModelError(
        f"pretrained: the config.json of {name} names {written}, which is the model of no task. "
        "Train one with `plcli fit`, or name other weights."
    )


def facts(name: str, *, model: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that the config of pretrained weights gives.

    Args:
        name: the name of the weights.
        model: the arguments of the model that may be set.
        data: the arguments of the data section as they are; `labels` may name those of the model.

    Raises:
        UsageError: if the labels of the data are not as many as those of the model.
    """
    from plcli.pretrained import weights

    config = weights.load_config(name)
    found: dict[str, Any] = {}
    own = [config.id2label[index] for index in sorted(config.id2label)]
    if "problem" in model:
        single = "regression" if len(own) == 1 else "single_label"
        found["problem"] = PROBLEMS.get(str(config.problem_type)) or (
            "multi_label" if data.get("problem") == "multi_label" else single
        )
    if "labels" in model and found.get("problem") != "regression":
        found["labels"] = own
        if all(UNNAMED.fullmatch(label) for label in own):
            found["labels"] = _named_by_user(own, data.get("labels"), name)
    return found


def _named_by_user(own: list[str], given: list[str] | None, name: str) -> list[str]:
    """Return the names that the user gives to labels that have none."""
    if given is None:
        logger.warning(
            "the labels of %s have no names, only %s and so on. Name them in the model's order "
            "with --data.labels '[NAME, ...]'",
            name,
            own[0],
        )
        return own
    if len(given) != len(own):
        raise UsageError(
            f"data.labels: got {len(given)} labels, but {name} has {len(own)}. Give one for each, "
            "in the model's order."
        )
    return list(given)


def check_weights(model: Any, *, pretrained: str | None, found: Artefact | None) -> None:
    """Check that no part of a model has random weights, where its weights are used as they are.

    Args:
        model: the module.
        pretrained: the weights that it was made from; None if they are those of an artefact.
        found: that artefact.

    Raises:
        ModelError: if one has, such as the head of a model for another task.
    """
    fresh = sorted(getattr(model, "fresh_names", ()))
    if not fresh:
        return
    if pretrained is not None:
        raise ModelError(
            f"{pretrained}: has no weights for {fresh[0]}"
            f"{f' and {len(fresh) - 1} more' if fresh[1:] else ''}, so that {type(model).__name__} "
            "would predict at random. Train it with `plcli fit`, or name weights that were trained "
            "for this task and these labels."
        )
    if found is not None and not found.is_adapter:  # an adapter is checked where it is merged
        raise ModelError(
            f"{found.folder}: lacks {len(fresh)} of the model's weights, such as {fresh[0]}. Its "
            "weights or its config.json are not those that were saved; get the folder from its "
            "source again."
        )
