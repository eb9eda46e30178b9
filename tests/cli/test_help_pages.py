"""The help pages: what they name, in which order, and that they need no model library."""

import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from plcli import __version__
from plcli.cli.arguments import COMMANDS, OPTIONS, STEPS
from plcli.tasks.linear_regression import SimpleLinearModel, TableData
from plcli.tasks.text_classification import TextClassificationData, TextClassifier
from tests.conftest import ROOT, Command


@pytest.fixture(autouse=True)
def _on_a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


@pytest.mark.parametrize("word", ["-h", "--help", "help"])
def test_help_ends_with_0(plcli: Command, word: str) -> None:
    assert plcli(word).code == 0


@pytest.mark.parametrize("word", ["-V", "--version"])
def test_the_version_is_printed(plcli: Command, word: str) -> None:
    assert plcli(word).out == f"plcli {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_overview_names_every_command_with_a_line(plcli: Command, command: str) -> None:
    assert re.search(rf"^ *{command} +{re.escape(COMMANDS[command])}", plcli("--help").out, re.M)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_every_command_has_a_help_page(plcli: Command, command: str, word: str) -> None:
    assert plcli(command, word).out.startswith(f"plcli {command}: {COMMANDS[command]}.\n")


@pytest.mark.parametrize(
    ("command", "option"), [(c, option) for c, options in OPTIONS.items() for option in options]
)
def test_a_help_page_names_every_option(plcli: Command, command: str, option: str) -> None:
    assert re.search(rf"^ *--{option} ", plcli(command, "--help").out, re.M)


@pytest.mark.parametrize("command", STEPS)
@pytest.mark.parametrize("name", ["-c, --config FILE", "--print_config", "--trainer.KEY"])
def test_a_help_page_names_what_all_steps_share(plcli: Command, command: str, name: str) -> None:
    assert name in plcli(command, "--help").out


def test_the_help_page_of_predict_names_its_texts(plcli: Command) -> None:
    page = plcli("predict", "--help").out
    usage = "usage: plcli predict --run FOLDER | --config FILE ... [TEXT ... | - | --input FILE]"
    assert usage in page
    assert re.search(r"^ *TEXT \.\.\. +texts to predict", page, re.M)


@pytest.mark.parametrize("command", STEPS)
@pytest.mark.parametrize(
    "key", ["max_epochs", "--checkpoint.KEY", "--numbers.KEY", "--lr", "head_lr", "wordpieces"]
)
def test_only_the_help_page_of_fit_shows_the_keys_of_training(
    plcli: Command, command: str, key: str
) -> None:
    config = str(ROOT / "configs" / "bert.yaml")
    assert (key in plcli(command, "-c", config, "--help").out) == (command == "fit")


@pytest.mark.parametrize(
    ("command", "key"), [("validate", "val"), ("test", "test"), ("predict", "predict")]
)
def test_a_help_page_names_the_key_for_a_part_of_the_rows(
    plcli: Command, command: str, key: str
) -> None:
    assert f"  limit_{key}_batches " in plcli(command, "--help").out


@pytest.mark.parametrize("task", ["linear_regression", "text_classification"])
def test_without_a_config_the_tasks_are_listed(plcli: Command, task: str) -> None:
    assert f"plcli.tasks.{task}  " in plcli("fit", "--help").out


@pytest.mark.parametrize("value", ["auto", "never", "must"])
def test_the_help_page_names_the_values_of_resume(plcli: Command, value: str) -> None:
    line = next(line for line in plcli("fit", "--help").out.splitlines() if "--resume" in line)
    assert value in line


def test_with_a_config_the_arguments_of_its_classes_come_first(
    plcli: Command, linear_config: Path
) -> None:
    page = plcli("fit", "-c", linear_config, "--help").out
    assert page.index("features") < page.index("-c, --config FILE")


