"""Checks every key of a config against the constructors of the classes that it names.

jsonargparse would report a misspelt name in fifty lines.
"""

import difflib
import importlib
import inspect
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from plcli.config import allowlist
from plcli.config.classes import import_class, nested, parameters, takes_any
from plcli.config.files import check_sections
from plcli.config.keys import SECTIONS
from plcli.config.marks import marked
from plcli.errors import UsageError, did_you_mean, suggest

CLASS_KEYS = ("class_path", "init_args")
REMOVED = {  # from Lightning's Trainer, with what to use
    "amp_backend": "remove it",
    "auto_lr_find": "add the callback lightning.pytorch.callbacks.LearningRateFinder",
    "auto_scale_batch_size": "add the callback lightning.pytorch.callbacks.BatchSizeFinder",
    "auto_select_gpus": "use devices: auto",
    "checkpoint_callback": "use the section checkpoint",
    "distributed_backend": "use strategy",
    "flush_logs_every_n_steps": "give it to the logger",
    "gpus": "use accelerator: gpu and devices",
    "ipus": "remove it",
    "log_gpu_memory": "add the callback lightning.pytorch.callbacks.DeviceStatsMonitor",
    "move_metrics_to_cpu": "remove it",
    "multiple_trainloader_mode": "return a lightning.pytorch.utilities.CombinedLoader",
    "num_processes": "use devices",
    "process_position": "remove it",
    "progress_bar_refresh_rate": "remove it",
    "replace_sampler_ddp": "use use_distributed_sampler",
    "resume_from_checkpoint": "use --ckpt_path FILE",
    "stochastic_weight_avg": "add the callback plcli.callbacks.averaging.EpochAveraging",
    "terminate_on_nan": "use the section numbers",
    "tpu_cores": "use accelerator: tpu and devices",
    "track_grad_norm": "log the norm in the module's on_before_optimizer_step",
    "weights_save_path": "use --run",
    "weights_summary": "use enable_model_summary",
}


def check_keys(
    values: Mapping[str, Any],
    *,
    merged: Mapping[str, Any],
    source: str,
    classes: Mapping[str, type],
) -> None:
    """Check every key of a config file.

    Args:
        values: the file's values.
        merged: the merged values of all files, for class paths that this file does not contain.
        source: the name of the file, for messages.
        classes: the fixed class of each section such as trainer.

    Raises:
        UsageError: for the first unknown key or class, with the nearest valid name.
    """
    where = f"{source}: " if source else ""
    check_sections(values, where)
    for section, value in values.items():
        if section in classes and not isinstance(value, Mapping):
            raise UsageError(f"{where}{section}: got '{value}', expected a mapping of keys.")
        if section in classes:
            _check_names(classes[section], value, where, section, {})
        elif section in ("model", "data"):
            _check_class(value, merged.get(section), where, section)


def _check_class(value: Any, merged: Any, where: str, key: str) -> None:
    merged = merged if isinstance(merged, Mapping) else {}
    if not isinstance(value, Mapping):
        return
    for name in value:
        if name not in (*CLASS_KEYS, "dict_kwargs"):
            near = suggest(name, CLASS_KEYS, owner="Valid are")
            raise UsageError(f"{where}unknown key '{key}.{name}'.{near}")
    class_path = value.get("class_path", merged.get("class_path"))
    if class_path is None and isinstance(value.get("init_args"), Mapping):
        for name in value["init_args"]:
            if near := did_you_mean(name, ["class_path"]):
                raise UsageError(f"{where}unknown key '{key}.{name}'.{near}")
    if isinstance(class_path, str) and "." in class_path:
        cls = import_class(class_path, f"{where}{key}.class_path")
        _check_names(
            cls, value.get("init_args"), where, f"{key}.init_args", merged.get("init_args")
        )


def _check_names(cls: type, values: Any, where: str, key: str, merged: Any) -> None:
    if not isinstance(values, Mapping):
        return
    merged = merged if isinstance(merged, Mapping) else {}
    names = parameters(cls)
    for name, value in values.items():
        if key == "trainer" and name in REMOVED and name not in names:
            raise UsageError(
                f"{where}unknown key 'trainer.{name}', which Lightning 2 does not have: "
                f"{REMOVED[name]}."
            )
        if name.rstrip("+") not in names and not takes_any(cls):
            around = CLASS_KEYS if key in ("model.init_args", "data.init_args") else ()
            near = did_you_mean(name, (*names, *around))
            raise UsageError(
                f"{where}unknown key '{key}.{name}'."
                f"{near or suggest(name, names, owner=f'{cls.__name__} takes')}"
            )
        inner = nested(names[name]) if name in names else None
        if inner is not None:
            _check_names(inner, value, where, f"{key}.{name}", merged.get(name))
            continue
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping) and any(_names_class(name) for name in item):
                _check_class(
                    item, merged.get(name, item) if item is value else item, where, f"{key}.{name}"
                )


