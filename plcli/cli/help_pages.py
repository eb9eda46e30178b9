"""The help pages, written without building a parser.

So --help answers at once, and the arguments of the chosen task come first.
"""

import ast
import importlib.util
import inspect
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from plcli import __version__
from plcli.cli.arguments import COMMANDS, OPTIONS
from plcli.config.classes import nested, parameters
from plcli.config.marks import marked

USAGE = {
    "fit": "--config FILE ... [--run FOLDER] [--key value ...]",
    "validate": "--run FOLDER | --config FILE ... [--key value ...]",
    "test": "--run FOLDER | --config FILE ... [--key value ...]",
    "predict": "--run FOLDER | --config FILE ... [TEXT ... | - | --input FILE] [--output FILE] "
    "[--key value ...]",
}
TEXTS = {
    "TEXT ...": "texts to predict, each a JSON object where the model reads several columns; the "
    "predictions are printed",
    "-": "reads them from standard input, one per line",
}
METAVARS = {
    "run": "FOLDER",
    "resume": "MODE",
    "seeds": "NUMBER|SEED,...",
    "folds": "NUMBER",
    "ckpt_path": "FILE",
    "input": "FILE",
    "output": "FILE",
    "keep": "COLUMN ...|all",
}
TRAINER = {
    "max_epochs": "maximum number of epochs",
    "max_steps": "maximum number of optimizer steps",
    "accelerator": "auto, cpu, gpu, ...",
    "devices": "number of devices, or which ones",
    "precision": "32-true, bf16-mixed, 16-mixed, ...",
    "accumulate_grad_batches": "number of batches per optimizer step",
    "gradient_clip_val": "clip the gradient norm to this value; 0 disables clipping",
    "callbacks": "a list of class_path and init_args",
    "fast_dev_run": "run one batch of each split and save nothing",
}
USE = {  # of the trainer, by the other commands
    "accelerator": TRAINER["accelerator"],
    "precision": f"{TRAINER['precision']}; by default that of the run, but not 16-mixed",
}
LIMITS = {  # the key of the trainer for a part of the rows
    "validate": "limit_val_batches",
    "test": "limit_test_batches",
    "predict": "limit_predict_batches",
}
FIXED = {  # classes of sections without a class_path; the help does not import them
    "checkpoint": ("plcli.callbacks.checkpoints", "Checkpoints"),
    "numbers": ("plcli.callbacks.numbers", "FiniteNumbers"),
}


def overview(console: Console) -> None:
    """Print all commands, one per line."""
    console.print(
        f"plcli {__version__}: train, evaluate, run and share models from one YAML file.\n"
    )
    console.print("usage: plcli COMMAND [--config FILE ...] [--key value ...]\n", markup=False)
    _print_table(console, COMMANDS)
    console.print(
        "\n`plcli COMMAND --help` shows the options of a command; "
        "with --config FILE it shows the classes of that config first."
    )
    console.print("plcli fit --config configs/bert.yaml --trainer.max_epochs 1", style="bold")


def command(console: Console, name: str, classes: Mapping[str, type]) -> None:
    """Print the options of a command, after the arguments of the chosen classes.

    Args:
        console: where to print.
        name: the command.
        classes: the classes of the model and the data, by section; empty without a config.
    """
    console.print(f"plcli {name}: {COMMANDS[name]}.\n")
    console.print(f"usage: plcli {name} {USAGE[name]}\n", markup=False, soft_wrap=True)
    fits = name == "fit"
    if name == "predict":
        console.print("[bold]texts[/bold]")
        _print_table(console, TEXTS)
        console.print()
    for section, cls in classes.items():
        console.print(
            f"[bold]--{section}.KEY[/bold]  {escape(f'{cls.__module__}.{cls.__qualname__}')}"
        )
        console.print(f"  {_summary(cls)}", markup=False)
        hidden = set() if fits else marked(cls, "learning")
        _print_table(console, dict(_arguments(cls, hidden)))
        console.print()
    if not classes:
        console.print(
            "A config names the model and the data; "
            "with --config FILE their arguments are shown here. Tasks:"
        )
        _print_table(console, dict(_tasks()))
        console.print()
    console.print("[bold]options[/bold]")
    options = {
        f"--{option} {METAVARS.get(option, '')}".rstrip(): text
        for option, text in OPTIONS[name].items()
    }
    _print_table(
        console,
        {"-c, --config FILE": "a config file; repeatable, later files override earlier ones"}
        | options
        | {"--allow-import PACKAGE": "allow a config to name classes of this package; repeatable"}
        | {"--print_config": "print the resolved config and stop"},
    )
    console.print(
        "\n[bold]--trainer.KEY[/bold]  every argument of lightning.pytorch.Trainer, such as"
    )
    if fits:
        _print_table(console, TRAINER)
        _print_keys_of_a_fit(console)
    else:
        part = {LIMITS[name]: "the number of batches, or below 1.0 the fraction of them"}
        _print_table(console, USE | part)
        console.print("\n[bold]--batch_size N[/bold]  short for data.batch_size")
    noise = "random seed of weights, data order and noise" if fits else "random seed"
    console.print(f"\n[bold]--seed_everything N[/bold]  {noise} (default 42)")
    console.print(
        "[bold]--threads N[/bold]  number of CPU threads within an operation (default: the number "
        "of cores available to this process)\n"
        "[bold]--interop_threads N[/bold]  number of threads across operations (default 1)"
    )


