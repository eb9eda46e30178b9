"""plcli push: writes the model of a finished run to a repository on the Hugging Face Hub."""

import logging
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from plcli.cli import logs, run_options
from plcli.cli.run_options import RunOptions
from plcli.errors import ModelError, UsageError, listed
from plcli.runs import artefact, handover, model_card
from plcli.runs.artefact import Artefact
from plcli.runs.handover import File, size_text

logger = logging.getLogger(__name__)

USAGE = {
    "RUN OWNER/NAME": "write the model/ of a finished run to a repository on the Hub, in one "
    "commit: weights, tokenizer, plcli.json and the model card, never a checkpoint or a log. "
    "Log in with `hf auth login`, or set HF_TOKEN"
}
OPTIONS = {
    "branch": "the branch to write to, made if it does not exist (default: main)",
    "message": "the commit message (default: the name of the run)",
}
FLAGS = {
    "private": "make the repository private; refused if it exists and is public",
    "dry-run": "list the files and their sizes, and write nothing",
}


def run(words: Sequence[str]) -> int:
    """Push, and return the exit code."""
    given = run_options.parse("push", words, usage=USAGE, options=OPTIONS, flags=FLAGS)
    if given is None:
        return 0
    logs.set_up()
    name, repo = _words(given)
    from plcli.runs import hub  # it imports huggingface_hub

    hub.check_name(repo)
    found = handover.finished(name)
    _check_base(found)
    files = handover.files(found)
    for path in handover.own_paths(found):
        logger.warning("warning: %s names a path of this machine: %s", artefact.CARD, path)
    if all(file.name != model_card.FILE for file in files):
        logger.warning("warning: %s has no model card (%s)", found.folder, model_card.FILE)
    branch = given.options.get("branch", hub.MAIN)
    console = Console()
    if "dry-run" in given.options:
        _list(console, files, f"{repo}, branch {branch}")
        return 0
    shown = Path(name).resolve()
    shown = shown.parent if shown.name == "model" else shown
    address, named = hub.push(
        repo,
        files,
        private="private" in given.options,
        branch=branch,
        message=given.options.get("message") or f"{shown.name}, by plcli push",
    )
    total = size_text(sum(file.size for file in files))
    lines = [f"{len(files)} files, {total}: {address}", f'next: plcli.load("{named}")']
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    return 0


def _words(given: RunOptions) -> tuple[str, str]:
    """Return the run and the repository.

    Raises:
        UsageError: if there are not exactly two words, or an option is empty.
    """
    if len(given.words) != 2:
        got = f"got {listed(given.words)}" if given.words else "got nothing"
        raise UsageError(
            f"push: {got}, expected a run and a repository: plcli push runs/NAME OWNER/NAME."
        )
    for option, value in given.options.items():
        if option in OPTIONS and not value.strip():
            raise UsageError(f"--{option}: is empty. Leave it out, or give a text.")
    return given.words[0], given.words[1]


def _check_base(found: Artefact) -> None:
    """Check that others have the weights that an adapter belongs to.

    Raises:
        ModelError: if they are in a folder or a package here.
    """
    if not found.is_adapter:
        return
    base = found.card.get("base") or {}
    if not base.get("revision"):
        raise ModelError(
            f"{found.folder}: is an adapter for the weights of {base.get('name')}, which are not "
            "on the Hub, so that nobody else could load it. Train with model.lora.save: merged."
        )


def _list(console: Console, files: Sequence[File], where: str) -> None:
    width = max(len(file.name) for file in files)
    lines = [f"{file.name:{width}}  {size_text(file.size):>9}" for file in files]
    total = size_text(sum(file.size for file in files))
    lines.append(f"{len(files)} files, {total}, for {where}; nothing was written")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
