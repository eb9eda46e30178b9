"""metrics.json of a run: reading it, what to do if it is damaged, and writing it again."""

import json
import os
import shlex
from collections.abc import Mapping
from typing import Any

from plcli.errors import ModelError
from plcli.runs import artefact, atomic_files, campaign
from plcli.runs.folder import ENSEMBLE, Run

NAME = "metrics.json"
DAMAGED = "metrics.json.damaged"  # what a damaged file is renamed to before it is written again
PARTS = ("validation", "test", "fit")


def read(run: Run) -> dict[str, Any]:
    """Return the content of metrics.json; empty without the file, which a campaign always has.

    Raises:
        ModelError: if it is damaged.
    """
    if reason := damage(run):
        raise ModelError(f"{run.folder / NAME}: is damaged ({reason}). {remedy(run)}")
    path = run.folder / NAME
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def chosen_epoch(fit: Mapping[str, Any]) -> str:
    """Return the epoch whose weights are kept, of the part `fit`; `last step` if none was chosen.

    Files of earlier versions have the last epoch there, but no monitor.
    """
    if fit.get("monitor") is not None and fit.get("best_epoch") is not None:
        return str(fit["best_epoch"])
    return f"none: last step, {fit['steps']}" if fit.get("steps") is not None else ""


def damage(run: Run) -> str | None:
    """Return what is wrong with metrics.json; None if nothing is, or there is none."""
    path = run.folder / NAME
    if not path.is_file():
        is_done = campaign.exists(run.folder) and run.finished
        return "it is missing" if is_done else None
    try:
        text = path.read_text(encoding="utf-8")
        if not text.strip():
            return "it is empty"
        found = json.loads(text)
    except (OSError, ValueError) as error:
        return str(error)[:100]
    if not isinstance(found, Mapping):
        return f"a {type(found).__name__} instead of a mapping"
    wrong = [name for name in PARTS if not isinstance(found.get(name, {}), Mapping)]
    if wrong:
        return f"its part {wrong[0]} is no mapping"
    if campaign.exists(run.folder) and "best" not in (found.get(campaign.MARK) or {}):
        return "it is not that of a campaign"
    return None


def remedy(run: Run) -> str:
    """Return what to do with a damaged metrics.json."""
    if run.folder.name == ENSEMBLE and campaign.exists(run.folder.parent):
        words = ["plcli", "test", "--run", str(run.folder.parent), "--ensemble"]
        return f"`{shlex.join(words)}` writes it again."
    if campaign.exists(run.folder):
        words = list(campaign.read(run.folder).command)
        words += [] if "--run" in words else ["--run", str(run.folder)]
        return f"`{shlex.join(['plcli', *words])}` writes it again."
    if run.finished:
        test = shlex.join(["plcli", "test", "--run", str(run.folder)])
        return f"`{test}` writes it again, from what model/ knows."
    return "Remove it; the run writes it when it is finished."


def mend(run: Run) -> str | None:
    """Write a damaged metrics.json again, with the scores that the card of the model has.

    Which epoch was chosen, and how, is not in the card. The damaged file is kept under another
    name. That of a campaign is left, as its card is that of one of its models.

    Returns:
        What was done, or is to be done; None if the file is not damaged.
    """
    reason = damage(run)
    if reason is None:
        return None
    path = run.folder / NAME
    if campaign.exists(run.folder) or not run.finished:
        return f"{path}: is damaged ({reason}). {remedy(run)}"
    card = json.loads((run.model / artefact.CARD).read_text(encoding="utf-8"))
    if path.stat().st_size:
        os.replace(path, run.folder / DAMAGED)
    atomic_files.write_text(path, artefact.to_json(dict(card.get("metrics") or {})))
    return (
        f"{path}: was damaged ({reason}), and is written again with the scores that model/ has; "
        "which epoch was the best is lost"
    )
