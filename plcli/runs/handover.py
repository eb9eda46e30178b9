"""What of a run is handed over: its artefact, whole and unchanged, and no other file."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from plcli.errors import ModelError, UsageError, listed
from plcli.runs import artefact, inventory, model_card
from plcli.runs.artefact import Artefact
from plcli.runs.folder import check_local, open_run

SECRET = re.compile(  # tokens of Hugging Face, GitHub, AWS and OpenAI, in their whole form
    r"\b(hf_[A-Za-z0-9]{30,}|gh[pousr]_\w{30,}|github_pat_\w{30,}|(AKIA|ASIA)[0-9A-Z]{16}|"
    r"sk-(proj-)?[A-Za-z0-9]{32,})\b"
)
MOST_READ = 2**20  # bytes of a text file in which secrets are looked for; vocabularies are longer


@dataclass(frozen=True)
class File:
    """A file to hand over.

    Attributes:
        name: its path inside the artefact, with slashes.
        path: where it is.
        size: its bytes.
    """

    name: str
    path: Path
    size: int


def finished(name: str) -> Artefact:
    """Open the artefact of a finished run, or a model/ folder, and verify its files.

    Raises:
        UsageError: if there is no such run, or it is not finished.
        ModelError: if the artefact is damaged.
    """
    check_local("RUN", name)
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(f"{name}: no such folder. Name a finished run or its model/ folder.")
    is_run = artefact.exists(folder) or artefact.exists(folder / "model")
    if not is_run and not (folder / "config.yaml").exists():
        inside = [str(run.folder) for run in inventory.runs_below(folder)]
        there = f" Name one of the runs in it: {listed(inside, most=5)}." if inside else ""
        raise UsageError(
            f"{name}: is neither a run (config.yaml) nor a model/ folder (plcli.json).{there}"
        )
    run = open_run(name)
    if not run.finished:
        raise UsageError(
            f"{name}: is not finished, so that it has no model/ yet. Resume it with `plcli fit`, "
            "or name another run."
        )
    return artefact.load(run.model)


def files(found: Artefact) -> list[File]:
    """Return the files of an artefact: those that plcli.json lists, plcli.json and the model card.

    Raises:
        ModelError: if it lists none, or a file has a secret in it.
    """
    folder, names = found.folder, [artefact.CARD]
    if "files" not in found.card:
        raise ModelError(
            f"{folder / artefact.CARD}: is of an earlier version, and does not list its files. "
            "Train the model again."
        )
    names += [artefact.ADAPTER if found.is_adapter else artefact.WEIGHTS, *found.card["files"]]
    if (folder / model_card.FILE).is_file():
        names.append(model_card.FILE)
    listed_files = []
    for name in sorted({PurePosixPath(Path(each)).as_posix() for each in names}):
        parts = PurePosixPath(name).parts
        if any(part.startswith(".") for part in parts) or name.startswith("/"):
            raise ModelError(
                f"{folder / artefact.CARD}: lists {name}, which is hidden or outside of the "
                "folder. Do not trust it; get the folder from its source again."
            )
        listed_files.append(File(name, folder / name, (folder / name).stat().st_size))
    _check_no_secret(listed_files)
    return listed_files


def _check_no_secret(found: list[File]) -> None:
    for file in found:
        if file.path.suffix not in (".json", ".md", ".txt", ".jinja") or file.size > MOST_READ:
            continue
        secret = SECRET.search(file.path.read_text(encoding="utf-8", errors="replace"))
        if secret is not None:
            raise ModelError(
                f"{file.path}: contains what looks like a secret ({secret[0][:4]}...). Revoke it, "
                "and remove it from the file; if the file is plcli.json, train again without it."
            )


def own_paths(found: Artefact) -> Iterator[str]:
    """Yield the absolute paths that settings of an artefact name and that exist here."""
    settings = [found.card]
    config = found.folder / "config.json"
    if config.is_file():
        settings.append(json.loads(config.read_text(encoding="utf-8")))
    for value in settings:
        for text in _texts(value):
            if text.startswith(("/", "~/")) and Path(text).expanduser().exists():
                yield text


def _texts(values: Any) -> Iterator[str]:
    if isinstance(values, Mapping):
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _texts(value)
    elif isinstance(values, str):
        yield values


def size_text(number: int) -> str:
    """Return a number of bytes for people, such as 90.9 MB."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number} B"


def slug(name: str) -> str:
    """Return a name of lower-case letters, digits and hyphens, as images and functions have."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
