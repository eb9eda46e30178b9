"""Shows the analysis of a test in the terminal: classes, confusions, slices and the worst rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from plcli.errors import printable
from plcli.runs import tables
from plcli.runs.tables import shortened

MOST_CLASSES = 15
MOST_PAIRS = 5
MOST_ROWS = 5
LONGEST_LABEL = 20  # characters of a label in a table
LONGEST_IN_PAIR = 30  # of one of two labels on a line
LONGEST_IN_LINE = 60  # of a true or predicted value in the worst rows
BESIDE_A_PAIR = 24  # of what else is on their line
SHORTEST = 12
SPAN_KINDS = {  # and what they are called where there is little room
    "correct": "correct",
    "wrong boundary": "boundary",
    "wrong type": "type",
    "wrong boundary and type": "both",
    "missed": "missed",
    "invented": "invented",
}
LONGEST_COLUMN = 12
SHOWN_SCORES = 3  # of a slice
WIDE = 100  # characters of a terminal
LEAST_CELL = 3  # characters of a cell of the confusion matrix


def show(console: Console, plain: Mapping[str, Any]) -> None:
    """Print an analysis.

    Args:
        console: where to print.
        plain: the analysis; docs/analysis.md has its form.
    """
    if groups := plain.get("groups"):
        say(console, f"intervals are of {groups['count']} groups of rows ({groups['column']})")
    if classes := plain.get("classes"):
        _classes(console, classes, "types" if plain["problem"] == "spans" else "classes")
    if matrix := plain.get("confusion_matrix"):
        _matrix(console, plain["labels"], matrix)
    if spans := plain.get("spans"):
        _spans(console, spans)
    if confused := plain.get("confused"):
        _confused(console, confused, plain["problem"])
    show_slices(console, plain)
    if (errors := plain.get("errors")) and errors["rows"]:
        _errors(console, errors, plain["rows"])
    suspected = plain.get("suspected_labels") or {}
    if reason := suspected.get("withheld"):
        told = f"labels that look wrong to the model are not shown, as {reason}"
        console.print(told, markup=False, highlight=False)
    elif suspected.get("rows"):
        _suspected(console, suspected)


def show_slices(console: Console, plain: Mapping[str, Any]) -> None:
    """Print the slices of an analysis, if it has any."""
    if found := plain.get("slices"):
        _slices(console, found, plain.get("main"))


def say(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _heading(console: Console, text: str) -> None:
    console.print(Text(text, style="bold"), soft_wrap=True)


def _of(total: int, shown: int, what: str) -> str:
    return f"{what} (the {shown} largest of {total})" if shown < total else what


def _classes(console: Console, classes: Sequence[Mapping[str, Any]], what: str) -> None:
    places = sorted(range(len(classes)), key=lambda place: -classes[place]["support"])
    chosen = sorted(places[:MOST_CLASSES])
    columns = ("rows", "precision", "recall", "F1", "F1: 95 %")
    if what == "types":
        columns = ("spans", *columns[1:])
    _heading(console, _of(len(classes), len(chosen), what))
    table = tables.table("type" if what == "types" else "class", *columns, numbers=True)
    short = shortened([each["label"] for each in classes], LONGEST_LABEL)
    for place in chosen:
        each = classes[place]
        ends = each["intervals"].get("f1")
        table.add_row(
            Text(short[each["label"]]),
            str(each["support"]),
            *(f"{each[name]:.3f}" for name in ("precision", "recall", "f1")),
            f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "",
        )
    console.print(table)


def _matrix(console: Console, labels: Sequence[str], matrix: Sequence[Sequence[int]]) -> None:
    """Print as many of the largest classes as fit; the others are joined."""
    support = [sum(row) for row in matrix]
    largest = sorted(range(len(labels)), key=lambda place: -support[place])
    cell = max(LEAST_CELL, len(str(max(max(row) for row in matrix))))
    width = min(LONGEST_LABEL, max(len(printable(label)) for label in labels)) + 3
    fits = max(2, (console.width - width - cell - 4) // (cell + 2))
    if len(labels) > min(fits, MOST_CLASSES):
        fits = max(2, fits - 1)  # a column for the others
    chosen = sorted(largest[: min(fits, MOST_CLASSES)])
    others = [place for place in range(len(labels)) if place not in chosen]
    groups = [[place] for place in chosen] + ([others] if others else [])
    short = shortened(labels, LONGEST_LABEL)
    names = [short[labels[place]] for place in chosen]
    names += [f"{len(others)} others"] if others else []
    title = _of(len(labels), len(chosen), "confusion matrix") + ": rows true, columns predicted"
    _heading(console, title)
    table = Table(box=None, padding=(0, 1))
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for number in range(len(groups)):
        table.add_column(str(number + 1), justify="right", no_wrap=True)
    for number, (name, rows) in enumerate(zip(names, groups, strict=True)):
        cells = []
        for place, columns in enumerate(groups):
            count = sum(matrix[row][column] for row in rows for column in columns)
            right = place == number and rows is not others
            style = "bold green" if right else "red" if count and rows is not others else "dim"
            cells.append(Text(str(count) if count else ".", style=style if count else "dim"))
        table.add_row(str(number + 1), Text(name), *cells)
    console.print(table)


def _spans(console: Console, spans: Mapping[str, Any]) -> None:
    """Print how many spans of each type there are of each kind, the largest types first."""
    types = sorted(spans["types"].items(), key=lambda each: -sum(each[1].values()))
    _heading(console, _of(len(types), min(len(types), MOST_CLASSES), "errors of spans by type"))
    table = tables.table("type", *SPAN_KINDS.values(), numbers=True)
    short = shortened(spans["types"], LONGEST_LABEL)
    for name, counts in types[:MOST_CLASSES]:
        table.add_row(Text(short[name]), *(str(counts[kind]) for kind in SPAN_KINDS))
    table.add_row("all", *(str(spans["counts"][kind]) for kind in SPAN_KINDS))
    console.print(table)


def _confused(console: Console, confused: Sequence[Mapping[str, Any]], problem: str) -> None:
    heading = "most confused (true, predicted)"
    if problem == "multi_label":
        heading = "most confused (label that is missed, wrong one in the same rows)"
    _heading(console, heading)
    both = ("true", "predicted")
    longest = _longest_of_two(console, LONGEST_IN_PAIR)
    short = shortened([str(pair[key]) for pair in confused for key in both], longest)
    for pair in confused[:MOST_PAIRS]:
        names = (short[str(pair[key])] for key in both)
        say(console, f"  {' -> '.join(names)}: {pair['count']} ({pair['share']:.0%})")


def _slices(console: Console, slices: Sequence[Mapping[str, Any]], main: str | None) -> None:
    names = list(dict.fromkeys(name for each in slices for name in each["scores"]))
    names = sorted(names, key=lambda name: (name != main, name == "loss"))
    names = names[: SHOWN_SCORES if console.width >= WIDE else 1]
    few = any(each["few"] for each in slices)
    title = "slices (*: few rows, which say little)" if few else "slices"
    shown = ["95 %"] if names else []
    _heading(console, title)
    columns = (escape(printable(name)) for name in (*names[:1], *shown, *names[1:]))
    table = tables.table("slice", "value", "rows", *columns, numbers=True)
    table.columns[1].justify = "left"
    of_columns = shortened([each["by"] for each in slices], LONGEST_COLUMN)
    values = shortened([each["value"] for each in slices if each["value"]], LONGEST_LABEL)
    for each in slices:
        cells = []
        for number, name in enumerate(names):
            score = each["scores"].get(name)
            cells.append(f"{score['value']:.3f}" if score else "")
            if number == 0:
                has = score is not None and "low" in score
                cells.append(f"{score['low']:.3f} to {score['high']:.3f}" if has else "")
        value = "(none)" if each["value"] is None else values[each["value"]]
        rows = f"{each['n']}{'*' if each['few'] else ''}"
        table.add_row(Text(of_columns[each["by"]]), Text(value), rows, *cells)
    console.print(table)


def _longest_of_two(console: Console, most: int) -> int:
    """Return how long two texts may be that are beside each other on a line."""
    return min(most, max(SHORTEST, (console.width - BESIDE_A_PAIR) // 2))


def _said(row: Mapping[str, Any], longest: int) -> str:
    """Return what is true and what was predicted of a row, both of at most so many characters."""
    if "missed" in row:  # several labels
        parts = {"true": row["truth"], "missed": row["missed"], "wrong": row["wrong"]}
        return "; ".join(f"{name} {_short(names)}" for name, names in parts.items() if names)
    both = [" ".join(_short(row[name]).split()) for name in ("truth", "prediction")]
    short = shortened(both, longest)
    pair = " -> ".join(short[value] for value in both)
    if "kinds" not in row:
        return pair
    return ", ".join(f"{count} {kind}" for kind, count in row["kinds"].items()) + f": {pair}"


def _short(value: Any) -> str:
    """Return a true or predicted value in a few words."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        parts = [
            f"{part['label']}: {part['text']}" if isinstance(part, Mapping) else _short(part)
            for part in value
        ]
        return "[" + "; ".join(parts) + "]" if parts else "nothing"
    return str(value) if value != "" else "nothing"


