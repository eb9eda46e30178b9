"""Encodes prompts with responses, and conversations, and marks the tokens to be trained on.

Besides input_ids, the encoders return for each token its `bytes`, and in `in_loss` whether the
model is trained on it. These are the tokens of a response, or of the messages of the assistant in a
conversation, with the end token.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from plcli.data import templates
from plcli.data.encoders import chat_templates
from plcli.data.encoders.documents import FLAGS, byte_counts, encode_whole
from plcli.data.encoders.encoder import IDS
from plcli.data.encoders.text import need_fast
from plcli.errors import DataError, listed

Messages = list[dict[str, Any]]
ANSWERER = "assistant"
ROLES = {"human": "user", "gpt": ANSWERER, "bot": ANSWERER, "chatgpt": ANSWERER}  # of ShareGPT
_MARKED = re.compile(r"\{%-?\s*generation\s*-?%\}")  # a template that marks generated text itself
COLUMNS = {"input_ids": IDS, "bytes": IDS, "in_loss": FLAGS}


class ResponseEncoder:
    """Encodes prompts and a column of responses; nothing is inserted between them.

    Args:
        tokenizer: a fast tokenizer of transformers.
        end: the id of the token that ends a response.
        template: joins several columns to a prompt; None for a single column.
    """

    columns: Mapping[str, pa.DataType] = COLUMNS

    def __init__(self, tokenizer: Any, *, end: int, template: str | None = None) -> None:
        need_fast(tokenizer, "language models")
        self.tokenizer, self.end, self.template = tokenizer, end, template
        self.key = ["responses", end, *([] if template is None else [template])]

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode the columns of the prompt, followed by that of responses."""
        texts = cells[0] if self.template is None else templates.render(self.template, cells[:-1])
        prompts = encode_whole(self.tokenizer, texts, special=True)
        responses = encode_whole(self.tokenizer, cells[-1], special=False)
        values: dict[str, list[Any]] = {name: [] for name in self.columns}
        for text, prompt, response in zip(cells[-1], prompts, responses, strict=True):
            before = without_end(prompt.ids, self.end)
            values["input_ids"].append([*before, *response.ids, self.end])
            counts = byte_counts(text, response.offsets)
            values["bytes"].append([*[0] * len(before), *counts.tolist(), 0])
            values["in_loss"].append([0] * len(before) + [1] * (len(response.ids) + 1))
        return values


