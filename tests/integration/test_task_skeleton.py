"""The skeleton of docs/adding-a-task.md works as it stands: its commands and its own tests."""

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Command

PAGE = (ROOT / "docs" / "adding-a-task.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^plcli ((?:fit|test|predict) .+)$", PAGE, re.MULTILINE)


@pytest.fixture
def skeleton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the files of the page, from which Python imports."""
    folder = tmp_path / "skeleton"
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "my_tasks" / "__init__.py").touch()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    yield folder
    for name in [name for name in sys.modules if re.match(r"(my_tasks|test_ratings)\b", name)]:
        del sys.modules[name]


def test_the_page_has_a_module_a_config_its_rows_and_a_test() -> None:
    assert [*FILES] == ["my_tasks/ratings.py", "ratings.yaml", "reviews.csv", "test_ratings.py"]
    assert [command.split()[0] for command in COMMANDS] == ["fit", "test", "predict"]


def test_the_commands_of_the_page_run(skeleton: Path, plcli: Command) -> None:
    for command in COMMANDS:
        result = plcli(*command.split())
        assert result.code == 0, result.err
    predictions = (skeleton / "ratings.csv").read_text(encoding="utf-8").splitlines()
    assert predictions[0] == "id,food,service"
    assert len(predictions) == len(FILES["reviews.csv"].splitlines())


def test_the_tests_of_the_page_pass(skeleton: Path, request: pytest.FixtureRequest) -> None:
    written: Any = importlib.import_module("test_ratings")
    tests = [value for name, value in vars(written).items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        fixtures = inspect.signature(test).parameters
        test(**{name: request.getfixturevalue(name) for name in fixtures})
