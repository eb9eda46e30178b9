"""Deadlines of connections, with raw sockets on this machine."""

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from plcli.runs.serving.connections import DeadlineProtocol, Server, server

SECONDS = 0.4
REQUEST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"


async def answers(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request with the length of its body, and with as many bytes as its path says."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body, more = body + message["body"], message["more_body"]
    given = b"%d" % len(body)
    for _ in range(int(scope["path"][1:] or 1)):
        headers = [(b"connection", b"keep-alive")]
        if given is not None:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": given, "more_body": True})
            given = None  # type: ignore[assignment]  # the first part is sent
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(DeadlineProtocol, "seconds", SECONDS)
    listening = socket.create_server(("127.0.0.1", 0))
    running: Server = server(answers, most_connections=20, grace=1)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]})
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield listening.getsockname()[1]
    running.should_exit = True
    thread.join()


def is_cut(connection: socket.socket, *, within: float = 5 * SECONDS) -> bool:
    """Whether the server closes the connection without an answer."""
    connection.settimeout(within)
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False


@pytest.mark.parametrize("sent", [b"", b"GET / HT", REQUEST, REQUEST + b"a"])
def test_a_request_that_does_not_arrive_is_cut(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(sent)
        assert is_cut(connection)


def test_a_client_that_drips_is_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        start = time.monotonic()
        try:
            for _ in range(100):
                connection.sendall(b"G")
                time.sleep(SECONDS / 8)
        except OSError:
            pass
        assert time.monotonic() - start < 6 * SECONDS


def test_a_client_that_drips_its_second_request_is_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(REQUEST + b"abc")
        read_answer(connection)
        connection.sendall(b"GET / HT")
        assert is_cut(connection)


def test_a_client_that_takes_no_answer_is_cut(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"GET /5000 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(4 * SECONDS)
        connection.settimeout(5)
        taken = 0
        while part := connection.recv(1 << 20):
            taken += len(part)
    assert taken < 5000 * 65536 / 2


def test_a_connection_stays_open_between_requests(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for _ in range(2):
            connection.sendall(REQUEST + b"abc")
            assert read_answer(connection).startswith(b"HTTP/1.1 200")
            time.sleep(2 * SECONDS)


def test_a_body_in_parts_within_the_deadline_is_read(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for part in (REQUEST, b"a", b"bc"):
            connection.sendall(part)
            time.sleep(SECONDS / 8)
        assert b"\r\n3\r\n" in read_answer(connection)


def read_answer(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    answer = b""
    while not answer.endswith(b"0\r\n\r\n"):
        part = connection.recv(1 << 16)
        if not part:
            break
        answer += part
    return answer