def _names_class(key: str) -> bool:
    """Whether a key is `class_path` or `init_args`, or a misspelling of one."""
    return bool(difflib.get_close_matches(key, CLASS_KEYS, cutoff=0.8))


def check_all(values: Any) -> None:
    """Check every class of a parsed config, at any depth, before one is instantiated.

    Raises:
        UsageError: if one does not exist, or may not be imported.
    """
    for key, path in allowlist.class_paths(values):
        if isinstance(path, str) and "." in path:
            import_class(path, key)


def check_pair(merged: Mapping[str, Any]) -> None:
    """Check that model and data are for the same task, if their classes name one.

    Raises:
        UsageError: if they are not; the message names the data class that fits the model.
    """
    classes = {
        section: import_class(value["class_path"], f"{section}.class_path")
        for section, value in merged.items()
        if section in ("model", "data")
        and isinstance(value, Mapping)
        and "." in str(value.get("class_path"))
    }
    expected, got = (getattr(classes.get(section), "task", None) for section in ("model", "data"))
    if expected is None or got is None or expected == got:
        return
    model, data = classes["model"], classes["data"]
    fitting = [
        name
        for name, value in vars(importlib.import_module(model.__module__)).items()
        if inspect.isclass(value) and value.__module__ == model.__module__ and value is not model
        if getattr(value, "task", None) == expected
    ]
    use = f" Use data.class_path {model.__module__}.{fitting[0]}." if fitting else ""
    raise UsageError(
        f"{model.__name__} is for {expected}, but {data.__name__} provides data for {got}.{use}"
    )


def check_nulls(typed: Mapping[str, Any], *, merged: Mapping[str, Any]) -> None:
    """Check that arguments of plcli's classes are not null where null means nothing.

    Args:
        typed: the values that the user gave.
        merged: the values with those of a run, which name the classes.

    Raises:
        UsageError: for the first one that is.
    """
    for section in ("model", "data"):
        given, named = _section(typed, section), _section(merged, section)
        path = str(named.get("class_path"))
        if not path.startswith("plcli."):
            continue
        cls = import_class(path, f"{section}.class_path")
        names, facts = parameters(cls), marked(cls, "fact") if section == "model" else set()
        types = {name: kind for name, kind in get_type_hints(cls).items() if name not in facts}
        for name, value in (given.get("init_args") or {}).items():
            if value is None and name in types and not _may_be_null(types[name]):
                default = names[name].default if name in names else inspect.Parameter.empty
                plain = isinstance(default, (str, int, float))
                remedy = f" Its default is {default}." if plain else ""
                raise UsageError(
                    f"{section}.{name}: got null, which it cannot be. Give a value, or remove the "
                    f"key.{remedy}"
                )


def _section(values: Mapping[str, Any], section: str) -> Mapping[str, Any]:
    value = values.get(section)
    return value if isinstance(value, Mapping) else {}


def _may_be_null(kind: Any) -> bool:
    return kind is Any or kind is type(None) or type(None) in get_args(kind)


def check_override(key: str, *, merged: Mapping[str, Any], classes: Mapping[str, type]) -> None:
    """Check a dotted key from the command line or the environment.

    Raises:
        UsageError: for an unknown name, with the nearest valid one.
    """
    section, *path = key.rstrip("+").split(".")
    if section not in SECTIONS:
        raise UsageError(f"unknown key '{key}'.{did_you_mean(section, SECTIONS)}")
    node: Any = merged.get(section)
    cls = classes.get(section)
    done = section
    for name in path:
        if cls is None and isinstance(node, Mapping) and isinstance(node.get("class_path"), str):
            if name in ("class_path", "init_args", "dict_kwargs"):
                done += f".{name}"
                continue
            cls = (
                import_class(node["class_path"], f"{section}.class_path")
                if "." in node["class_path"]
                else None
            )
            node = node.get("init_args")
        if cls is None or takes_any(cls):
            return
        names = parameters(cls)
        if name not in names:
            raise UsageError(
                f"unknown key '--{done}.{name}'."
                f"{suggest(name, names, owner=f'{cls.__name__} takes')}"
            )
        node = node.get(name) if isinstance(node, Mapping) else None
        cls = nested(names[name])
        done += f".{name}"
