"""A page of HTML: one file without outside references, whose texts can never run.

Everything that is not `Markup` is escaped where it enters. The Content-Security-Policy of a page
allows only its own style sheet and script, each by its hash, so that even markup that slipped in
would not run, load or send anything.
"""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


@dataclass(frozen=True)
class Section:
    """A section of a page.

    Attributes:
        key: its name in the address.
        name: its heading.
        content: what is in it.
    """

    key: str
    name: str
    content: Markup


def text(value: Any) -> Markup:
    """Return a value as HTML: Markup as it is, everything else escaped."""
    if isinstance(value, Markup):
        return value
    plain = str(value).encode("utf-8", "replace").decode("utf-8")
    return Markup(escape(plain.replace("\0", "�")))


def join(parts: Sequence[Any], separator: str = "") -> Markup:
    """Join parts, each escaped unless it is Markup."""
    return Markup(separator.join(text(part) for part in parts))


def element(name: str, content: Any, kind: str = "") -> Markup:
    """Return an element with a class."""
    classes = f' class="{escape(kind)}"' if kind else ""
    return Markup(f"<{name}{classes}>{text(content)}</{name}>")


def paragraph(content: Any, kind: str = "") -> Markup:
    """Return a paragraph."""
    return element("p", content, kind)


def card(*parts: Any, heading: str = "", kind: str = "") -> Markup:
    """Return a box with a heading."""
    head = element("h3", heading) if heading else ""
    return element("div", join([head, *parts]), f"card {kind}".strip())


def grid(cards: Sequence[Markup]) -> Markup:
    """Return boxes side by side, below one another on a phone."""
    return element("div", join(cards), "grid")


def figure(
    chart: str, *, heading: str, caption: str = "", wide: bool = False, kind: str = ""
) -> Markup:
    """Return a chart of plcli.runs.reporting.charts in a box.

    Args:
        chart: the SVG, which has its texts escaped.
        heading: what it shows.
        caption: how to read it.
        wide: whether it has its own width, and scrolls on a phone.
        kind: a class of the box.
    """
    drawn = element("div", Markup(chart), "scroll") if wide else Markup(chart)
    below = element("figcaption", caption) if caption else ""
    return card(element("figure", join([drawn, below])), heading=heading, kind=kind)


def table(
    heads: Sequence[Any],
    rows: Sequence[Sequence[Any]],
    *,
    numbers: Sequence[int] = (),
    main: int | None = None,
    heading: str = "",
) -> Markup:
    """Return a table in a box that scrolls by itself.

    Args:
        heads: the headings of the columns.
        rows: their cells.
        numbers: the columns of numbers, which are aligned at the right.
        main: the row that is the most important one.
        heading: the heading of the box.
    """
    kinds = ["n" if column in numbers else "" for column in range(len(heads))]
    head = join([element("th", name, kind) for name, kind in zip(heads, kinds, strict=True)])
    body = join(
        [
            element(
                "tr",
                join([element("td", cell, kind) for cell, kind in zip(row, kinds, strict=True)]),
                "main" if number == main else "",
            )
            for number, row in enumerate(rows)
        ]
    )
    whole = join([element("thead", element("tr", head)), element("tbody", body)])
    return card(element("div", element("table", whole), "scroll"), heading=heading, kind="table")


def facts(values: Mapping[str, Any]) -> Markup:
    """Return a list of names and values; those that are None or empty are left out."""
    known = {name: value for name, value in values.items() if value not in (None, "", [], {})}
    return element(
        "dl",
        join([join([element("dt", name), element("dd", value)]) for name, value in known.items()]),
    )


def folded(name: str, content: Any) -> Markup:
    """Return content that is shown on a click."""
    return element("details", join([element("summary", name), content]))


def code(content: str) -> Markup:
    """Return lines as they are."""
    return element("pre", content)


def page(
    sections: Sequence[Section], *, title: str, eyebrow: str, subtitle: Any, footer: str
) -> str:
    """Return a page.

    Args:
        sections: its sections; those without content are left out.
        title: its heading.
        eyebrow: a line above it.
        subtitle: a line below it.
        footer: the last line.
    """
    shown = [section for section in sections if section.content]
    links = join(
        [Markup(f'<a href="#{escape(each.key)}">{escape(each.name)}</a>') for each in shown]
    )
    body = join(
        [
            Markup(
                f'<section id="{escape(each.key)}"><h2>{escape(each.name)}</h2>'
                f"{each.content}</section>"
            )
            for each in shown
        ]
    )
    style, script = _file("page.css"), _file("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>{style}</style>
</head>
<body>
<div class="frame">
<header><div><p class="eyebrow">{text(eyebrow)}</p><h1>{text(title)}</h1>
<p class="soft">{text(subtitle)}</p></div>
<button id="theme" type="button" hidden>Dark</button></header>
<nav aria-label="sections">{links}</nav>
<main>{body}</main>
<footer>{text(footer)}</footer>
</div>
<div id="tip" role="tooltip" hidden></div>
<script>{script}</script>
</body>
</html>
"""


@cache
def _file(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
