"""The artefact: the `model/` folder of a finished run.

It can be used without the config, the training data and the network.

    config.json, model.safetensors,   as `save_pretrained` writes them; transformers loads them
    tokenizer files
    plcli.json                        what plcli adds: task, columns, labels, metrics, sha256
    README.md                         the model card, for people; it may be edited

An adapter has adapter_model.safetensors and adapter_config.json instead of model.safetensors. For
a module without `save_pretrained`, model.safetensors contains its state dict.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plcli import __version__
from plcli.config.allowlist import class_paths
from plcli.config.contracts import data_contract, module_contract
from plcli.errors import MachineError, ModelError
from plcli.packages import not_fetched
from plcli.runs import atomic_files, model_card
from plcli.runs.atomic_files import sha256

CARD = "plcli.json"
UNSAFE = {  # extensions of files that can run code when they are loaded
    *(".bin", ".ckpt", ".dill", ".joblib", ".npy", ".npz", ".pickle", ".pkl", ".pt", ".pt2"),
    *(".pth", ".py", ".pyc", ".pyd", ".so", ".h5", ".keras", ".mar", ".nemo"),
}
READ_BY_LIBRARIES = {  # extensions of files from which they take settings, words or weights
    *(".json", ".jinja", ".model", ".safetensors", ".spm", ".tiktoken", ".vocab"),
}
READ_TEXTS = ("vocab.txt", "merges.txt")
CARD_SUM = "card_sha256"  # of the other values of the card; an adapter's base has its own
OWN_FOLDERS = ("predictions",)  # what plcli itself writes into a model folder that is used alone
WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class Artefact:
    """A verified artefact.

    Attributes:
        folder: its folder.
        card: the content of plcli.json.
    """

    folder: Path
    card: dict[str, Any]

    @property
    def facts(self) -> dict[str, Any]:
        """The facts, keyed by the names of constructor arguments of the model."""
        facts: dict[str, Any] = self.card["facts"]
        return facts

    @property
    def is_adapter(self) -> bool:
        """Whether it has the updates of a base model instead of whole weights."""
        return (self.folder / ADAPTER).is_file()

    @property
    def loads_by_pretrained(self) -> bool:
        """Whether the folder can be passed to the model's `pretrained` argument.

        Otherwise the state is loaded into the module.
        """
        return (self.folder / "config.json").exists()


def exists(folder: Path) -> bool:
    """Whether a folder contains an artefact."""
    return (folder / CARD).is_file()


def load(folder: Path) -> Artefact:
    """Open an artefact and verify its files.

    Raises:
        ModelError: if it is not an artefact, or a file has changed since it was written.
    """
    if not exists(folder):
        raise ModelError(f"{folder}: is not a model of plcli; it contains no {CARD}.")
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        facts, expected = card["facts"], card["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{folder / CARD}: is damaged ({error}). Copy the folder again.") from None
    check_facts(facts, str(folder / CARD))
    unsafe = sorted(path.name for path in folder.rglob("*") if path.suffix.lower() in UNSAFE)
    if unsafe:
        raise ModelError(
            f"{folder}: contains {unsafe[0]}, a type of file that can run code when it is loaded; "
            f"an artefact of plcli only has weights in {WEIGHTS}. "
            "Remove the file, or get the folder from its source again."
        )
    files = card.get("files", {})  # absent in artefacts of version 0.5
    if not isinstance(files, Mapping):
        raise ModelError(f"{folder / CARD}: its list of files is damaged. Copy the folder again.")
    _check_files(folder, {_weights(folder).name: expected, **files})
    if files:
        _check_unlisted(folder, {_weights(folder).name, CARD, *files})
    if card.get(CARD_SUM, _card_sum(card)) != _card_sum(card):
        raise ModelError(
            f"{folder / CARD}: has changed since it was written (its sha256 differs). "
            "Copy the folder again."
        )
    _check_labels(folder, card)
    return Artefact(folder, card)


def _card_sum(card: Mapping[str, Any]) -> str:
    content = {key: value for key, value in card.items() if key not in (CARD_SUM, "base")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _check_unlisted(folder: Path, listed: set[str]) -> None:
    """Check that there is no other file from which a library would take settings or weights.

    Raises:
        ModelError: if there is one, such as another chat template or added tokens.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if name.parts[0] in OWN_FOLDERS or any(part.startswith(".") for part in name.parts):
            continue  # as .cache, where `hf download` notes what it has done
        is_read = path.suffix in READ_BY_LIBRARIES or path.name in READ_TEXTS
        if path.is_file() and is_read and str(name) not in listed:
            raise ModelError(
                f"{folder}: contains {name}, which is not a file of this model (it is not in "
                f"{CARD}). Remove it, or copy the folder again."
            )


