"""plcli serve: answers predictions over HTTP."""

import logging
import os
import socket
from collections.abc import Sequence
from typing import Any

from plcli import __version__
from plcli.cli import logs, own_options
from plcli.cli.own_options import OwnOptions
from plcli.errors import MachineError, UsageError
from plcli.packages import need

logger = logging.getLogger(__name__)

HOST, PORT = "127.0.0.1", 8080  # SageMaker calls this port
LOCAL_HOSTS = (HOST, "localhost", "::1")
TOKEN_VARIABLE = "PLCLI_TOKEN"
# https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
SAGEMAKER_PORT = "SAGEMAKER_BIND_TO_PORT"
BATCH = {"cpu": 8, "gpu": 32}  # rows of similar length in a pass; small ones need less padding
PASSES = 4  # that a thread takes from the queue at once, sorted by length
MOST_CONNECTIONS = 1000
GRACE = 30  # seconds for running requests after SIGTERM


def run(words: Sequence[str]) -> int:
    """Serve until SIGTERM or Ctrl-C, and return the exit code."""
    given = own_options.parse("serve", words)
    if given is None:
        return 0
    for package in ("starlette", "uvicorn"):
        need(package, extra="serve", purpose="plcli serve")
    logs.set_up()
    host, port, token = _address(given)
    with _listen(host, port) as listening:  # before the model is loaded, which takes seconds
        return _serve(given, listening, token=token, any_host=host not in LOCAL_HOSTS)


def _serve(
    given: OwnOptions, listening: socket.socket, *, token: str | None, any_host: bool
) -> int:
    import torch

    from plcli.cli.loaded import load
    from plcli.runs.serving import memory
    from plcli.runs.serving.app import Limits, application
    from plcli.runs.serving.connections import server
    from plcli.training.hardware import cores

    memory.keep_small()
    on_gpu = torch.cuda.is_available() and given.keys.get("trainer.accelerator") != "cpu"
    batch = given.number("batch_size", default=BATCH["gpu" if on_gpu else "cpu"])
    threads = given.number("threads", default=1 if on_gpu else cores())
    standard = Limits()
    limits = Limits(
        rows=given.number("max_rows", default=standard.rows),
        tokens=given.number("max_tokens", default=standard.tokens),
        waiting=given.number("max_waiting", default=standard.waiting),
    )
    engine = given.options.get("engine", "torch")
    options = {"data.batch_size": batch, **given.keys}
    if engine != "torch" and threads > 1:
        options["threads"] = 1  # of each call, with which engines are opened and measured
    model = load(given.model, engine=engine, options=options, allow_import=given.allowed)
    if not model.inputs:
        raise UsageError(
            f"{given.model}: reads only the files of its config, so that it cannot be served. "
            "Derive its data class from plcli.SplitData or plcli.TextData."
        )
    if not model.parallel:
        threads = 1
    if model.engine.startswith("torch"):
        for weights in model.module.parameters():  # are read now, not with the first requests
            weights.detach().sum()
    app = application(
        model,
        version=__version__,
        threads=threads,
        pass_rows=batch,
        passes=PASSES,
        # of the calling thread; one that is alone takes those that the others would have
        share=lambda busy: torch.set_num_threads(max(1, min(threads, cores()) // busy)),
        token=token,
        any_host=any_host or token is not None,
        limits=limits,
    )
    host, port, *_ = listening.getsockname()
    shown = f"[{host}]" if ":" in host else host
    logger.info("%s: http://%s:%d/ (Ctrl-C ends it)", given.model, shown, port)
    serving = server(app, most_connections=MOST_CONNECTIONS, grace=GRACE)
    serving.run(sockets=[listening])
    if not serving.started:
        raise MachineError(f"--port {port}: the server could not start. See the log above.")
    logger.info("ended; all requests were answered")
    return 0


def _address(given: OwnOptions) -> tuple[str, int, str | None]:
    """Return the host, the port and the token.

    Raises:
        UsageError: if other machines could reach the server without a token.
    """
    in_sagemaker = SAGEMAKER_PORT in os.environ
    host = given.options.get("host") or ("0.0.0.0" if in_sagemaker else HOST)
    if in_sagemaker:
        given.options.setdefault("port", os.environ[SAGEMAKER_PORT])
    port = given.number("port", default=PORT, least=0, most=65535)
    token = given.options.get("token") or os.environ.get(TOKEN_VARIABLE) or None
    if host not in LOCAL_HOSTS and token is None and not in_sagemaker:
        raise UsageError(
            f"--host {host}: other machines could use the server without a token. Set the "
            f"environment variable {TOKEN_VARIABLE}, or --token, to a long random text."
        )
    return host, port, token


def _listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        MachineError: if the address is taken, or not of this machine.
    """
    listening: Any = None
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # with its protocol, for which asyncio sets TCP_NODELAY: answers are not held back 40 ms
        listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.set_inheritable(True)
    except OSError as error:
        if listening is not None:
            listening.close()
        raise MachineError(
            f"--host {host} --port {port}: cannot be used ({error.strerror or error}). "
            "Choose another --port, or the address of this machine."
        ) from None
    return listening  # type: ignore[no-any-return]  # a socket
