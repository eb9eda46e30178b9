"""Finds the classes that a config may name and that open files, start processes or use sockets.

`python -m tests.config.admitted` prints them. The code of the packages is read, not run: of each
class the allowlist admits, and of the functions that its methods call, the calls are compared with
names of Python and of libraries that open, start or connect something.
"""

import ast
import importlib.util
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from plcli.config import allowlist
from plcli.errors import UsageError

PACKAGES = ("lightning", "torch", "torchmetrics")
CALLS = {  # names of functions and methods, whatever they belong to
    *("open", "get_filesystem", "url_to_fs", "_atomic_save", "makedirs", "mkdir", "mkdtemp"),
    *("mkstemp", "NamedTemporaryFile", "TemporaryDirectory", "TemporaryFile", "rmtree", "unlink"),
    *("write_text", "write_bytes", "touch", "save_checkpoint", "SummaryWriter", "memmap"),
    *("export_chrome_trace", "export_stacks", "dump_stats", "savefig", "Popen", "Process"),
    *("start_processes", "init_process_group", "TCPStore", "FileStore", "HTTPServer"),
    *("urlopen", "urlretrieve", "hf_hub_download", "snapshot_download", "from_pretrained"),
    *("load_state_dict_from_url", "download_url_to_file", "load_library", "from_file"),
}
OWNED = {  # names that mean this only after these modules
    "os": {"system", "popen", "fork", "remove", "replace", "rename", "execv", "execvp", "kill"},
    "subprocess": {"run", "call", "check_call", "check_output"},
    "socket": {"socket", "create_connection", "gethostbyname"},
    "requests": {"get", "post", "request", "Session"},
    "torch": {"save", "load"},
    "shutil": {"move", "copy", "copytree", "rmtree"},
    "np": {"save", "savez", "load", "savetxt"},
    "uvicorn": {"run"},
}
Key = tuple[str, str]  # a module, and a function or class in it


def admits(path: str) -> bool:
    """Whether a config may name a path."""
    try:
        allowlist.check(path, "")
    except UsageError:
        return False
    return True


def modules() -> Iterator[tuple[str, ast.Module]]:
    """Yield the modules of the packages by their dotted names."""
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        for folder in spec.submodule_search_locations or []:
            for file in sorted(Path(folder).rglob("*.py")):
                parts = file.relative_to(folder).with_suffix("").parts
                name = ".".join([package, *(part for part in parts if part != "__init__")])
                if package == "torch" and not admits(f"{name}.X"):
                    continue  # far more than the admitted parts
                yield name, ast.parse(file.read_bytes())


def _calls(node: ast.AST) -> tuple[set[str], set[str]]:
    """Return the calls that open something, and the names of all functions that are called."""
    found, called = set(), set()
    for call in ast.walk(node):
        if not isinstance(call, ast.Call):
            continue
        function = call.func
        if isinstance(function, ast.Name):
            called.add(function.id)
            if function.id in CALLS:
                found.add(function.id)
        elif isinstance(function, ast.Attribute):
            owner = function.value.id if isinstance(function.value, ast.Name) else ""
            if function.attr in CALLS or function.attr in OWNED.get(owner, ()):
                found.add(f"{owner}.{function.attr}".lstrip("."))
    return found, called


def found() -> dict[str, set[str]]:
    """Return the calls of each class that opens something, by the class path."""
    own: dict[Key, set[str]] = defaultdict(set)
    calls: dict[Key, set[Key]] = defaultdict(set)
    classes: list[Key] = []
    for module, tree in modules():
        imported = {
            alias.asname or alias.name: (str(node.module), alias.name)
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and not node.level
            for alias in node.names
        }
        for node in tree.body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                continue
            key = module, node.name
            own[key], called = _calls(node)
            calls[key] = {imported.get(name, (module, name)) for name in called} - {key}
            if isinstance(node, ast.ClassDef):
                names = [base.id for base in node.bases if isinstance(base, ast.Name)]
                calls[key] |= {imported.get(name, (module, name)) for name in names}
                classes.append(key)
    changed = True
    while changed:
        changed = False
        for key, others in calls.items():
            more = set().union(*(own.get(other, set()) for other in others)) - own[key]
            if more:
                own[key] |= more
                changed = True
    public = [(module, name) for module, name in classes if not name.startswith("_")]
    return {
        f"{module}.{name}": own[module, name]
        for module, name in public
        if own[module, name] and admits(f"{module}.{name}")
    }


if __name__ == "__main__":
    for path, names in sorted(found().items()):
        print(path, *sorted(names))
