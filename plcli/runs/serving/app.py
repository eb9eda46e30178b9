"""The HTTP application of a server: its routes, its limits, and what is answered to a mistake.

A request gives rows and gets their predictions. It cannot choose a path, a model, a class or an
option.
"""

import asyncio
import hmac
import importlib.resources
import json
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePath
from time import perf_counter
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from plcli.errors import PlcliError
from plcli.runs.serving import memory, openapi
from plcli.runs.serving.batches import Batches, QueueFullError
from plcli.runs.serving.numbers import Numbers

logger = logging.getLogger(__name__)

RETRY_AFTER = "1"  # seconds
TIDY_SECONDS = 10
WARM_WORDS = 256  # of each text of the first batch
WARM_SECONDS = 0.25  # for one short row, above which no batch is predicted before the first request
LOCAL = ["localhost", "127.0.0.1", "[::1]"]  # names of this machine in a Host header
SAFE = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; img-src data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class Served(Protocol):
    """What the application asks of a model, such as a `plcli.Model`.

    Attributes:
        name: what was opened.
        task: its task.
        inputs: the columns that a row must have.
        id: the column of row ids.
        labels: its label names.
    """

    name: str
    task: str | None
    inputs: list[str]
    id: str | None
    labels: list[str] | None

    def predict(
        self, rows: Sequence[str | Mapping[str, Any]], *, max_tokens: int | None = None
    ) -> list[dict[str, Any]]:
        """Predict rows."""


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        body: bytes of a request's body.
        rows: rows of a request.
        tokens: tokens of the rows that are predicted together.
        waiting: rows in the queue; requests beyond get 503.
        seconds: time for a prediction, after which a request gets 503.
    """

    body: int = 1_000_000
    rows: int = 256
    tokens: int = 100_000
    waiting: int = 1024
    seconds: float = 60.0


def application(
    model: Served,
    *,
    version: str,
    threads: int,
    pass_rows: int,
    passes: int = 1,
    share: Callable[[int], None] = lambda busy: None,
    token: str | None = None,
    any_host: bool = False,
    limits: Limits | None = None,
) -> Starlette:
    """Return the application.

    Args:
        model: the model.
        version: the version of plcli.
        threads: number of threads that predict.
        pass_rows: number of rows that the model predicts at once.
        passes: number of passes whose rows a thread takes from the queue at once.
        share: called by a thread before it predicts, with the number of threads that are busy.
        token: what requests have to present, as `Authorization: Bearer TOKEN`.
        any_host: whether the Host header may name any machine. Otherwise it is one of LOCAL, so
            that a page of another site cannot reach the server through a name of its own.
        limits: what it takes.
    """
    limits = limits or Limits()
    handlers = _Handlers(model, limits=limits, version=version, token=token, pass_rows=pass_rows)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        handlers.batches = Batches(
            lambda rows: model.predict(rows, max_tokens=limits.tokens),
            threads=threads,
            most_rows=pass_rows * passes,
            most_waiting=limits.waiting,
            share=share,
            numbers=handlers.numbers,
        )
        await handlers.warm_up()
        tidying = asyncio.create_task(handlers.tidy_up())
        yield
        tidying.cancel()
        batches, handlers.batches = handlers.batches, None
        await asyncio.to_thread(batches.close)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)

    async def failed(request: Request, error: Exception) -> Response:
        return JSONResponse({"error": "internal error; see the log of the server"}, 500)

    hosts = [] if any_host else [Middleware(TrustedHostMiddleware, allowed_hosts=LOCAL)]
    return Starlette(
        routes=handlers.routes(),
        lifespan=lifespan,
        middleware=hosts,
        max_body_size=limits.body,
        exception_handlers={HTTPException: refused, Exception: failed},
    )


class _Handlers:
    def __init__(
        self, model: Served, *, limits: Limits, version: str, token: str | None, pass_rows: int
    ) -> None:
        self.model, self.limits, self.token, self.pass_rows = model, limits, token, pass_rows
        self.batches: Batches | None = None
        self.is_ready = False
        self.numbers = Numbers()
        self.described = openapi.description(
            version=version,
            inputs=model.inputs,
            most_rows=limits.rows,
            has_token=token is not None,
        )
        about = {"task": model.task, "inputs": model.inputs, "has_token": token is not None}
        about["name"] = self.name = _shown(model.name)
        page = importlib.resources.files(__package__).joinpath("page.html").read_text("utf-8")
        # inside of a script, "</" would end it
        self.page = page.replace("{{about}}", json.dumps(about).replace("<", "\\u003c"))

    def routes(self) -> list[Route]:
        return [
            Route("/", self._page),
            Route("/docs", self._docs),
            Route("/openapi.json", self._openapi),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/ping", self._ready),
            Route("/metrics", self._counted(self._metrics)),
            Route("/predict", self._counted(self._predict), methods=["POST"]),
            Route("/invocations", self._counted(self._predict), methods=["POST"]),
        ]

    async def warm_up(self) -> None:
        """Predict rows, so that the first requests are not slow.

        Each thread predicts a batch of long texts as well, after which it has the memory that it
        needs, unless the model is slow or reads no texts.
        """
        assert self.batches is not None
        short, long = (dict.fromkeys(self.model.inputs, "0 " * n) for n in (1, WARM_WORDS))
        try:
            await asyncio.wrap_future(self.batches.submit([short]))
            start = perf_counter()
            await asyncio.wrap_future(self.batches.submit([short]))
            seconds = perf_counter() - start
        except PlcliError as error:
            logger.info("no row was predicted before the first request: %s", error)
            seconds = math.inf
        most = self.limits.tokens // (2 * WARM_WORDS * len(self.model.inputs))  # 2 for each word
        rows = min(self.pass_rows, most)
        if rows and seconds < WARM_SECONDS:
            futures = self.batches.warm_up([long] * rows)
            # one that fails is of a model that reads numbers, say
            await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
        self.is_ready = True

    async def tidy_up(self) -> None:
        """Give memory that is free again back to the system, now and then."""
        seen = -1
        while True:
            if seen != (seen := self.numbers.batches):
                await asyncio.to_thread(memory.give_back)
            await asyncio.sleep(TIDY_SECONDS)

    # routes without a token

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(self.page, headers=SAFE)

    async def _docs(self, request: Request) -> Response:
        return HTMLResponse(openapi.page(self.described), headers=SAFE)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(self.described)

    async def _health(self, request: Request) -> Response:
        model = self.model
        labels = {} if model.labels is None else {"labels": model.labels}
        about = {"model": self.name, "task": model.task, "inputs": model.inputs, **labels}
        return JSONResponse({"status": "ok", **about})

    async def _ready(self, request: Request) -> Response:
        ready = self.is_ready and self.batches is not None
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    # routes with a token

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(self.numbers.text(), media_type="text/plain; version=0.0.4")

    async def _predict(self, request: Request) -> Response:
        is_lines = "jsonlines" in request.headers.get("content-type", "")
        try:
            body = await request.body()
        except ClientDisconnect:
            return JSONResponse({"error": "the body ended early"}, 400)
        rows = _rows(body, is_lines=is_lines, most=self.limits.rows)
        name = self.model.id
        have_ids = name is not None and all(isinstance(row, dict) and name in row for row in rows)
        try:
            if self.batches is None:
                raise QueueFullError
            answer = asyncio.wrap_future(self.batches.submit(rows, have_ids=have_ids))
            predicted = await asyncio.wait_for(answer, self.limits.seconds)
        except QueueFullError:
            return _busy("too many rows are waiting")
        except asyncio.TimeoutError:
            return _busy(f"not predicted within {self.limits.seconds:g} seconds")
        except PlcliError as error:
            return JSONResponse({"error": str(error)}, 400)
        finite = [_finite(row) for row in predicted]
        if is_lines:
            lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in finite)
            return Response(lines, media_type="application/jsonlines")
        text = json.dumps({"predictions": finite}, allow_nan=False)
        return Response(text, media_type="application/json")

    # what is around a route

    def _counted(self, handler: Any) -> Any:
        async def handle(request: Request) -> Response:
            start, status = perf_counter(), 500
            try:
                self._check_token(request)
                answer: Response = await handler(request)
                status = answer.status_code
                return answer
            except HTTPException as error:
                status = error.status_code
                raise
            finally:
                path = request.url.path
                self.numbers.add_request(path, status, seconds=perf_counter() - start)

        return handle

    def _check_token(self, request: Request) -> None:
        if self.token is None:
            return
        kind, _, given = request.headers.get("authorization", "").partition(" ")
        same = hmac.compare_digest(given.strip().encode(), self.token.encode())
        if kind.lower() != "bearer" or not same:
            raise HTTPException(
                401,
                "give the token of this server as 'Authorization: Bearer TOKEN'",
                headers={"WWW-Authenticate": "Bearer"},
            )


def _shown(name: str) -> str:
    """Return the name of a run or model without the folders of this machine."""
    parts = PurePath(name).parts
    if len(parts) > 1 and parts[-1] == "model":
        parts = parts[:-1]
    return parts[-1] if parts else name


def _busy(reason: str) -> Response:
    headers = {"Retry-After": RETRY_AFTER}
    return JSONResponse({"error": f"{reason}; try again later"}, 503, headers=headers)


def _rows(body: bytes, *, is_lines: bool, most: int) -> list[Any]:
    """Return the rows of a body.

    Raises:
        HTTPException: if it is not valid, or has too many rows.
    """
    try:
        text = body.decode("utf-8")
        if is_lines:
            rows: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            read = json.loads(text)
            rows = read.get("rows") if isinstance(read, dict) and list(read) == ["rows"] else None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise HTTPException(400, f"the body is not JSON in UTF-8: {reason}") from None
    if not isinstance(rows, list):
        raise HTTPException(400, 'the body must be a JSON object {"rows": [...]}')
    if len(rows) > most:
        raise HTTPException(400, f"got {len(rows)} rows, expected at most {most} in a request")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, (str, dict)):
            kind = type(row).__name__
            raise HTTPException(
                400, f"rows, row {number}: got a {kind}, expected a text or an object"
            )
    return rows


def _finite(value: Any) -> Any:
    """Return values with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
