"""The part of a campaign's report about its sub-runs: what each reaches, mean and deviation."""

from collections.abc import Mapping
from typing import Any

from plcli.runs import campaign, metric_names, metrics_file
from plcli.runs.reporting import page
from plcli.runs.reporting.contents import Contents
from plcli.runs.reporting.numbers import number
from plcli.runs.reporting.page import Markup


def section(contents: Contents) -> Markup:
    """Return the table of the sub-runs of a campaign, and what the rest of the page is about."""
    found: Mapping[str, Any] | None = contents.metrics.get(campaign.MARK)
    if not found:
        return Markup()
    monitor = found.get("monitor")
    metric = None if monitor is None else metric_names.without_stage(monitor, "validation")
    splits = [split for split in campaign.SPLITS if metric in (found["mean"].get(split) or {})]
    rows: list[list[Any]] = []
    for name, run in found["runs"].items():
        scores = [(run.get(split) or {}).get(metric) for split in splits]
        cells = ["" if value is None else number(value) for value in scores]
        rows.append([name, metrics_file.chosen_epoch(run.get("fit") or {}), *cells])
    spreads = [
        f"{number(found['mean'][split][metric])} ± {number(found['deviation'][split][metric])}"
        for split in splits
    ]
    rows.append(["mean ± standard deviation", "", *spreads])
    kind, best = found["kind"], found["best"]
    validation = "those of all rows out of fold" if found.get("out_of_fold") else "means"
    told = (
        f"This is a campaign of {len(found['runs'])} {kind}. Validation scores on this page are "
        f"{validation}, test scores are means. All the rest (curves, classes, probabilities, rows, "
        f"config) is of the best run, {best}, whose model is kept."
    )
    heads = ["run", "best epoch", *(f"{split}: {metric}" for split in splits)]
    numbers = list(range(1, len(heads)))
    return page.join([page.paragraph(told), page.table(heads, rows, numbers=numbers)])
