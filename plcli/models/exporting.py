"""Writes a network for other engines, and runs what was written in its place.

ONNX and OpenVINO come from `transformers.exporters`, with any number of rows and tokens. Of the
engines that were tried, these keep the labels: ONNX in 32 bits, OpenVINO, OpenVINO with the weights
in 8 bits (of weights alone; activations stay), and torch in bfloat16.
"""

import contextlib
import copy
import functools
import io
import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from plcli.errors import UsageError
from plcli.packages import need
from plcli.pretrained.label_ids import IGNORED

Inputs = dict[str, torch.Tensor]
MEASURED = (1, 32)  # rows
SECONDS = 1.0  # for each measurement of the latency
OPENVINO = ("openvino", "openvino-int8")
PRECISION_HINT = "INFERENCE_PRECISION_HINT"  # of OpenVINO
TARGETS = {  # what the loss compares with outputs
    "logits": "labels",
    "start_logits": "start_positions",
    "end_logits": "end_positions",
}
GENERATES = (
    "it generates texts: an exported network makes one pass, and the loop that generates has no "
    "counterpart"
)


def check(network: Any, *, name: str) -> None:
    """Check that a network can be exported.

    Raises:
        UsageError: if it is not a network of transformers, or it generates.
    """
    if reason := obstacle(network):
        advice = (
            "Serve it with `plcli serve`."
            if reason is GENERATES
            else "Use `torch.export` or `torch.onnx.export` in Python."
        )
        raise UsageError(f"{name}: cannot be exported, as {reason}. {advice}")


def obstacle(network: Any) -> str | None:
    """Return why a network cannot be exported; None if it can."""
    from transformers import PreTrainedModel

    if not isinstance(network, PreTrainedModel):
        return "its network is not one of transformers"
    return GENERATES if network.can_generate() else None


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


class Outputs(dict[str, Any]):
    """The outputs of a written network by name, which are attributes too, as in transformers."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class Exported(torch.nn.Module):
    """A written network in the place of the original one.

    Other attributes, and the arguments of its forward method, are those of the original.

    Args:
        original: the network that was written.
        run: runs the written one: arrays by the names of inputs -> arrays by the names of outputs.
        names: the names of its inputs.
        precision: in which it calculates, as f32 or bf16.
    """

    def __init__(
        self,
        original: Any,
        run: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        names: Sequence[str],
        *,
        precision: str = "f32",
    ) -> None:
        super().__init__()
        self.run, self.names, self.precision = run, list(names), precision
        self.__dict__["original"] = original  # not a part of this module

        @functools.wraps(original.forward)
        def forward(**inputs: Any) -> Outputs:
            return self._outputs(inputs)

        self.__dict__["forward"] = forward
        self.eval()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["original"], name)

    def _outputs(self, inputs: Mapping[str, Any]) -> Outputs:
        ids, given = inputs["input_ids"], dict(inputs)
        # as a network of transformers takes them where they are not given
        given.setdefault("attention_mask", torch.ones_like(ids))
        given.setdefault("token_type_ids", torch.zeros_like(ids))
        arrays = {name: given[name].cpu().numpy() for name in self.names}
        outputs = Outputs(
            {name: torch.from_numpy(value) for name, value in self.run(arrays).items()}
        )
        outputs.loss = _loss(outputs, inputs)
        return outputs


def _loss(outputs: Outputs, inputs: Mapping[str, Any]) -> torch.Tensor:
    """Return the loss that networks of transformers compute; NaN for another one.

    It is the mean cross-entropy of labels, and for spans the mean of that of start and end.
    """
    found = [
        (outputs[name], inputs[target])
        for name, target in TARGETS.items()
        if name in outputs and inputs.get(target) is not None
    ]
    is_span = "start_logits" in outputs
    if len(found) != 1 + is_span or any(
        target.is_floating_point() or target.shape != logits.shape[:-1] for logits, target in found
    ):
        return torch.tensor(torch.nan)
    parts = []
    for logits, target in found:
        flat, wanted = logits.float().flatten(0, -2), target.cpu().flatten()
        ignored = IGNORED
        if is_span:  # positions outside of the tokens count for nothing
            ignored = logits.shape[-1]
            wanted = wanted.clamp(0, ignored)
        parts.append(torch.nn.functional.cross_entropy(flat, wanted, ignore_index=ignored))
    return torch.stack(parts).mean()


def opened(folder: Path, *, to: str, original: Any, exact: bool, calls: int = 1) -> Any:
    """Open a written network, which may be called by several threads at the same time.

    Each call has as many threads as torch has.

    Args:
        folder: where it was written.
        to: its format.
        original: the network that was written.
        exact: whether OpenVINO has to calculate in 32 bits; by itself it takes 16 where the
            processor is faster with them.
        calls: the number of calls that OpenVINO runs at the same time.
    """
    if to == "torch-bf16":
        return type(original).from_pretrained(folder, dtype=torch.bfloat16).eval()
    open_program = _opened_openvino if to in OPENVINO else _opened_onnx
    return open_program(folder, original, exact=exact, calls=calls)


def openvino_precision() -> str:
    """Return the precision that OpenVINO takes by itself on this processor, as f32 or bf16."""
    import openvino

    return str(openvino.Core().get_property("CPU", PRECISION_HINT).to_string())


def _opened_onnx(folder: Path, original: Any, *, exact: bool, calls: int) -> Exported:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(folder / "model.onnx", options)
    outputs = [each.name for each in session.get_outputs()]

    def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(outputs, session.run(outputs, dict(arrays)), strict=True))

    return Exported(original, run, [each.name for each in session.get_inputs()])


def _opened_openvino(folder: Path, original: Any, *, exact: bool, calls: int) -> Exported:
    import openvino

    settings: dict[str, Any] = {
        "NUM_STREAMS": calls,
        "INFERENCE_NUM_THREADS": calls * torch.get_num_threads(),
    }
    if exact:
        settings[PRECISION_HINT] = "f32"
    core = openvino.Core()
    program = core.compile_model(folder / "openvino_model.xml", "CPU", settings)
    own = threading.local()  # a request is for one thread at a time

    def run(arrays: Mapping[str, Any]) -> dict[str, Any]:
        if not hasattr(own, "request"):
            own.request = program.create_infer_request()
        found = own.request.infer(dict(arrays))
        return {port.get_any_name(): found[port].copy() for port in program.outputs}

    names = [port.get_any_name() for port in program.inputs]
    precision = program.get_property(PRECISION_HINT).to_string()
    return Exported(original, run, names, precision=precision)


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