def _errors(console: Console, errors: Mapping[str, Any], total: int) -> None:
    count = errors["count"]
    heading = "worst rows" if count is None else f"{count} of {total} rows are wrong; the worst"
    _heading(console, f"{heading}, by {errors['by']} (row 0 is the first)")
    for row in errors["rows"][:MOST_ROWS]:
        numbers = [
            f"{name} {row[name]:.3g}"
            for name in ("probability", "error", errors["by"])
            if isinstance(row.get(name), (int, float))
        ]
        said = ", ".join(dict.fromkeys(numbers))
        if "truth" in row:
            numbers = [] if "kinds" in row else numbers
            pair = _said(row, _longest_of_two(console, LONGEST_IN_LINE))
            said = f"{pair} ({said})" if numbers else pair
        _entry(console, row, said)


def _suspected(console: Console, suspected: Mapping[str, Any]) -> None:
    heading = f"{suspected['count']} labels look wrong, if the model is right (confident learning)"
    _heading(console, heading)
    longest = _longest_of_two(console, LONGEST_IN_PAIR)
    for row in suspected["rows"][:MOST_ROWS]:
        short = shortened([row["given"], row["suggested"]], longest)
        given, suggested = short[row["given"]], short[row["suggested"]]
        said = f"{given} looks like {suggested} ({row['probability']:.2f})"
        _entry(console, row, said)


def _entry(console: Console, row: Mapping[str, Any], said: str) -> None:
    """Print what is said of a row, and its text below, each on a line."""
    width = max(20, console.width)
    own_id = "" if str(row["id"]) == str(row["row"]) else f", id {row['id']}"
    for line in (f"  row {row['row']}{own_id}: {said}", f"    {row['text']}"):
        console.print(Text(_cut(line, width)), soft_wrap=True)


def _cut(text: str, width: int) -> str:
    """Return a text on one line of at most this width; spaces at its start stay."""
    body = text.lstrip(" ")
    plain = " " * (len(text) - len(body)) + printable(" ".join(body.split()))
    return plain if len(plain) <= width else f"{plain[: width - 1]}…"
