"""plcli export: what is written, that it predicts the same, and what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

import plcli as package
from plcli.models import exporting
from tests.conftest import ROOT, Command, FinishedRun, message, message_rows, write_rows
from tests.tiny import save_bert, save_writer

NEEDED = {
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino-int8": ("openvino", "nncf"),  # openvino is written on the way
    "torch-bf16": (),
}
# the code on the page has no place where torch could be imported: this refuses it
WITHOUT_TORCH = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "SECONDS", 0.0)


def parity(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "parity.json").read_text())
    return found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("to", NEEDED)
def test_an_export_predicts_the_same_in_its_new_form(
    plcli: Command, text_run: FinishedRun, to: str
) -> None:
    for name in NEEDED[to]:
        pytest.importorskip(name)
    result = plcli("export", text_run.folder, "--to", to, "--output", "out")
    assert result.code == 0, result.err
    found = parity(Path("out"))
    assert (found["rows"], found["agreement"]) == (12, 1.0)
    assert found["largest_difference"] < (1e-4 if to == "onnx" else 0.02)
    assert found["metrics"]["before"] == pytest.approx(found["metrics"]["after"])
    assert set(found["milliseconds"]) == {"torch", to}
    assert (found["passed"], found["max_disagreement"]) == (True, 0.01)
    written = {path.name for path in Path("out").iterdir()} - {"parity.json"}
    assert set(found["files"]) == written
    labels = sorted({row["intent"] for row in message_rows()})
    assert json.loads(Path("out/card.json").read_text())["labels"] == labels
    if to == "onnx":
        run_the_example_without_torch(text_run)


@pytest.mark.usefixtures("quick")
def test_a_network_in_16_bits_is_loaded_by_transformers(
    plcli: Command, text_run: FinishedRun
) -> None:
    assert plcli("export", text_run.folder, "--to", "torch-bf16", "--output", "out").code == 0
    network = AutoModelForSequenceClassification.from_pretrained("out")
    assert {value.dtype for value in network.parameters()} == {torch.bfloat16}


def run_the_example_without_torch(text_run: FinishedRun) -> None:
    """Run the code of the page in the exported folder, as an export takes some seconds."""
    page = (ROOT / "docs/export.md").read_text()
    code = re.findall(r"```python\n(.*?)```", page, re.DOTALL)[0]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code],
        cwd="out",
        capture_output=True,
        text=True,
        check=True,
    )
    rows = package.load(text_run.folder).predict(["where is my refund?", "thanks"])
    assert done.stdout == f"{[row['label'] for row in rows]}\n"


class Negated(torch.nn.Module):
    """A network that was spoiled on the way."""

    def __init__(self, original: Any) -> None:
        super().__init__()
        self.original, self.config = original, original.config

    def forward(self, **inputs: Any) -> Any:
        outputs = self.original(**inputs)
        outputs.logits = -outputs.logits
        return outputs


@pytest.mark.usefixtures("quick")
def test_an_export_that_predicts_otherwise_fails_and_is_kept(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(folder: Path, *, original: Any, **settings: Any) -> Any:
        return Negated(original)

    monkeypatch.setattr(exporting, "opened", opened)
    result = plcli("export", text_run.folder, "--to", "torch-bf16", "--output", "out")
    assert result.code == 4
    said = "out: predicts 12 of 12 rows differently, such as those with the ids 0, 1, 2"
    assert said in message(result)
    assert (parity(Path("out"))["agreement"], parity(Path("out"))["passed"]) == (0, False)
    words = ("--output", "other", "--max-disagreement", "1")
    assert plcli("export", text_run.folder, "--to", "torch-bf16", *words).code == 0


@pytest.mark.usefixtures("quick")
def test_an_export_of_the_model_of_a_run_is_beside_it(
    plcli: Command, text_run: FinishedRun
) -> None:
    run = text_run.copy("run")
    assert plcli("export", run / "model", "--to", "torch-bf16").code == 0
    assert (run / "export/torch-bf16/parity.json").is_file()
    assert plcli("predict", "--run", run, "where is it").code == 0  # nothing lies in model/


def test_an_export_of_a_model_outside_a_run_needs_a_folder(
    plcli: Command, text_model: Path
) -> None:
    result = plcli("export", text_model, "--to", "torch-bf16")
    assert result.code == 2
    assert "--output: is needed, as model is not in a run folder." in message(result)


@pytest.mark.usefixtures("quick")
def test_a_public_model_is_compared_with_rows_of_a_file(plcli: Command) -> None:
    save_bert(Path("public"))
    rows = [{"text": f"the invoice is {word}"} for word in ("wrong", "late late")]
    write_rows(Path("rows.jsonl"), rows)
    words = ("--rows", "rows.jsonl", "--output", "out")
    result = plcli("export", "public", "--to", "torch-bf16", *words)
    assert result.code == 0, result.err
    assert (parity(Path("out"))["rows"], parity(Path("out"))["metrics"]) == (2, {})


# what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a"], "--to: got '', expected one of onnx, openvino, openvino-int8, torch-bf16."),
        (["a", "--to", "onxn"], "Did you mean 'onnx'?"),
        (["a", "--to", "onnx", "--max-disagreement", "2"], "got 2, expected 0 to 1."),
        (["a/b", "--to", "onnx"], "--output: is needed, as a/b is not in a run folder."),
        (["a", "--to", "onnx", "--output", "."], "--output .: already exists."),
    ],
)
def test_a_mistake_is_told(plcli: Command, words: list[str], said: str) -> None:
    result = plcli("export", *words)
    assert result.code == 2
    assert said in message(result)


def test_a_module_without_a_network_of_transformers_is_refused(
    plcli: Command, linear_run: FinishedRun
) -> None:
    result = plcli("export", linear_run.folder, "--to", "onnx", "--output", "out")
    assert (result.code, Path("out").exists()) == (2, False), result.err
    assert "cannot be exported, as its network is not one of transformers" in message(result)


def test_a_model_that_generates_is_refused(plcli: Command) -> None:
    save_writer(Path("writer"))
    result = plcli("export", "writer", "--to", "onnx", "--output", "out")
    assert (result.code, Path("out").exists()) == (2, False), result.err
    assert "cannot be exported, as it generates texts" in message(result)
