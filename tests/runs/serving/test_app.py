"""The HTTP application, with a model that needs no network."""

import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from plcli.errors import DataError
from plcli.runs.serving.app import Limits, application


class Upper:
    """A model that answers with the text in capitals; it can be held up."""

    name, task = "runs/upper/model", "text-classification"
    inputs, labels = ["text"], ["a", "b"]
    id: str | None = None

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.may_go, self.entered = threading.Event(), threading.Event()
        self.may_go.set()

    def predict(
        self, rows: Sequence[str | Mapping[str, Any]], *, max_tokens: int | None = None
    ) -> list[dict[str, Any]]:
        self.entered.set()
        self.may_go.wait(10)
        self.calls.append(len(rows))
        texts = [row if isinstance(row, str) else row["text"] for row in rows]
        for number, text in enumerate(texts, start=1):
            if text == "bad":
                raise DataError(f"rows, row {number}: is bad.")
            if text == "bug":
                raise ZeroDivisionError
        if max_tokens is not None and sum(map(len, texts)) > max_tokens:
            raise DataError("rows: have too many tokens.")
        ids = [row[self.id] if self.id and isinstance(row, dict) else None for row in rows]
        numbered = [number if given is None else given for number, given in enumerate(ids)]
        pairs = zip(numbered, texts, strict=True)
        return [
            {"id": given, "answer": text.upper(), "score": float("nan") if text == "nan" else 1.0}
            for given, text in pairs
        ]


class Numbers(Upper):
    """A model that takes numbers only."""

    def predict(
        self, rows: Sequence[str | Mapping[str, Any]], *, max_tokens: int | None = None
    ) -> list[dict[str, Any]]:
        try:
            [float(row if isinstance(row, str) else row["text"]) for row in rows]
        except ValueError:
            raise DataError("rows: expected numbers.") from None
        return super().predict(rows, max_tokens=max_tokens)


@pytest.fixture
def model() -> Upper:
    return Upper()


@pytest.fixture
def client(model: Upper) -> Iterator[TestClient]:
    with served(model) as client:
        yield client


def served(model: Upper, **settings: Any) -> TestClient:
    settings = {"threads": 1, "pass_rows": 8, "any_host": True, **settings}
    app = application(model, version="0", **settings)
    return TestClient(app, raise_server_exceptions=False)


def ask(client: TestClient, *rows: Any, **settings: Any) -> Any:
    return client.post("/predict", json={"rows": rows}, **settings)


# what is answered


def test_each_row_gets_its_prediction_in_order(client: TestClient) -> None:
    answers = ask(client, "one", {"text": "two"}).json()["predictions"]
    assert [row["answer"] for row in answers] == ["ONE", "TWO"]


def test_no_rows_get_no_predictions(client: TestClient) -> None:
    assert ask(client).json() == {"predictions": []}


def test_a_number_that_json_does_not_have_is_null(client: TestClient) -> None:
    assert ask(client, "nan").json()["predictions"][0]["score"] is None


def test_json_lines_are_answered_with_json_lines(client: TestClient) -> None:
    headers = {"content-type": "application/jsonlines"}
    answer = client.post("/invocations", content='"one"\n{"text": "two"}\n', headers=headers)
    assert [json.loads(line)["answer"] for line in answer.text.splitlines()] == ["ONE", "TWO"]


@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_sagemaker_gets_the_same_answer(client: TestClient, path: str) -> None:
    assert client.post(path, json={"rows": ["a"]}).json()["predictions"][0]["answer"] == "A"


