"""Distillation: what model.teacher means for the data, and that only a fit has a teacher."""

from typing import Any

from plcli.data.unlabelled import UnlabelledData
from plcli.errors import UsageError
from plcli.models.init_from import opened


def fill_in(
    command: str, model: Any, data: Any, model_class: type | None, data_class: type | None
) -> None:
    """Set what a fit with a teacher needs of the data; other commands have no teacher.

    Training rows may have no label, and a student from random weights has the teacher's tokenizer.

    Args:
        command: the command.
        model: the model section of a parsed config, changed in place.
        data: the data section, changed in place; None if the model has its own data.
        model_class: the class of the model.
        data_class: the class of the data.

    Raises:
        UsageError: if rows without a label are wanted, but there is no teacher.
        ModelError: if there is no such teacher.
    """
    given: Any = model.get("init_args") or {}
    ours = hasattr(model_class, "distils")  # a class of the user may have a teacher of its own
    teacher = given.get("teacher") if ours else None
    if command != "fit" and teacher is not None:
        given.teacher = None  # it is not needed any more, and may be gone
    if data_class is None or not issubclass(data_class, UnlabelledData):
        return
    arguments = data.init_args
    if teacher is None and command != "fit":
        return
    if teacher is None:
        if arguments.unlabelled:
            raise UsageError(
                "data.unlabelled: rows without a label are learned from a teacher, but there is "
                "none. Name a run with model.teacher, or remove the key."
            )
        return
    takes_some = data_class.label_columns is not UnlabelledData.label_columns
    if arguments.unlabelled is None and takes_some:
        arguments.unlabelled = True
    if command != "fit":
        return
    if arguments.get("tokenizer") is None and given.get("architecture") is not None:
        run = teacher if isinstance(teacher, str) else teacher.run
        arguments.tokenizer = str(opened(run, "teacher").folder)
