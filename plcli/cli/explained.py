"""The explanations that a report shows: of its worst rows, by the model of the run."""

import logging
from collections.abc import Sequence
from typing import Any

from plcli.cli.loaded import load
from plcli.errors import UsageError
from plcli.runs.reporting.contents import Contents
from plcli.runs.reporting.marked import Explanations, Words

logger = logging.getLogger(__name__)
MOST_ROWS = 20  # an explanation takes as long as some 60 predictions


def of_errors(contents: Contents, *, allow_import: Sequence[str]) -> Explanations:
    """Return the words of the worst rows of a run, with how much each moved the decision.

    Args:
        contents: the files of the run.
        allow_import: packages whose classes its config may name.

    Raises:
        UsageError: if there are no worst rows, or the model cannot be explained.
    """
    folder = contents.run.folder
    rows = [row["row"] for row in (contents.analysis.get("errors") or {}).get("rows") or []]
    if not rows:
        raise UsageError(
            f"--explain: {folder} has no analysis.json with worst rows. Write it with "
            f"`plcli test --run {folder}`, or remove the option."
        )
    model = load(folder, allow_import=allow_import)
    logger.info("explaining the %d worst rows", len(rows[:MOST_ROWS]))
    explainer = model.explainer("test")
    return {row: _words(*explainer.texts(row)) for row in rows[:MOST_ROWS]}


def _words(texts: Sequence[str], words: Sequence[dict[str, Any]]) -> list[Words]:
    """Return each text with its words."""
    return [
        Words(
            text,
            [
                (word["start"], word["end"], word["score"])
                for word in words
                if word.get("part", 0) == number
            ],
        )
        for number, text in enumerate(texts)
    ]