def _check_labels(folder: Path, card: Mapping[str, Any]) -> None:
    """Check that config.json names the labels in the order of the card.

    Raises:
        ModelError: if the order differs, so that each would be taken for another.
    """
    try:
        names = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
        found = [names[key] for key in sorted(names, key=int)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # it names none
    for labels in (card.get("labels"), card["facts"].get("labels")):
        if isinstance(labels, list) and found != labels and set(found) == set(map(str, labels)):
            raise ModelError(
                f"{folder}: config.json names the labels in another order than {CARD} "
                f"({', '.join(map(str, found[:3]))}, ... instead of "
                f"{', '.join(map(str, labels[:3]))}, ...). Copy the folder again."
            )


def _check_files(folder: Path, expected: Mapping[str, Any]) -> None:
    """Check that files are there and have not changed.

    Args:
        folder: the artefact.
        expected: the sha256 of each file by name.

    Raises:
        ModelError: for the first one that is missing or has changed.
    """
    for name, digest in expected.items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{folder}: contains no {name}. Copy the complete folder again.")
        if pointer := not_fetched(path):
            raise ModelError(pointer)
        if sha256(path) != digest:
            raise ModelError(
                f"{path}: has changed since it was written (its sha256 differs). "
                "Copy the folder again; a model that was changed on purpose is used with "
                "--model.pretrained."
            )


def _weights(folder: Path) -> Path:
    """Return the file of the weights, or of the adapter's weights."""
    return folder / (ADAPTER if (folder / ADAPTER).is_file() else WEIGHTS)


def check_facts(facts: Any, where: str) -> None:
    """Check that facts are a mapping and name no class.

    Raises:
        ModelError: if they are not a mapping, or contain a class path.
    """
    if not isinstance(facts, Mapping):
        raise ModelError(f"{where}: its facts are damaged. Copy it again.")
    refuse_facts((key for key, _ in class_paths(facts)), where)


def refuse_facts(names: Iterable[str], where: str) -> None:
    """Refuse names that are not facts, as determined by the caller.

    Raises:
        ModelError: if there is one.
    """
    if named := sorted(names):
        raise ModelError(
            f"{where}: its facts contain '{named[0]}', which cannot come from data. "
            "Do not trust this file; get it from its source again."
        )


def save(
    folder: Path, *, model: Any, data: Any, card: Mapping[str, Any], page: str | None = None
) -> None:
    """Write an artefact to a temporary folder and rename it, so that it is whole or absent.

    Args:
        folder: the destination; an existing folder is replaced.
        model: the LightningModule.
        data: the LightningDataModule, or None.
        card: the content of plcli.json.
        page: the content of README.md, which its readers may change; None for none.

    Raises:
        MachineError: if it cannot be written.
    """
    try:
        temporary = atomic_files.new_folder(folder.parent)
        try:
            _write_weights(temporary, model)
            data_contract(data).save_pretrained(temporary)
            (temporary / model_card.FILE).unlink(missing_ok=True)  # a library's own
            content = {
                "plcli": __version__,
                **card,
                "sha256": sha256(_weights(temporary)),
                "files": {
                    str(path.relative_to(temporary)): sha256(path)
                    for path in sorted(temporary.rglob("*"))
                    if path.is_file() and path != _weights(temporary)
                },
            }
            content[CARD_SUM] = _card_sum(json.loads(to_json(content)))
            (temporary / CARD).write_text(to_json(content), encoding="utf-8")
            if page is not None:
                (temporary / model_card.FILE).write_text(page, encoding="utf-8")
            atomic_files.set_permissions(temporary)
            for path in temporary.rglob("*"):
                (atomic_files.sync_folder if path.is_dir() else atomic_files.sync_file)(path)
            atomic_files.sync_folder(temporary)
            if folder.exists():
                shutil.rmtree(folder)
            os.replace(temporary, folder)
            atomic_files.sync_folder(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise MachineError(
            f"{folder}: cannot be written ({error.strerror or error}). Check the disk and the "
            "permissions of the folder."
        ) from error


def _write_weights(folder: Path, model: Any) -> None:
    if module_contract(model).offers("save_pretrained"):
        model.save_pretrained(folder)
    else:
        from safetensors.torch import save_model

        save_model(model, str(folder / WEIGHTS))


def load_state(artefact: Artefact, model: Any) -> None:
    """Load the state of a module that has no `pretrained` argument.

    Raises:
        ModelError: if the module's state has other names or shapes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_model

    try:
        load_model(model, artefact.folder / WEIGHTS)
    except SafetensorError as error:
        raise ModelError(
            f"{artefact.folder / WEIGHTS}: is not a safetensors file ({error}). "
            "Copy the folder again."
        ) from None
    except RuntimeError as error:
        raise ModelError(
            f"{artefact.folder}: does not fit {type(model).__name__}: "
            f"{str(error).splitlines()[-1].strip()[:200]}. Its plcli.json and its weights are of "
            "different models; get the folder from its source again."
        ) from None


def to_json(values: Any) -> str:
    """Write values as JSON; NaN and infinity, such as a constant's correlation, become null."""
    return json.dumps(_finite(values), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(values: Any) -> Any:
    if isinstance(values, Mapping):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
