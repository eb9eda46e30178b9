"""plcli package: writes a build folder of a finished run for Docker, SageMaker or AWS Lambda."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from plcli.cli import logs, run_options
from plcli.cli.run_options import RunOptions
from plcli.config import allowlist
from plcli.errors import ModelError, UsageError, did_you_mean, listed
from plcli.runs import atomic_files, handover
from plcli.runs.artefact import Artefact
from plcli.runs.folder import check_local, open_run
from plcli.runs.handover import size_text

TARGETS = {
    "docker": "the build folder of an image that serves the model over HTTP",
    "sagemaker": "that of an image for an endpoint of SageMaker, and the model.tar.gz",
    "lambda": "that of a function of AWS Lambda, without torch, of an export to ONNX",
}
USAGE = {f"RUN --target {name}": text for name, text in TARGETS.items()}
OPTIONS = {
    "target": listed(TARGETS),
    "output": "the folder to write (default: RUN/package/TARGET)",
    "export": "for lambda: what `plcli export RUN --to onnx` wrote (default: RUN/export/onnx)",
}
FLAGS = {"gpu": "for docker and sagemaker: torch with CUDA, some GB; otherwise for a CPU"}
SENTENCES = "modules.json"  # of sentence-transformers
PIECES = (".model", ".spm")  # of sentencepiece


def run(words: Sequence[str]) -> int:
    """Write the folder, and return the exit code."""
    given = run_options.parse("package", words, usage=USAGE, options=OPTIONS, flags=FLAGS)
    if given is None:
        return 0
    target = _target(given)
    logs.set_up()
    found = handover.finished(given.words[0])
    _check(found)
    folder = _folder(given.options.get("output"), given.words[0], target)
    name = found.folder.resolve()
    shown = name.parent.name if name.name == "model" else name.name
    with atomic_files.disk_errors_explained():
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = atomic_files.new_folder(folder.parent)
        try:
            if target == "lambda":
                _write_function(temporary, found, given, shown)
            else:
                _write_image(temporary, found, target, shown, gpu="gpu" in given.options)
            os.replace(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    told = f"{folder}: {size_text(size)}; its README.md has the commands"
    Console().print(told, markup=False, highlight=False, soft_wrap=True)
    return 0


def _target(given: RunOptions) -> str:
    """Return the target.

    Raises:
        UsageError: if it is unknown, or an option is not of it.
    """
    if len(given.words) != 1:
        got = f"got {listed(given.words)}" if given.words else "got nothing"
        raise UsageError(
            f"package: {got}, expected one run: plcli package runs/NAME --target docker."
        )
    target = given.options.get("target", "")
    if target not in TARGETS:
        raise UsageError(
            f"--target: got '{target}', expected one of {listed(TARGETS)}."
            f"{did_you_mean(target, TARGETS)}"
        )
    for option, needed in (("export", target == "lambda"), ("gpu", target != "lambda")):
        if option in given.options and not needed:
            raise UsageError(f"--{option}: is not an option of --target {target}. Remove it.")
    return target


def _check(found: Artefact) -> None:
    """Check that a model can be run elsewhere, with plcli alone.

    Raises:
        UsageError: if it needs code of its own, or data of its own.
        ModelError: if it is an adapter, whose base is elsewhere.
    """
    for section in ("model", "data"):
        path = str((found.card.get(section) or {}).get("class_path", ""))
        if path and path.partition(".")[0] not in allowlist.PACKAGES:
            raise UsageError(
                f"{found.folder}: its {section} is {path}, which is not in plcli, so that a "
                "package would not have it. Install your code and plcli in an image of your own."
            )
    if not (found.card.get("columns") or {}).get("inputs"):
        raise UsageError(
            f"{found.folder}: reads only the files of its config, so that it cannot be served. "
            "Derive its data class from plcli.SplitData or plcli.TextData."
        )
    if found.is_adapter:
        raise ModelError(
            f"{found.folder}: is an adapter, whose pretrained weights would be missing. Train with "
            "model.lora.save: merged."
        )


def _folder(output: str | None, name: str, target: str) -> Path:
    """Return the folder to write, which must not exist.

    Raises:
        UsageError: if it exists, or is not named for a model/ folder alone.
    """
    check_local("--output", output or "")
    run_folder = open_run(name)
    if output is None and not run_folder.config.exists():
        raise UsageError(f"--output: is needed, as {name} is not in a run folder.")
    folder = Path(output) if output else run_folder.folder / "package" / target
    if folder.exists():
        raise UsageError(f"--output {folder}: already exists. Remove it or name another folder.")
    return folder


def _write_image(folder: Path, found: Artefact, target: str, name: str, *, gpu: bool) -> None:
    from plcli.runs.packaging import images

    files = handover.files(found)
    names = [file.name for file in files]
    extras = [
        *(["embedding"] if SENTENCES in names else []),
        *(["sentencepiece"] if any(each.endswith(PIECES) for each in names) else []),
    ]
    write = images.docker if target == "docker" else images.sagemaker
    write(folder, files, name=name, gpu=gpu, extras=extras)


def _write_function(folder: Path, found: Artefact, given: RunOptions, name: str) -> None:
    from plcli.runs.packaging import functions

    options: Mapping[str, str] = given.options
    chosen = options.get("export")
    export = Path(chosen) if chosen else open_run(given.words[0]).folder / "export" / "onnx"
    functions.write(folder, found, export, name=name)
