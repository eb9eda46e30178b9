"""--engine: what runs the network of test, predict, serve and the Python API.

An engine is an export whose check passed, in the place of the loaded network: everything after it,
such as thresholds, spans, pooling and the order of rows, stays. `auto` measures the exports of the
run beside torch on this machine, and keeps the result in the cache.
"""

import hashlib
import json
import logging
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plcli.cli import parts
from plcli.errors import ModelError, UsageError, did_you_mean, listed
from plcli.packages import need
from plcli.runs import atomic_files, exports
from plcli.runs.exports import FORMATS, PACKAGES, STAND_INS, Export

if TYPE_CHECKING:
    from plcli.cli.plan import Plan

logger = logging.getLogger(__name__)

TORCH, AUTO = "torch", "auto"
NAMES = (TORCH, *FORMATS, AUTO)
MEASURED_WITH = ("plcli", "torch", "transformers", "onnxruntime", "openvino")
ROWS = 32  # of a call, where the data class has no batch_size


def check(plan: "Plan") -> None:
    """Check --engine before anything is loaded.

    Raises:
        UsageError: if there is no such engine, or it does not go with another option.
    """
    given = _given(plan)
    if given not in NAMES and not _is_folder(given):
        raise UsageError(
            f"--engine: got '{given}', expected one of {listed(NAMES)}, or a folder that `plcli "
            f"export` wrote.{did_you_mean(given, NAMES)}"
        )
    if given in (TORCH, AUTO):
        return
    arguments = plan.arguments
    for name, is_given in (("ensemble", arguments.ensemble), ("explain", arguments.explain)):
        if is_given:
            raise UsageError(
                f"--engine {given} and --{name}: are both given, but --{name} needs torch. Remove "
                "one of them."
            )


def put(plan: "Plan", trainer: Any, module: Any, data: Any) -> None:
    """Put the engine of a plan in the place of a module's network, and note it in the plan.

    Args:
        plan: the plan.
        trainer: its trainer.
        module: the LightningModule, whose weights are loaded.
        data: the LightningDataModule, whose batch size is measured; None if there is none.

    Raises:
        UsageError: if the engine cannot run this model.
        ModelError: if its export has a problem.
        MachineError: if its package is not installed.
    """
    given = _given(plan)
    if given == TORCH:
        return
    found = _obstacle(plan, trainer, module)
    if given != AUTO:
        if found is not None:
            raise UsageError(f"--engine {given}: cannot be used, as {found}. Use --engine torch.")
        chosen: Export | None = _named(plan, given)
        network = None if chosen is None else _opened(chosen, module.model)
    elif found is not None:
        logger.info("engine: auto takes torch, as %s", found)
        return
    else:
        chosen, network = _fastest(plan, trainer, module.model, data)
    if chosen is not None:
        network.__dict__.setdefault("original", module.model)  # not a part of it; for gradients
        module.model = network
        plan.engine = [chosen.to, _sum(sorted(chosen.files.items()))]


def _given(plan: "Plan") -> str:
    return plan.arguments.options.get("engine", TORCH)


def _is_folder(given: str) -> bool:
    return os.sep in given or Path(given, exports.PARITY).is_file()


def _obstacle(plan: "Plan", trainer: Any, module: Any) -> str | None:
    """Return why no engine but torch can run a model; None if one could."""
    from plcli.callbacks.late_weights import LateWeights
    from plcli.models import exporting

    for name in ("ensemble", "explain"):
        if getattr(plan.arguments, name):
            return f"--{name} needs it"
    if trainer.strategy.root_device.type != "cpu":
        return "exports are checked and run on the CPU (--trainer.accelerator cpu)"
    if trainer.world_size > 1:
        return "there are several processes (--trainer.devices 1)"
    if any(isinstance(callback, LateWeights) for callback in trainer.callbacks):
        return "the module makes its layers in setup or configure_model"
    if reason := exporting.obstacle(getattr(module, "model", None)):
        return f"the model cannot be exported: {reason}"
    if plan.artefact is None or plan.checkpoint is not None:
        return "exports are compared with the finished model of a run, and these weights are others"
    return None


def _named(plan: "Plan", given: str) -> Export:
    """Return the export of an engine that was asked for.

    Raises:
        UsageError: if there is none.
        ModelError: if it cannot be used.
    """
    assert plan.run is not None
    assert plan.artefact is not None
    in_run, run = plan.run.config.is_file(), plan.run.folder
    folder = exports.folder_of(plan.run, given) if given in FORMATS else Path(given)
    to, where = (given if given in FORMATS else "FORMAT"), "" if in_run else " --output FOLDER"
    if given in FORMATS and not in_run:
        raise UsageError(
            f"--engine {given}: {run} is not in a run folder, which would have the export. Name "
            f"the folder that `plcli export {run} --to {to}{where}` wrote: --engine FOLDER."
        )
    if not folder.is_dir():
        raise UsageError(
            f"--engine {given}: {run} has no such export ({folder}). Write it with `plcli export "
            f"{run} --to {to}{where}`."
        )
    if said := exports.problem(folder, weights=plan.artefact.card["sha256"]):
        raise ModelError(
            f"--engine {given}: {said}. Remove the folder, and write it again with `plcli export "
            f"{run} --to {to}{where}`, or use another engine."
        )
    found = exports.read(folder)
    need(PACKAGES[found.to], extra="export", purpose=f"--engine {given}")
    return found


