"""--engine: that the rows stay those of torch, how auto chooses, and what is refused."""

import json
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import plcli as package
from plcli.cli import engines as chosen
from plcli.errors import ModelError, UsageError
from plcli.models import engines, exporting
from tests.conftest import (
    Command,
    FinishedRun,
    fit_once,
    message,
    message_rows,
    printed_rows,
    write_rows,
    write_text_config,
)
from tests.running import read_rows
from tests.tiny import save_writer

NEEDED = {
    "torch-bf16": (),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "openvino": ("openvino",),
}
RATES = {"torch": 300.0, "torch-bf16": 500.0}


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an export to torch-bf16, and others where their packages are installed."""
    from importlib.util import find_spec

    from plcli.__main__ import main

    run = fit_once(write_text_config(tmp_path_factory.mktemp("engines"))).folder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "SECONDS", 0.0)
        patch.setenv("PLCLI_CACHE", str(run.parent / "cache"))
        for to, needed in NEEDED.items():
            if all(find_spec(name) for name in needed):
                assert main(["export", str(run), "--to", to]) == 0
    return run


@pytest.fixture
def run(exported: Path) -> Path:
    """A copy with the export to torch-bf16 alone."""
    ignored = shutil.ignore_patterns("onnx", "openvino")
    return Path(shutil.copytree(exported, "run", ignore=ignored))


def change_parity(run: Path, **values: Any) -> None:
    path = run / "export/torch-bf16/parity.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], int]]:
    """Let RATES be what is measured, and note which networks were, in batches of how many rows."""
    asked: list[tuple[list[str], int]] = []

    def rates(networks: Mapping[str, Any], batches: Any, *, rows: int) -> dict[str, float]:
        asked.append(([*networks], rows))
        return {name: RATES[name] for name in networks}

    monkeypatch.setattr(engines, "rates", rates)
    return asked


@pytest.mark.parametrize("engine", NEEDED)
def test_an_engine_gives_the_rows_of_torch(plcli: Command, exported: Path, engine: str) -> None:
    for name in NEEDED[engine]:
        pytest.importorskip(name)
    write_rows(Path("new.jsonl"), message_rows(3))
    words = ("predict", "--run", exported, "--input", "new.jsonl")
    assert plcli(*words, "--output", "torch.jsonl").code == 0
    result = plcli(*words, "--engine", engine, "--output", "engine.jsonl")
    assert result.code == 0, result.err
    expected, found = read_rows(Path("torch.jsonl")), read_rows(Path("engine.jsonl"))
    assert [row["id"] for row in found] == list(range(36))
    scores = [row["probability"] for row in found]
    assert scores == [pytest.approx(row["probability"], abs=0.01) for row in expected]
    assert scores != [row["probability"] for row in expected]  # it was another network

    model = package.load(exported, engine=engine)
    assert (model.engine, package.load(exported).engine) == (engine, "torch")
    texts = [str(row["message"]) for row in message_rows(3)]
    with ThreadPoolExecutor(4) as pool:  # as the server does
        several = list(pool.map(lambda _: model.predict(texts), range(8)))
    for rows in several:
        assert [row["score"] for row in rows] == [
            pytest.approx(row["score"], abs=1e-4) for row in found
        ]


def test_a_test_notes_its_engine(plcli: Command, run: Path) -> None:
    import pyarrow.parquet

    assert plcli("test", "--run", run, "--engine", "torch-bf16").code == 0
    assert json.loads((run / "analysis.json").read_text())["engine"] == "torch-bf16"
    metadata = pyarrow.parquet.read_schema(run / "test_rows.parquet").metadata
    assert metadata[b"engine"] == b"torch-bf16"
    assert plcli("test", "--run", run).code == 0
    assert "engine" not in json.loads((run / "analysis.json").read_text())


def test_words_are_explained_by_torch(run: Path) -> None:
    model = package.load(run, engine="torch-bf16")
    found = model.explain("where is my parcel")
    assert found == package.load(run).explain("where is my parcel")
    assert model.evaluate()["accuracy"] == package.load(run).evaluate()["accuracy"]


def test_the_folder_of_an_export_is_an_engine(plcli: Command, run: Path) -> None:
    (run / "export/torch-bf16").rename("elsewhere")
    shutil.copytree(run / "model", "alone")
    result = plcli("predict", "--run", "alone", "--engine", "elsewhere", "where is it")
    assert result.code == 0, result.err
    assert len(printed_rows(result)) == 1


def test_a_killed_prediction_does_not_continue_with_another_engine(
    plcli: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from plcli.cli import predict

    keys: list[str | None] = []
    of = predict.key_of

    def key_of(*arguments: Any) -> str | None:
        keys.append(of(*arguments))
        return keys[-1]

    monkeypatch.setattr(predict, "key_of", key_of)
    write_rows(Path("new.jsonl"), message_rows(1))
    for number, engine in enumerate(("torch", "torch-bf16", "torch-bf16")):
        words = ("--input", "new.jsonl", "--engine", engine, "--output", f"{number}.jsonl")
        assert plcli("predict", "--run", run, *words).code == 0
    assert None not in keys
    assert (keys[0] == keys[1], keys[1] == keys[2]) == (False, True)


# auto


def test_auto_takes_the_fastest_says_so_and_keeps_what_it_measured(
    plcli: Command,
    run: Path,
    measured: list[tuple[list[str], int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("predict", "--run", run, "--engine", "auto", "where is it")
    said = "engine: auto takes torch-bf16, rows per second: torch 300, torch-bf16 500 (measured "
    assert f"{said}now)" in plcli(*words).err
    assert measured == [(["torch", "torch-bf16"], 8)]
    assert f"{said}before)" in plcli(*words).err
    assert package.load(run, engine="auto").engine == "torch-bf16"
    assert len(measured) == 1
    for kept in Path("cache/engines").glob("*.json"):
        kept.write_text("{}")
    monkeypatch.setitem(RATES, "torch", 600.0)
    assert package.load(run, engine="auto").engine == "torch"
    assert len(measured) == 2
    package.load(run, engine="auto", options={"data.batch_size": 2, "threads": 1})
    assert measured[2:] == [(["torch", "torch-bf16"], 2)]


def test_auto_measures_on_this_machine(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "SECONDS", 0.0)
    assert package.load(run, engine="auto").engine in ("torch", "torch-bf16")
    (kept,) = Path("cache/engines").glob("*.json")
    assert json.loads(kept.read_text()).keys() == {"torch", "torch-bf16"}


def test_processes_that_cannot_agree_take_torch(
    plcli: Command,
    run: Path,
    measured: list[tuple[list[str], int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("cache").mkdir()
    Path("cache/engines").write_text("no folder")
    assert package.load(run, engine="auto").engine == "torch-bf16"
    monkeypatch.setattr("plcli.cli.parts.is_joined", lambda: True)
    assert package.load(run, engine="auto").engine == "torch"


def test_auto_without_exports_is_torch_and_names_export(plcli: Command, run: Path) -> None:
    shutil.rmtree(run / "export")
    result = plcli("predict", "--run", run, "--engine", "auto", "where is it")
    assert result.code == 0, result.err
    said = "engine: auto takes torch, as run has no other; `plcli export run --to FORMAT` writes"
    assert f"{said} one (onnx, openvino, openvino-int8, torch-bf16)" in result.err


def test_auto_leaves_out_what_did_not_pass(
    plcli: Command, run: Path, measured: list[tuple[list[str], int]]
) -> None:
    change_parity(run, passed=False, agreement=0.5)
    result = plcli("predict", "--run", run, "--engine", "auto", "where is it")
    assert result.code == 0, result.err
    said = "torch-bf16: its check failed: 50.0% of the rows agreed; it is left out"
    assert said in result.err
    assert "engine: auto takes torch, as run has no other" in result.err
    assert measured == []


def test_auto_is_torch_where_nothing_can_be_exported(
    plcli: Command, linear_run: FinishedRun
) -> None:
    write_rows(Path("new.csv"), [{"a": 1, "b": 2}])
    words = ("--input", "new.csv", "--output", "out.csv", "--engine", "auto")
    result = plcli("predict", "--run", linear_run.folder, *words)
    assert result.code == 0, result.err
    said = "auto takes torch, as the model cannot be exported: its network is not one of transform"
    assert said in result.err


# what is refused


def sums(run: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((run / "export/torch-bf16/parity.json").read_text())["files"]
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": "other"}, "was made of other weights than the model has now"),
        ({"passed": False, "agreement": 0.9}, "its check failed: 90.0% of the rows agreed"),
        ({"files": {"model.safetensors": "0"}}, "has changed since it was checked"),
        ({"files": {"absent": "0"}}, "contains no absent"),
        ({"files": None}, "is damaged, or of an earlier version"),
        ({"to": "tflite"}, "is of an unknown format, tflite"),
    ],
)
def test_an_export_that_does_not_hold_is_refused(
    plcli: Command, run: Path, change: dict[str, Any], said: str
) -> None:
    change_parity(run, **change)
    result = plcli("predict", "--run", run, "--engine", "torch-bf16", "where is it")
    assert result.code == 4
    told = message(result)
    assert told.startswith("plcli: --engine torch-bf16: run/export/torch-bf16")
    assert said in told
    advice = "Remove the folder, and write it again with `plcli export run --to torch-bf16`"
    assert advice in told


def test_an_export_whose_check_has_not_ended_is_refused(plcli: Command, run: Path) -> None:
    (run / "export/torch-bf16/parity.json").unlink()
    result = plcli("predict", "--run", run, "--engine", "torch-bf16", "where is it")
    assert (result.code, "has no parity.json" in message(result)) == (4, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "onxn"], "--engine: got 'onxn', expected one of torch, onnx, openvino"),
        (["--engine", "onxn"], "Did you mean 'onnx'?"),
        (
            ["--engine", "onnx"],
            "--engine onnx: run has no such export (run/export/onnx). Write it with `plcli export "
            "run --to onnx`.",
        ),
        (["--engine", "no/folder"], "Write it with `plcli export run --to FORMAT`."),
        (["--engine", "onnx", "--explain"], "--engine onnx and --explain: are both given"),
        (["--engine", "onnx", "--ensemble"], "--engine onnx and --ensemble: are both given"),
        (["--engine", "onnx", "--ckpt_path", "last"], "and these weights are others"),
    ],
)
def test_a_mistake_is_told(plcli: Command, run: Path, words: list[str], said: str) -> None:
    result = plcli("predict", "--run", run, *words, "where is it")
    assert result.code == 2, result.err
    assert said in message(result)


def test_a_model_outside_a_run_has_no_export_by_name(plcli: Command, run: Path) -> None:
    shutil.copytree(run / "model", "alone")
    result = plcli("predict", "--run", "alone", "--engine", "onnx", "where is it")
    assert result.code == 2
    said = "`plcli export alone --to onnx --output FOLDER` wrote: --engine FOLDER."
    assert said in message(result)


def test_a_module_that_cannot_be_exported_is_refused(
    plcli: Command, linear_run: FinishedRun
) -> None:
    result = plcli("test", "--run", linear_run.folder, "--engine", "onnx")
    assert result.code == 2
    assert message(result).startswith(
        "plcli: --engine onnx: cannot be used, as the model cannot be exported: its network is "
        "not one of transformers. Use --engine torch."
    )


def test_a_model_that_generates_has_torch_alone(plcli: Command) -> None:
    words = ("predict", "--model.pretrained", save_writer(Path("writer")), "--engine")
    result = plcli(*words, "onnx", "a text")
    assert result.code == 2, result.err
    assert "as the model cannot be exported: it generates texts: an exported" in message(result)
    result = plcli(*words, "auto", "a text")
    assert result.code == 0, result.err
    assert "auto takes torch, as the model cannot be exported: it generates texts" in result.err


def test_the_api_raises_what_the_command_says(run: Path) -> None:
    with pytest.raises(UsageError, match="run has no such export"):
        package.load(run, engine="onnx")
    change_parity(run, weights=None)
    with pytest.raises(ModelError, match="was made of other weights"):
        package.load(run, engine="torch-bf16")


def test_the_package_of_an_engine_is_asked_for(
    plcli: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(chosen.PACKAGES, "torch-bf16", "no_such_engine")
    result = plcli("predict", "--run", run, "--engine", "torch-bf16", "where is it")
    assert result.code == 5
    said = "--engine torch-bf16: needs the package no_such_engine, which is not installed. Install"
    assert re.search(re.escape(said), message(result))
    result = plcli("predict", "--run", run, "--engine", "auto", "where is it")
    assert "torch-bf16: the package no_such_engine is not installed; it is left" in result.err
    assert result.code == 0
