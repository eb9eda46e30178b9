"""Each file of the folder formats gives its rows, or is refused with its message."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from plcli.data import rows
from plcli.data.cells import Kind
from tests.data.files import refused

FOLDER = Path(__file__).parent / "formats"
CASES = yaml.safe_load((FOLDER / "cases.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES, ids=[case["file"] for case in CASES])
def test_a_file_gives_its_rows_or_its_message(case: dict[str, Any]) -> None:
    columns = {name: Kind(kind) for name, kind in case["columns"].items()}
    source, options = str(FOLDER / case["file"]), case.get("options", {})
    if "message" in case:
        with refused(case["message"]):
            rows.load(source, columns, **options)
    else:
        assert rows.load(source, columns, **options).table.to_pylist() == case["rows"]


def test_every_file_has_a_case() -> None:
    named = {case["file"] for case in CASES}
    named |= {f"{Path(name).stem}.txt" for name in named if name.endswith(".ann")}
    assert {path.name for path in FOLDER.iterdir()} - named == {"cases.yaml"}
