"""The build folder of an AWS Lambda function: an ONNX network without torch."""

import json
import logging
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plcli.errors import ModelError, UsageError
from plcli.packages import need
from plcli.runs import artefact
from plcli.runs.artefact import Artefact
from plcli.runs.handover import size_text, slug
from plcli.runs.packaging import requirements

logger = logging.getLogger(__name__)

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html: 250 MB, unzipped
MOST_BYTES = 250 * 10**6
PACKAGES = ("onnxruntime", "tokenizers", "numpy")
# needed by a package above, but only for what the function does not do: downloads
WITHOUT = ("huggingface-hub",)
KINDS = {"single_label_classification": False, "multi_label_classification": True}
ENOUGH = 0.99  # of the rows that an export predicts as before
PAGE = """\
# {name}, for AWS Lambda

{size} unpacked, of 250 MB. Pack it on any machine with pip, upload it, and make a function:

    pip install --no-deps --no-compile --target build --only-binary=:all: \\
      --platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64 \\
      --implementation cp --python-version {python} -r requirements.txt
    cp -r lambda_function.py model build/
    (cd build && python -m zipfile -c ../function.zip *)
    aws s3 cp function.zip s3://BUCKET/{name}.zip
    aws lambda create-function --function-name {name} --runtime python{python} --role ROLE \\
      --handler lambda_function.lambda_handler --memory-size 2048 --timeout 30 \\
      --code S3Bucket=BUCKET,S3Key={name}.zip

For ARM, the platforms end in aarch64. The function takes `{{"rows": [...]}}`, invoked
directly or as the body of a POST to a function URL or API Gateway, which also decide who may call.
"""


def write(folder: Path, found: Artefact, export: Path, *, name: str) -> int:
    """Write the build folder, and return the bytes that the function has when it is unpacked.

    Args:
        folder: an empty folder.
        found: the artefact.
        export: a folder that `plcli export --to onnx` wrote of it.
        name: of the run, for the page.

    Raises:
        UsageError: if the task cannot run in it, or the export is absent.
        ModelError: if the export is of another model, or the function is too large.
        MachineError: if onnxruntime is not installed.
    """
    settings = settings_of(found)
    check_export(found, export)
    for package in PACKAGES:
        need(package, extra="export", purpose="plcli package --target lambda")
    model = folder / "model"
    model.mkdir()
    for path in sorted(export.glob("model.onnx*")):
        shutil.copyfile(path, model / path.name)
    shutil.copyfile(found.folder / "tokenizer.json", model / "tokenizer.json")
    (model / "settings.json").write_text(artefact.to_json(settings), encoding="utf-8")
    versions = _versions()
    (folder / "requirements.txt").write_text(requirements.text(versions, gpu=True), "utf-8")
    handler = Path(__file__).with_name("lambda_function.py")
    shutil.copyfile(handler, folder / handler.name)
    own = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    size = own + requirements.installed_size(versions)
    if size > MOST_BYTES:
        raise ModelError(
            f"{found.folder}: the function would have {size_text(size)} unpacked, of which the "
            f"model is {size_text(own)}; Lambda takes {size_text(MOST_BYTES)}. Use a smaller "
            "model, or --target docker."
        )
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    page = PAGE.format(name=slug(name), size=size_text(size), python=python)
    (folder / "README.md").write_text(page, encoding="utf-8")
    _try(folder, settings)
    return size


def settings_of(found: Artefact) -> dict[str, Any]:
    """Return the settings of the function: columns, labels and decisions.

    Raises:
        UsageError: if the model does something that the function cannot.
    """
    card = found.card
    config = _json(found.folder / "config.json")
    tokenizer = _json(found.folder / "tokenizer_config.json")
    model = card["model"].get("init_args") or {}
    data = (card.get("data") or {}).get("init_args") or {}
    networks = [str(each) for each in config.get("architectures") or []]
    reasons = {
        "it does not classify texts": not networks
        or not networks[0].endswith("ForSequenceClassification")
        or config.get("problem_type") not in KINDS
        or not card.get("labels"),
        "it reads long texts in windows (data.stride)": data.get("stride") is not None,
        "it has no tokenizer.json": not (found.folder / "tokenizer.json").is_file(),
        "its maximum length is not known": not card.get("max_length"),
    }
    if told := [reason for reason, holds in reasons.items() if holds]:
        raise UsageError(
            f"{found.folder}: cannot run as a Lambda function of plcli, as {told[0]}. Use --target "
            "docker or sagemaker."
        )
    text = data.get("text", "text")
    return {
        "inputs": card["columns"]["inputs"],
        "template": text if isinstance(text, str) and "{" in text else None,
        "id": data.get("id"),
        "empty": data.get("empty_text", "keep"),
        "max_length": card["max_length"],
        "truncation_side": tokenizer.get("truncation_side", "right"),
        "labels": card["labels"],
        "several": KINDS[config["problem_type"]],
        "temperature": card.get("temperature") or 1.0,
        "thresholds": card.get("thresholds") or {},
        "abstain_below": model.get("abstain_below"),
    }


def check_export(found: Artefact, export: Path) -> None:
    """Check that a folder is an ONNX export of an artefact that was compared with it.

    Raises:
        UsageError: if it is none.
        ModelError: if it is of another model.
    """
    if not all((export / name).is_file() for name in ("model.onnx", "parity.json")):
        raise UsageError(
            f"--export {export}: is not a finished export to ONNX. Make one with `plcli export RUN "
            "--to onnx`."
        )
    parity = _json(export / "parity.json")
    if parity.get("weights") != found.card["sha256"]:
        raise ModelError(
            f"--export {export}: is of other weights than {found.folder}. Export these: plcli "
            "export RUN --to onnx --output FOLDER."
        )
    agreement = parity.get("agreement", 0.0)
    if agreement < ENOUGH:
        logger.warning(
            "warning: %s predicts %.1f%% of the rows as before; see its parity.json",
            export,
            100 * agreement,
        )


def _versions() -> dict[str, str]:
    """Return the packages of a function, and their versions."""
    direct = requirements.closure(PACKAGES)
    unused = requirements.closure(WITHOUT).keys() - requirements.closure(["onnxruntime"]).keys()
    return {name: version for name, version in direct.items() if name not in unused}


def _try(folder: Path, settings: Mapping[str, Any]) -> None:
    """Predict a row, so that a function that cannot run is not handed over.

    Raises:
        ModelError: if the network has other inputs or outputs.
    """
    from plcli.runs.packaging.lambda_function import Model

    row = dict.fromkeys(settings["inputs"], "a text")
    try:
        Model(folder / "model").predict([row])
    except Exception as error:  # of onnxruntime or tokenizers, whose errors have no common class
        raise ModelError(
            f"{folder.name}: the function does not run ({type(error).__name__}: {error}). Export "
            "the model again, with this version of plcli."
        ) from None


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON file of an artefact; empty without it."""
    if not path.is_file():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
