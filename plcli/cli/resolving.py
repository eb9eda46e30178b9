"""Checks every object that jsonargparse imports for a value of a config, where it is imported.

A bare string may name a function wherever a type accepts a callable, whatever the key is called, so
that a check of keys such as `class_path` does not see it.
"""

import sys
from pathlib import Path
from typing import Any

from jsonargparse import _actions, _from_config, _stubs_resolver, _typehints
from jsonargparse._common import ImportDenied
from jsonargparse._util import import_object

from plcli.config import allowlist
from plcli.errors import UsageError

REFUSED = "refused by plcli"  # marks a message of plcli in an error of jsonargparse


def check_what_is_named() -> None:
    """Let jsonargparse import only what a config may name."""
    for module in (_typehints, _actions, _from_config):
        module.import_object = _import_checked  # type: ignore[attr-defined]  # their own import
    stubs: Any = _stubs_resolver
    if stubs.typeshed_client_support and stubs.stubs_resolver is None:
        # by itself it asks `python -c` for the path, which runs a json.py of the current folder
        context = stubs.tc.get_search_context(search_path=[Path(path) for path in sys.path if path])
        stubs.stubs_resolver = stubs.StubsResolver(search_context=context)


def _import_checked(name: str, check_path: bool = True) -> Any:
    """Import an object as jsonargparse does.

    Raises:
        ImportDenied: if a config may not name it; jsonargparse adds the key to the message.
    """
    try:
        if check_path and isinstance(name, str) and "." in name:
            allowlist.check(name, "")
        found = import_object(name, check_path)
        if check_path:
            allowlist.check_found(name, found, "")
    except UsageError as error:
        raise ImportDenied(f"{REFUSED}: {str(error).removeprefix(': ')}") from None
    return found
