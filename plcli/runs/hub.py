"""Model repositories on the Hugging Face Hub: artefacts are pushed to them and opened from them.

The token is that of the environment variable HF_TOKEN or of `hf auth login`, as huggingface_hub
finds it; plcli never takes, keeps or prints it.
"""

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plcli.errors import MachineError, ModelError, UsageError
from plcli.runs import artefact, model_card
from plcli.runs.handover import File

logger = logging.getLogger(__name__)

MAIN = "main"
WEIGHTS = (artefact.WEIGHTS, artefact.ADAPTER)


def check_name(name: str) -> None:
    """Check the name of a repository to write to.

    Raises:
        UsageError: if it is not OWNER/NAME.
    """
    fits = re.fullmatch(r"[A-Za-z0-9][\w.-]*/\w([\w.-]*\w)?", name, re.ASCII)
    if not fits or len(name) > 96 or "--" in name or ".." in name or name.endswith(".git"):
        raise UsageError(
            f"REPO: got '{name}', expected OWNER/NAME with at most 96 letters, digits, '-', '_' "
            "and '.', such as mary/tickets."
        )


def push(
    repo: str, files: Sequence[File], *, private: bool, branch: str, message: str
) -> tuple[str, str]:
    """Write the files of an artefact to a repository, in one commit.

    Files that an earlier push wrote and that this artefact does not have are removed in the same
    commit. The model card names the repository in its code.

    Args:
        repo: OWNER/NAME; made if it does not exist.
        files: what is written.
        private: whether nobody else may read it.
        branch: the branch, made if it does not exist.
        message: the commit message.

    Returns:
        The address of the commit, and the name that `plcli.load` takes.

    Raises:
        UsageError: if the repository is to be private, but is there and is not.
        MachineError: if the Hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token

    if get_token() is None:
        raise MachineError(
            f"{repo}: you are not logged in to the Hub. Run `hf auth login`, or set HF_TOKEN to a "
            "token that may write."
        )
    api = HfApi()
    named = repo if branch == MAIN else f"{repo}@{branch}"
    with _explained(repo, api.endpoint):
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise UsageError(
                f"--private: {repo} exists already and is public. Make it private in its settings "
                "on the Hub, or name another one. Nothing was written."
            )
        if branch != MAIN:
            api.create_branch(repo, branch=branch, exist_ok=True)
        removed = _outdated(api, repo, branch, names={file.name for file in files})
        operations: list[Any] = [CommitOperationDelete(name) for name in removed]
        operations += [
            CommitOperationAdd(file.name, _content(file, repo, branch)) for file in files
        ]
        done = api.create_commit(repo, operations, commit_message=message, revision=branch)
    return str(done.commit_url), named


def _content(file: File, repo: str, branch: str) -> Any:
    """Return what is written of a file: its path, or the text of a model card."""
    if file.name != model_card.FILE:
        return str(file.path)
    text = file.path.read_text(encoding="utf-8")
    revision = None if branch == MAIN else branch
    return model_card.of_repository(text, repo, revision=revision).encode()


def _outdated(api: Any, repo: str, branch: str, *, names: set[str]) -> list[str]:
    """Return the files in a repository that are of its earlier artefact alone."""
    there = set(api.list_repo_files(repo, revision=branch))
    if artefact.CARD not in there:
        return []
    before = _card(api.hf_hub_download(repo, artefact.CARD, revision=branch))
    return sorted(there & {*WEIGHTS, *before} - names)


def _card(path: str) -> list[str]:
    """Return the files that a plcli.json lists; none if it is not one."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    found = values.get("files") if isinstance(values, Mapping) else None
    return [str(name) for name in found] if isinstance(found, Mapping) else []


@contextmanager
def _explained(repo: str, endpoint: str) -> Iterator[None]:
    """Turn errors of huggingface_hub into messages.

    Raises:
        MachineError: instead of them.
    """
    from huggingface_hub import errors

    any_http: type[Exception] = getattr(errors, "HTTPError")  # noqa: B009  # httpx or httpx2
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise MachineError(
            f"{repo}: HF_HUB_OFFLINE forbids to use the network. Unset it."
        ) from None
    except errors.HfHubHTTPError as error:
        raise MachineError(f"{repo}: {_answer(error)}") from None
    except (any_http, ConnectionError) as error:
        reason = str(error) or type(error).__name__
        raise MachineError(
            f"{repo}: the Hub at {endpoint} cannot be reached ({reason}). Check the network, and "
            "HF_ENDPOINT if it is set."
        ) from None
    except (RuntimeError, ValueError, OSError) as error:  # of an upload, also by hf_xet
        lines = str(error.__cause__ or error).splitlines() or [type(error).__name__]
        raise MachineError(
            f"{repo}: could not be written ({lines[0]}). Correct that, or try again later."
        ) from None


def _answer(error: Any) -> str:
    """Return what a refusal of the Hub means."""
    status = error.response.status_code
    if status == 401:
        return (
            "the Hub does not accept your token (401). Log in again with `hf auth login`, or set "
            "HF_TOKEN to a token that may write."
        )
    if status == 403:
        return (
            "your token may not write there (403). Use a token with the permission to write, and "
            "a name of your own or of your organization as OWNER."
        )
    if status == 404:
        return "was not found by the Hub (404). Check OWNER/NAME, and what your token may read."
    told = str(error.server_message or "").splitlines()
    return f"the Hub answered {status}{f' ({told[0]})' if told else ''}. Try again later."


def has_card(name: str) -> bool:
    """Whether a hub id is known to be an artefact of plcli, with columns and decisions."""
    return _downloaded_card(name, None) is not None


def folder_of(name: str) -> Path | None:
    """Download the artefact of a repository, and return its folder in the Hub's cache.

    Args:
        name: OWNER/NAME, or OWNER/NAME@REVISION.

    Returns:
        None if there is no such repository, it has no plcli.json, or it cannot be reached and is
        not in the cache: a public model, of which others report what is wrong.

    Raises:
        ModelError: if a revision is named, which only an artefact of plcli can have, and there is
            none.
        MachineError: if the files cannot be downloaded.
    """
    from huggingface_hub import constants, snapshot_download

    repo, _, revision = name.partition("@")
    card = _downloaded_card(repo, revision or None)
    if card is None and revision:
        raise ModelError(
            f"{name}: there is no model of plcli at this revision of {repo}, or it cannot be "
            "reached. Check the name, the network, and your login if it is private."
        )
    if card is None:
        return None
    names = [artefact.CARD, model_card.FILE, *WEIGHTS, *_card(card)]
    if constants.HF_HUB_OFFLINE:
        return Path(card).parent
    with _explained(name, constants.ENDPOINT):
        return Path(snapshot_download(repo, revision=Path(card).parent.name, allow_patterns=names))


def _downloaded_card(repo: str, revision: str | None) -> str | None:
    """Return the path of a repository's plcli.json; None if there is none, or out of reach."""
    from huggingface_hub import errors, hf_hub_download

    any_http: type[Exception] = getattr(errors, "HTTPError")  # noqa: B009  # httpx or httpx2
    missing = (errors.HFValidationError, errors.EntryNotFoundError, any_http, OSError)
    try:
        return str(hf_hub_download(repo, artefact.CARD, revision=revision))
    except missing as error:
        logger.debug("%s has no %s: %s", repo, artefact.CARD, error)
        return None
