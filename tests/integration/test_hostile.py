"""Hostile configs, artefacts and checkpoints: nothing of them is imported or executed.

Every command runs under an audit hook, which notes what Python imports, opens and executes
(https://docs.python.org/3/library/audit_events.html).
"""

import importlib.util
import json
import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import plcli.cli.lightning_cli  # so that no command is charged for the start-up
from plcli.config import allowlist, yaml_core
from plcli.config import files as config
from plcli.errors import UsageError
from tests.conftest import ROOT, Command, FinishedRun, Result, message
from tests.tiny import save_bert

WATCHED: list[tuple[str, str]] = []
EXECUTIONS = (
    *("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "ctypes.dlopen", "os.fork"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
EVIL = "evil_module"


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and (event in EXECUTIONS or event == "import"):
        WATCHED.append((event, str(arguments[0])))
    elif watching and event == "pickle.find_class":
        WATCHED.append((event, ".".join(map(str, arguments))))
    elif watching and event == "open" and arguments[2] & WRITING:
        if isinstance(arguments[0], int):
            return  # a file that was opened before
        WATCHED.append((event, str(arguments[0])))


assert plcli.cli.lightning_cli
watching = False
sys.addaudithook(_note)  # it stays for the life of the process, but notes only while asked to


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


@pytest.fixture
def attack(plcli: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """Run a command with an evil module beside it, and note what it does."""
    Path(f"{EVIL}.py").write_text("open('pwned', 'w').close()\nclass Model: ...\n")
    monkeypatch.syspath_prepend(tmp_path)

    def run(*words: object) -> Result:
        global watching
        WATCHED.clear()
        watching = True
        start = time.monotonic()
        try:
            return plcli(*words)
        finally:
            watching = False
            assert time.monotonic() - start < 2

    return run


def assert_harmless(result: Result, *codes: int) -> None:
    """Check that a command was refused with a message and did nothing on its way."""
    assert result.code in codes, result.err
    assert "Traceback" not in result.err
    assert 1 <= message(result).count("\n") <= 5
    assert not Path("pwned").exists()
    assert [event for event in WATCHED if event[0] in EXECUTIONS] == []
    assert [name for event, name in WATCHED if EVIL in name] == []
    assert written_outside() == []
    assert [name for event, name in WATCHED if name.endswith(("os.system", "posix.system"))] == []


def written_outside() -> list[str]:
    """Return the files that a command has opened for writing and that are not its own."""
    own = (Path("here"), Path(os.environ["PLCLI_CACHE"]), Path("predictions"), Path(os.devnull))
    own = (*own, Path("run/.lock"))
    opened = [Path(name).absolute() for event, name in WATCHED if event == "open"]
    return [
        str(path)
        for path in opened
        if not any(path.is_relative_to(folder.absolute()) for folder in own)
    ]


# class paths of a config, in every place that takes one

MODEL, DATA = "plcli.tasks.linear_regression.SimpleLinearModel", "plcli.tasks.linear_regression"
PATHS = {
    "a module beside the config": f"{EVIL}.Model",
    "a shell": "os.system",
    "a process": "subprocess.Popen",
    "eval": "builtins.eval",
    "an import": "importlib.import_module",
    "a pickle": "pickle.loads",
    "a partial": "functools.partial",
    "a file of the hub": "torch.hub.load",
    "a compiler": "torch.utils.cpp_extension.load",
    "a checkpoint": "torch.load",
    "a serialized file": "torch.serialization.load",
    "a script": "torch.jit.load",
    "a package of torch": "torch.package.PackageImporter",
    "a library": "torch.ops.load_library",
    "remote code": "transformers.dynamic_module_utils.get_class_from_dynamic_module",
    "a pipeline": "transformers.pipeline",
    "a private part": "torch._dynamo.config.Config",
    "a main module": "torch.distributed.run.main",
    "os, seen through torch": "torch.serialization.os.system",
    "os, seen through lightning": "lightning.pytorch.trainer.trainer.os.system",
    "subprocess, seen through plcli": "plcli.runs.environment.subprocess.Popen",
    "jsonargparse": "jsonargparse.set_parsing_settings",
    "a callback that calls anything": "lightning.pytorch.callbacks.LambdaCallback",
    "a function that is allowed": "torch.manual_seed",
}
PLACES: dict[str, Callable[[str], dict[str, Any]]] = {
    "model": lambda path: {"model": {"class_path": path, "init_args": {}}},
    "optimizer": lambda path: {
        "model": {"init_args": {"optimizer": {"class_path": path, "init_args": {}}}}
    },
    "callbacks": lambda path: {"trainer": {"callbacks": [{"class_path": path}]}},
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", PATHS)
def test_a_class_path_outside_the_allowlist_is_refused_before_it_is_imported(
    attack: Command, linear_config: Path, name: str, place: str
) -> None:
    Path("evil.yaml").write_text(json.dumps(PLACES[place](PATHS[name])))
    result = attack("fit", "-c", linear_config, "-c", "evil.yaml", "--run", "here")
    assert_harmless(result, 2)


WORDS = {
    "a model": ("--model", f"{EVIL}.Model"),
    "a model's class path": ("--model.class_path", f"{EVIL}.Model"),
    "data": ("--data", "subprocess.Popen"),
    "an optimizer": ("--model.optimizer", "os.system"),
    "an optimizer with arguments": (
        "--model.optimizer",
        "{class_path: os.system, init_args: {command: touch pwned}}",
    ),
    "a class path of an optimizer": ("--model.optimizer.class_path", f"{EVIL}.Model"),
    "a callback": ("--trainer.callbacks+", "os.system"),
    "a list of callbacks": ("--trainer.callbacks", f"[{EVIL}.Model]"),
    "a logger": ("--trainer.logger", f"{EVIL}.Model"),
    "a strategy": ("--trainer.strategy", f"{{class_path: {EVIL}.Model}}"),
    "a plugin": ("--trainer.plugins", f"[{{class_path: {EVIL}.Model}}]"),
    "a config of jsonargparse": ("--model", "evil.yaml"),
}


@pytest.mark.parametrize("name", WORDS)
def test_a_class_path_at_the_prompt_is_held_to_the_same_rule(
    attack: Command, linear_config: Path, name: str
) -> None:
    Path("evil.yaml").write_text(f"class_path: {EVIL}.Model\n")
    assert_harmless(attack("fit", "-c", linear_config, "--run", "here", *WORDS[name]), 2)


def test_the_environment_lets_no_package_in(
    attack: Command, linear_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PL_FIT__ALLOW_IMPORT", EVIL)
    words = ("--model", f"{EVIL}.Model")
    assert_harmless(attack("fit", "-c", linear_config, "--run", "here", *words), 2)


def test_a_package_that_is_let_in_is_let_in_for_one_command_only(
    attack: Command, linear_config: Path
) -> None:
    allowlist.allow([EVIL])
    words = ("--model", f"{EVIL}.Model")
    assert_harmless(attack("fit", "-c", linear_config, "--run", "here", *words), 2)


def test_the_message_names_the_option_that_lets_a_package_in(
    attack: Command, linear_config: Path
) -> None:
    result = attack("fit", "-c", linear_config, "--model", f"{EVIL}.Model")
    assert f"If you trust that code, add --allow-import {EVIL} to the command." in result.err


@pytest.mark.parametrize("path", [MODEL, "torch.optim.AdamW", "torchmetrics.R2Score", "mine.Net"])
def test_what_is_allowed_is_let_through(path: str) -> None:
    allowlist.allow(["mine"])
    allowlist.check(path, "key")


@pytest.mark.parametrize("path", ["mine2.Net", "torchx.Net", "plcli_evil.Net", "torch._C.x"])
def test_a_name_that_only_begins_alike_is_refused(path: str) -> None:
    allowlist.allow(["mine"])
    with pytest.raises(UsageError, match="--allow-import"):
        allowlist.check(path, "key")


def test_the_allowlist_itself_cannot_be_opened() -> None:
    with pytest.raises(UsageError, match="would disable this check"):
        allowlist.allow(["jsonargparse"])


# functions, where a config may give something to call

FUNCTIONS = {
    "a program of torch": "torch.utils.collect_env.run",
    "a download": "torch.hub.download_url_to_file",
    "a file": "torch.load",
    "a file, opened by a tensor": "torch.from_file",
    "a library": "torch.ops.load_library",
    "a shell behind a module": "torch.serialization.os.system",
    "an import behind a function's module": "torch.nn.functional.importlib.import_module",
    "a builtin behind a function's module": "torch.nn.functional.warnings.warn",
    "Python's own": "builtins.exec",
    "the module beside the config": f"{EVIL}.Model",
    "a function of plcli": "plcli.runs.atomic_files.write_text",
    "a download of torchmetrics": "torchmetrics.functional.text.bert_score",
}
CALLERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "ModelPruning": lambda path: {
        "class_path": "lightning.pytorch.callbacks.ModelPruning",
        "init_args": {"pruning_fn": "l1_unstructured", "apply_pruning": path},
    },
    "ThroughputMonitor": lambda path: {
        "class_path": "lightning.pytorch.callbacks.ThroughputMonitor",
        "init_args": {"batch_size_fn": path},
    },
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_that_could_do_harm_is_refused(
    attack: Command, linear_config: Path, name: str, caller: str
) -> None:
    values = {"trainer": {"callbacks": [CALLERS[caller](FUNCTIONS[name])]}}
    Path("evil.yaml").write_text(json.dumps(values))
    result = attack("fit", "-c", linear_config, "-c", "evil.yaml", "--run", "here")
    assert_harmless(result, 2)
    assert not Path("here").exists()


# files beside the config, which no command may import


@pytest.mark.parametrize("name", ["opt_einsum", "triton", "wandb", "mlflow", "jax", "IPython"])
def test_a_file_in_the_current_folder_is_not_an_optional_package(
    plcli: Command, linear_run: FinishedRun, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    code = "open('pwned', 'w').close()\n"
    Path(f"{name}.py").write_text(code)
    monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", os.getcwd())])
    Path("own.py").write_text(
        "from plcli.tasks.linear_regression import TableData\n"
        "from plcli.data.split_data import SplitData\n"
        "import helper_beside_own\n"
        "class Own(TableData): ...\n"
    )
    Path("helper_beside_own.py").write_text("")
    words = ("--data", "own.Own", "--allow-import", "own") if name == "wandb" else ()
    result = plcli("predict", "--run", linear_run.folder, ROW, *words)
    found = importlib.util.find_spec(name)
    assert (found is None or "site-packages" in str(found.origin), Path("pwned").exists()) == (
        True,
        False,
    ), result.err


def test_python_m_does_not_put_the_current_folder_first() -> None:
    Path("difflib.py").write_text("open('pwned', 'w').close()\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "plcli", "ft"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, Path("pwned").exists()) == (2, False)
    assert done.stderr.startswith("plcli: unknown command 'ft'. Did you mean 'fit'?")


def test_modules_beside_an_allowed_one_are_found(plcli: Command, linear_config: Path) -> None:
    Path("allowed_net.py").write_text(
        "import its_neighbour\n"
        "from plcli.tasks.linear_regression import SimpleLinearModel\n"
        "class Net(SimpleLinearModel): ...\n"
    )
    Path("its_neighbour.py").write_text("here = True\n")
    words = ("--model", "allowed_net.Net", "--allow-import", "allowed_net", "--run", "here")
    assert plcli("fit", "-c", linear_config, *words).code == 0


# paths that a config names

LOGGERS, PROFILERS = "lightning.pytorch.loggers", "lightning.pytorch.profilers"
CALLBACKS = "lightning.pytorch.callbacks"
OUTSIDE: dict[str, dict[str, Any]] = {
    "a checkpoint elsewhere": {"callbacks": ("ModelCheckpoint", {"dirpath": "{out}"})},
    "a checkpoint above": {"callbacks": ("ModelCheckpoint", {"dirpath": "../out"})},
    "a checkpoint by its name": {
        "callbacks": ("ModelCheckpoint", {"dirpath": "x", "filename": "../../out/x"})
    },
    "a checkpoint at home": {"callbacks": ("ModelCheckpoint", {"dirpath": "~/out"})},
    "a checkpoint on a server": {"callbacks": ("ModelCheckpoint", {"dirpath": "s3://b/out"})},
    "a checkpoint in the memory of fsspec": {
        "callbacks": ("ModelCheckpoint", {"dirpath": "memory://out"})
    },
    "an exception's checkpoint": {"callbacks": ("OnExceptionCheckpoint", {"dirpath": "{out}"})},
    "an exception's checkpoint by its name": {
        "callbacks": ("OnExceptionCheckpoint", {"dirpath": "x", "filename": "{out}/x"})
    },
    "batches to leave out": {
        "callbacks": ("SpikeDetection", {"exclude_batches_path": "{out}/x.json"})
    },
    "a csv logger": {"logger": ("CSVLogger", {"save_dir": "{out}"})},
    "a csv logger by its name": {"logger": ("CSVLogger", {"save_dir": "x", "name": "../../out"})},
    "a csv logger by its version": {
        "logger": ("CSVLogger", {"save_dir": "x", "name": "n", "version": "../../../out"})
    },
    "TensorBoard": {"logger": ("TensorBoardLogger", {"save_dir": "{out}"})},
    "TensorBoard by its folder below": {
        "logger": ("TensorBoardLogger", {"save_dir": "x", "sub_dir": "../../../../out"})
    },
    "TensorBoard by a variable": {"logger": ("TensorBoardLogger", {"save_dir": "$PWD/../out"})},
    "a profiler": {"profiler": ("SimpleProfiler", {"dirpath": "{out}", "filename": "x"})},
    "a profiler by its name": {
        "profiler": ("SimpleProfiler", {"dirpath": "x", "filename": "../../out/x"})
    },
    "a profiler of calls": {"profiler": ("AdvancedProfiler", {"dirpath": "../out"})},
    "a profiler of torch": {"profiler": ("PyTorchProfiler", {"dirpath": "{out}"})},
    "plcli's metrics.csv": {"logger": ("CSVLogger", {"save_dir": ".", "name": "", "version": ""})},
}
KINDS = {"callbacks": CALLBACKS, "logger": LOGGERS, "profiler": PROFILERS}


def trainer_with(name: str) -> str:
    """Write a config with an object that writes elsewhere."""
    ((key, (class_name, arguments)),) = OUTSIDE[name].items()
    filled = {
        argument: value.replace("{out}", str(Path("out").absolute()))
        for argument, value in arguments.items()
    }
    entry = {"class_path": f"{KINDS[key]}.{class_name}", "init_args": filled}
    values = {"trainer": {key: [entry] if key == "callbacks" else entry}}
    Path("evil.yaml").write_text(json.dumps(values))
    return "evil.yaml"


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_path_that_leads_out_of_the_run_folder_is_refused(
    attack: Command, linear_config: Path, name: str
) -> None:
    result = attack("fit", "-c", linear_config, "-c", trainer_with(name), "--run", "here")
    assert_harmless(result, 2)
    assert not Path("out").exists()
    assert not Path("here").exists()


def test_the_message_names_the_option_that_lets_a_config_write(
    attack: Command, linear_config: Path
) -> None:
    config = trainer_with("a checkpoint above")
    result = attack("fit", "-c", linear_config, "-c", config, "--run", "here")
    assert message(result) == (
        "plcli: trainer.callbacks: ModelCheckpoint.dirpath: ../out is outside of the run folder "
        "here. If you trust this config, add --allow-write ../out to the command.\n"
    )


def test_a_folder_that_the_command_line_allows_is_written_to(
    plcli: Command, linear_config: Path
) -> None:
    config = trainer_with("a checkpoint elsewhere")
    words = ("-c", linear_config, "-c", config, "--run", "here", "--allow-write", "out")
    assert plcli("fit", *words).code == 0
    assert list(Path("out").glob("*.ckpt"))


def test_no_config_allows_itself_to_write(attack: Command, linear_config: Path) -> None:
    Path("evil.yaml").write_text("allow_write: [/]\n")
    result = attack("fit", "-c", linear_config, "-c", "evil.yaml", "--run", "here")
    assert_harmless(result, 2)
    assert "Give it on the command line: --allow-write DIR." in result.err


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("an exception's checkpoint", "on_exception.ckpt"),
        ("a csv logger", "lightning_logs/version_0"),
    ],
)
def test_an_existing_file_is_not_replaced(
    attack: Command, linear_config: Path, name: str, file: str
) -> None:
    path = Path("out", file, "metrics.csv") if name == "a csv logger" else Path("out", file)
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    words = ("-c", linear_config, "-c", trainer_with(name), "--run", "here", "--allow-write", "out")
    version = ("--trainer.logger.init_args.version", "version_0") if name == "a csv logger" else ()
    result = attack("fit", *words, *version)
    assert_harmless(result, 2)
    assert (f"would replace {path.absolute()}" in result.err, path.read_text()) == (
        True,
        "precious",
    )


# artefacts

CARDS: dict[str, dict[str, Any]] = {
    "a model elsewhere": {"model": {"class_path": f"{EVIL}.Model", "init_args": {}}},
    "a model that is a shell": {"model": {"class_path": "os.system"}},
    "data elsewhere": {"data": {"class_path": f"{EVIL}.Model"}},
    "an optimizer elsewhere": {
        "model": {"class_path": MODEL, "init_args": {"optimizer": {"class_path": f"{EVIL}.Model"}}}
    },
    "an optimizer that is a function": {
        "model": {"class_path": MODEL, "init_args": {"optimizer": "torch.hub.load"}}
    },
    "an optimizer among the facts": {"facts": {"optimizer": {"class_path": "os.system"}}},
    "weights among the facts": {"facts": {"pretrained": "nobody/evil"}},
    "a class among the facts": {"facts": {"target_names": [{"class_path": f"{EVIL}.Model"}]}},
    "facts of a wrong type": {"facts": {"input_dim": "many"}},
    "facts of huge sizes": {"facts": {"input_dim": 10**13}},
    "facts that are a list": {"facts": [1]},
    "a model that is a number": {"model": 3},
    "a class path that is a number": {"model": {"class_path": 3}},
    "a class of torch": {"model": {"class_path": "torch.nn.Linear"}},
    "another weights' sum": {"sha256": "0" * 64},
}


@pytest.fixture
def stolen(linear_run: FinishedRun) -> Path:
    """A copy of a model/ folder to tamper with."""
    return Path(shutil.copytree(linear_run.folder / "model", "model"))


ROW = '{"a": 1, "b": 2}'


@pytest.mark.parametrize("name", CARDS)
def test_a_hostile_card_is_refused(attack: Command, stolen: Path, name: str) -> None:
    card = stolen / "plcli.json"
    values = json.loads(card.read_text())
    changes = dict(CARDS[name])
    if isinstance(changes.get("facts"), dict):
        changes["facts"] = values["facts"] | changes["facts"]
    card.write_text(json.dumps(values | changes))
    assert_harmless(attack("predict", "--run", stolen, ROW), 2, 4, 5)


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "model.pt", "weights.pkl", "modeling.py", "a/b/last.ckpt", "x.joblib"],
)
def test_a_file_that_could_run_code_is_refused(attack: Command, stolen: Path, name: str) -> None:
    (stolen / name).parent.mkdir(parents=True, exist_ok=True)
    (stolen / name).write_bytes(pickle.dumps(Bomb()))
    assert_harmless(attack("predict", "--run", stolen, ROW), 4)


def test_weights_that_are_a_pickle_are_refused(attack: Command, stolen: Path) -> None:
    from plcli.runs.artefact import sha256

    weights, card = stolen / "model.safetensors", stolen / "plcli.json"
    weights.write_bytes(pickle.dumps(Bomb()))
    card.write_text(json.dumps(json.loads(card.read_text()) | {"sha256": sha256(weights)}))
    assert_harmless(attack("predict", "--run", stolen, ROW), 4)


# pretrained folders

SETTINGS: dict[str, tuple[str, Any]] = {
    "auto_map": ("config.json", {"auto_map": {"AutoConfig": f"{EVIL}.Model"}}),
    "auto_map deep inside": ("config.json", {"text_config": {"auto_map": {"A": "b.C"}}}),
    "a kernel of the hub": ("config.json", {"_attn_implementation": "evil/kernel"}),
    "a kernel by its public name": ("config.json", {"attn_implementation": "evil/kernel"}),
    "a private key": ("config.json", {"_from_auto": True}),
    "pipelines": ("config.json", {"custom_pipelines": {"a": {"impl": "evil.P"}}}),
    "auto_map of a tokenizer": ("tokenizer_config.json", {"auto_map": {"A": [f"{EVIL}.M", None]}}),
    "a tokenizer elsewhere": ("tokenizer_config.json", {"auto_map": {}}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_pretrained_folder_that_names_code_is_refused(
    attack: Command, text_config: Path, name: str
) -> None:
    folder = save_bert(Path("bert"))
    file, changes = SETTINGS[name]
    values = json.loads((folder / file).read_text()) | changes
    (folder / file).write_text(json.dumps(values))
    shutil.copy(f"{EVIL}.py", folder)
    words = ("--model.architecture", "null", "--model.pretrained", "./bert")
    assert_harmless(attack("fit", "-c", text_config, "--run", "here", *words), 4)


def test_pickled_weights_of_a_pretrained_folder_are_not_loaded(
    attack: Command, text_config: Path
) -> None:
    folder = save_bert(Path("bert"))
    (folder / "model.safetensors").unlink()
    torch.save({"x": Bomb()}, folder / "pytorch_model.bin")
    words = ("--model.architecture", "null", "--model.pretrained", "./bert")
    assert_harmless(attack("fit", "-c", text_config, "--run", "here", *words), 4)


# checkpoints

STATES: dict[str, Any] = {
    "a pickle": {"state_dict": {}, "x": Bomb()},
    "a class path": {
        "state_dict": {"a": torch.zeros(1)},
        "hyper_parameters": {"_class_path": EVIL},
    },
    "an optimizer among the facts": {
        "state_dict": {},
        "plcli": {"facts": {"optimizer": {"class_path": f"{EVIL}.Model"}}},
    },
    "facts that are a number": {"state_dict": {}, "plcli": {"facts": 3}},
    "a state that is a list": {"state_dict": []},
    "no state": {},
    "a list": [1, 2],
}


@pytest.mark.parametrize("name", STATES)
def test_a_hostile_checkpoint_is_refused(
    attack: Command, linear_run: FinishedRun, name: str
) -> None:
    torch.save(STATES[name], "evil.ckpt")
    result = attack("test", "--run", linear_run.folder, "--ckpt_path", "evil.ckpt")
    assert_harmless(result, 4)


@pytest.mark.parametrize("command", ["fit", "test"])
def test_a_pickle_in_the_place_of_a_checkpoint_is_refused(
    attack: Command, linear_run: FinishedRun, command: str
) -> None:
    run = linear_run.copy("run")
    shutil.rmtree(run / "model")  # as of a run that was not finished
    for path in (run / "checkpoints").iterdir():
        torch.save({"state_dict": {}, "x": Bomb()}, path)
    assert_harmless(attack(command, "--run", run), 4)


def test_a_config_of_a_run_is_held_to_the_same_rule(
    attack: Command, linear_run: FinishedRun
) -> None:
    run = linear_run.copy("run")
    saved = config.load_yaml(run / "config.yaml")
    saved["model"]["class_path"] = f"{EVIL}.Model"
    (run / "config.yaml").write_text(yaml_core.dump(saved))
    assert_harmless(attack("test", "--run", run), 2)