class ConversationEncoder:
    """Encodes a column of messages, `[{"role": ..., "content": ...}, ...]`, with a chat template.

    With a second column, of messages that follow, only the assistant's messages in that one are
    trained on.

    Args:
        tokenizer: a fast tokenizer of transformers with a chat template.

    Raises:
        ModelError: if it has no chat template.
    """

    columns: Mapping[str, pa.DataType] = COLUMNS

    def __init__(self, tokenizer: Any) -> None:
        need_fast(tokenizer, "conversations")
        self.tokenizer, self.template = tokenizer, chat_templates.of(tokenizer)
        self.key = ["conversations", _digest(self.template)]

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode the column of conversations, or of their beginnings and their ends.

        Raises:
            DataError: if a conversation is not valid, or has no answer.
        """
        texts, spans = [], []
        for position, row in enumerate(zip(*cells, strict=True)):
            parts = [_messages(cell, where(position)) for cell in row]
            messages = [message for part in parts for message in part]
            before = [m for part in parts[:-1] for m in part if m["role"] == ANSWERER]
            if not any(message["role"] == ANSWERER for message in parts[-1]):
                raise DataError(
                    f"{where(position)}: no message has the role '{ANSWERER}', so that there is "
                    "nothing to train on. Add an answer, or remove the row."
                )
            text, answers = self._render(messages, where(position))
            texts.append(text)
            spans.append(answers[len(before) :])
        values: dict[str, list[Any]] = {name: [] for name in self.columns}
        encodings = encode_whole(self.tokenizer, texts, special=False)  # the template adds its own
        for text, answers, encoding in zip(texts, spans, encodings, strict=True):
            values["input_ids"].append(encoding.ids)
            values["bytes"].append(byte_counts(text, encoding.offsets).tolist())
            starts = np.array([start for start, _ in encoding.offsets], np.int64)
            in_loss = [(starts >= first) & (starts < last) for first, last in answers]
            values["in_loss"].append(np.logical_or.reduce(in_loss).astype(np.int64).tolist())
        return values

    def _render(self, messages: Messages, where: str) -> tuple[str, list[tuple[int, int]]]:
        """Return a conversation as text, and the character spans of the assistant in it."""
        text, spans = render(self.tokenizer, messages, where)
        if spans:
            return text, spans
        for number, message in enumerate(messages):
            if message["role"] != ANSWERER:
                continue
            before, _ = render(self.tokenizer, messages[:number], where, answer=True)
            until, _ = render(self.tokenizer, messages[: number + 1], where)
            if not (text.startswith(until) and until.startswith(before)):
                raise DataError(
                    f"{where}: the chat template changes the text before message {number + 1} when "
                    "the message is added, so that the answer cannot be located. "
                    "Use a template with {% generation %} marks, or conversations with one answer."
                )
            spans.append((len(before), len(until)))
        return text, spans


class PromptEncoder:
    """Encodes prompts: texts to be continued, or conversations to be answered.

    Answers at the end of a conversation are removed. An empty text becomes the token that begins a
    text. Prompts that are too long are truncated on the left.

    Args:
        tokenizer: a fast tokenizer of transformers.
        end: the id of the token that ends a text, which is removed from prompts.
        max_length: maximum number of tokens per prompt.
        conversations: whether the column contains messages.
        template: joins several columns to a prompt; None for a single column.
    """

    columns: Mapping[str, pa.DataType] = {"input_ids": IDS, "truncated": pa.bool_()}

    def __init__(
        self,
        tokenizer: Any,
        *,
        end: int,
        max_length: int,
        conversations: bool,
        template: str | None = None,
    ) -> None:
        need_fast(tokenizer, "language models")
        self.tokenizer, self.end, self.max_length = tokenizer, end, max_length
        self.chat_template = chat_templates.of(tokenizer) if conversations else None
        self.template = template
        self.key = ["prompts", end, max_length, _digest(self.chat_template or "")]
        self.key += [] if template is None else [template]

    def __call__(
        self, cells: Sequence[Sequence[Any]], where: Callable[[int], str]
    ) -> Mapping[str, Sequence[Any]]:
        """Encode the columns of a prompt."""
        texts = cells[0] if self.template is None else templates.render(self.template, cells)
        if self.chat_template is not None:
            texts = [self._asked(cell, where(at)) for at, cell in enumerate(cells[0])]
        begin = self.tokenizer.bos_token_id
        ids = [
            _open(encoding, self.end) or [self.end if begin is None else begin]
            for encoding in encode_whole(self.tokenizer, texts, special=self.chat_template is None)
        ]
        return {
            "input_ids": [each[-self.max_length :] for each in ids],
            "truncated": [len(each) > self.max_length for each in ids],
        }

    def _asked(self, cell: str, where: str) -> str:
        messages = _messages(cell, where)
        while messages and messages[-1]["role"] == ANSWERER:
            messages.pop()
        if not messages:
            raise DataError(f"{where}: contains only answers. Add the message to be answered.")
        return render(self.tokenizer, messages, where, answer=True)[0]


def _open(encoding: Any, end: int) -> list[int]:
    """Return the ids of a prompt without its end token and special tokens after it (mBART)."""
    ids: list[int] = encoding.ids
    special = encoding.special_tokens_mask
    first = len(ids)
    while first and special[first - 1]:
        first -= 1
    return ids[: ids.index(end, first)] if end in ids[first:] else without_end(ids, end)


def without_end(ids: list[int], end: int) -> list[int]:
    """Return token ids without the end token that some tokenizers append to every text."""
    return ids[:-1] if ids[-1:] == [end] else ids


def render(
    tokenizer: Any, messages: Messages, where: str, *, answer: bool = False
) -> tuple[str, list[tuple[int, int]]]:
    """Write a conversation as text with the chat template of the tokenizer.

    Args:
        tokenizer: a tokenizer of transformers.
        messages: the conversation.
        where: the source and row, for messages.
        answer: whether the text ends with the prompt for the answer of the assistant.

    Returns:
        The text, and the character spans that the template marks as generated.

    Raises:
        DataError: if the template does not accept the conversation.
    """
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    template = chat_templates.of(tokenizer)
    marked = _MARKED.search(template) is not None and not answer
    try:
        with chat_templates.limited(where):
            texts, spans = render_jinja_template(
                [messages],
                chat_template=template,
                return_assistant_tokens_mask=marked,
                add_generation_prompt=answer,
                **tokenizer.special_tokens_map,
            )
    except (TemplateError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: the chat template does not accept it: {str(error)[:160].rstrip('.')}. "
            "Correct the conversation."
        ) from None
    if len(texts[0]) > chat_templates.MOST_CHARACTERS:
        raise chat_templates.too_much(where, f"{len(texts[0]):,} characters")
    return texts[0], list(spans[0]) if marked else []


def _messages(cell: str, where: str) -> Messages:
    messages = json.loads(cell)
    if not isinstance(messages, list) or not messages:
        raise DataError(
            f"{where}: contains {cell!r:.60}, not a list of messages. "
            'Write [{"role": "user", "content": "..."}, ...].'
        )
    messages = [_plain(message) for message in messages]
    for number, message in enumerate(messages, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            got = listed(message) if isinstance(message, dict) else repr(message)[:60]
            raise DataError(
                f"{where}, message {number}: needs a role and a content, but has {got}. "
                'Write {"role": "user", "content": "..."}.'
            )
        if not isinstance(message.get("content"), str):
            raise DataError(
                f"{where}, message {number}: its content is {message.get('content')!r:.60}, "
                "not text. Write text."
            )
    return messages


def _plain(message: Any) -> Any:
    """Return a message with role and content as texts, if it has ShareGPT's names or text parts."""
    if not isinstance(message, dict):
        return message
    if "from" in message and "value" in message and "role" not in message:
        role = ROLES.get(str(message["from"]).lower(), message["from"])
        others = {key: each for key, each in message.items() if key not in ("from", "value")}
        message = {"role": role, "content": message["value"], **others}
    parts = message.get("content")
    if isinstance(parts, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts
    ):
        return {**message, "content": "".join(part["text"] for part in parts)}
    return message


def _digest(template: str) -> str:
    return hashlib.sha256(template.encode()).hexdigest()
