"""Finds the user's own modules in the current folder, and nothing else there.

With the current folder on sys.path, a file there would take the place of every package that a
library imports if it is installed. Here a module is found only if --allow-import names it, or if a
module that was found here imports it.
"""

import importlib.machinery
import json
import os
import sys
from collections.abc import Iterable, Sequence
from types import FrameType
from typing import Any

VARIABLE = "PLCLI_OWN_MODULES"  # tells processes that a loader starts where to find them


class OwnModules:
    """A finder of sys.meta_path, asked after all others, so that installed packages come first.

    Args:
        packages: the top-level packages that --allow-import names.
        folder: the folder that has them.
    """

    def __init__(self, packages: Iterable[str], folder: str) -> None:
        self.packages, self.folder = set(packages), folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of a top-level module in the folder; None if it may not be found."""
        if path is not None or "." in name:
            return None  # part of a package, which has its own path
        if name not in self.packages and _importer() not in self.packages:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, [self.folder])
        if spec is not None:
            self.packages.add(name)
        return spec


def find(packages: Iterable[str], folder: str) -> None:
    """Let the modules of some packages be found in a folder, in place of earlier ones."""
    roots = sorted({package.split(".")[0] for package in packages})
    sys.meta_path[:] = [each for each in sys.meta_path if not isinstance(each, OwnModules)]
    os.environ.pop(VARIABLE, None)
    if roots:
        sys.meta_path.append(OwnModules(roots, folder))
        os.environ[VARIABLE] = json.dumps([roots, folder])


def find_in_a_started_process() -> None:
    """Find them in a process that a loader has started, which imports its data set anew."""
    given = os.environ.get(VARIABLE)
    if given is not None:
        find(*json.loads(given))


def _importer() -> str:
    """Return the top-level name of the module that imports; importlib itself is skipped."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.split(".")[0] != "importlib":
            return name.split(".")[0]
        frame = frame.f_back
    return ""
