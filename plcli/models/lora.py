"""LoRA with peft: low-rank updates of frozen weights, saved merged or as an adapter.

Updates are added to the network in place, so that its class stays the one that its task expects.
If they are saved as an adapter, peft's own `PeftModel.from_pretrained(network, folder)` can load
model/, which contains:

    adapter_model.safetensors   the updates, and the head, which is trained in full
    adapter_config.json         peft's settings, and the location of the pretrained weights
    config.json                 the config of the network with its head

The key `base` of plcli.json has the location of the pretrained weights and their sha256.
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

ADAPTER = "default"  # peft's name of an adapter if there is only one
PREFIX = "base_model.model."  # the prefix of every name in peft's files
TASK_TYPES = {  # peft's task types, by the suffix of the network's class name
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


@dataclass(kw_only=True)
class Lora:
    """Trains low-rank updates of some matrices instead of the network (LoRA, Hu et al. 2021).

    Args:
        rank: the rank of the updates.
        alpha: updates are multiplied by alpha / rank; by default twice the rank.
        dropout: the dropout on the input of the updates.
        targets: names of the linear layers to update, or all-linear; by default those that peft
            chooses for the architecture, or all-linear if it does not know the architecture.
        dora: whether direction and magnitude of the weights are learned separately (DoRA, Liu et
            al. 2024).
        quantize: 4bit keeps the frozen weights in 4 bits during training, on a GPU (QLoRA, Dettmers
            et al. 2023); after training, the updates are used with the original weights.
        save: merged saves an ordinary model; adapter saves only the updates and the head. An
            adapter needs the pretrained model at its location, and only plcli and peft can load it.
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
                "model.lora: updates cannot be merged into 4-bit weights. "
                "Set model.lora.save: adapter."
            )


def add(model: Any, lora: Lora, trained: set[str]) -> None:
    """Add updates to a network's matrices, and freeze all other weights that are not in `trained`.

    Args:
        model: the network, which is changed in place.
        lora: the settings.
        trained: the names of the parameters that are trained in full.

    Raises:
        UsageError: if there is no layer with the name of a target.
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
    # modules_to_save would wrap the head, so it is only set when the adapter is saved
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
    """Return the names of the modules that parameters belong to, given the parameters' names."""
    return {name.rpartition(".")[0] for name in names if "." in name}


def _linear_names(model: Any, trained: set[str]) -> list[str]:
    from transformers.pytorch_utils import Conv1D

    # an update of an output layer with tied weights would also change the input embeddings
    tied = getattr(model.get_input_embeddings(), "weight", None)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and name not in _owners(trained)
        if module.weight is not tied
    ]


def _last_parts(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.rpartition(".")[2] for name in names))


def _is_transposed(model: Any) -> bool:
    """Whether the matrices are stored transposed, as those of GPT-2."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def prepare_four_bits() -> dict[str, Any]:
    """Return the arguments of `from_pretrained` for 4-bit weights.

    Raises:
        MachineError: if there is no GPU, or bitsandbytes is not installed.
    """
    if not torch.cuda.is_available():
        raise MachineError(
            "model.lora.quantize: 4bit needs a CUDA GPU, and this machine has none. "
            "Remove quantize: LoRA runs on any machine without it."
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
    """Return a copy of a network with the updates merged into its matrices."""
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
    """Whether a network has low-rank updates."""
    return hasattr(model, "peft_config")


# files


def describe_base(name: str) -> dict[str, str]:
    """Return the location and the sha256 or revision of pretrained weights, for plcli.json."""
    folder = location.resolve(name)
    if Path(folder).is_dir():
        lasting = name if name.startswith("package:") else str(Path(folder).resolve())
        return {"name": lasting, "sha256": _sha256(Path(folder))}
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    revision = getattr(config, "_commit_hash", None)
    return {"name": name, "revision": str(revision or "main")}


def _sha256(folder: Path) -> str:
    """Return the sha256 of the hashes of a model folder's config and weights."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    return hashlib.sha256("".join(map(atomic_files.sha256, files)).encode()).hexdigest()


def save(model: Any, folder: Path, *, base: str) -> None:
    """Save the updates and the parameters that are trained in full.

    Args:
        model: the network.
        folder: the folder to save to.
        base: where the pretrained weights came from.
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
    """Load a pretrained network; if it was saved as an adapter, merge its updates.

    The arguments and errors are those of `plcli.pretrained.weights.load_model`.
    """
    folder = Path(location.resolve(name))
    if not (folder / artefact.ADAPTER).is_file():
        return weights.load_model(auto_class, name, **settings)
    from safetensors.torch import load_file
    from transformers import AutoConfig

    if not settings:  # keep the saved head
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
    """Return the location of an adapter's pretrained weights and, on the hub, their revision.

    Raises:
        ModelError: if they are missing, or are not those that the adapter was trained on.
    """
    try:
        base = json.loads((folder / artefact.CARD).read_text(encoding="utf-8"))["base"]
        name, expected, revision = str(base["name"]), base.get("sha256"), base.get("revision")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(
            f"{folder}: contains an adapter, but its {artefact.CARD} does not name the weights "
            "that it was trained on. Get the folder from its source again, or train with "
            "model.lora.save: merged."
        ) from None
    try:
        found = Path(location.resolve(name))
    except ModelError as error:
        raise ModelError(
            f"{folder}: is an adapter for the weights of {name}, which were not found. Restore "
            f"them, or train with model.lora.save: merged. ({error})"
        ) from None
    if found.is_dir() and found.resolve() == folder.resolve():
        raise ModelError(
            f"{folder}: is an adapter that names itself as its pretrained weights. "
            "Get the folder from its source again."
        )
    if _sha256(found) != expected if found.is_dir() else revision is None:
        raise ModelError(
            f"{folder}: is an adapter for the weights of {name}, which have changed since "
            "(their sha256 differs). Restore the original ones."
        )
    return name, {} if found.is_dir() else {"revision": str(revision)}


def _inject(model: Any, folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    import peft

    saved = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    # only these settings, because others can name code that peft would import
    names = ("r", "lora_alpha", "target_modules", "exclude_modules", "use_dora", "fan_in_fan_out")
    peft.LoraModel(model, peft.LoraConfig(**{name: saved[name] for name in names}), ADAPTER)
    state = {key.removeprefix(PREFIX): tensor for key, tensor in tensors.items()}
    own = model.state_dict()
    whole = {key: tensor for key, tensor in state.items() if key in own}
    for key, tensor in whole.items():
        if own[key].shape != tensor.shape:
            raise ValueError(f"{key} has another shape")
        own[key].copy_(tensor)
    model.fresh_names -= whole.keys()
    updates = {key: tensor for key, tensor in state.items() if key not in whole}
    done = peft.set_peft_model_state_dict(model, updates, adapter_name=ADAPTER)
    lacking = [key for key in own if f".{ADAPTER}" in key and key in done.missing_keys]
    if lacking or done.unexpected_keys:
        raise ValueError(f"{(lacking or done.unexpected_keys)[0]} is missing or unknown")
    _merge(model)
