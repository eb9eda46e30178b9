"""LoRA through peft: low-rank updates beside frozen weights, saved merged or by themselves.

Updates are put into the network in place, so that it stays the class that its task knows. Saved as
an adapter, model/ holds what peft's own `PeftModel.from_pretrained(network, folder)` loads:

    adapter_model.safetensors   the updates, and the head, which is trained whole
    adapter_config.json         peft's settings, and where the pretrained weights are
    config.json                 the network with its head

and plcli.json says under `base` where the pretrained weights were and what their sha256 is.
"""

import copy
import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from plcli import packages
from plcli.errors import MachineError, ModelError, UsageError, listed
from plcli.pretrained import location, weights
from plcli.runs import artefact, atomic_files

logger = logging.getLogger(__name__)

ADAPTER = "default"  # peft's name of the only one
PREFIX = "base_model.model."  # of every name in peft's files
TASK_TYPES = {  # of peft, by the end of a network's class
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


@dataclass(kw_only=True)
class Lora:
    """Low-rank updates of some matrices are trained instead of the network (Hu et al. 2021).

    Args:
        rank: of an update.
        alpha: updates are multiplied with alpha / rank; by default twice the rank.
        dropout: of an update's input.
        targets: names of the linear layers that are updated, or all-linear; by default those that
            peft chooses for the architecture, and all-linear where it knows none.
        dora: whether direction and size of the weights are learnt apart (Liu et al. 2024).
        quantize: 4bit keeps the frozen weights in four bits, on a GPU (QLoRA, Dettmers et al.
            2023), while it is trained; what was learnt is used beside the weights as they were.
        save: merged leaves an ordinary model; adapter the updates and the head alone, which need
            the pretrained model where it was; plcli and peft load it, others do not.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    targets: str | list[str] | None = None
    dora: bool = False
    quantize: Literal["4bit"] | None = None
    save: Literal["merged", "adapter"] = "merged"

    def __post_init__(self) -> None:
        """Check the values."""
        if self.rank < 1:
            raise UsageError(f"model.lora.rank: got {self.rank}, expected 1 or more.")
        if self.alpha is not None and not self.alpha > 0:
            raise UsageError(f"model.lora.alpha: got {self.alpha}, expected more than 0.")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"model.lora.dropout: got {self.dropout}, expected 0 to below 1.")
        if self.quantize and self.save == "merged":
            raise UsageError(
                "model.lora: weights of four bits cannot hold what was learnt. "
                "Set model.lora.save: adapter."
            )


def add(model: Any, lora: Lora, trained: set[str]) -> None:
    """Put updates beside a network's matrices, and freeze all but these and what is trained whole.

    Args:
        model: the network, which is changed.
        lora: what is wanted.
        trained: the names of parameters that are trained whole.

    Raises:
        UsageError: if no layer has such a name.
        MachineError: if peft is not installed.
    """
    peft = packages.need("peft", extra="peft", purpose="model.lora")
    linear = _linear_names(model, trained)
    names: list[str] | str | None = lora.targets
    if names is not None and names != "all-linear":
        names = [names] if isinstance(names, str) else names
        for name in names:
            if not any(each == name or each.endswith(f".{name}") for each in linear):
                raise UsageError(
                    f"model.lora.targets: {type(model).__name__} has no layer '{name}'. "
                    f"There are: {listed(_last_parts(linear))}."
                )
    # modules_to_save would wrap the head: it is trained as it is, and named when it is saved
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=2 * lora.rank if lora.alpha is None else lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=names,
        exclude_modules=sorted(_owners(trained)) or None,
        use_dora=lora.dora,
        fan_in_fan_out=_is_transposed(model),
    )
    try:
        peft.LoraModel(model, config, ADAPTER)
    except ValueError as error:
        if names is not None or "target_modules" not in str(error):
            raise
        logger.info("lora: updates all linear layers of the %s", model.config.model_type)
        config.target_modules = "all-linear"
        peft.LoraModel(model, config, ADAPTER)
    for name, parameter in model.named_parameters():
        if name in trained:
            parameter.requires_grad_(True)


def _owners(names: set[str]) -> set[str]:
    """Return the names of the modules that hold parameters."""
    return {name.rpartition(".")[0] for name in names if "." in name}


def _linear_names(model: Any, trained: set[str]) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    tied = getattr(model.get_input_embeddings(), "weight", None)  # an update would change both
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and name not in _owners(trained)
        if module.weight is not tied
    ]


def _last_parts(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _is_transposed(model: Any) -> bool:
    """Whether its matrices are stored as GPT-2's are."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def prepare_four_bits() -> dict[str, Any]:
    """Return what `from_pretrained` needs to keep weights in four bits.

    Raises:
        MachineError: if there is no GPU, or bitsandbytes is not installed.
    """
    if not torch.cuda.is_available():
        raise MachineError(
            "model.lora.quantize: 4bit needs a CUDA GPU, and this machine has none. "
            "Leave quantize away: LoRA without it runs anywhere."
        )
    packages.need("bitsandbytes", extra="qlora", purpose="model.lora.quantize")
    from transformers import BitsAndBytesConfig

    four_bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": four_bits}


def merged(model: Any) -> Any:
    """Return a copy of a network with its updates added to its matrices."""
    model = copy.deepcopy(model)
    _merge(model)
    return model


def _merge(model: Any) -> None:
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [
        (name, part) for name, part in model.named_modules() if isinstance(part, BaseTunerLayer)
    ]
    for name, layer in layers:
        layer.merge()
        model.set_submodule(name, layer.get_base_layer())
    del model.peft_config


def is_adapted(model: Any) -> bool:
    """Whether a network has updates beside its matrices."""
    return hasattr(model, "peft_config")


# files


def describe_base(name: str) -> dict[str, str]:
    """Return where pretrained weights are and what they are, for plcli.json."""
    folder = location.resolve(name)
    if Path(folder).is_dir():
        lasting = name if name.startswith("package:") else str(Path(folder).resolve())
        return {"name": lasting, "sha256": _sha256(Path(folder))}
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    revision = getattr(config, "_commit_hash", None)
    return {"name": name, "revision": str(revision or "main")}


def _sha256(folder: Path) -> str:
    """Return the sha256 of the hashes of what a folder's outputs depend on."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256("".join(map(atomic_files.sha256, files)).encode()).hexdigest()


def save(model: Any, folder: Path, *, base: str) -> None:
    """Save the updates and what is trained whole.

    Args:
        model: the network.
        folder: where to.
        base: where its pretrained weights came from.
    """
    import peft
    from safetensors.torch import save_file

    updates = peft.get_peft_model_state_dict(
        model, adapter_name=ADAPTER, save_embedding_layers=False
    )
    whole = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and f".{ADAPTER}" not in name
    }
    save_file(
        {
            f"{PREFIX}{name}": tensor.detach().cpu().contiguous()
            for name, tensor in {**updates, **whole}.items()
        },
        folder / artefact.ADAPTER,
        metadata={"format": "pt"},
    )
    config = copy.copy(model.peft_config[ADAPTER])
    kind = next((TASK_TYPES[end] for end in TASK_TYPES if type(model).__name__.endswith(end)), None)
    config.task_type, config.inference_mode = kind, True
    config.modules_to_save = sorted(_owners(set(whole))) or None
    config.base_model_name_or_path = location.resolve(base)
    config.save_pretrained(folder)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)


def load_model(auto_class: Any, name: str, **settings: Any) -> Any:
    """Load a pretrained network, or one that was saved as an adapter, whose updates are merged.

    Args and errors are those of `pretrained.load_model`.
    """
    folder = Path(location.resolve(name))
    if not (folder / artefact.ADAPTER).is_file():
        return weights.load_model(auto_class, name, **settings)
    from safetensors.torch import load_file
    from transformers import AutoConfig

    if not settings:  # the head as it was
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        settings = {"id2label": config.id2label, "label2id": config.label2id}
        settings |= {"problem_type": config.problem_type} if config.problem_type else {}
    base, revision = _checked_base(folder)
    model = load_model(auto_class, base, **settings, **revision)
    packages.need("peft", extra="peft", purpose=str(folder / artefact.ADAPTER))
    try:
        _inject(model, folder, load_file(folder / artefact.ADAPTER))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{folder}: its adapter does not fit {type(model).__name__} "
            f"({str(error).splitlines()[0][:160]}). Copy the folder again."
        ) from None
    return model


def _checked_base(folder: Path) -> tuple[str, dict[str, str]]:
    """Return where the pretrained weights of an adapter are, and of the hub the revision.

    Raises:
        ModelError: if they are not there, or are not those that it was trained beside.
    """
    try:
        base = json.loads((folder / artefact.CARD).read_text(encoding="utf-8"))["base"]
        name, expected, revision = str(base["name"]), base.get("sha256"), base.get("revision")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{folder}: holds an adapter, but its {artefact.CARD} does not say beside which "
            "weights it was trained. Copy the folder again."
        ) from None
    try:
        found = Path(location.resolve(name))
    except ModelError as error:
        raise ModelError(
            f"{folder}: is an adapter beside the weights of {name}, which are not there. Put them "
            f"back, or train with model.lora.save: merged. ({error})"
        ) from None
    if found.is_dir() and found.resolve() == folder.resolve():
        raise ModelError(f"{folder}: is an adapter beside itself. Copy the folder again.")
    if _sha256(found) != expected if found.is_dir() else revision is None:
        raise ModelError(
            f"{folder}: is an adapter beside the weights of {name}, which have changed since "
            "(their sha256 differs). Put the former ones back."
        )
    return name, {} if found.is_dir() else {"revision": str(revision)}


def _inject(model: Any, folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    import peft

    saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    # only these: others name code that peft would import
    names = ("r", "lora_alpha", "target_modules", "exclude_modules", "use_dora", "fan_in_fan_out")
    peft.LoraModel(model, peft.LoraConfig(**{name: saved[name] for name in names}), ADAPTER)
    state = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    own = model.state_dict()
    whole = {key: tensor for key, tensor in state.items() if key in own}
    for key, tensor in whole.items():
        if own[key].shape != tensor.shape:
            raise ValueError(f"{key} is of another size")
        own[key].copy_(tensor)
    updates = {key: tensor for key, tensor in state.items() if key not in whole}
    done = peft.set_peft_model_state_dict(model, updates, adapter_name=ADAPTER)
    lacking = [key for key in own if f".{ADAPTER}" in key and key in done.missing_keys]
    if lacking or done.unexpected_keys:
        raise ValueError(f"{(lacking or done.unexpected_keys)[0]} is missing or unknown")
    _merge(model)
