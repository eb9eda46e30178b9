"""Prompts with responses and conversations: what is read, and what of it is learnt."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from plcli.data.encoders.conversations import ConversationEncoder, PromptEncoder, ResponseEncoder
from plcli.data.fitted_tokenizers import fit
from plcli.errors import DataError, ModelError

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for message in messages %}{% if message.role == 'assistant' %}<assistant>"
    "{% generation %}{{ message.content }}{% endgeneration %}{% else %}"
    "<{{ message.role }}>{{ message.content }}{% endif %}{% endfor %}"
)
FORGETFUL = (  # leaves the thoughts of all answers but the last away, as some models' do
    "{% for message in messages %}<{{ message.role }}>"
    "{% if loop.last %}(thinks){% endif %}{{ message.content }}{% endfor %}"
)
STRICT = "{{ raise_exception('Conversations begin with a user') }}"
TALK = [
    {"role": "user", "content": "Where is it?"},
    {"role": "assistant", "content": "On its way."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Käse!"},
]


@cache
def tokenizer(template: str | None = TEMPLATE) -> Any:
    """Return a tokenizer of bytes with a chat template."""
    with TemporaryDirectory() as folder:
        texts = ["where is it on its way"]
        made = fit(
            "bytes", lambda: iter(texts), vocab_size=280, max_length=99, key="k", cache=Path(folder)
        )
    made.chat_template = template
    return made


def where(position: int) -> str:
    """Name a row."""
    return f"here, row {position + 1}"


def encoded(messages: Any, template: str = TEMPLATE) -> dict[str, Any]:
    """Encode one conversation."""
    values = ConversationEncoder(tokenizer(template))([[json.dumps(messages)]], where)
    return {name: np.asarray(cells[0]) for name, cells in values.items()}


def learnt(values: dict[str, Any]) -> str:
    """Return the text of the tokens that are learnt."""
    text: str = tokenizer().decode(values["input_ids"][values["in_loss"].astype(bool)])
    return text


def responses(prompt: str, response: str) -> dict[str, Any]:
    """Encode a prompt with its response."""
    made = tokenizer()
    values = ResponseEncoder(made, end=made.eos_token_id)([[prompt], [response]], where)
    return {name: np.asarray(cells[0]) for name, cells in values.items()}


def prompts(cells: Sequence[str], **settings: Any) -> dict[str, Any]:
    """Encode what is to be continued."""
    settings = {"max_length": 99, "conversations": False, **settings}
    made = tokenizer()
    return dict(PromptEncoder(made, end=made.eos_token_id, **settings)([cells], where))


def test_a_conversation_with_the_names_of_sharegpt_is_the_same() -> None:
    names = {"user": "human", "assistant": "gpt"}
    theirs = [{"from": names[each["role"]], "value": each["content"]} for each in TALK]
    assert learnt(encoded(theirs)) == learnt(encoded(TALK))


def test_contents_of_text_parts_are_joined() -> None:
    parts = [{**each, "content": [{"type": "text", "text": each["content"]}]} for each in TALK]
    assert learnt(encoded(parts)) == learnt(encoded(TALK))


def test_a_part_that_is_no_text_is_refused() -> None:
    talk = [{"role": "user", "content": [{"type": "image", "url": "a.png"}]}, TALK[1]]
    with pytest.raises(DataError, match="message 1: its content is .*, not text. Write text"):
        encoded(talk)


def test_of_a_conversation_in_two_columns_only_the_second_is_learnt() -> None:
    encoder = ConversationEncoder(tokenizer())
    values = encoder([[json.dumps(TALK[:3])], [json.dumps(TALK[3:])]], where)
    found = {name: np.asarray(cells[0]) for name, cells in values.items()}
    whole = encoded(TALK)
    assert found["input_ids"].tolist() == whole["input_ids"].tolist()
    assert (learnt(found).count("Käse!"), learnt(found).count("way")) == (1, 0)


# prompts with responses


def test_a_response_and_its_end_are_learnt() -> None:
    assert learnt(responses("Where? ", "There")) == "There</s>"


def test_a_prompt_is_read() -> None:
    values = responses("Where? ", "There")
    assert tokenizer().decode(values["input_ids"]) == "Where? There</s>"


def test_the_bytes_are_those_of_the_response() -> None:
    assert responses("Wo? ", "Käse")["bytes"].sum() == 5


# conversations


def test_what_the_assistant_says_is_learnt_with_its_end() -> None:
    assert learnt(encoded(TALK)) == "On its way.</s>\nKäse!</s>\n"


def test_a_conversation_is_written_by_the_template() -> None:
    text = "<user>Where is it?</s>\n<assistant>On its way.</s>\n<user>Thanks</s>\n<assistant>Käse!"
    assert tokenizer().decode(encoded(TALK)["input_ids"]) == f"{text}</s>\n"


def test_a_template_may_mark_what_is_learnt() -> None:
    assert learnt(encoded(TALK, MARKED)) == "On its way.Käse!"


def test_the_bytes_of_a_conversation_are_those_of_its_text() -> None:
    values = encoded(TALK)
    assert values["bytes"].sum() == len(tokenizer().decode(values["input_ids"]).encode())


def test_an_answer_that_cannot_be_found_is_refused() -> None:
    with pytest.raises(DataError, match=r"here, row 1: the chat template changes the text before"):
        encoded(TALK, FORGETFUL)


def test_what_a_template_refuses_is_told_with_its_words() -> None:
    with pytest.raises(
        DataError,
        match=r"row 1: the chat template does not accept it: Conversations begin with a us",
    ):
        encoded(TALK, STRICT)


def test_a_tokenizer_without_a_template_is_refused() -> None:
    with pytest.raises(ModelError, match=r"data.messages: the tokenizer has no chat template"):
        ConversationEncoder(tokenizer(None))


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ({"role": "user"}, r'row 1: contains .*, not a list of messages. Write \[{"role": "user"'),
        ([], r"row 1: contains '\[\]', not a list of messages"),
        (["hello"], r"row 1, message 1: needs a role and a content, but has 'hello'"),
        ([{"content": "hello"}], r"message 1: needs a role and a content, but has content"),
        ([{"role": "user", "content": 7}], r"message 1: its content is 7, not text"),
        ([{"role": "user"}], r"message 1: its content is None, not text"),
        (
            TALK[:1],
            r"row 1: no message has the role 'assistant', so that there is nothing to train",
        ),
    ],
)
def test_what_is_no_conversation_is_refused(messages: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        encoded(messages)


# what is to be continued


def test_a_prompt_has_no_end() -> None:
    assert prompts(["Where"])["input_ids"][0][-1] != tokenizer().eos_token_id


def test_an_empty_prompt_begins_as_a_text_does() -> None:
    assert prompts([""])["input_ids"] == [[tokenizer().bos_token_id]]


def test_of_a_long_prompt_the_end_is_kept() -> None:
    whole, cut = prompts(["Where is it"]), prompts(["Where is it"], max_length=3)
    assert cut["input_ids"][0] == whole["input_ids"][0][-3:]
    assert (whole["truncated"], cut["truncated"]) == ([False], [True])


@pytest.mark.parametrize("messages", [TALK[:1], TALK[:2]])
def test_a_conversation_is_continued_by_the_answer_to_its_last_question(messages: Any) -> None:
    ids = prompts([json.dumps(messages)], conversations=True)["input_ids"][0]
    assert tokenizer().decode(ids) == "<user>Where is it?</s>\n<assistant>"


def test_a_conversation_of_answers_has_nothing_to_answer() -> None:
    with pytest.raises(DataError, match=r"here, row 1: contains only answers"):
        prompts([json.dumps(TALK[1:2])], conversations=True)
