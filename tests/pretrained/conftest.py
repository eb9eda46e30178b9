"""A pretrained folder, and what is said where there is none."""

import re
from pathlib import Path
from typing import Any

import pytest

from plcli.errors import ModelError
from tests.tiny import save_bert


@pytest.fixture
def folder() -> str:
    """A folder with a tiny classifier of three labels and its tokenizer."""
    return str(save_bert(Path("bert")))


def refused(message: str) -> Any:
    """Expect a ModelError that says this, word by word."""
    return pytest.raises(ModelError, match=re.escape(message))
