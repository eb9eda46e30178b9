"""Notes the numbers that were chosen for a training, so that a resumed one has the same."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback

from plcli.runs import atomic_files

FILE, KEY = "environment.json", "chosen"


class ChosenNumbers(Callback):
    """Adds the chosen learning rate and number of epochs to environment.json.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Write what has been chosen, if anything has."""
        epochs = trainer.max_epochs if trainer.fit_loop.has_chosen_epochs else None
        chosen = {"epochs": epochs, "lr": getattr(pl_module, "chosen_rate", None)}
        chosen = {name: value for name, value in chosen.items() if value is not None}
        path = self.folder / FILE
        if not chosen or not trainer.is_global_zero or not path.is_file():
            return
        written = json.loads(path.read_text(encoding="utf-8"))
        if KEY not in written:
            text = json.dumps({**written, KEY: chosen}, indent=1, ensure_ascii=False)
            atomic_files.write_text(path, text + "\n")


def epochs(folder: Path) -> int | None:
    """Return the number of epochs that was chosen for a run; None if it was given."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))[KEY]["epochs"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) else None
