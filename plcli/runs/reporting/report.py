"""The report of a run: the sections that suit it, and one line for each part that is left out."""

import shlex

from plcli import __version__
from plcli.runs.reporting import evaluation, overview, page, sub_runs, worst
from plcli.runs.reporting.contents import Contents
from plcli.runs.reporting.marked import Explanations
from plcli.runs.reporting.page import Section

LABELLED = {"calibration", "suspected_labels", "thresholds", "lengths", "errors"}
PROBLEMS = {  # of analysis.json: the parts that a problem should have
    "single_label": LABELLED,
    "multi_label": LABELLED,
    "spans": {"spans", "lengths", "errors"},
    "regression": {"residuals", "errors"},
    "pairs": {"residuals", "errors"},
    **dict.fromkeys(("answers", "texts", "tokens", "choices"), {"lengths", "errors"}),
}
WHY = {
    "calibration": "calibration: no probabilities of the test rows are known",
    "thresholds": "threshold curves: they are for two classes or several labels a row",
    "suspected_labels": "labels that look wrong: none was found, or too few rows have each label",
    "residuals": "errors of the predicted numbers: they are not in analysis.json",
    "spans": "kinds of wrong spans: they are not in analysis.json",
    "lengths": "lengths of the rows: they are not in analysis.json",
    "errors": "worst rows: none is wrong, or they are not in analysis.json",
}


def render(contents: Contents, explanations: Explanations) -> str:
    """Return the page of a run.

    Args:
        contents: the files of the run.
        explanations: the marked words of the worst rows; empty without them.
    """
    curves, missing = overview.curves(contents)
    task = contents.card.get("task") or contents.analysis.get("task")
    summary = page.join([overview.tiles(contents), overview.warnings(contents)])
    sections = [
        Section("summary", "Summary", summary),
        Section("trained", "What was trained", overview.trained(contents)),
        Section("metrics", "Metrics", overview.metrics(contents)),
        Section("campaign", "Campaign", sub_runs.section(contents)),
        Section("curves", "Training", curves),
        Section("classes", _classes_name(contents), evaluation.classes(contents)),
        Section("spans", "Spans", evaluation.spans(contents)),
        Section("residuals", "Errors", evaluation.residuals(contents)),
        Section("calibration", "Probabilities", evaluation.calibration(contents)),
        Section("slices", "Slices", evaluation.slices(contents)),
        Section("lengths", "Lengths", evaluation.lengths(contents)),
        Section("errors", "Worst rows", worst.errors(contents, explanations)),
        Section("labels", "Doubtful labels", worst.suspected(contents)),
        Section("environment", "Environment", overview.environment(contents)),
        Section("config", "Config", overview.config(contents)),
        Section("repeat", "Repeat it", overview.repeat(contents)),
    ]
    missing = [*_missing(contents), *missing]
    missing += [
        f"{name}: test rows of another file, which is not shown here" for name in contents.others
    ]
    left_out = page.join([page.paragraph(each, "why") for each in missing])
    sections.append(Section("left-out", "Left out", left_out))
    started = str(contents.environment.get("started") or "")[:16].replace("T", " ")
    about = ", ".join(part for part in (str(task or ""), started and f"{started} UTC") if part)
    return page.page(
        sections,
        title=contents.name,
        eyebrow="plcli report",
        subtitle=about,
        footer=f"Made by plcli {__version__} from the files of {contents.run.folder}.",
    )


def _classes_name(contents: Contents) -> str:
    is_span = contents.analysis.get("problem") == "spans" or "types" in contents.scores
    return "Types" if is_span else "Classes"


def _missing(contents: Contents) -> list[str]:
    """Return why parts that suit the task are left out."""
    again = shlex.join(["plcli", "test", "--run", str(contents.run.folder)])
    if not contents.analysis:
        return [
            "calibration, thresholds, lengths, worst rows, doubtful labels, slices: there is no "
            f"analysis.json. Write it with `{again}`."
        ]
    parts = PROBLEMS.get(str(contents.analysis.get("problem")), set())
    withheld = (contents.analysis.get("suspected_labels") or {}).get("withheld")
    reasons = dict(WHY)
    if withheld:
        reasons["suspected_labels"] = (
            f"labels that look wrong to the model: not shown, as {withheld}"
        )
    absent = [name for name in reasons if name in parts and not _has(contents, name)]
    found = [reasons[name] for name in absent]
    if not contents.analysis.get("slices"):
        found.append(f"slices: none was asked for. `{again} --slice COLUMN` has them.")
    return found


def _has(contents: Contents, name: str) -> bool:
    part = contents.analysis.get(name)
    if isinstance(part, dict) and "rows" in part:
        return bool(part["rows"])
    return bool(part)