def _print_keys_of_a_fit(console: Console) -> None:
    """Print the sections and short forms that only matter in training."""
    for section, (module, cls_name) in FIXED.items():
        console.print(f"\n[bold]--{section}.KEY[/bold]")
        _print_table(console, _arguments_in_source(module, cls_name))
    console.print(
        "\n[bold]--lr, --epochs, --batch_size, --seed[/bold]  short for the keys of the learning "
        "rate, trainer.max_epochs, data.batch_size and seed_everything"
    )


def own_command(console: Console, name: str) -> None:
    """Print the options of a command that is no step of the Trainer."""
    console.print(f"plcli {name}: {COMMANDS[name]}.\n")
    console.print(f"usage: plcli {name} RUN_OR_MODEL [--option value ...]\n", markup=False)
    console.print("[bold]options[/bold]")
    shared = {
        "--allow-import PACKAGE": "allow a config to name classes of this package; repeatable",
        "--KEY VALUE": "a config key, as for `plcli predict`, such as --trainer.accelerator cpu",
    }
    own = {f"--{option}": text for option, text in OPTIONS[name].items()}
    _print_table(console, own | shared)


def _print_table(console: Console, entries: Mapping[str, str]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column()
    for key, text in entries.items():
        table.add_row(f"  {escape(key)}", escape(text))
    console.print(table)


def _tasks() -> Iterable[tuple[str, str]]:
    """Yield each task module and the first line of its docstring, without importing it."""
    import pkgutil

    spec = importlib.util.find_spec("plcli.tasks")
    for module in pkgutil.iter_modules(spec.submodule_search_locations if spec else None):
        path = Path(module.module_finder.path) / f"{module.name}.py"  # type: ignore[union-attr]  # files
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        yield f"plcli.tasks.{module.name}", doc.splitlines()[0]


def _summary(cls: type) -> str:
    return inspect.cleandoc(cls.__doc__ or "").split("\n\n")[0].replace("\n", " ")


def _arguments(cls: type, hidden: Collection[str] = ()) -> Iterable[tuple[str, str]]:
    """Yield the name of each constructor argument, and its text with the default.

    The arguments of the class itself come before those of its bases. Those that are hidden are left
    out.
    """
    texts = _docstring_arguments(cls)
    given = parameters(cls)
    own_first = [name for name in texts if name in given]
    for name in [*own_first, *(name for name in given if name not in texts)]:
        if name in hidden:
            continue
        default: Any = given[name].default
        is_factory = callable(default) or repr(default) == "<factory>"  # of a dataclass
        text = texts.get(name, "").rstrip(".")
        if default is inspect.Parameter.empty:
            text += " (required)"
        elif default is not None and not is_factory:
            text += f" (default: {default})"
        yield name, text
        if (inner := nested(given[name])) is not None:
            yield from ((f"{name}.{key}", inner_text) for key, inner_text in _arguments(inner))


def _arguments_in_source(module: str, name: str) -> dict[str, str]:
    """Return the constructor arguments of a class, with texts and defaults, without an import."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    cls = next(
        node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name
    )
    texts = _arguments_in(ast.get_docstring(cls) or "")
    start = next(
        node for node in cls.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    given = start.args.args[-len(start.args.defaults) :]
    for argument, default in zip(given, start.args.defaults, strict=True):
        value = ast.literal_eval(default)
        if value is not None:
            texts[argument.arg] = f"{texts[argument.arg].rstrip('.')} (default: {value})"
    return texts


def _docstring_arguments(cls: type) -> dict[str, str]:
    """Return the texts of the Google style Args section of a class, then those of its bases."""
    texts: dict[str, str] = {}
    for owner in cls.__mro__:
        own = _arguments_in(inspect.cleandoc(owner.__doc__ or ""))
        texts |= {name: text for name, text in own.items() if name not in texts}
    return texts


def _arguments_in(doc: str) -> dict[str, str]:
    """Return the texts of the Google style Args section of a docstring, by argument."""
    section = re.search(r"\nArgs:\n(.*?)(?:\n\S|\Z)", doc, flags=re.DOTALL)
    if section is None:
        return {}
    entries = re.findall(
        r"^ {4}(\w+)(?: \(.*?\))?: (.*(?:\n {8}.*)*)", section[1], flags=re.MULTILINE
    )
    return {name: re.sub(r"\s+", " ", text) for name, text in entries}
