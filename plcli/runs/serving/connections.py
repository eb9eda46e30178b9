"""uvicorn with what it lacks: a deadline for what a client sends and takes, and an exit code of 0.

A client that sends its headers or its body too slowly, or does not take the answer, is cut off.
uvicorn 0.54 by itself keeps it for ever, as its only timeout is for an idle connection.
"""

import asyncio
import signal
from typing import Any, ClassVar

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol


class DeadlineProtocol(H11Protocol):
    """HTTP/1.1 with a deadline for each request to arrive, and for each answer to be taken.

    Attributes:
        seconds: the deadline, counted from the first byte, or from the connection.
    """

    seconds: ClassVar[float] = 4.5
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start the deadline of the first request."""
        super().connection_made(transport)
        self._start()

    def data_received(self, data: bytes) -> None:
        """Start the deadline of a request, or stop it once the request is whole."""
        super().data_received(data)
        self._update()

    def on_response_complete(self) -> None:
        """Start the deadline of what is left of a request that was answered early."""
        super().on_response_complete()
        self._update()

    def pause_writing(self) -> None:
        """Start the deadline of an answer that the client does not take."""
        super().pause_writing()
        self._start()

    def resume_writing(self) -> None:
        """Stop it."""
        super().resume_writing()
        self._stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the deadline."""
        self._stop()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close the connection after its request; one that has just opened may still send it."""
        if self.cycle is None and not self.transport.is_closing():
            self.loop.call_later(min(1.0, self.seconds), super().shutdown)
        else:
            super().shutdown()

    def _update(self) -> None:
        state = self.conn.their_state
        begun = state is h11.IDLE and bool(self.conn.trailing_data[0])  # a part of the headers
        if state is h11.SEND_BODY or begun:
            self._start()
        else:
            self._stop()

    def _start(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.seconds, self._cut)

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _cut(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.abort()  # close() would wait for a client that takes nothing


class Server(uvicorn.Server):
    """A server that ends normally after SIGTERM and Ctrl-C, once all requests are answered."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Ask for the end; a second Ctrl-C does not wait.

        uvicorn also raises the signal again at the end, which would be the exit code of the
        process.
        """
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def server(app: Any, *, most_connections: int, grace: int) -> Server:
    """Return a server for an application.

    Args:
        app: an ASGI application.
        most_connections: number of open connections; further requests get 503.
        grace: number of seconds that running requests have after SIGTERM.
    """
    config = uvicorn.Config(
        app,
        http=DeadlineProtocol,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=grace,
        limit_concurrency=most_connections,
        h11_max_incomplete_event_size=64 * 1024,
    )
    return Server(config)
