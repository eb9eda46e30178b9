"""The analysis of a test as plain values: docs/analysis.md has their form."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from plcli.metrics.analysis import generated, labelled, residuals, slices, span_errors, trusted
from plcli.metrics.analysis.details import (
    MOST_ROWS,
    Described,
    Details,
    Lengths,
    finite,
    shortened,
    text_of,
)
from plcli.metrics.evaluated import EvaluatedRows
from plcli.metrics.numeric import Numbers
from plcli.metrics.scoring import Means, MultiLabel, SingleLabel
from plcli.metrics.texts import GeneratedTexts, SpanCounts, TokenLosses

VERSION = 1
LENGTH_BINS = 20


@dataclass(frozen=True, eq=False)
class About:
    """What is known of a test beside its rows.

    Attributes:
        task: the task of the model.
        source: the source of the rows; None if it is not known.
        fingerprint: of that source; None if it is not known.
        main: the score that chooses the best epoch; None if it is not known.
        group: the column whose equal values mark rows that belong together; None without one.
        intervals: the intervals of the scores, by name.
        thresholds: the thresholds in use, by label.
    """

    task: str | None
    source: str | None = None
    fingerprint: str | None = None
    main: str | None = None
    group: str | None = None
    intervals: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Analysis:
    """The analysis of a test.

    Attributes:
        plain: what analysis.json holds.
        rows: the rows that it is of.
        described: what the data say of them.
        details: what is said of each of them; None if the scores are not of rows.
    """

    plain: dict[str, Any]
    rows: EvaluatedRows
    described: Described
    details: Details | None

    def told(self, positions: Any) -> Iterator[dict[str, Any]]:
        """Yield row, id, inputs, slices and what is said of rows, given their positions."""
        if self.details is None:
            return
        columns = {
            name: values for name, values in self.described.slices.items() if name != slices.LENGTH
        }
        for start in range(0, len(positions), 1000):
            part = np.asarray(positions[start : start + 1000], np.int64)
            for position, cells in zip(part.tolist(), self.described.inputs(part), strict=True):
                yield {
                    "row": int(self.described.numbers[position]),
                    "id": self.described.ids[position],
                    "inputs": cells,
                    "slices": {name: values[position] for name, values in columns.items()},
                    "said": finite(self.details.row(position, cells)),
                }


def problem_of(rows: EvaluatedRows) -> str:
    """Return the kind of problem; see docs/analysis.md.

    Numbers that are scored by correlations alone have another unit than the truth, as the cosines
    of pairs.
    """
    scoring = rows.scoring
    if isinstance(scoring, Means):
        if "exact_match" in scoring.names:
            return "answers"
        return "choices" if "prediction" in rows.columns else "retrieval"
    if isinstance(scoring, Numbers):
        return "pairs" if set(scoring.names) <= {"pearson", "spearman"} else "regression"
    names: dict[type, str] = {
        SingleLabel: "single_label",
        MultiLabel: "multi_label",
        SpanCounts: "spans",
        GeneratedTexts: "texts",
        TokenLosses: "tokens",
    }
    return names.get(type(scoring), "other")


def analysed(rows: EvaluatedRows, described: Described, about: About) -> Analysis:
    """Return the analysis of a test.

    Args:
        rows: the rows.
        described: what the data say of them.
        about: what else is known.
    """
    problem = problem_of(rows)
    details = _details(rows, problem)
    plain: dict[str, Any] = {
        "version": VERSION,
        "task": about.task,
        "problem": problem,
        "split": "test",
        "source": about.source,
        "fingerprint": about.fingerprint,
        "rows": len(described.numbers) or len(next(iter(rows.columns.values()))),
        "main": about.main,
    }
    if rows.groups is not None:
        plain["groups"] = {"column": about.group, "count": len(np.unique(rows.groups))}
    if problem in ("single_label", "multi_label"):
        plain |= labelled.parts(rows, about.intervals, thresholds=about.thresholds)
    elif problem == "spans":
        plain |= span_errors.parts(rows, about.intervals)
    elif problem == "regression":
        plain["residuals"] = residuals.residuals(rows)
    elif problem == "pairs":
        plain["residuals"] = {"points": residuals.residuals(rows).get("points", [])}
    made = Analysis({}, rows, described, details)
    if details is not None:
        wrong = None if details.wrong is None else int(details.wrong.sum())
        worst = [_short(row) for row in made.told(details.worst(MOST_ROWS))]
        plain["slices"] = _slices(rows, described)
        plain["suspected_labels"] = _suspected(made, about)
        plain["errors"] = {"count": wrong, "by": details.by, "rows": worst}
    if described.lengths is not None and len(described.lengths.values):
        plain["lengths"] = of_lengths(described.lengths)
    made.plain.update(
        {key: finite(value) for key, value in plain.items() if value not in (None, [], {})}
    )
    return made


def _details(rows: EvaluatedRows, problem: str) -> Details | None:
    if not len(rows.index):
        return None
    if problem in ("single_label", "multi_label"):
        return labelled.details(rows)
    if problem in ("regression", "pairs"):
        return residuals.details(rows, same_unit=problem == "regression")
    if problem == "spans":
        return span_errors.details(rows) if "truth" in rows.outputs else None
    if problem == "answers":
        return generated.answers(rows) if "truth" in rows.outputs else None
    makers = {
        "texts": generated.generated,
        "choices": generated.choices,
        "tokens": generated.tokens,
    }
    return makers[problem](rows) if problem in makers else None


def _short(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as analysis.json has it, with one text, which is shortened."""
    said = {
        name: shortened(value) if isinstance(value, str) else value
        for name, value in told["said"].items()
    }
    return {
        "row": told["row"],
        "id": told["id"],
        "text": shortened(text_of(told["inputs"])),
        **said,
    }


