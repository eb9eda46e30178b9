"""plcli serve: a real process, and what it refuses."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from plcli.errors import UsageError
from tests.conftest import ROOT, Command, FinishedRun, message, message_rows, write_rows
from tests.running import read_rows


@dataclass
class Process:
    """A server, and its address."""

    process: "subprocess.Popen[str]"
    url: str

    def ask(self, *rows: Any, **headers: str) -> tuple[int, Any]:
        body = json.dumps({"rows": rows}).encode()
        request = urllib.request.Request(f"{self.url}predict", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture
def serving(text_run: FinishedRun) -> Iterator[Process]:
    words = [sys.executable, "-m", "plcli", "serve", str(text_run.folder), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PLCLI_TOKEN": "secret"}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert found, line
        yield Process(process, found[0])
        if process.poll() is None:
            process.kill()


def test_a_server_answers_as_predict_and_ends_on_sigterm_with_every_request_answered(
    plcli: Command, text_run: FinishedRun, serving: Process
) -> None:
    rows = message_rows(2)
    write_rows(Path("new.jsonl"), rows)
    plcli("predict", "--run", text_run.folder, "--input", "new.jsonl", "--output", "out.jsonl")
    expected = read_rows(Path("out.jsonl"))
    header = {"Authorization": "Bearer secret"}
    wait_for(serving)
    code, answer = serving.ask(*rows, **header)
    assert code == 200
    assert [row["label"] for row in answer["predictions"]] == [row["label"] for row in expected]
    scores = [row["score"] for row in answer["predictions"]]
    assert scores == pytest.approx([row["score"] for row in expected], abs=1e-5)
    assert serving.ask("a")[0] == 401

    codes: list[int] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                codes.append(serving.ask("where is it", **header)[0])
            except (urllib.error.URLError, ConnectionError):  # it no longer listens
                return

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(keep_asking) for _ in range(4)]
        time.sleep(0.5)
        serving.process.send_signal(signal.SIGTERM)
        code = serving.process.wait(20)
        stop.set()
        for each in asking:
            each.result()
    assert (code, set(codes) <= {200, 503}, codes.count(200) > 0) == (0, True, True)


def wait_for(serving: Process) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"{serving.url}ready", timeout=30):
                return
        except urllib.error.URLError:
            time.sleep(0.05)
    raise AssertionError("the server does not get ready")


# what is refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no model given. Name a run or a model: plcli serve runs/NAME."),
        (["a", "b"], "unexpected argument 'b'. `plcli serve` takes one run or model."),
        (["a", "--prot", "1"], "unknown option --prot. Did you mean '--port'?"),
        (["a", "--port"], "--port needs a value."),
        (["a", "--port", "x"], "--port: got x, expected 0 to 65535."),
        (["a", "--host", "0.0.0.0"], "--host 0.0.0.0: other machines could use the server"),
        (["./absent", "--port", "0"], "./absent: no such folder."),
    ],
)
def test_a_mistake_is_told(plcli: Command, words: list[str], said: str) -> None:
    result = plcli("serve", *words)
    assert result.code == 2
    assert said in message(result)


def test_a_port_that_is_taken_is_told(plcli: Command, text_run: FinishedRun) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = plcli("serve", text_run.folder, "--port", port)
    assert result.code == 5
    assert f"--host 127.0.0.1 --port {port}: cannot be used (Address already in use)" in result.err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"engine": "torch", "options": {"data.batch_size": 8}}),
        (
            ["--engine", "auto", "--threads", "2"],
            {"engine": "auto", "options": {"data.batch_size": 8, "threads": 1}},
        ),
    ],
)
def test_an_engine_is_opened_and_measured_with_the_threads_of_a_call(
    plcli: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], expected: dict[str, Any]
) -> None:
    def load(name: str, **given: Any) -> None:
        assert given == {**expected, "allow_import": []}
        raise UsageError(f"{name}: seen.")

    monkeypatch.setattr("plcli.cli.loaded.load", load)
    result = plcli("serve", "a", "--port", "0", *words)
    assert message(result) == "plcli: a: seen.\n"
