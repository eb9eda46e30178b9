"""The tables of a test's analysis: as wide as the terminal, whatever labels and texts hold."""

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from plcli.cli import analysis_tables


def printed(plain: dict[str, Any], width: int) -> list[str]:
    """The lines that an analysis prints in a terminal of a width, or in a pipe."""
    stream = io.StringIO()
    analysis_tables.show(Console(file=stream, width=width), plain)
    return stream.getvalue().splitlines()


def many_classes(count: int) -> dict[str, Any]:
    """An analysis of many classes, the later ones larger, with names that begin alike."""
    labels = [f"card_payment_[b]not[/b]_recognised_{number}" for number in range(count)]
    matrix = np.ones((count, count), np.int64) + np.diag(np.arange(count) * 10)
    text = "a [red]text[/red]\x1b[31m of\ntwo lines"
    row = {"row": 3, "id": "t-3", "text": text * 9, "truth": labels[0], "prediction": labels[1]}
    return {
        "problem": "single_label",
        "rows": int(matrix.sum()),
        "labels": labels,
        "classes": [
            {"label": label, "precision": 1.0, "recall": 0.5, "f1": 0.6, "intervals": {}}
            | {"support": int(matrix[place].sum())}
            for place, label in enumerate(labels)
        ],
        "confusion_matrix": matrix.tolist(),
        "errors": {"count": 3, "by": "loss", "rows": [{**row, "probability": 0.9, "loss": 2.0}]},
    }


@pytest.mark.parametrize("width", [72, 80, 120])
def test_many_classes_fit_into_the_width(width: int) -> None:
    lines = printed(many_classes(77), width)
    assert max(map(len, lines)) <= width
    assert "classes (the 15 largest of 77)" in lines
    text = next(line for line in lines if line.startswith("    a "))
    assert text.startswith("    a [red]text[/red]\\x1b[31m of two lines")
    assert "  row 3, id t-3: card_payment" in "\n".join(lines)


def test_the_matrix_joins_the_small_classes_and_loses_no_row() -> None:
    plain = many_classes(30)
    lines = printed(plain, 80)
    start = next(n for n, line in enumerate(lines) if line.startswith("confusion matrix"))
    end = next(n for n, line in enumerate(lines) if "others" in line)
    rows = [[int(cell) for cell in line[26:].split()] for line in lines[start + 2 : end + 1]]
    assert sum(map(sum, rows)) == plain["rows"]
    assert len(rows) == len(rows[0])
    largest = plain["confusion_matrix"][29][29]
    assert rows[-2][-2] == largest


def test_two_classes_are_shown_whole() -> None:
    lines = printed(many_classes(2), 80)
    assert "confusion matrix: rows true, columns predicted" in lines
    assert not any("others" in line for line in lines)


def test_slices_are_marked_and_fewer_scores_are_shown_where_it_is_narrow() -> None:
    score = {"value": 0.5, "low": 0.25, "high": 0.75}
    slices = [
        {"by": "source", "value": value, "n": n, "few": n < 30}
        | {"scores": {"accuracy": score, "macro_f1": score}}
        for value, n in (("web", 100), (None, 3))
    ]
    plain = {"problem": "single_label", "rows": 103, "main": "macro_f1", "slices": slices}
    narrow, wide = ("\n".join(printed(plain, width)) for width in (80, 120))
    assert ("macro_f1" in narrow, "accuracy" in narrow, "accuracy" in wide) == (True, False, True)
    assert "│ (none) │   3* │" in narrow


def test_errors_of_several_labels_and_spans_are_told() -> None:
    several = {"row": 1, "id": 1, "text": "x", "truth": ["joy"], "prediction": ["fear"]}
    several |= {"missed": ["joy"], "wrong": ["fear"], "loss": 1.5}
    spans = {"row": 2, "id": 2, "text": "Anna", "kinds": {"missed": 1}, "errors": 1}
    spans |= {"truth": [{"label": "person", "text": "Anna"}], "prediction": []}
    errors = {"count": 2, "by": "loss", "rows": [several, spans]}
    lines = printed({"problem": "x", "rows": 9, "errors": errors}, 80)
    assert "  row 1: true [joy]; missed [joy]; wrong [fear] (loss 1.5)" in lines
    assert "  row 2: 1 missed: [person: Anna] -> nothing" in lines


@pytest.mark.parametrize("width", [72, 80, 120])
def test_no_two_classes_look_the_same(width: int) -> None:
    """Classes that begin and end alike, and differ where long names are cut."""
    names = [f"the_customer_asks_{verb}_a_payment_by_card" for verb in ("for", "about", "against")]
    plain = many_classes(3)
    row = {"row": 1, "id": 1, "text": ""}
    error = {**row, "truth": names[0] * 3, "prediction": f"{names[0] * 3}s", "loss": 1.0}
    suspect = {**row, "given": names[0], "suggested": names[1], "probability": 0.9}
    plain |= {
        "labels": names,
        "classes": [{**each, "label": names[n]} for n, each in enumerate(plain["classes"])],
        "confused": [{"true": names[0], "predicted": names[1], "count": 2, "share": 0.1}],
        "errors": {"count": 1, "by": "loss", "rows": [error]},
        "suspected_labels": {"count": 1, "rows": [suspect]},
        "spans": {"types": {name: {} for name in names}, "counts": {}},
    }
    for kinds in (*plain["spans"]["types"].values(), plain["spans"]["counts"]):
        kinds |= dict.fromkeys(analysis_tables.SPAN_KINDS, 0)
    lines = printed(plain, width)
    assert max(map(len, lines)) <= width
    cells = [line.split("│")[1].strip() for line in lines if line.startswith("│ the_cu")]
    assert [len({*cells[:3]}), len({*cells[3:]}), len(cells)] == [3, 3, 6]
    matrix = [line.split()[1] for line in lines if line.split("the_cu")[0].strip().isdigit()]
    assert len({*matrix}) == len(matrix) == 3
    for between in (" -> ", " looks like "):
        for line in (each for each in lines if between in each):
            true, other = line.split(between)
            assert true.split()[-1] != other.rpartition(": ")[0]
            assert true.split()[-1] != other.split()[0].rstrip(":")


def test_long_names_of_scores_are_not_cut() -> None:
    name = "an_accuracy_with_a_name_that_is_as_long_as_this"
    slices = [
        {"by": "source", "value": "web", "n": 100, "few": False, "scores": {name: {"value": 0.5}}}
    ]
    lines = printed({"problem": "single_label", "rows": 103, "slices": slices}, 40)
    head = [line.split("┃") for line in lines if "┃" in line]
    assert "".join(row[4].strip() for row in head) == name
    assert max(map(len, lines)) <= 40