@pytest.mark.parametrize("path", ["/ready", "/ping"])
def test_a_server_that_runs_is_ready(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


def test_health_names_the_model_without_folders(client: TestClient) -> None:
    assert client.get("/health").json()["model"] == "upper"


# batches


def test_requests_that_wait_are_predicted_together(client: TestClient, model: Upper) -> None:
    model.may_go.clear()
    model.entered.clear()
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(ask, client, "first")
        model.entered.wait(10)
        model.calls.clear()
        others = [pool.submit(ask, client, f"text {number}") for number in range(4)]
        wait_until(client, "plcli_waiting_rows 4")
        model.may_go.set()
        answers = [each.result().json()["predictions"][0] for each in (first, *others)]
    assert model.calls == [1, 4]
    assert [row["id"] for row in answers] == [0] * 5
    assert [row["answer"] for row in answers[1:]] == [f"TEXT {number}" for number in range(4)]


def test_a_bad_row_spoils_no_other_request(client: TestClient, model: Upper) -> None:
    codes = together(client, model, ["bad"], ["fine"])
    assert codes == [400, 200]


def test_requests_with_ids_are_not_mixed_with_others(client: TestClient, model: Upper) -> None:
    model.id = "name"
    answers: list[Any] = []
    together(client, model, [{"text": "a", "name": "x"}], ["b"], answers=answers)
    assert [answer["predictions"][0]["id"] for answer in answers] == ["x", 0]


def test_a_thread_that_is_alone_is_told_so(model: Upper) -> None:
    busy: list[int] = []
    with served(model, threads=2, share=busy.append) as client, ThreadPoolExecutor(2) as pool:
        busy.clear()  # of the rows that are predicted at the start
        ask(client, "alone")
        model.may_go.clear()
        model.entered.clear()
        first = pool.submit(ask, client, "first")
        model.entered.wait(10)
        second = pool.submit(ask, client, "second")
        for _ in range(1000):
            if len(busy) == 3:
                break
            client.get("/health")
        model.may_go.set()
        assert [each.result().status_code for each in (first, second)] == [200, 200]
        ask(client, "alone again")
    assert busy == [1, 1, 2, 1]


def test_each_thread_predicts_a_full_batch_before_the_first_request(model: Upper) -> None:
    with served(model, threads=3, pass_rows=7):
        assert model.calls.count(7) == 3


def test_the_first_batch_keeps_to_the_limit_of_tokens(model: Upper) -> None:
    with served(model, limits=Limits(tokens=1200)):
        assert model.calls == [1, 1, 2]


def test_a_slow_model_is_ready_after_two_rows(model: Upper, monkeypatch: Any) -> None:
    monkeypatch.setattr("plcli.runs.serving.app.WARM_SECONDS", 0)
    with served(model) as client:
        assert model.calls == [1, 1]
        assert client.get("/ready").status_code == 200


def test_a_model_that_takes_no_long_texts_is_ready(model: Upper, caplog: Any) -> None:
    with served(Numbers()) as client:
        assert ask(client, "7").json()["predictions"][0]["answer"] == "7"
    assert "no row was predicted" not in caplog.text


def wait_until(client: TestClient, line: str) -> None:
    for _ in range(1000):
        if line in client.get("/metrics").text:
            return
    raise AssertionError(f"never: {line}")


def together(
    client: TestClient, model: Upper, *requests: list[Any], answers: list[Any] | None = None
) -> list[int]:
    """Send requests while the only thread is held up by another one."""
    model.may_go.clear()
    model.entered.clear()
    with ThreadPoolExecutor(len(requests) + 1) as pool:
        pool.submit(ask, client, "first")
        model.entered.wait(10)
        sent = []
        for number, rows in enumerate(requests, start=1):
            sent.append(pool.submit(ask, client, *rows))
            wait_until(client, f"plcli_waiting_rows {number}")
        model.may_go.set()
        done = [each.result() for each in sent]
    if answers is not None:
        answers += [each.json() for each in done]
    return [each.status_code for each in done]


# mistakes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[", "the body is not JSON in UTF-8: Expecting value"),
        (b"\xff", "the body is not JSON in UTF-8: 'utf-8' codec can't decode"),
        (b"[" * 100_000, "the body is not JSON in UTF-8: nested too deeply"),
        (b"1" * 5000, "the body is not JSON in UTF-8: Exceeds the limit"),
        (b"[]", 'the body must be a JSON object {"rows": [...]}'),
        (b'{"rows": "a"}', 'the body must be a JSON object {"rows": [...]}'),
        (b'{"rows": [], "model": "other"}', 'the body must be a JSON object {"rows": [...]}'),
        (b'{"rows": ["a", 1]}', "rows, row 2: got a int, expected a text or an object"),
        (b'{"rows": ["a", "bad"]}', "rows, row 2: is bad."),
    ],
)
def test_a_wrong_body_is_told(client: TestClient, body: bytes, message: str) -> None:
    answer = client.post("/predict", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)


