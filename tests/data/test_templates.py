"""Templates: a text with columns in braces -> the columns, and a text a row."""

import pytest

from plcli.data.templates import parse, render
from plcli.errors import UsageError


@pytest.mark.parametrize(
    ("template", "columns"),
    [
        ("{text}", ["text"]),
        ("{lang}: {source}", ["lang", "source"]),
        ("{b} {a} {b}", ["b", "a"]),
        ("{first name} {a.b} {c[0]} {d!r} {e:>3}", ["first name", "a.b", "c[0]", "d!r", "e:>3"]),
        ("{{{a}}} {{no column}}", ["a"]),
    ],
)
def test_the_columns_of_a_template_stand_in_order_and_once(
    template: str, columns: list[str]
) -> None:
    assert parse(template) == columns


@pytest.mark.parametrize(
    ("template", "texts"),
    [
        ("{lang}: {source}", ["de: {0} a", "fr: b {{"]),
        ("{source}{lang}{source}", ["{0} ade{0} a", "b {{frb {{"]),
        ("{{{lang}}}{{}} {source}", ["{de}{} {0} a", "{fr}{} b {{"]),
    ],
)
def test_a_row_is_rendered_and_braces_in_its_cells_are_plain(
    template: str, texts: list[str]
) -> None:
    cells = {"lang": ["de", "fr"], "source": ["{0} a", "b {{"]}
    assert render(template, [cells[column] for column in parse(template)]) == texts


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{lang: x", r"data\.template: '\{lang: x' has an unpaired '\{' at character 1\. Write"),
        ("a} {b}", r"data\.template: 'a\} \{b\}' has an unpaired '\}' at character 2\."),
        ("a {} b", r"data\.template: 'a \{\} b' has braces without a column at character 3\."),
        ("a { } b", r"has braces without a column at character 3\."),
        ("plain {{a}}", r"'plain \{\{a\}\}' names no column\. Write columns in braces"),
        ("", r"data\.template: '' names no column\."),
    ],
)
def test_an_ill_formed_template_is_refused(template: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(template)


def test_a_message_names_the_key_that_was_asked_about() -> None:
    with pytest.raises(UsageError, match=r"^data\.text: '\{a' has"):
        parse("{a", key="data.text")
