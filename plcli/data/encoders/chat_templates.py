"""Bounds chat templates, which are programs that a pretrained model brings.

A template that multiplies numbers or texts could fill the memory in one step, which nothing
interrupts, so such templates are refused. Loops are interrupted when their time is over.
"""

import contextlib
import functools
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from plcli.errors import ModelError

SECONDS = 10.0  # for one conversation, which usually takes less than a thousandth
LARGEST = 1_000_000  # number in a template
MOST_CHARACTERS = 10_000_000  # of a conversation as text


def of(tokenizer: Any) -> str:
    """Return the chat template of a tokenizer.

    Raises:
        ModelError: if it has none, or one that plcli does not run.
    """
    template = tokenizer.chat_template
    if isinstance(template, Mapping):
        template = template.get("default")
    if not isinstance(template, str):
        raise ModelError(
            "data.messages: the tokenizer has no chat template, which is needed to write a "
            "conversation as text. Use a chat model, or the columns data.prompt and "
            "data.response."
        )
    _check(template)
    return template


@functools.lru_cache(maxsize=16)
def _check(template: str) -> None:
    from jinja2 import TemplateError, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    if len(template) > LARGEST:
        raise _refused(f"has {len(template):,} characters")
    try:
        tree = ImmutableSandboxedEnvironment(
            extensions=["jinja2.ext.loopcontrols", _generation()]
        ).parse(template)
    except (TemplateError, RecursionError):
        return  # reported when it is rendered
    for node in tree.find_all((nodes.Pow, nodes.Mul, nodes.Const)):
        if isinstance(node, nodes.Pow):
            raise _refused("computes powers")
        if isinstance(node, nodes.Mul) and any(node.left.find_all(nodes.Mul)):
            raise _refused("multiplies several times")
        if isinstance(node, nodes.Mul) and isinstance(node.left, nodes.Mul):
            raise _refused("multiplies several times")
        number = node.value if isinstance(node, nodes.Const) else None
        if isinstance(number, int) and abs(number) > LARGEST:
            raise _refused(f"contains the number {number:.3g}")


@functools.cache
def _generation() -> Any:
    """Return an extension that reads the tag generation, which transformers adds to jinja2."""
    from jinja2 import nodes
    from jinja2.ext import Extension

    class Generation(Extension):
        tags = {"generation"}  # as jinja2 declares it

        def parse(self, parser: Any) -> Any:
            number = next(parser.stream).lineno
            return nodes.Scope(
                parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=number
            )

    return Generation


def _refused(what: str) -> ModelError:
    return ModelError(
        f"data.messages: the chat template of the tokenizer {what}, which could take all time and "
        "memory. Do not trust this model; get it from its source again."
    )


@contextlib.contextmanager
def limited(where: str) -> Iterator[None]:
    """Interrupt what takes longer than SECONDS, in the main thread of a process.

    Args:
        where: the source and row, for messages.

    Raises:
        ModelError: if it does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise too_much(where, f"more than {SECONDS:g} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def too_much(where: str, what: str) -> ModelError:
    """Return the error for a template that takes too much."""
    return ModelError(
        f"{where}: the chat template of the tokenizer takes {what} for one conversation. Do not "
        "trust this model; get it from its source again."
    )
