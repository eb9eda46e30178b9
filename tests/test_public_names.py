"""The names that `import plcli` gives are there, and cost nothing until they are used."""

import subprocess
import sys

import pytest

import plcli


@pytest.mark.parametrize("name", plcli.__all__)
def test_a_public_name_is_a_class_of_its_room(name: str) -> None:
    assert getattr(plcli, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'plcli' has no attribute 'TextDat'"):
        _ = plcli.TextDat


def test_importing_plcli_loads_no_model_library() -> None:
    code = (
        "import sys, plcli; print(sorted({'torch', 'lightning', 'transformers'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
