"""Writes a network for other engines, and runs what was written in its place.

ONNX and OpenVINO come from `transformers.exporters`, with any number of rows and tokens. Of the
engines that were tried, these keep the labels: ONNX in 32 bits, OpenVINO, OpenVINO with the weights
in 8 bits (of weights alone; activations stay), and torch in bfloat16.
"""

import contextlib
import copy
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from plcli.errors import UsageError
from plcli.packages import need

Inputs = dict[str, torch.Tensor]
MEASURED = (1, 32)  # rows
SECONDS = 1.0  # for each measurement of the latency


def check(network: Any, *, name: str) -> None:
    """Check that a network can be exported.

    Raises:
        UsageError: if it is not a network of transformers, or it generates.
    """
    from transformers import PreTrainedModel

    if not isinstance(network, PreTrainedModel):
        raise UsageError(
            f"{name}: cannot be exported, as its network is not one of transformers. Use "
            "`torch.export` or `torch.onnx.export` in Python."
        )
    if network.can_generate():
        raise UsageError(
            f"{name}: cannot be exported, as it generates texts: an exported network makes one "
            "pass, and the loop that generates has no counterpart. Serve it with `plcli serve`."
        )


@contextlib.contextmanager
def recorded(network: Any) -> Iterator[list[Inputs]]:
    """Record the tensors with which a network is called."""
    calls: list[Inputs] = []

    def note(module: Any, positional: Any, named: Mapping[str, Any]) -> None:
        tensors = {key: value for key, value in named.items() if torch.is_tensor(value)}
        calls.append({key: value for key, value in tensors.items() if key != "labels"})

    hook = network.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        hook.remove()


def write(network: Any, *, to: str, folder: Path, inputs: Inputs) -> None:
    """Write a network.

    Args:
        network: a network of transformers, in eval mode.
        to: onnx, openvino, openvino-int8 or torch-bf16.
        folder: where to write; it exists.
        inputs: the inputs of a call, with two or more rows and tokens.

    Raises:
        MachineError: if a package is missing.
    """
    network.config.save_pretrained(folder)
    if to == "torch-bf16":
        copy.deepcopy(network).to(torch.bfloat16).save_pretrained(folder)
        return
    for package in _packages(to):
        need(package, extra="export", purpose=f"plcli export --to {to}")
    with _quiet():
        if to == "onnx":
            from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

            made = OnnxExporter().export(network, inputs, config=OnnxConfig(dynamic=True))
            OnnxExporter.save_program(made.program, folder / "model.onnx")
            return
        from transformers.exporters.exporter_openvino import OpenVINOConfig, OpenVINOExporter

        made = OpenVINOExporter().export(network, inputs, config=OpenVINOConfig(dynamic=True))
        program = made.program
        if to == "openvino-int8":
            import nncf

            program = nncf.compress_weights(program)
        OpenVINOExporter.save_program(program, folder / "openvino_model.xml")


def _packages(to: str) -> tuple[str, ...]:
    if to == "onnx":
        return "onnx", "onnxscript", "onnxruntime"
    return ("openvino", "nncf") if to == "openvino-int8" else ("openvino",)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the progress and the warnings of exporters off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class Exported(torch.nn.Module):
    """A written network in the place of the original one.

    Other attributes are those of the original.

    Args:
        original: the network that was written.
        run: runs the written one: arrays by the names of inputs -> arrays by the names of outputs.
        names: the names of its inputs.
    """

    def __init__(
        self,
        original: Any,
        run: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        names: Sequence[str],
    ) -> None:
        super().__init__()
        self.run, self.names = run, list(names)
        self.__dict__["original"] = original  # not a part of this module

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["original"], name)

    def forward(self, **inputs: Any) -> Any:
        """Return the outputs as tensors; the loss is unknown."""
        arrays = {name: inputs[name].cpu().numpy() for name in self.names}
        outputs = {name: torch.from_numpy(value) for name, value in self.run(arrays).items()}
        return SimpleNamespace(loss=torch.tensor(torch.nan), **outputs)


def opened(folder: Path, *, to: str, original: Any, exact: bool) -> Any:
    """Open a written network.

    Args:
        folder: where it was written.
        to: its format.
        original: the network that was written.
        exact: whether OpenVINO has to calculate in 32 bits; by itself it takes 16 where the
            processor is faster with them.
    """
    if to == "torch-bf16":
        return type(original).from_pretrained(folder, dtype=torch.bfloat16).eval()
    if to == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")
        outputs = [each.name for each in session.get_outputs()]

        def run_onnx(arrays: Mapping[str, Any]) -> dict[str, Any]:
            return dict(zip(outputs, session.run(outputs, dict(arrays)), strict=True))

        return Exported(original, run_onnx, [each.name for each in session.get_inputs()])
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"} if exact else {}
    program = core.compile_model(folder / "openvino_model.xml", "CPU", settings)

    def run_openvino(arrays: Mapping[str, Any]) -> dict[str, Any]:
        found = program(dict(arrays))
        return {port.get_any_name(): found[port].copy() for port in program.outputs}

    return Exported(original, run_openvino, [port.get_any_name() for port in program.inputs])


def latency(network: Any, inputs: Inputs) -> dict[str, dict[str, float]]:
    """Return the median and the 95th percentile of the time of a call, in milliseconds.

    Args:
        network: the original or a written network.
        inputs: the inputs of a call; its rows are repeated to as many as are measured.
    """
    found = {}
    for rows in MEASURED:
        sized = {
            name: value[torch.arange(rows) % len(value)].contiguous()
            for name, value in inputs.items()
        }
        times: list[float] = []
        with torch.inference_mode():
            network(**sized)
            end = time.perf_counter() + SECONDS
            while len(times) < 5 or time.perf_counter() < end:
                start = time.perf_counter()
                network(**sized)
                times.append(1000 * (time.perf_counter() - start))
        ordered = sorted(times)
        at = {"p50": len(ordered) // 2, "p95": int(0.95 * (len(ordered) - 1))}
        found[str(rows)] = {name: round(ordered[place], 3) for name, place in at.items()}
    return found