@pytest.mark.parametrize(
    "line",
    [
        "--data.KEY  plcli.tasks.linear_regression.TableData",
        "Numeric columns of csv, parquet and other tables.",
        "the feature columns (required)",
        "number of rows per batch and device (default: 32)",
    ],
)
def test_an_argument_is_told_with_its_text_and_default(
    plcli: Command, linear_config: Path, line: str
) -> None:
    assert line in plcli("fit", "-c", linear_config, "--help").out


def test_a_model_that_is_named_at_the_prompt_is_explained(plcli: Command) -> None:
    page = plcli("fit", "--model", "TextClassifier", "--help").out
    assert "plcli.tasks.text_classification.TextClassifier" in page


def test_a_help_page_of_a_misspelt_config_says_so(plcli: Command) -> None:
    result = plcli("fit", "-c", "nowhere.yaml", "--help")
    assert (result.code, result.err) == (2, "plcli: nowhere.yaml: no such config file.\n")


@pytest.mark.parametrize(
    "cls", [SimpleLinearModel, TableData, TextClassifier, TextClassificationData]
)
def test_every_argument_of_a_task_has_a_text(plcli: Command, cls: type) -> None:
    page = plcli(
        "fit", f"--{'data' if 'Data' in cls.__name__ else 'model'}", cls.__name__, "-h"
    ).out
    found = dict(re.findall(r"^ {2,}(\w+) +(\w.*)$", page, re.M))
    assert [name for name in inspect.signature(cls).parameters if name not in found] == []


def test_a_help_page_of_a_users_own_class_shows_its_docstring(
    plcli: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "helped.py").write_text(
        'class Net:\n    """A net of mine.\n\n    Args:\n        width: of the layer.\n    """\n\n'
        "    def __init__(self, width: int = 3) -> None: ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    words = ["--model", "helped.Net", "--allow-import", "helped"]
    assert "of the layer (default: 3)" in plcli("fit", *words, "--help").out


@cache
def imported(*commands: tuple[str, ...]) -> set[str]:
    """Return the modules that command lines have imported at their end, in a process of its own."""
    code = (
        "import ast, sys; from plcli.__main__ import main; "
        "[main(list(words)) for words in ast.literal_eval(sys.argv[1])]; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, repr(commands)], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("library", ["torch", "lightning", "transformers", "jsonargparse"])
def test_an_answer_at_once_imports_no_model_library(library: str) -> None:
    assert library not in imported(("--help",), ("--version",), ("fit", "--help"), ("ft",))


@cache
def imported_by_the_libraries() -> set[str]:
    """Return what `import lightning.pytorch, transformers` imports."""
    code = "import sys, lightning.pytorch, transformers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


FIT = ("fit", "-c", str(ROOT / "configs" / "bert.yaml"))
SLOW = (  # a page, a key of the trainer, a key of the model
    (*FIT, "--help"),
    (*FIT, "--trainer.max_epoch", "1"),
    (*FIT, "--model.pretraned", "x"),
)
ONLY_A_FIT = {"datasets", "pandas", "scipy", "sklearn", "sympy.core"}


def test_what_needs_the_classes_imports_hardly_more_than_the_libraries() -> None:
    found, theirs = imported(*SLOW), imported_by_the_libraries()
    assert len(found) <= 1.1 * len(theirs)
    assert (found - theirs) & ONLY_A_FIT == set()


def test_a_fit_has_imported_hardly_more_than_the_libraries_at_its_first_step(
    text_config: Path, tmp_path: Path
) -> None:
    code = (
        "import sys, torch\n"
        "def step(*args, **kwargs):\n    print(*sys.modules)\n    sys.exit()\n"
        "torch.optim.AdamW.step = step\n"
        "from plcli.__main__ import main\nmain(sys.argv[1:])"
    )
    words = ["fit", "-c", str(text_config), "--run", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False
    )
    found = set(done.stdout.splitlines()[-1].split())
    theirs = imported_by_the_libraries()
    assert {"transformers.trainer", "peft", "bitsandbytes", "sklearn", "datasets"} & found == set()
    assert len(found - theirs) <= 0.27 * len(theirs)  # a third of them pandas, for pyarrow
