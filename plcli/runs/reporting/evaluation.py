"""The sections of a report that come from the rows of a test: analysis.json.

Without that file, classes and the confusion matrix come from metrics.json. Each function returns
empty Markup where its part does not suit the task or its data are missing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from plcli.runs.reporting import charts, page
from plcli.runs.reporting.charts import Bar, Line
from plcli.runs.reporting.contents import Contents
from plcli.runs.reporting.numbers import number
from plcli.runs.reporting.page import Markup

MOST_BARS = 30
MOST_IN_MATRIX = 30
MOST_CLASSES = 500  # of the table
MOST_CONFUSED = 10
MOST_CURVES = 6  # of thresholds
OTHER = "others"
ONE = (0.0, 1.0)
SCORES = ("precision", "recall", "f1")


def classes(contents: Contents) -> Markup:
    """Return the scores of each class or type of span."""
    found = _classes(contents)
    if not found:
        return Markup()
    shown = shown_classes(contents)
    bars = [_bar(each) for each in shown]
    left = len(found) - len(shown)
    caption = "F1 with its 95 % interval; at the right the number of true ones."
    caption += f" The {MOST_BARS} most frequent of {len(found)}." if left else ""
    kind = "type" if contents.analysis.get("problem") == "spans" else "class"
    chart = charts.bars(bars, title=f"F1 of each {kind}", span=ONE)
    cells = [
        [
            each["label"],
            *(number(each[score]) for score in SCORES),
            " to ".join(map(number, each["intervals"]["f1"]))
            if each["intervals"].get("f1")
            else "",
            number(each["support"]),
        ]
        for each in found[:MOST_CLASSES]
    ]
    heads = [kind, "precision", "recall", "F1", "95 % of F1", "true"]
    table = page.table(heads, cells, numbers=range(1, 6))
    first = page.figure(chart, heading=f"F1 by {kind}", caption=caption)
    return page.join([page.grid([first, *_matrix(contents)]), page.folded("as a table", table)])


def shown_classes(contents: Contents) -> list[dict[str, Any]]:
    """Return the classes that a chart shows: the largest ones, the best first."""
    largest = sorted(_classes(contents), key=lambda each: -each["support"])[:MOST_BARS]
    return sorted(largest, key=lambda each: -each["f1"])


def confusion(contents: Contents) -> tuple[list[list[float]], list[str]] | None:
    """Return the confusion matrix and its classes, of which the rarest may be one; or None."""
    rows, labels = _rows_and_labels(contents)
    return _reduced(rows, labels) if rows and len(rows) == len(labels) else None


def _rows_and_labels(contents: Contents) -> tuple[list[list[float]], list[str]]:
    rows = contents.analysis.get("confusion_matrix") or contents.scores.get("confusion_matrix")
    named = contents.analysis.get("labels") or contents.card.get("labels") or []
    if not named and isinstance(contents.scores.get("classes"), Mapping):
        named = list(contents.scores["classes"])
    return rows or [], [str(each) for each in named]


def _bar(each: Mapping[str, Any]) -> Bar:
    low, high = each["intervals"].get("f1") or (None, None)
    ends = "" if low is None or high is None else f" (95 % {number(low)} to {number(high)})"
    return Bar(
        each["label"],
        each["f1"],
        low,
        high,
        note=number(each["support"]),
        title=f"{each['label']}\nF1 {number(each['f1'])}{ends}\n"
        f"precision {number(each['precision'])}, recall {number(each['recall'])}\n"
        f"{number(each['support'])} true",
    )


def _classes(contents: Contents) -> list[dict[str, Any]]:
    """Return the classes of analysis.json, or those of metrics.json in the same form."""
    if known := contents.analysis.get("classes"):
        return [
            {**each, "intervals": each.get("intervals") or {}}
            for each in known
            if all(each.get(name) is not None for name in ("precision", "recall", "f1"))
        ]
    scores = contents.scores
    intervals, found = scores.get("intervals") or {}, []
    for key in ("classes", "types"):
        table = scores.get(key)
        for label, values in table.items() if isinstance(table, Mapping) else ():
            if not isinstance(values, Mapping) or values.get("f1") is None:
                continue
            ends = {
                score: (each["low"], each["high"])
                for score in SCORES
                if (each := intervals.get(f"{key}.{label}.{score}"))
            }
            known_scores = {score: values.get(score) or 0.0 for score in SCORES}
            found.append(
                {
                    "label": str(label),
                    **known_scores,
                    "support": values.get("support") or 0,
                    "intervals": ends,
                }
            )
    return found


def _matrix(contents: Contents) -> list[Markup]:
    """Return the confusion matrix and the most confused pairs, or the kinds of wrong spans."""
    rows, labels = _rows_and_labels(contents)
    boxes = []
    if (reduced := confusion(contents)) is not None:
        counts, names = reduced
        caption = "Rows are the true classes; a stronger colour is a larger share of the row."
        if len(names) < len(labels):
            caption += f" The {MOST_IN_MATRIX} most frequent of {len(labels)} classes."
        chart = charts.matrix(counts, names, title="confusion matrix")
        boxes.append(
            page.figure(
                chart,
                heading="Confusion matrix",
                caption=caption,
                wide=True,
                kind="full" if charts.is_wide(names) else "",
            )
        )
    confused = contents.analysis.get("confused")
    if confused is None and rows and len(rows) == len(labels):
        confused = [
            {
                "true": labels[true],
                "predicted": labels[other],
                "count": count,
                "share": count / (sum(row) or 1),
            }
            for true, row in enumerate(rows)
            for other, count in enumerate(row)
            if true != other and count
        ]
        confused.sort(key=lambda each: -each["count"])
    if confused:
        cells = [
            [each["true"], each["predicted"], number(each["count"]), _percent(each.get("share"))]
            for each in confused[:MOST_CONFUSED]
        ]
        heads = ["true", "predicted", "rows", "share"]
        boxes.append(page.table(heads, cells, numbers=(2, 3), heading="Most confused"))
    return sorted(boxes, key=lambda box: 'card full"' in box)


def _reduced(
    rows: Sequence[Sequence[float]], labels: Sequence[str]
) -> tuple[list[list[float]], list[str]]:
    """Return the matrix of the largest classes; all others are one."""
    if len(labels) <= MOST_IN_MATRIX:
        return [list(row) for row in rows], list(labels)
    largest = sorted(range(len(labels)), key=lambda place: -sum(rows[place]))[: MOST_IN_MATRIX - 1]
    kept = sorted(largest)
    rest = [place for place in range(len(labels)) if place not in set(kept)]
    groups = [*([place] for place in kept), rest]
    counts = [
        [sum(rows[true][guess] for true in trues for guess in guesses) for guesses in groups]
        for trues in groups
    ]
    return counts, [*(labels[place] for place in kept), OTHER]


def spans(contents: Contents) -> Markup:
    """Return how spans are wrong."""
    found = contents.analysis.get("spans")
    if not found:
        return Markup()
    counts = {name: count for name, count in found["counts"].items() if name != "correct"}
    bars = [Bar(name, count, note=number(count)) for name, count in counts.items()]
    right = found["counts"].get("correct")
    caption = "" if right is None else f"{number(right)} spans are right."
    kinds = list(found["counts"])
    cells = [
        [name, *(number(values.get(kind, 0)) for kind in kinds)]
        for name, values in (found.get("types") or {}).items()
    ]
    table = page.table(["type", *kinds], cells, numbers=range(1, len(kinds) + 1))
    chart = charts.bars(bars, title="wrong spans by kind")
    box = page.figure(chart, heading="Wrong spans by kind", caption=caption)
    return page.join([page.grid([box]), page.folded("by type", table) if cells else ""])


def residuals(contents: Contents) -> Markup:
    """Return predictions beside the truth, and the distribution of the errors."""
    found = contents.analysis.get("residuals")
    if not found:
        return Markup()
    points = [(float(truth), float(guess)) for truth, guess in found.get("points") or []]
    boxes = []
    if points:
        chart = charts.scatter(
            points, title="predictions beside the truth", x_name="true", y_name="predicted"
        )
        some = " A sample of the rows." if len(points) < contents.analysis["rows"] else ""
        boxes.append(
            page.figure(chart, heading="Predicted and true", caption=f"On the line: right.{some}")
        )
    if found.get("counts"):
        caption = "Predicted minus true."
        if found.get("mean") is not None and found.get("std") is not None:
            caption += f" Mean {number(found['mean'], 3)}, deviation {number(found['std'], 3)}."
        chart = charts.histogram(
            found["edges"], found["counts"], title="errors", x_name="error", rules=[(0.0, "right")]
        )
        boxes.append(page.figure(chart, heading="Errors", caption=caption))
    return page.grid(boxes)


def calibration(contents: Contents) -> Markup:
    """Return whether probabilities are as likely as they say, and the thresholds."""
    boxes = []
    found = contents.analysis.get("calibration")
    if found and found["bins"]:
        bins = [each for each in found["bins"] if each["n"]]
        points = [(each["confidence"], each["accuracy"]) for each in bins]
        chart = charts.lines(
            [Line("observed", points, dots=True)],
            title="calibration",
            x_name="probability that the model gives",
            x_range=ONE,
            y_range=ONE,
            diagonal=True,
        )
        caption = "Share that is right, by the probability; below the dashed line: too sure."
        if found.get("ece") is not None:
            caption += f" Calibration error (ECE) {number(found['ece'], 3)}."
        if found.get("temperature") is not None:
            caption += f" Temperature {number(found['temperature'], 3)}."
        boxes.append(page.figure(chart, heading="Calibration", caption=caption))
        sizes = [each["n"] for each in found["bins"]]
        edges = [found["bins"][0]["low"], *(each["high"] for each in found["bins"])]
        of = "labels of rows" if found.get("of") == "labels" else "predictions"
        chart = charts.histogram(edges, sizes, title="probabilities", x_name="probability")
        boxes.append(
            page.figure(chart, heading="Probabilities", caption=f"How many {of} have each.")
        )
    for each in (contents.analysis.get("thresholds") or [])[:MOST_CURVES]:
        drawn = [
            Line(
                name,
                [(at["threshold"], at[key]) for at in each["curve"] if at.get(key) is not None],
            )
            for name, key in (("precision", "precision"), ("recall", "recall"), ("F1", "f1"))
        ]
        chosen = each.get("chosen")
        chart = charts.lines(
            drawn,
            title=f"scores of {each['label']} by threshold",
            x_name="threshold",
            x_range=ONE,
            y_range=ONE,
            rules=[(chosen, f"in use: {number(chosen, 3)}")] if chosen is not None else (),
        )
        if chart:
            boxes.append(page.figure(chart, heading=f"Threshold of {each['label']}"))
    measured = _measured(contents)
    return page.join([page.grid(boxes) if boxes else "", measured])


def _measured(contents: Contents) -> Markup:
    """Return NLL, Brier score and calibration error without and with the temperature."""
    found = contents.scores.get("calibration")
    if not isinstance(found, Mapping):
        return Markup()
    cells = []
    for name, values in found.items():
        if not isinstance(values, Mapping) or "before" not in values:
            continue
        ends = values.get("difference") or {}
        known = isinstance(ends, Mapping) and "low" in ends
        cells.append(
            [
                name,
                number(values["before"]),
                number(values["after"]),
                f"{number(ends['low'])} to {number(ends['high'])}" if known else "",
            ]
        )
    if not cells:
        return Markup()
    heads = ["", "without temperature", "with it", "95 % of the difference"]
    return page.table(heads, cells, numbers=(1, 2, 3))


def lengths(contents: Contents) -> Markup:
    """Return how long the rows are, and how many are cut."""
    found = contents.analysis.get("lengths")
    if not found:
        return Markup()
    limit, unit = found.get("limit"), found.get("unit", "tokens")
    caption = (
        f"Half of the rows have up to {number(found['median'])} {unit}, 95 % up to "
        f"{number(found['p95'])}, the longest {number(found['max'])}."
    )
    if found.get("truncated"):
        caption += (
            f" {number(found['truncated'])} rows ({_percent(found.get('truncated_share'))}) are "
            f"cut to {number(limit)}: what is behind is not read."
            if limit is not None
            else f" {number(found['truncated'])} rows are cut."
        )
    elif limit is not None:
        caption += f" No row is cut (the limit is {number(limit)})."
    chart = charts.histogram(
        found["edges"],
        found["counts"],
        title=f"{unit} a row",
        x_name=f"{unit} a row",
        rules=[(limit, "limit")] if limit is not None and found.get("truncated") else (),
    )
    return page.grid([page.figure(chart, heading=f"Rows by number of {unit}", caption=caption)])


def slices(contents: Contents) -> Markup:
    """Return the scores of parts of the rows."""
    found = contents.analysis.get("slices")
    if not found:
        return Markup()
    main = contents.analysis.get("main") or contents.monitor
    parts = []
    for column in dict.fromkeys(each["by"] for each in found):
        rows = [each for each in found if each["by"] == column]
        names = list(dict.fromkeys(name for each in rows for name in each["scores"]))
        judged = main if main in names else names[0] if names else None
        names.sort(key=lambda name: name != judged)
        whole = contents.scores.get(judged) if judged else None
        every = [
            end
            for each in rows
            for end in (each["scores"].get(judged) or {}).values()
            if isinstance(end, (int, float))
        ]
        low, high = (min(every, default=0.0), max(every, default=1.0))
        span = ONE if low >= 0 and high <= 1 else (min(low, 0.0), high)
        cells = []
        for each in rows:
            score = each["scores"].get(judged) or {}
            marks = [(whole, "all rows")] if isinstance(whole, float) else []
            strip: Any = ""
            if score.get("value") is not None:
                strip = Markup(
                    charts.interval(
                        score["value"], score.get("low"), score.get("high"), span=span, marks=marks
                    )
                )
            few = page.element("span", " few rows", "soft") if each.get("few") else ""
            cells.append(
                [
                    page.join(["(none)" if each["value"] is None else each["value"], few]),
                    number(each["n"]),
                    strip,
                    *(_score(each["scores"].get(name)) for name in names),
                ]
            )
        table = page.table(
            [column, "rows", "", *names], cells, numbers=(1, *range(3, 3 + len(names)))
        )
        parts.append(table)
    told = "The small tick is the score of all rows." if main else ""
    return page.join([*parts, page.paragraph(told, "soft")])


def _score(found: Mapping[str, Any] | None) -> str:
    return "" if not found or found.get("value") is None else number(found["value"])


def _percent(share: Any) -> str:
    return "" if share is None else f"{share:.1%}".replace("%", " %")
