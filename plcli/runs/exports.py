"""The folders that `plcli export` writes: their files, and whether their check passed.

A folder has the network in the form of another engine, the tokenizer, card.json, stand-ins for
inputs, and parity.json, which is written last: what was compared, whether it passed, and the sums
of the weights it was made of and of its own files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plcli.runs import artefact, atomic_files
from plcli.runs.folder import Run

FORMATS = ("onnx", "openvino", "openvino-int8", "torch-bf16")
PACKAGES = {  # that run them
    "onnx": "onnxruntime",
    "openvino": "openvino",
    "openvino-int8": "openvino",
    "torch-bf16": "torch",
}
PARITY = "parity.json"
STAND_INS = "stand_ins.safetensors"


@dataclass(frozen=True)
class Export:
    """An export whose check passed.

    Attributes:
        folder: its folder.
        parity: the content of parity.json.
    """

    folder: Path
    parity: Mapping[str, Any]

    @property
    def to(self) -> str:
        """Its format."""
        return str(self.parity["to"])

    @property
    def files(self) -> Mapping[str, str]:
        """The sha256 of its files by name."""
        files: Mapping[str, str] = self.parity["files"]
        return files

    def was_compared_in(self, precision: str) -> bool:
        """Whether it agreed in a precision that OpenVINO takes by itself."""
        own = self.parity.get("as_it_runs") or {}
        return bool(own.get("passed")) and own.get("precision") == precision


def folder_of(run: Run, to: str) -> Path:
    """Return the folder of a run's export to a format."""
    return run.folder / "export" / to


def write_parity(folder: Path, found: Mapping[str, Any]) -> None:
    """Write parity.json, with the sums of the other files."""
    sums = {
        str(path.relative_to(folder)): atomic_files.sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != PARITY
    }
    atomic_files.write_text(folder / PARITY, artefact.to_json({**found, "files": sums}))


def problem(folder: Path, *, weights: str) -> str | None:
    """Return why an export cannot be used for some weights; None if it can.

    Args:
        folder: the folder of the export.
        weights: the sha256 of the artefact's weights.
    """
    path = folder / PARITY
    if not path.is_file():
        return f"{folder}: has no {PARITY}, so that its check has not ended"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        to, files, passed = found["to"], dict(found["files"]), found["passed"]
    except (ValueError, KeyError, TypeError) as error:
        return f"{path}: is damaged, or of an earlier version ({error})"
    if to not in FORMATS:
        return f"{path}: is of an unknown format, {to}"
    if found.get("weights") != weights:
        return f"{folder}: was made of other weights than the model has now"
    if passed is not True:
        return f"{folder}: its check failed: {found.get('agreement', 0):.1%} of the rows agreed"
    for name, expected in files.items():
        if not (folder / name).is_file():
            return f"{folder}: contains no {name}"
        if atomic_files.sha256(folder / name) != expected:
            return f"{folder / name}: has changed since it was checked (its sha256 differs)"
    return None


def read(folder: Path) -> Export:
    """Open an export that has no problem."""
    return Export(folder, json.loads((folder / PARITY).read_text(encoding="utf-8")))
