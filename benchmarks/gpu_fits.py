"""What the parts of scripts/gpu-check share: outcomes, and fits of plcli that are noted."""

import contextlib
import gc
import io
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from plcli.__main__ import main

TASK = "plcli.tasks.text_classification."
TICKETS = "package:plcli/examples/tickets/"


class Skipped(Exception):
    """A check that this machine does not allow, and why."""


class Failed(Exception):
    """A check that failed, and why."""


@dataclass
class Outcome:
    """How a check ended.

    Attributes:
        part: what it belongs to.
        name: of the check.
        status: pass, fail, skipped or cut.
        reason: why it did not pass.
        figures: what was measured.
    """

    part: str
    name: str
    status: str
    reason: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Setting:
    """Where and how long a part runs.

    Attributes:
        device: cpu or cuda.
        folder: for everything that is written.
        seconds: after which no check is begun.
    """

    device: str
    folder: Path
    seconds: float

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self.device == "cuda"

    @property
    def has_bf16(self) -> bool:
        """Whether the device computes in bf16 by itself, from compute capability 8.0 on."""
        return not self.on_gpu or torch.cuda.get_device_capability()[0] >= 8

    def free(self) -> None:
        """Free the GPU of what earlier checks left."""
        if self.on_gpu and torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()

    def need_gpu(self) -> None:
        """Skip a check on a CPU."""
        if not self.on_gpu:
            raise Skipped("needs a GPU")

    def need_bf16(self) -> None:
        """Skip a check on a GPU that has no bf16."""
        if not self.has_bf16:
            raise Skipped("needs compute capability 8.0")


Checks = Mapping[str, Callable[[], dict[str, Any]]]


def run(part: str, checks: Checks, setting: Setting, tell: Callable[[Outcome], None]) -> None:
    """Run checks in turn; those that the time does not suffice for are cut."""
    end, longest = time.monotonic() + setting.seconds, 0.0
    for name, check in checks.items():
        began = time.monotonic()
        if began + longest > end:
            reason = f"the part's {setting.seconds:.0f} seconds do not suffice"
            tell(Outcome(part, name, "cut", reason))
            continue
        setting.free()
        try:
            outcome = Outcome(part, name, "pass", figures=check())
        except Skipped as reason:
            outcome = Outcome(part, name, "skipped", str(reason))
        except Failed as reason:
            outcome = Outcome(part, name, "fail", str(reason))
        except Exception as error:  # one broken check is no reason to lose the others
            outcome = Outcome(part, name, "fail", f"{type(error).__name__}: {error}"[:400])
        seconds = time.monotonic() - began
        outcome.figures["seconds"] = round(seconds, 1)
        longest = max(longest, seconds)
        tell(outcome)


def fit(
    folder: Path,
    *,
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    trainer: Mapping[str, Any],
    notes: Mapping[str, Any] | None = None,
    **sections: Any,
) -> list[dict[str, Any]]:
    """Fit into FOLDER/run and return what was noted.

    Args:
        folder: of the run, the config and the notes; a second fit there resumes the first.
        model: arguments of the classifier.
        data: arguments of its data.
        trainer: the section trainer.
        notes: arguments of the callback.
        sections: others of the config.

    Raises:
        Failed: if the fit does not end well.
    """
    folder.mkdir(parents=True, exist_ok=True)
    noted = folder / "notes.jsonl"
    callback = {"class_path": "gpu_notes.Notes", "init_args": {"path": str(noted), **(notes or {})}}
    config = {
        "model": {"class_path": f"{TASK}TextClassifier", "init_args": dict(model)},
        "data": {"class_path": f"{TASK}TextClassificationData", "init_args": dict(data)},
        "trainer": {"devices": 1, "enable_progress_bar": False, "callbacks": [callback], **trainer},
        **sections,
    }
    (folder / "fit.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    words = ["fit", "-c", str(folder / "fit.yaml"), "--run", str(folder / "run")]
    said = io.StringIO()
    before = os.environ.get("PLCLI_CACHE")
    os.environ["PLCLI_CACHE"] = str(folder.parent / "cache")
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main([*words, "--allow-import", "gpu_notes"])
    finally:
        os.environ.pop("PLCLI_CACHE")
        if before is not None:
            os.environ["PLCLI_CACHE"] = before
        (folder / "said.txt").write_text(said.getvalue(), encoding="utf-8")
    if code != 0:
        raise Failed(f"plcli fit ended with {code}: {said.getvalue()[-300:]}")
    return read(noted)


def read(noted: Path) -> list[dict[str, Any]]:
    """Return the notes of a fit."""
    return [json.loads(line) for line in noted.read_text(encoding="utf-8").splitlines()]
