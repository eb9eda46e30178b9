"""Commands that plcli suggests: quoted for a shell, with the --allow-import that they need."""

import shlex
from pathlib import Path

from plcli.cli.arguments import ALLOW_IMPORT
from plcli.config import allowlist


def command(name: str, run: Path, *words: str) -> str:
    """Return a command on a run.

    Args:
        name: the command, such as test.
        run: the run folder.
        words: more words; placeholders such as FILE are in capitals.
    """
    allowed = [word for package in allowlist.added() for word in (f"--{ALLOW_IMPORT}", package)]
    return shlex.join(["plcli", name, "--run", str(run), *words, *allowed])
