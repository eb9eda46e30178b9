"""The sections of a report that come from the rows of a test: analysis.json.

Without that file, classes and the confusion matrix come from metrics.json. Each function returns
empty Markup where its part does not suit the task or its data are missing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from plcli.runs.reporting import charts, page
from plcli.runs.reporting.charts import Bar, Line, number
from plcli.runs.reporting.contents import Contents
from plcli.runs.reporting.marked import Explanations, marked
from plcli.runs.reporting.page import Markup

MOST_BARS = 30
MOST_IN_MATRIX = 30
MOST_CLASSES = 500  # of the table
MOST_ERRORS = 50
MOST_CONFUSED = 10
MOST_CURVES = 6  # of thresholds
MOST_LETTERS = 1000  # of a text
OTHER = "others"
ONE = (0.0, 1.0)


def classes(contents: Contents) -> Markup:
    """Return the scores of each class or type of span."""
    found = _classes(contents)
    if not found:
        return Markup()
    largest = sorted(found, key=lambda each: -each["support"])[:MOST_BARS]
    shown = sorted(largest, key=lambda each: -each["f1"])
    bars = [
        Bar(
            each["label"],
            each["f1"],
            *(each["intervals"].get("f1") or (None, None)),
            note=number(each["support"]),
            title=f"{each['label']}\nF1 {number(each['f1'])}"
            + (
                f" (95 % {number(each['intervals']['f1'][0])} to "
                f"{number(each['intervals']['f1'][1])})"
                if each["intervals"].get("f1")
                else ""
            )
            + f"\nprecision {number(each['precision'])}, recall {number(each['recall'])}"
            f"\n{number(each['support'])} true",
        )
        for each in shown
    ]
    left = len(found) - len(largest)
    caption = "F1 with its 95 % interval; at the right the number of true ones."
    caption += f" The {MOST_BARS} most frequent of {len(found)}." if left else ""
    chart = charts.bars(bars, title="F1 of each class", span=ONE)
    cells = [
        [
            each["label"],
            *(number(each[score]) for score in ("precision", "recall", "f1")),
            " to ".join(map(number, each["intervals"]["f1"])) if each["intervals"].get("f1") else "",
            number(each["support"]),
        ]
        for each in found[:MOST_CLASSES]
    ]
    heads = ["class", "precision", "recall", "F1", "95 % of F1", "true"]
    table = page.table(heads, cells, numbers=range(1, 6))
    first = page.figure(chart, heading="F1 by class", caption=caption)
    return page.join([page.grid([first, *_matrix(contents)]), page.folded("as a table", table)])


def _classes(contents: Contents) -> list[dict[str, Any]]:
    """Return the classes of analysis.json, or those of metrics.json in the same form."""
    if known := contents.analysis.get("classes"):
        return [{**each, "intervals": each.get("intervals") or {}} for each in known
                if each.get("f1") is not None]
    scores = contents.scores
    intervals, found = scores.get("intervals") or {}, []
    for key in ("classes", "types"):
        table = scores.get(key)
        for label, values in table.items() if isinstance(table, Mapping) else ():
            if not isinstance(values, Mapping) or values.get("f1") is None:
                continue
            ends = {
                score: (each["low"], each["high"])
                for score in ("precision", "recall", "f1")
                if (each := intervals.get(f"{key}.{label}.{score}"))
            }
            known_scores = {score: values.get(score) or 0.0 for score in ("precision", "recall", "f1")}
            found.append(
                {"label": str(label), **known_scores, "support": values.get("support") or 0,
                 "intervals": ends}
            )
    return found


def _matrix(contents: Contents) -> list[Markup]:
    """Return the confusion matrix and the most confused pairs, or the kinds of wrong spans."""
    rows = contents.analysis.get("confusion_matrix") or contents.scores.get("confusion_matrix")
    labels = [str(each) for each in contents.analysis.get("labels") or contents.card.get("labels") or []]
    if not labels and isinstance(contents.scores.get("classes"), Mapping):
        labels = [str(each) for each in contents.scores["classes"]]
    boxes = []
    if rows and len(rows) == len(labels):
        counts, names = _reduced(rows, labels)
        caption = "Rows are the true classes; the darker, the larger the share of the row."
        if len(names) < len(labels):
            caption += f" The {MOST_IN_MATRIX} most frequent of {len(labels)} classes."
        chart = charts.matrix(counts, names, title="confusion matrix")
        boxes.append(page.figure(chart, heading="Confusion matrix", caption=caption, wide=True,
                        kind="full" if charts.is_wide(names) else ""))
    confused = contents.analysis.get("confused")
    if confused is None and rows and len(rows) == len(labels):
        confused = [
            {"true": labels[true], "predicted": labels[other], "count": count,
             "share": count / (sum(row) or 1)}
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
    if found := contents.analysis.get("calibration"):
        bins = [each for each in found["bins"] if each["n"]]
        points = [(each["confidence"], each["accuracy"]) for each in bins]
        chart = charts.lines(
            [Line("observed", points, dots=True)],
            title="calibration",
            x_name="probability that the model gives",
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
            f" {number(found['truncated'])} rows ({_percent(found.get('truncated_share'))}) are cut "
            f"to {number(limit)}: what is behind is not read."
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
        table = page.table([column, "rows", "", *names], cells, numbers=(1, *range(3, 3 + len(names))))
        parts.append(table)
    told = "The small tick is the score of all rows." if main else ""
    return page.join([*parts, page.paragraph(told, "soft")])


def _score(found: Mapping[str, Any] | None) -> str:
    return "" if not found or found.get("value") is None else number(found["value"])


def errors(contents: Contents, explanations: Explanations) -> Markup:
    """Return the worst rows, with marked words where they are explained."""
    found = contents.analysis.get("errors")
    if not found or not found.get("rows"):
        return Markup()
    rows = found["rows"][:MOST_ERRORS]
    count = found.get("count")
    told = f"The {len(rows)} worst rows by {found.get('by', 'loss')}"
    told += f" of {number(count)} that are wrong." if count is not None else "."
    boxes = []
    for row in rows:
        words = explanations.get(row["row"])
        shown = _text(row.get("text")) if words is None else marked(words)
        boxes.append(page.element("article", page.join([_verdict(row), shown])))
    legend = ""
    if explanations:
        legend = page.paragraph(
            page.join(
                [
                    page.element("mark", " for ", "f3"),
                    " and ",
                    page.element("mark", " against ", "a3"),
                    " what was predicted: integrated gradients, the darker the more.",
                ]
            ),
            "soft",
        )
    return page.join([page.paragraph(told, "soft"), legend, page.element("div", page.join(boxes), "rows")])


def _verdict(row: Mapping[str, Any]) -> Markup:
    """Return what is true and predicted, and how wrong it is."""
    parts = [f"row {row['row']}" if str(row.get("id")) == str(row["row"]) else f"{row.get('id')}"]
    if "truth" in row:
        parts += [
            page.join(["true ", page.element("b", _named(row["truth"]))]),
            page.join(["predicted ", page.element("b", _named(row.get("prediction")))]),
        ]
    for key in ("missed", "wrong"):
        if row.get(key):
            parts.append(f"{key} {_named(row[key])}")
    if isinstance(row.get("kinds"), Mapping):
        parts.append(", ".join(f"{count} {kind}" for kind, count in row["kinds"].items() if count))
    for key in ("probability", "error", "f1", "exact_match", "chrf", "rougeL", "bleu", "tokens", "loss"):
        if isinstance(row.get(key), (int, float)):
            parts.append(f"{key} {number(float(row[key]), 3)}")
    spans_of = [page.element("span", part) for part in parts if part]
    return page.paragraph(page.join(spans_of), "verdict")


def _named(value: Any) -> str:
    """Return a truth or a prediction as a text."""
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return f"{value.get('label', '')} “{value.get('text', '')}”"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_named, value)) or "none"
    shown = number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
    return shown if len(shown) <= MOST_LETTERS else f"{shown[:MOST_LETTERS]} …"


def _text(value: Any) -> Markup:
    shown = "" if value is None else str(value)
    shown = shown if len(shown) <= MOST_LETTERS else f"{shown[:MOST_LETTERS]} …"
    return page.paragraph(shown, "text")


def suspected(contents: Contents) -> Markup:
    """Return rows whose label looks wrong."""
    found = contents.analysis.get("suspected_labels")
    if not found or not found.get("rows"):
        return Markup()
    boxes = []
    for row in found["rows"][:MOST_ERRORS]:
        parts = [
            f"row {row['row']}" if str(row.get("id")) == str(row["row"]) else str(row.get("id")),
            page.join(["given ", page.element("b", row["given"])]),
            page.join(["looks like ", page.element("b", row["suggested"])]),
        ]
        if row.get("probability") is not None:
            parts.append(f"probability {number(row['probability'], 3)}")
        verdict = page.paragraph(page.join([page.element("span", part) for part in parts]), "verdict")
        boxes.append(page.element("article", page.join([verdict, _text(row.get("text"))])))
    told = (
        f"{number(found['count'])} rows of the test data whose label the model doubts (confident "
        "learning). Look at them before they are changed: the model can be wrong, too."
    )
    whole = page.element("div", page.join(boxes), "rows")
    return page.join([page.paragraph(told, "soft"), page.folded(f"show {len(boxes)}", whole)])


def _percent(share: Any) -> str:
    return "" if share is None else f"{share:.1%}".replace("%", " %")
