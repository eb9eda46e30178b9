"""Imports go down only, and module paths that configs and checkpoints hold stay where they are.

A task's test pins the names of its classes, so that a new task is three new files.
"""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import plcli
import plcli.tasks

ROOT = Path(plcli.__file__).parent
# The rooms of the package: what each may import, beside itself.
BELOW = {
    "errors": set(),
    "packages": {"errors"},
    "config": {"errors", "packages"},
    "runs": {"errors", "packages", "config"},
    "pretrained": {"errors", "packages", "config"},
    "data": {"errors", "packages", "config", "runs", "pretrained"},
    "training": {"errors", "packages", "config", "runs", "pretrained"},
    "metrics": {"errors", "packages", "data", "pretrained"},
    "models": {"errors", "packages", "config", "runs", "pretrained", "metrics"},
    "callbacks": {"errors", "packages", "config", "runs", "training", "models", "metrics"},
    "tasks": {"errors", "packages", "config", "pretrained", "data", "metrics", "models"},
}
BELOW["cli"] = BELOW["launchers"] = {*BELOW}
BELOW["commands"] = {*BELOW} - {"commands"}
BELOW["__main__"] = {*BELOW, ""}
MOST_FOLDERS, MOST_FILES, MOST_LINES = 12, 4, 500


def modules() -> dict[str, Path]:
    """Return the files of plcli by their dotted names."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


MODULES = modules()


def pinned(task: str) -> tuple[str, ...]:
    """Return the class names that tests/tasks/test_TASK.py pins as PUBLIC."""
    path = Path(__file__).parent / "tasks" / f"test_{task.rpartition('.')[2]}.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PUBLIC":
            return tuple(ast.literal_eval(node.value))
    raise AssertionError(f"{path} names no PUBLIC = (classes of {task})")


TASKS = [module.name for module in pkgutil.iter_modules(plcli.tasks.__path__, "plcli.tasks.")]
PUBLIC = {task: pinned(task) for task in TASKS}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules of plcli that a file imports when it runs, at its top or in a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types_alone = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in node.body
    }
    for node in ast.walk(tree):
        if id(node) in for_types_alone:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("plcli."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "plcli":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else str(node.module)


def layer(module: str) -> str:
    """Return the part of a module's name that says its layer."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", sorted(name for name in MODULES if layer(name)))
def test_a_module_imports_only_what_its_room_may_know(module: str) -> None:
    room = layer(module)
    outside = {name for name in imports(MODULES[module]) if layer(name) != room}
    version = {"plcli"} if room in ("cli", "commands", "runs") else set()  # plcli.__version__
    assert {name for name in outside if layer(name) not in BELOW[room]} <= version


def test_the_package_has_few_doors() -> None:
    inside = [path for path in ROOT.iterdir() if not path.name.startswith("__pycache__")]
    assert sum(path.is_dir() for path in inside) <= MOST_FOLDERS
    assert sum(path.suffix == ".py" for path in inside) <= MOST_FILES


def test_no_module_is_longer_than_a_few_hundred_lines() -> None:
    lengths = {name: path.read_text(encoding="utf-8").count("\n") for name, path in MODULES.items()}
    assert {name for name, length in lengths.items() if length > MOST_LINES} == set()


def test_the_init_of_a_room_is_empty() -> None:
    rooms = [path for path in ROOT.rglob("__init__.py") if path.parent != ROOT]
    assert [path for path in rooms if ast.parse(path.read_text(encoding="utf-8")).body] == []


def test_no_command_imports_another() -> None:
    commands = {name for name in MODULES if layer(name) == "commands"}
    assert {name for name in commands if {*imports(MODULES[name])} & commands - {name}} == set()


@pytest.mark.parametrize("task", PUBLIC)
def test_a_task_imports_no_other_task(task: str) -> None:
    assert {name for name in imports(MODULES[task]) if layer(name) == "tasks"} == set()


@pytest.mark.parametrize("task", PUBLIC)
@pytest.mark.parametrize("forbidden", ["callbacks", "cli", "launchers", "__main__", "runs"])
def test_a_task_knows_nothing_of_the_command(task: str, forbidden: str) -> None:
    assert forbidden not in {layer(name) for name in imports(MODULES[task])}


def test_no_module_imports_in_a_circle() -> None:
    below = {name: set(imports(path)) - {name} for name, path in MODULES.items()}
    while free := [name for name, needed in below.items() if not needed & below.keys()]:
        for name in free:
            del below[name]
    assert sorted(below) == []


def test_errors_imports_nothing_of_plcli() -> None:
    assert list(imports(MODULES["plcli.errors"])) == []


def test_no_import_is_relative() -> None:
    relative = [
        name
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


SHIPPED = {
    *("causal_lm", "linear_regression", "masked_lm", "multiple_choice", "question_answering"),
    *("sentence_embedding", "seq2seq", "text_classification", "token_classification"),
}


def test_no_task_that_was_shipped_is_gone() -> None:
    assert {f"plcli.tasks.{name}" for name in SHIPPED} <= set(TASKS)


@pytest.mark.parametrize(
    ("task", "name"), [(t, name) for t, names in PUBLIC.items() for name in names]
)
def test_a_public_class_stays_at_its_path(task: str, name: str) -> None:
    assert getattr(importlib.import_module(task), name).__module__ == task


@pytest.mark.parametrize("task", PUBLIC)
def test_a_task_has_no_public_class_that_its_test_does_not_pin(task: str) -> None:
    tree = ast.parse(MODULES[task].read_text(encoding="utf-8"))
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert {name for name in classes if not name.startswith("_")} == set(PUBLIC[task])


@pytest.mark.parametrize(
    "name", ["plcli.__main__", "plcli.cli.arguments", "plcli.errors", "plcli.cli.help_pages"]
)
def test_what_answers_at_once_imports_no_model_library_at_its_top(name: str) -> None:
    tops = ast.parse(MODULES[name].read_text(encoding="utf-8")).body
    named = {alias.name for node in tops if isinstance(node, ast.Import) for alias in node.names}
    named |= {str(node.module) for node in tops if isinstance(node, ast.ImportFrom)}
    assert {top.split(".")[0] for top in named} & {"torch", "lightning", "transformers"} == set()


def test_no_task_is_asked_for_by_name_outside_the_tasks() -> None:
    named = [
        name
        for name, path in MODULES.items()
        if layer(name) != "tasks"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare) and "task" in ast.unparse(node.left)
        if any(isinstance(value, ast.Constant) and value.value for value in node.comparators)
    ]
    assert named == []
