"""environment.json: versions, machine, git state and data at the start of a run."""

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from plcli import __version__

NO_PROGRAMS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null")  # of a repository
PACKAGES = (
    "torch",
    "lightning",
    "transformers",
    "tokenizers",
    "datasets",
    "torchmetrics",
    "jsonargparse",
    "numpy",
    "pyarrow",
)


def environment(
    *,
    seed: Any,
    fingerprints: Mapping[str, str],
    rows: Mapping[str, str],
    command: list[str],
    processes: Mapping[str, Any],
) -> dict[str, Any]:
    """Return versions, machine, git state, data fingerprints and seed, for environment.json.

    Args:
        seed: the seed.
        fingerprints: the fingerprints of the sources of the data, by split.
        rows: the sha256 of the rows that are trained on, by split.
        command: the command line, without secrets.
        processes: the number of processes and nodes, and who started them.
    """
    return {
        "plcli": __version__,
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        **machine(),
        "processes": dict(processes),
        "git": {
            "commit": _git("rev-parse", "HEAD"),
            "dirty": None if (changes := _git("status", "--porcelain")) is None else bool(changes),
        },
        "seed": seed,
        "data": dict(fingerprints),
        "rows": dict(rows),
    }


def command_line(words: Any) -> str:
    """Return the command of an environment.json, or of a campaign.json, as it was typed."""
    if not isinstance(words, list):
        return "" if words is None else str(words)
    return shlex.join(["plcli", *map(str, words)])


def machine() -> dict[str, Any]:
    """Return the versions of packages, and the machine."""
    import torch

    return {
        "python": sys.version.split()[0],
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *NO_PROGRAMS, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
