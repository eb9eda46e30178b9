"""Encodes rows with choices as one entry for each choice, after its context."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from plcli.data.encoders.text import TextEncoder
from plcli.errors import DataError, listed


class ChoiceEncoder:
    """Encodes every choice of a row as a pair of the prompt and the choice.

    Args:
        text: the encoder of the pairs.
        prompts: the number of columns before the choices: the context and perhaps a question.
        choices: the column of lists of choices, or one column for each choice.
    """

    def __init__(self, text: TextEncoder, *, prompts: int, choices: str | list[str]) -> None:
        self.text, self.prompts, self.choices = text, prompts, choices
        self.key = ["choices", prompts, text.key]
        self.columns: Mapping[str, pa.DataType] = {**text.columns, "row": pa.int32()}

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode the columns of contexts, perhaps questions, and choices."""
        first, second, row_of = [], [], []
        for number, row in enumerate(zip(*cells, strict=True)):
            context, *question = row[: self.prompts]
            for choice in choices_of(row[self.prompts :], self.choices, where(number)):
                first.append(context)
                second.append(" ".join([*question, choice]))
                row_of.append(number)
        return {**self.text([first, second], where), "row": row_of}


def choices_of(cells: Sequence[Any], columns: str | list[str], where: str) -> list[str]:
    """Return the choices of a row, whose cells are one list as JSON or one text for each choice.

    Raises:
        DataError: if there are fewer than two choices, or one is empty or no text.
    """
    choices = texts_of(cells, columns, where)
    while choices and not isinstance(columns, str) and not choices[-1].strip():
        choices.pop()
    named = f"column '{columns}'" if isinstance(columns, str) else f"columns {listed(columns)}"
    if len(choices) < 2:
        raise DataError(
            f"{where}: {named}: {len(choices)} choice; two or more are needed. "
            'Write a list such as ["one", "another"], or remove the row.'
        )
    for number, choice in enumerate(choices):
        if not choice.strip():
            raise DataError(
                f"{where}: {named}: choice {number} (from 0) is empty. Fill it in, or remove it."
            )
    return choices


def texts_of(cells: Sequence[Any], columns: str | list[str], where: str) -> list[str]:
    """Return the choices of a row as they are, with empty ones."""
    return _listed(cells[0], columns, where)[0] if isinstance(columns, str) else list(cells)


def names_of(cells: Sequence[Any], columns: str | list[str], where: str) -> list[str] | None:
    """Return the names that a row gives to its choices, such as A to D; None if it gives none."""
    return _listed(cells[0], columns, where)[1] if isinstance(columns, str) else None


def _listed(cell: str, column: str, where: str) -> tuple[list[str], list[str] | None]:
    """Return the choices of a cell, and their names.

    Args:
        cell: as JSON, a list of texts, or an object with the lists text and label, as in ARC.
        column: the column, for messages.
        where: the source and row, for messages.

    Raises:
        DataError: if it is neither of them.
    """
    found = json.loads(cell)
    names = None
    if isinstance(found, dict) and isinstance(found.get("text"), list):
        names = found.get("label")
        if isinstance(names, list):
            names = [str(name) for name in names]
        if names is not None and (
            not isinstance(names, list) or len(set(names)) != len(found["text"])
        ):
            raise DataError(
                f"{where}: column '{column}' contains {cell:.60} with labels {names!r:.60}. Give "
                "each choice a label of its own."
            )
        found = found["text"]
    if not isinstance(found, list) or not all(
        isinstance(text, (str, int, float)) for text in found
    ):
        raise DataError(
            f"{where}: column '{column}' contains {cell:.60}, not a list of texts. "
            'Write a JSON list, ["a", "b"] with double quotes.'
        )
    return [str(text) for text in found], names