def _opened(found: Export, original: Any) -> Any:
    """Open an export in a precision in which it was compared."""
    import torch

    from plcli.models import exporting
    from plcli.training.hardware import cores

    exact = found.to in exporting.OPENVINO and not found.was_compared_in(
        exporting.openvino_precision()
    )
    calls = max(1, cores() // torch.get_num_threads())
    return exporting.opened(
        found.folder, to=found.to, original=original.eval(), exact=exact, calls=calls
    )


def _fastest(plan: "Plan", trainer: Any, original: Any, data: Any) -> tuple[Export | None, Any]:
    """Return the fastest engine and its network; None for torch."""
    assert plan.run is not None
    assert plan.artefact is not None
    run = plan.run.folder
    candidates, left_out = {}, []
    for name in FORMATS if plan.run.config.is_file() else ():
        folder = exports.folder_of(plan.run, name)
        if not folder.is_dir():
            continue
        if said := exports.problem(folder, weights=plan.artefact.card["sha256"]):
            left_out.append(said)
        elif find_spec(PACKAGES[name]) is None:
            left_out.append(f"{name}: the package {PACKAGES[name]} is not installed")
        else:
            candidates[name] = exports.read(folder)
    for said in left_out:
        logger.warning("warning: engine: %s; it is left out", said)
    if not candidates:
        logger.info(
            "engine: auto takes torch, as %s has no other; `plcli export %s --to FORMAT` writes "
            "one (%s)",
            *(run, run, listed(FORMATS)),
        )
        return None, None
    networks = {TORCH: original.eval()}
    networks |= {name: _opened(each, original) for name, each in candidates.items()}
    rows = getattr(data, "batch_size", None) or ROWS
    path = _path_of_rates(plan, candidates.values(), trainer, rows=rows)
    with _lock(path):  # of the processes of a prediction, the first measures for all
        found, when = _kept(path, networks), "measured before"
        if found is None:
            found, when = _measured(trainer, networks, candidates, rows=rows), "measured now"
            if not _keep(path, found) and parts.is_joined():
                logger.info("engine: auto takes torch, as the processes could not agree")
                return None, None
    name = max(found, key=lambda each: found[each])
    logger.info(
        "engine: auto takes %s, rows per second: %s (%s)",
        name,
        ", ".join(f"{each} {rate:.0f}" for each, rate in found.items()),
        when,
    )
    return candidates.get(name), networks[name]


def _measured(
    trainer: Any, networks: Mapping[str, Any], candidates: Mapping[str, Export], *, rows: int
) -> dict[str, float]:
    from plcli.models import engines

    batches = engines.load(next(iter(candidates.values())).folder / STAND_INS)
    with trainer.precision_plugin.forward_context():
        return engines.rates(networks, batches, rows=rows)


def _path_of_rates(plan: "Plan", candidates: Iterable[Export], trainer: Any, *, rows: int) -> Path:
    """Return where the rates of this machine, these files and these versions are kept."""
    import torch

    from plcli.data.cache import cache_folder

    assert plan.artefact is not None
    parts = {
        "processor": _processor(),
        "weights": plan.artefact.card["sha256"],
        "exports": {each.to: dict(each.files) for each in candidates},
        "versions": {name: _version(name) for name in MEASURED_WITH},
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    return cache_folder() / "engines" / f"{_sum(parts)}.json"


def _processor() -> list[str]:
    """Return the name of the CPU and what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return [platform.machine(), platform.processor()]
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _sum(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _kept(path: Path, networks: Mapping[str, Any]) -> dict[str, float] | None:
    """Return the rates that are kept; None without them, or if they are damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rates = {name: float(found[name]) for name in networks}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return rates


def _keep(path: Path, rates: Mapping[str, float]) -> bool:
    """Keep rates; return whether they could be."""
    try:
        atomic_files.write_text(path, json.dumps(rates) + "\n")
    except OSError as error:
        logger.info("the rates of engines were not kept: %s", error)
        return False
    return True


def _lock(path: Path) -> AbstractContextManager[Any]:
    """Return what lets one process at a time measure; nothing where it cannot be kept."""
    from filelock import FileLock

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return nullcontext()
    mode = path.parent.stat().st_mode & 0o666  # a folder's is that of the umask
    writable = os.access(path.parent, os.W_OK)
    return FileLock(f"{path}.lock", mode=mode) if writable else nullcontext()