def test_a_bug_is_500_and_the_server_goes_on(client: TestClient) -> None:
    assert ask(client, "bug").status_code == 500
    assert ask(client, "fine").status_code == 200


@pytest.mark.parametrize(
    ("path", "method", "code"), [("/no", "GET", 404), ("/predict", "GET", 405)]
)
def test_a_route_that_does_not_exist_is_json(
    client: TestClient, path: str, method: str, code: int
) -> None:
    answer = client.request(method, path)
    assert (answer.status_code, list(answer.json())) == (code, ["error"])


# limits


def test_too_many_rows_are_refused(model: Upper) -> None:
    with served(model, limits=Limits(rows=2)) as client:
        answer = ask(client, "a", "b", "c")
    assert (answer.status_code, answer.json()["error"]) == (
        400,
        "got 3 rows, expected at most 2 in a request",
    )


def test_too_many_tokens_are_refused(model: Upper) -> None:
    with served(model, limits=Limits(tokens=3)) as client:
        assert ask(client, "long").status_code == 400


def test_a_large_body_is_refused(model: Upper) -> None:
    with served(model, limits=Limits(body=100)) as client:
        assert ask(client, "a" * 200).status_code == 413


def test_a_full_queue_is_refused_at_once(client: TestClient, model: Upper) -> None:
    with served(model, limits=Limits(waiting=1)) as client:
        model.may_go.clear()
        model.entered.clear()
        with ThreadPoolExecutor(3) as pool:
            pool.submit(ask, client, "first")
            model.entered.wait(10)
            pool.submit(ask, client, "second")
            wait_until(client, "plcli_waiting_rows 1")
            answer = ask(client, "third")
            model.may_go.set()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_a_prediction_that_takes_too_long_is_given_up(model: Upper) -> None:
    with served(model, limits=Limits(seconds=0.1)) as client:
        model.may_go.clear()
        answer = ask(client, "a")
        model.may_go.set()
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic secret", "Bearer sécret"])
@pytest.mark.parametrize("path", ["/predict", "/invocations"])
def test_without_the_token_nothing_is_predicted(model: Upper, header: str, path: str) -> None:
    with served(model, token="secret") as client:
        model.calls.clear()  # those before the first request
        headers = {"authorization": header.encode()} if header else {}
        answer = client.post(path, json={"rows": ["a"]}, headers=headers)
    assert (answer.status_code, model.calls) == (401, [])


def test_with_the_token_it_is(model: Upper) -> None:
    with served(model, token="secret") as client:
        assert ask(client, "a", headers={"authorization": "Bearer secret"}).status_code == 200


@pytest.mark.parametrize(("host", "code"), [("localhost:80", 200), ("evil.example", 400)])
def test_a_local_server_answers_to_local_names(model: Upper, host: str, code: int) -> None:
    with served(model, any_host=False) as client:
        assert client.get("/", headers={"host": host}).status_code == code


# pages and counts


def test_the_page_needs_nothing_from_outside(client: TestClient) -> None:
    page = client.get("/")
    assert re.findall(r"(?:src|href)=\"?(?:https?:)?//|@import|url\(", page.text) == []
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_cannot_be_broken_by_the_name_of_a_model(model: Upper) -> None:
    model.name = "</script><b>"
    with served(model) as client:
        assert "</script><b>" not in client.get("/").text


def test_the_description_names_every_route(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {
        *("/predict", "/invocations", "/health", "/ready", "/ping", "/metrics")
    }


def test_the_description_is_a_page_too(client: TestClient) -> None:
    assert "POST /predict" in client.get("/docs").text


def test_requests_are_counted_by_path_and_status(client: TestClient) -> None:
    ask(client, "a")
    ask(client, "bad")
    text = client.get("/metrics").text
    assert 'plcli_requests_total{path="/predict",status="200"} 1\n' in text
    assert 'plcli_requests_total{path="/predict",status="400"} 1\n' in text


def test_the_counts_have_the_format_of_prometheus(client: TestClient) -> None:
    line = re.compile(r"# (HELP|TYPE) \w+ .+|\w+(\{\w+=\"[^\"]*\"(,\w+=\"[^\"]*\")*\})? [0-9.]+")
    text = client.get("/metrics").text
    assert [each for each in text.splitlines() if not line.fullmatch(each)] == []