def suspected(made: Analysis, most: int | None = None) -> list[dict[str, Any]]:
    """Return rows whose label looks wrong, with their texts, the most suspect first.

    Args:
        made: the analysis.
        most: the number of rows; None for all.

    Returns:
        The rows; none if the model is not good enough to doubt labels.
    """
    found = labelled.suspected_labels(made.rows)
    if found is None or "withheld" in made.plain.get("suspected_labels", {}):
        return []
    positions, said = found[0][:most], found[1][:most]
    told = made.told(positions)
    return [
        {
            "row": row["row"],
            "id": row["id"],
            "text": shortened(text_of(row["inputs"])),
            **finite(own),
        }
        for row, own in zip(told, said, strict=True)
    ]


def _suspected(made: Analysis, about: About) -> dict[str, Any] | None:
    found = labelled.suspected_labels(made.rows)
    if found is None:
        return None
    if len(found[0]) and (reason := trusted.doubt(made.rows, about.intervals, main=about.main)):
        return {"count": 0, "rows": [], "withheld": reason}
    return {"count": len(found[0]), "rows": suspected(made, MOST_ROWS)}


def _slices(rows: EvaluatedRows, described: Described) -> list[dict[str, Any]]:
    found = []
    for by, cells in described.slices.items():
        of_rows = slices.values_of(cells)
        in_order = slices.are_ordered(of_rows)
        if by == slices.LENGTH and described.lengths is not None:
            of_rows, in_order = slices.of_lengths(described.lengths), True
        if len(described.numbers) < len(rows.index):  # blocks, of which a row has several
            places = np.searchsorted(described.numbers, rows.index)
            of_rows = [of_rows[place] for place in places.tolist()]
        found += slices.slices(rows, by, of_rows, in_order=in_order)
    return found


def of_lengths(lengths: Lengths) -> dict[str, Any]:
    """Return a histogram of lengths, and how many rows are truncated."""
    values = lengths.values.astype(np.int64)
    width = max(1, -(-(int(values.max()) + 1) // LENGTH_BINS))
    edges = np.arange(0, int(values.max()) + width + 1, width)
    counts, _ = np.histogram(values, bins=edges)
    found: dict[str, Any] = {
        "unit": lengths.unit,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
        "max": int(values.max()),
        "limit": lengths.limit,
    }
    if lengths.truncated is not None:
        found |= {
            "truncated": int(lengths.truncated.sum()),
            "truncated_share": float(lengths.truncated.mean()),
        }
    return found
